"""Memory, arithmetic and traffic of real code, counted while it runs on tensors without numbers.

`Counter` sees every operation that PyTorch dispatches: which storages come and go, how many FLOPs it takes, how many
bytes it reads and writes. Each belongs to a part of the step: in the backward pass, to the part whose forward pass made
the node of the graph that runs.
"""

import warnings
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple
from weakref import finalize

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary

sequence_number: Callable[[], int] = torch._C._autograd._get_sequence_nr  # pyright: ignore[reportAttributeAccessIssue]

OTHER, GRADIENTS, OPTIMIZER = "losses and the rest", "gradients", "optimizer"
TEMPORARY, COPIES = "temporary", "16-bit copies of weights"
WEIGHTS, AVERAGE, FROZEN, JUDGE = "weights", "average", "frozen networks", "discriminator's weights"
PERSISTENT = {WEIGHTS, AVERAGE, FROZEN, JUDGE}
ROUNDED_TO = 512  # bytes, by the allocator of a GPU
# torch's, which knows attention on GPUs only
FORMULAS = flop_registry | {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        torch.ops.aten._scaled_dot_product_flash_attention
    ],
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        torch.ops.aten._scaled_dot_product_flash_attention_backward
    ],
}
NO_KERNEL = ("empty", "detach", "lift_fresh", "alias")  # of operations, beginnings of names that start nothing


class Work(NamedTuple):
    """A sum over operations of one kind in one type, in one part."""

    flops: float = 0
    bytes: float = 0  # read and written
    launches: float = 0

    def __add__(self, other: tuple) -> "Work":  # of numbers, not a longer tuple
        return Work(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, factor: float) -> "Work":
        return Work(*(factor * value for value in self))


class Kind(NamedTuple):
    part: str
    operation: str  # product, convolution, attention, other
    dtype: str  # float32, bf16, …: of the first floating-point input


class Storage:
    """Bytes that live from one moment to another, counted in what comes and goes."""

    def __init__(self, size: int, label: str, born: int):
        self.size, self.label, self.born, self.died = size, label, born, -1


