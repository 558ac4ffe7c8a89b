"""Whether a run's model fits into memory, by arithmetic before anything is made; and what helps where it did not."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from restok_cli.errors import RestokError, UsageError
from restok_cli.model.config import Config
from restok_cli.model.empty import without_weights
from restok_cli.model.size import check_model_memory, largest_setting
from restok_cli.processes import world_size
from restok_cli.room import check_memory as check_count
from restok_cli.room import is_out_of_memory, total_memory
from restok_cli.settings.training import RunConfig

KEPT_COPIES = 5  # float32 of each weight: itself, its gradient, AdamW's two means, and its average
LAYERS = ("num_layers", "encoder_layers", "decoder_layers")
MANY_LAYERS = 64  # each further one weighs as much as the last
GIB = 1 << 30


def check_memory(module: type[nn.Module], config: RunConfig, device: torch.device) -> None:
    """Raises UsageError where a micro-batch or what `config.model` takes is more than all memory.

    That are its weights, as training keeps them, and apart from them all that is beside its weights. The setting that
    makes the most of it is named.
    """
    check_model_memory(config.model, section="model.")  # first, since what is counted here is made to count the weights
    micro_batch = config.schedule.micro_batch_size or config.schedule.batch_size
    check_count("schedule.micro_batch_size", micro_batch, config.model.image_bytes)
    shards = world_size() if getattr(config.compute, "sharding", "none") == "fsdp" else 1
    weights = 4 * num_parameters(module, config.model)
    needed, memory = KEPT_COPIES * weights / shards, memory_of(device)
    if needed <= memory:
        return
    name = largest_setting(lambda model: num_parameters(module, model), config.model)
    culprit = f"model.{name} = {getattr(config.model, name)}" if name else None
    where = "the GPU" if device.type == "cuda" else "this machine"
    raise UsageError(
        f"{culprit or 'this model'} makes {weights / GIB:.4g} GiB of weights, with gradients, optimizer and average "
        f"{needed / GIB:.4g} GiB, and {where} has {memory / GIB:.4g} GiB; "
        f"{f'lower model.{name}' if name else 'take a smaller preset'}"
    )


def num_parameters(module: type[nn.Module], config: Config) -> float:
    """How many weights a model of `config` has; infinite where they are too many to count, or `config` is not valid."""
    try:
        type(config).model_validate(config.model_dump())
    except ValueError:
        return float("inf")
    layers = {name: getattr(config, name) for name in LAYERS if name in type(config).model_fields}
    few = config.model_copy(update={name: min(count, MANY_LAYERS) for name, count in layers.items()})
    total = _count(module, few)
    for name, count in layers.items():
        if count > MANY_LAYERS:
            one_less = few.model_copy(update={name: MANY_LAYERS - 1})
            total += (count - MANY_LAYERS) * (total - _count(module, one_less))
    return total


def _count(module: type[nn.Module], config: Config) -> float:
    try:
        with without_weights():
            return sum(parameter.numel() for parameter in module(config).parameters())
    except RuntimeError:  # a single tensor with more bytes than 64 bits can count
        return float("inf")


def memory_of(device: torch.device) -> int:
    """Bytes that the device has."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else total_memory()


@contextmanager
def telling_what_helps(config: RunConfig) -> Iterator[None]:
    """Where memory runs out inside the block, raise RestokError with what in `config` would make it last."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RestokError(f"out of memory; {remedies(config)}") from error


def remedies(config: RunConfig) -> str:
    """Changes that would take less memory than `config` does, the mildest first."""
    compute, size = config.compute, config.schedule.micro_batch_size or config.schedule.batch_size
    found = []
    if size > 1:
        found.append(f"schedule.micro_batch_size below {size} (the batch of a step stays the same)")
    if compute.memory != "small":
        found.append("compute.memory=small")
    if getattr(compute, "sharding", "fsdp") == "none":
        found.append("compute.sharding=fsdp over several processes")
    one = f"a micro-batch is one image already{', ' if found else ': '}" if size == 1 else ""
    return f"{one}set {' or '.join(found)}, or take a smaller model" if found else f"{one}take a smaller model"
