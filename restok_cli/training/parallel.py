"""One model on many devices: copied to each (DDP), or cut into shards (FSDP2); and sums over all of them.

Through the one Accelerator of these processes (`processes.connect`), which makes the copies, cuts the shards, and
exchanges gradients and sums. Its FSDP2 keeps to GPUs and to one model; told that it shards, it does all of it on a CPU
as well, and so runs in the tests. What does not train, the average, is cut by torch's `fully_shard`, as Accelerate
itself does it: parts of the same names fall to the same processes.
"""

import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import zip_longest
from typing import Any, cast

import torch
from accelerate.utils import broadcast as accelerate_broadcast
from accelerate.utils import fsdp2_prepare_model
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from restok_cli.data.loading.batching import Deal
from restok_cli.processes import accelerator, check_division, gather, rank, world_size
from restok_cli.settings.training import ScheduleConfig

# Every process holds the whole state while it is saved or loaded, and the file does not say how many there were.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
FROM_ONE = StateDictOptions(full_state_dict=True)


def wrap_ddp(model: nn.Module) -> nn.Module:
    """The model to call in training: gradients become means over all processes in its backward pass."""
    if world_size() == 1:
        return model
    with warnings.catch_warnings():  # torch 2.14 gives an option a new name that older ones do not know
        warnings.simplefilter("ignore", FutureWarning)
        return accelerator().prepare_model(model)


def shard_trained(model: nn.Module) -> None:
    """Cut the weights of the model that trains into shards, as `connect` was told, in place: one for each process."""
    fsdp2_prepare_model(accelerator(), model)


def shard(model: nn.Module, blocks: nn.ModuleList, methods: tuple[str, ...] = ()) -> None:
    """Cut likewise the weights of one that does not train. `methods` are called on it beside `forward`."""
    for block in blocks:
        fully_shard(block)
    fully_shard(model)
    for method in methods:
        register_fsdp_forward_method(model, method)


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a part of it only, so that all must take part in whatever it does."""
    return isinstance(model, FSDPModule)


def reshard(model: nn.Module) -> None:
    """After forward passes without a backward pass: let go of what the root of a sharded model still holds whole."""
    if isinstance(model, FSDPModule):
        model.reshard()


def sync_gradients(model: nn.Module, wanted: bool) -> AbstractContextManager[None]:
    """Inside the block, a backward pass exchanges gradients between processes only if `wanted`: once per step."""
    return nullcontext() if wanted or world_size() == 1 else accelerator().no_sync(model)


def full_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the model, put together from its shards if need be. All processes must call it."""
    state = get_model_state_dict(model, options=WHOLE) if is_sharded(model) else model.state_dict()
    return cast(dict[str, Tensor], state)


class Parts:
    """All that changes in training, part by part: each knows its own state, and has a name in checkpoints."""

    parts: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """All processes must call it."""
        return {
            name: full_state_dict(part) if isinstance(part, nn.Module) else part.state_dict()
            for name, part in self.parts.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            if isinstance(part, nn.Module):
                load_full_state_dict(part, state[name])
            else:
                part.load_state_dict(state[name])


def full_optimizer_state_dict(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """State of an optimizer over all processes, by the names of the weights that it belongs to; empty before a step.

    Asked then, torch would make a state by a step of rate 0, and Adam's corrections would count it for ever.
    """
    return get_optimizer_state_dict(model, optimizer, options=WHOLE) if optimizer.state else {}


def load_full_state_dict(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load what `full_state_dict` gave, in this or another number of processes."""
    if is_sharded(model):
        set_model_state_dict(model, {**state}, options=FROM_ONE)
    else:
        model.load_state_dict(state)


def load_full_optimizer_state_dict(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what `full_optimizer_state_dict` gave. Raises RuntimeError where it is not of this model's AdamW."""
    if state:
        check_optimizer_state_dict(model, optimizer, state)
        set_optimizer_state_dict(model, optimizer, state, options=FROM_ONE)


def check_optimizer_state_dict(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Raises RuntimeError where an AdamW's state lacks something, or has it in another shape.

    Torch starts what is missing at 0, and its fused kernel reads and writes past the end of what is too small.
    """
    # which group a weight is in may differ: what is decayed has changed since older runs, and the state is by name
    names = {parameter: name for name, parameter in model.named_parameters()}
    ours = {names[parameter]: parameter for group in optimizer.param_groups for parameter in group["params"]}
    check_keys("the optimizer's list of weights", [n for g in state["param_groups"] for n in g["params"]], ours)
    check_keys("the optimizer's state", state["state"], ours)
    for name, parameter in ours.items():
        shapes = {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        check_keys(f"the optimizer's state of {name}", state["state"][name], shapes)
        for key, shape in shapes.items():
            check_shape(f"{key} of {name}", state["state"][name][key], shape)


def check_keys(what: str, found: Iterable[str], expected: Iterable[str]) -> None:
    """Raises RuntimeError where names that a checkpoint has are not those that it should have."""
    for word, names in (("lacks", {*expected} - {*found}), ("also has", {*found} - {*expected})):
        if names:
            raise RuntimeError(f"{what} {word} {', '.join(sorted(names))}")


def check_shape(what: str, value: Any, shape: torch.Size) -> None:
    """Raises RuntimeError where a checkpoint has something else than a tensor of this shape."""
    found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if found != tuple(shape):
        raise RuntimeError(f"{what} is {found} and not {tuple(shape)}")


def all_reduce(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in each of them: a new tensor, also where there is one process."""
    return cast(Tensor, accelerator().reduce(value, "sum")) if world_size() > 1 else value.clone()


def broadcast(value: Tensor) -> None:
    """Overwrite the tensor with that of process 0."""
    if world_size() > 1:
        accelerate_broadcast(value)


def gather_in_turn(mine: list[Any]) -> list[Any]:
    """Merge the ranks' lists, in every process, into the order in which their items were dealt out."""
    return [value for turn in zip_longest(*gather(mine)) for value in turn if value is not None]


def deal_from(step: int, schedule: ScheduleConfig) -> Deal:
    """How the samples of a run are dealt out to its processes from a step on."""
    return Deal(schedule.batch_size, schedule.seed, step, schedule.micro_batch_size, rank(), world_size())


def micro_batch_numbers(batch_size: int, micro_batch_size: int | None) -> tuple[int, range]:
    """The size of a micro-batch, and the numbers of those that this process takes of each step.

    Dealt out in turn, so that one process with two micro-batches does what two processes with one each do.
    Raises UsageError where the batch cannot be divided so.
    """
    size = check_division(batch_size, micro_batch_size, world_size())
    return size, range(rank(), batch_size // size, world_size())