class Counter(TorchDispatchMode):
    """Counts what runs in it. Weights and whatever else lives on must be made in it, and named by `name`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.total = self.peak = self.peak_at = self.base = 0
        self.storages: list[Storage] = []
        self.alive: MutableMapping[torch.UntypedStorage, Storage] = WeakIdKeyDictionary()
        self.work: dict[Kind, Work] = defaultdict(Work)
        self.parts = [OTHER]
        self.changes = [(-1, OTHER)]  # from which node of the graph on, by its number, which part makes them

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if operation.namespace == "prim":  # such as where a tensor is
            return operation(*arguments, **(options or {}))
        if torch.is_inference_mode_enabled() and operation._overloadpacket not in FORMULAS:
            with self:  # then operations come whole that are made of others
                made = operation.decompose(*arguments, **(options or {}))
            if made is not NotImplemented:
                return made
        made = operation(*arguments, **(options or {}))
        self.now += 1
        part, backward = self.part()
        inputs = [t for t in tree_leaves((arguments, options)) if isinstance(t, Tensor)]
        outputs = [t for t in tree_leaves(made) if isinstance(t, Tensor)]
        label = TEMPORARY if backward else part
        if operation is torch.ops.aten._to_copy.default and self.of(inputs[0]).label in PERSISTENT:
            label = COPIES
        for tensor in outputs:
            self.keep(tensor.untyped_storage(), label)
        self.add_work(operation, arguments, options or {}, made, inputs, outputs, part)
        return made

    def part(self) -> tuple[str, bool]:
        """To which part the present operation belongs, and whether it runs in a backward pass."""
        node = torch._C._current_autograd_node()
        if node is None:
            return self.parts[-1], False
        number = node._sequence_nr() if hasattr(node, "_sequence_nr") else -1
        return self.changes[bisect_right(self.changes, number, key=lambda change: change[0]) - 1][1], True

    def keep(self, storage: torch.UntypedStorage, label: str) -> None:
        if storage in self.alive:
            return
        entry = Storage(-(-storage.nbytes() // ROUNDED_TO) * ROUNDED_TO, label, self.now)
        self.alive[storage] = entry
        finalize(storage, self.let_go, entry).atexit = False
        self.storages.append(entry)
        self.total += entry.size
        if self.total > self.peak:
            self.peak, self.peak_at = self.total, self.now

    def let_go(self, entry: Storage) -> None:
        self.now += 1
        entry.died = self.now
        self.total -= entry.size

    def of(self, tensor: Tensor) -> Storage:
        return self.alive.get(tensor.untyped_storage(), NOBODY)

    def add_work(
        self,
        operation: Any,
        arguments: Any,
        options: dict,
        made: Any,
        inputs: list[Tensor],
        outputs: list[Tensor],
        part: str,
    ) -> None:
        name = operation._opname
        if operation.is_view or name.startswith(NO_KERNEL):
            return
        packet, flops, what = operation._overloadpacket, 0, "other"
        if packet in FORMULAS:
            flops = FORMULAS[packet](*arguments, **options, out_val=made)
            what = "convolution" if "convolution" in name else "attention" if "attention" in name else "product"
        floats = [t.dtype for t in inputs if t.is_floating_point()]
        dtype = str(floats[0]).removeprefix("torch.") if floats else "float32"
        moved = sum(t.numel() * t.element_size() for t in (*inputs, *outputs))
        self.work[Kind(part, what, SHORT.get(dtype, dtype))] += Work(
            flops, moved, part != OPTIMIZER
        )  # whose kernels take many tensors at once on a GPU

    @property
    def flops(self) -> float:
        return sum(done.flops for done in self.work.values())

    def name(self, tensors: Iterable[Tensor], label: str) -> None:
        """Say what these tensors, made in this mode, are."""
        for tensor in tensors:
            self.of(tensor).label = label

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """Operations in the block belong to `part`, and so do their backward passes."""
        self.enter(part)
        yield
        self.leave()

    def enter(self, part: str) -> None:
        self.parts.append(part)
        self.changes.append((sequence_number(), part))

    def leave(self) -> None:
        self.parts.pop()
        self.changes.append((sequence_number(), self.parts[-1]))

    def watch(self, module: nn.Module, part: str) -> None:
        """Operations of a module, or of any within it, belong to `part` from now on."""
        for inner in module.modules():
            inner.register_forward_pre_hook(lambda *_: self.enter(part))
            inner.register_forward_hook(lambda *_: self.leave(), always_call=True)

    def watch_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p: self.name([p.grad], GRADIENTS))

    def repeat(self, factor: float) -> None:
        """Count all work so many times, but for that of the optimizer."""
        for kind in self.work:
            if kind.part != OPTIMIZER:
                self.work[kind] = self.work[kind].times(factor)

    def work_by_part(self) -> dict[str, Work]:
        """The most FLOPs first."""
        sums: dict[str, Work] = defaultdict(Work)
        for kind, done in self.work.items():
            sums[kind.part] += done
        return dict(sorted(sums.items(), key=lambda item: -item[1].flops))

    def forget(self) -> None:
        """Begin to count anew, but for what is in memory."""
        self.work.clear()
        self.storages = [*self.alive.values()]
        self.peak, self.peak_at, self.base = self.total, self.now, self.total

    def at_peak(self) -> dict[str, int]:
        """Bytes by label, at the moment when there were most."""
        return self.at(self.peak_at)

    def at(self, moment: int) -> dict[str, int]:
        sums: dict[str, int] = defaultdict(int)
        for entry in self.storages:
            if entry.born <= moment and not 0 <= entry.died <= moment:
                sums[entry.label] += entry.size
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def peaks(self, fixed: Container[str], factors: Iterable[float]) -> list[dict[str, int]]:
        """Bytes by label at the moments when there were most, if all but what is `fixed` were so many times as much.

        The peak of a few images may be in the optimizer, that of many is where most is kept of each.
        """
        changes: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for entry in self.storages:
            which = entry.label not in fixed
            changes[entry.born][which] += entry.size
            changes[entry.died][which] -= entry.size if entry.died >= 0 else 0
        moments = sorted(moment for moment in changes if moment >= 0)
        steady, growing = (list(accumulate(changes[moment][which] for moment in moments)) for which in (0, 1))
        found = {
            max(zip(moments, steady, growing, strict=True), key=lambda at: at[1] + factor * at[2])[0]
            for factor in factors
        }
        return [self.at(moment) for moment in sorted(found)]


SHORT = {"bfloat16": "bf16", "float16": "fp16"}
NOBODY = Storage(0, "", 0)


class WithoutNumbers(FakeTensorMode):
    """Tensors of which only shape, type and place are there. A copy of one, with all it refers to, stays in here."""

    def __deepcopy__(self, memo: dict) -> "WithoutNumbers":
        return self


class Unasked(TorchFunctionMode):
    """Where a model that is built asks for a number, for its first weights or those of the rest, it gets 0."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function is Tensor.item:
            return 0.0
        if function is Tensor.__bool__:
            return False
        return function(*arguments, **(options or {}))


@contextmanager
def building() -> Iterator[None]:
    """In the block, models are built, and moved to other types, of tensors without numbers."""
    before = nn.Module._apply
    nn.Module._apply = put_in_place  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with Unasked(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by copies, to no harm
            yield
    finally:
        nn.Module._apply = before


def put_in_place(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`Module._apply`, which swaps the insides of two tensors, as those of tensors without numbers cannot be."""
    for inner in module.modules() if recurse else [module]:
        for name, parameter in inner._parameters.items():
            if parameter is not None and (other := function(parameter.detach())).dtype != parameter.dtype:
                inner._parameters[name] = nn.Parameter(other, parameter.requires_grad)
        for name, tensor in inner._buffers.items():
            if tensor is not None:
                inner._buffers[name] = function(tensor)
    return module
