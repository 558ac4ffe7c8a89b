"""The rates of the machine at hand: the fastest that the installed libraries reach for a type, measured now."""

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

Way = tuple[Callable[[], object], float]  # what to run, and its floating-point operations


def seconds(function: Callable[[], object], device: torch.device, runs: int = 5) -> list[float]:
    """The times of some runs, after one to warm up; a GPU is waited for at either end."""
    times = []
    for _ in range(runs + 1):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return times[1:]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ways(dtype: torch.dtype, device: torch.device) -> dict[str, Way]:
    """Candidates for the fastest in `dtype`, by name: products of matrices, plain and packed, and a convolution."""
    side = 8192 if device.type == "cuda" else 2048
    channels, rows = (128, 256) if device.type == "cuda" else (256, 64)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(device, dtype, memory_format=torch.channels_last)
    conv.requires_grad_(False)
    features = torch.randn(1 if device.type == "cpu" else 16, channels, rows, rows, device=device, dtype=dtype)
    features = features.to(memory_format=torch.channels_last)
    found: dict[str, Way] = {
        "matrix product": (lambda: matrix @ matrix, 2 * side**3),
        "convolution": (lambda: conv(features), 2 * channels * channels * 9 * rows * rows * len(features)),
    }
    if device.type == "cpu" and torch.backends.mkldnn.is_available():  # pyright: ignore[reportPrivateImportUsage]
        packed = torch.ops.mkldnn._reorder_linear_weight(matrix, side)
        found["packed product"] = (
            lambda: torch.ops.mkldnn._linear_pointwise(matrix, packed, None, "none", [], ""),
            2 * side**3,
        )
    return found


@cache
def fastest(dtype: torch.dtype, device: torch.device) -> tuple[str, Callable[[], object], float]:
    """Name, function and floating-point operations of what is fastest there in `dtype`."""
    with torch.no_grad():
        found = ways(dtype, device)
        name = max(found, key=lambda name: found[name][1] / min(seconds(found[name][0], device)))
    return name, *found[name]


def rate(dtype: torch.dtype, device: torch.device, runs: int = 3) -> float:
    """Floating-point operations a second, measured now."""
    _, function, flops = fastest(dtype, device)
    with torch.no_grad():
        return flops / min(seconds(function, device, runs))


def bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written: of a copy that no cache holds."""
    source = torch.empty((1 << 30 if device.type == "cuda" else 1 << 28) // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device))
