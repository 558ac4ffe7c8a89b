"""The rates of the machine at hand: the fastest that the installed libraries reach for a type, measured now."""

from collections.abc import Callable
from functools import cache, partial
from time import perf_counter

import torch
from torch import Tensor, nn

from restok_cli.cpu.leaves import TYPICAL_ROWS, PackedConv

# of a product: rows, inputs, outputs; of a convolution: images, channels, and the side of a map
PRODUCTS = {
    "cpu": ((2048, 2048, 2048), (384, 1024, 4096), (384, 4096, 1024)),
    "cuda": ((8192, 8192, 8192),),
}
CONVOLUTIONS = {"cpu": ((1, 128, 128), (1, 256, 64), (1, 512, 16)), "cuda": ((16, 128, 256),)}

Clock = Callable[[], float]
Way = tuple[Callable[[], object], float]  # what to run, and its floating-point operations


def seconds(
    function: Callable[[], object], device: torch.device, runs: int = 5, warm_up: int = 1, clock: Clock = perf_counter
) -> list[float]:
    """The times of some runs, after some to warm up; a GPU is waited for at either end."""
    times = []
    for _ in range(warm_up + runs):
        synchronize(device)
        start = clock()
        function()
        synchronize(device)
        times.append(clock() - start)
    return times[warm_up:]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ways(dtype: torch.dtype, device: torch.device) -> dict[str, Way]:
    """Candidates for the fastest in `dtype`, by name and shape: products, plain and packed, and convolutions."""
    found: dict[str, Way] = {}
    for rows, width, outputs in PRODUCTS[device.type]:
        inputs = torch.randn(rows, width, device=device, dtype=dtype)
        weight = torch.randn(outputs, width, device=device, dtype=dtype)
        for name, way in products(inputs, weight).items():
            found[f"{name}, {rows}x{width}x{outputs}"] = way, 2 * rows * width * outputs
    for count, channels, side in CONVOLUTIONS[device.type]:
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).requires_grad_(False)
        conv = PackedConv(conv, dtype) if device.type == "cpu" else conv.to(device, dtype)
        features = torch.randn(count, channels, side, side, device=device, dtype=dtype)
        way = partial(conv, features.to(memory_format=torch.channels_last))
        found[f"convolution, {count}x{channels}x{side}x{side}"] = way, 2 * 9 * channels**2 * side**2 * count
    return found


def products(inputs: Tensor, weight: Tensor) -> dict[str, Callable[[], object]]:
    """The ways in which the installed libraries multiply rows by weights, by name."""
    found: dict[str, Callable[[], object]] = {"a @ b": lambda: inputs @ weight.T}
    if inputs.device.type != "cpu":
        return found
    if torch.backends.mkldnn.is_available():  # pyright: ignore[reportPrivateImportUsage]
        by_onednn = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)
        found["packed by oneDNN"] = partial(torch.ops.mkldnn._linear_pointwise, inputs, by_onednn, None, "none", [], "")
    if torch.backends.mkl.is_available() and inputs.dtype == torch.float32:
        by_mkl = torch.ops.mkl._mkl_reorder_linear_weight(weight, TYPICAL_ROWS)
        found["packed by MKL"] = partial(torch.ops.mkl._mkl_linear, inputs, by_mkl, weight, None, len(inputs))
    return found


@cache
def fastest(dtype: torch.dtype, device: torch.device) -> tuple[str, Callable[[], object], float]:
    """Name, function and floating-point operations of what is fastest there in `dtype`."""
    with torch.no_grad():
        found = ways(dtype, device)
        name = max(found, key=lambda name: found[name][1] / min(seconds(found[name][0], device, runs=2)))
    return name, *found[name]


def rate(dtype: torch.dtype, device: torch.device, runs: int = 3) -> float:
    """Floating-point operations a second, measured now."""
    _, function, flops = fastest(dtype, device)
    with torch.no_grad():
        return flops / min(seconds(function, device, runs, warm_up=0))


def bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written: of a copy that no cache holds."""
    source = torch.empty((1 << 30 if device.type == "cuda" else 1 << 28) // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device))
