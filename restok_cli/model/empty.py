"""Modules without weights: layers and shapes alone, in no time and memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

FILLING = ("normal_", "uniform_", "erfinv_", "mul_", "add_", "clamp_", "zero_", "fill_")


class _NotFilled(TorchFunctionMode):
    """Leaves out the numbers that layers start with."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in FILLING:  # of nn.init, or of a tensor
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if name == "randn" else func)(*args, **kwargs)


@contextmanager
def without_weights() -> Iterator[None]:
    """Modules made inside the block have parameters without memory or values, which are then to be assigned.

    Filling them, even with nothing, would cost more than a second: for that PyTorch imports its compiler.
    """
    with torch.device("meta"), _NotFilled():
        yield
