"""How near encoding and decoding come to what the machine can do: counted arithmetic over its fastest rate.

    python tests/benchmarks/coding.py

ResTok-L with random weights, at batch 1 and 4, of plain layers and as `restok encode` and `restok decode` run it. Its
work is that of all plain layers, also where less arithmetic does. The rate is that of the fastest float32 products or
convolutions of the installed libraries, measured before and after each run. Takes some minutes; run it on an idle
machine.
"""

import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median

from restok_cli.__main__ import keep_memory
from restok_cli.machine import round_alike

round_alike()  # as every restok command does first
keep_memory()

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from restok_cli.cpu.rewrite import rewrite  # noqa: E402
from restok_cli.data.images import to_float  # noqa: E402
from restok_cli.inference.coding import decode_codes, encode_images  # noqa: E402
from restok_cli.model.config import TokenizerConfig  # noqa: E402
from restok_cli.model.tokenizer import Tokenizer  # noqa: E402


def seconds(function: Callable[[], object], runs: int) -> float:
    """The fastest of some runs, after one to warm up."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


@cache
def fastest() -> tuple[Callable[[], object], int]:
    """What the installed libraries compute fastest in float32, and its floating-point operations."""
    matrix, layer = torch.randn(2048, 2048), nn.Linear(2048, 2048, bias=False)
    packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), len(matrix))
    conv = nn.Conv2d(256, 256, 3, padding=1, bias=False).requires_grad_(False)
    features = torch.randn(1, 256, 64, 64).to(memory_format=torch.channels_last)
    ways = {
        "matrix product": (lambda: matrix @ matrix, 2 * 2048**3),
        "packed product": (
            lambda: torch.ops.mkldnn._linear_pointwise(matrix, packed, None, "none", [], ""),
            2 * 2048**3,
        ),
        "convolution": (lambda: conv(features), 2 * 256 * 256 * 9 * 64 * 64),
    }
    rates = {name: flops / seconds(way, 5) for name, (way, flops) in ways.items()}
    print(", ".join(f"{name}: {reached / 1e9:.0f} GFLOP/s" for name, reached in rates.items()), flush=True)
    return ways[max(rates, key=lambda name: rates[name])]


def rate(for_seconds: float = 1.0) -> float:
    """Floating-point operations per second of what goes fastest, over a while."""
    way, flops = fastest()
    runs, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < for_seconds:
        way()
        runs += 1
    return runs * flops / taken


def share(function: Callable[[], object], flops: int, runs: int = 5) -> float:
    """The share of the machine's rate at which `function` does `flops` operations: the median of some runs.

    The rate is measured before and after each run, for as long as a run takes: what else the machine does comes and
    goes, and its clock falls under a longer load.
    """
    function()
    start = time.perf_counter()
    function()
    duration = time.perf_counter() - start
    shares, before = [], rate(duration)
    for _ in range(runs):
        start = time.perf_counter()
        function()
        reached = flops / (time.perf_counter() - start)
        after = rate(duration)
        shares.append(reached / ((before + after) / 2))
        before = after
    return median(shares)


def count_flops(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def resident(name: str) -> float:
    """VmRSS (now) or VmHWM (the peak) of this process, in GB."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e6


def main() -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig()).eval().requires_grad_(False)
    works = {}
    for batch in (1, 4):
        images = torch.randint(256, (batch, 3, 256, 256), dtype=torch.uint8)
        codes = torch.randint(8192, (batch, 128))
        works["encode", batch] = (
            lambda images=images: tokenizer.quantizer(tokenizer.encode_latents(to_float(images)).latents),
            lambda images=images: encode_images(tokenizer, images),
        )
        works["decode", batch] = (
            lambda codes=codes: tokenizer.decode(codes),
            lambda codes=codes: decode_codes(tokenizer, codes),
        )
    flops = {}
    for (name, batch), (plain, _) in works.items():
        flops[name, batch] = count_flops(plain)
        print(f"{name}, batch {batch}, plain layers: {share(plain, flops[name, batch]):.0%} of the rate", flush=True)
    rewrite(tokenizer)
    loaded = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    for (name, batch), (_, used) in works.items():
        reached = share(used, flops[name, batch])
        print(
            f"{name}, batch {batch}: {flops[name, batch] / batch / 1e9:.0f} GFLOP an image, {reached:.0%} of the"
            f" rate; peak memory {resident('VmHWM') - loaded:.2f} GB above the weights",
            flush=True,
        )


if __name__ == "__main__":
    main()
