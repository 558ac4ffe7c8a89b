"""A GPU's own choices, on a machine without one: in which type autocast computes each operation.

torch registers autocast's kernels for CUDA in every build, but they look at tensors on a GPU only. Here those lists act
on tensors of the CPU, so that a step that is counted there on tensors without numbers (see counting.py) makes the
copies that it makes on a GPU.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

# Which of CUDA's operations do something else than to take their inputs to float32 (torch's autocast_mode.h).
IN_16_BITS = {"_convolution", "convolution", "addmv", "addr", "mv", "chain_matmul", "linalg_multi_dot", "einsum"}
IN_WIDEST = {"addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put", "scatter_add"}
IN_WIDEST |= {"tensordot", "vdot"}
RESULT_IN_FLOAT32 = {"cumprod", "cumsum", "log_softmax.int", "prod", "prod.dim_int", "softmax.int"}
RESULT_IN_FLOAT32 |= {"sum", "sum.dim_IntList"}
LEFT_OUT = ("_cell", "rnn", "cudnn_convolution")  # recurrent networks, and what convolutions call themselves


def names_on(key: str) -> set[str]:
    """Operations of autocast on a kind of device ("AutocastCUDA"), such as sum.dim_IntList."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key(key)
    return {name.removeprefix("aten::") for name in registered if name.startswith("aten::")}


@contextmanager
def cuda_rules() -> Iterator[None]:
    """In the block, autocast on the CPU goes by the lists of CUDA."""
    rules = torch.library.Library("aten", "IMPL", "AutocastCPU")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warning only once for all operators")  # that one replaces another
            for name in sorted((names_on("AutocastCUDA") - names_on("AutocastCPU")) | {"grid_sampler"}):
                if name not in IN_16_BITS and not any(part in name for part in LEFT_OUT):
                    rules.impl(name, rule(name), allow_override=True)
        yield
    finally:
        rules._destroy()


def rule(name: str) -> Callable:
    """The kernel of autocast for an operation; those in 16 bits are made of others that have theirs already."""
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload or "default")
    if name == "rms_norm":
        operation = _as_one_kernel

    def kernel(*arguments: Any, **options: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)):
            floats = [t.dtype for t in tree_leaves((arguments, options)) if is_eligible(t)]
            if name in RESULT_IN_FLOAT32:
                short = floats and floats[0] != torch.float32 and options.get("dtype") is None
                return operation(*arguments, **(options | {"dtype": torch.float32} if short else options))
            if name in IN_WIDEST and torch.float32 not in floats:
                return operation(*arguments, **options)
            arguments, options = tree_map(widened, (arguments, options))
            return operation(*arguments, **options)

    return kernel


def _as_one_kernel(tokens: Tensor, shape: list[int], weight: Tensor | None, eps: float) -> Tensor:
    """A norm that takes and keeps as much as RMSNorm does on a GPU, where that is not composed of other operations."""
    return torch.ops.aten.native_layer_norm(tokens, shape, weight, None, eps)[0]


def is_eligible(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64


def widened(value: Any) -> Any:
    return value.float() if is_eligible(value) else value
