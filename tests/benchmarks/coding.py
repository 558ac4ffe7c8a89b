"""How near encoding and decoding come to what the machine can do: counted arithmetic over its fastest rate.

    python tests/benchmarks/coding.py

ResTok-L with random weights, at batch 1 and 4, of plain layers and as `restok encode` and `restok decode` run it; where
the CPU multiplies in bf16, also with --dtype bf16. The work is that of all plain layers, also where less arithmetic
does. The rate is that of the fastest products or convolutions in that type of the installed libraries, measured before
and after each run. Takes some minutes; run it on an idle machine.
"""

import copy
import re
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import median

from restok_cli.__main__ import keep_memory
from restok_cli.machine import round_alike

round_alike()  # as every restok command does first
keep_memory()

import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from restok_cli.cpu.rewrite import has_fast_bf16, rewrite  # noqa: E402
from restok_cli.data.images import to_float  # noqa: E402
from restok_cli.inference.coding import decode_codes, encode_images  # noqa: E402
from restok_cli.model.config import TokenizerConfig  # noqa: E402
from restok_cli.model.tokenizer import Tokenizer  # noqa: E402
from restok_cli.planning import rates  # noqa: E402


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
def fastest(dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """Function and number of operations of what goes fastest in `dtype`, of all that the installed libraries offer."""
    reached, ways = {}, rates.ways(dtype, torch.device("cpu"))
    for name, (way, flops) in ways.items():
        reached[name] = flops / seconds(way, 5)
        print(f"{dtype}, {name}: {reached[name] / 1e9:.0f} GFLOP/s", flush=True)
    return ways[max(ways, key=lambda name: reached[name])]


def rate(for_seconds: float = 1.0, dtype: torch.dtype = torch.float32) -> float:
    """Operations per second of what goes fastest in `dtype`, over a while."""
    way, flops = fastest(dtype)
    runs, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < for_seconds:
        way()
        runs += 1
    return runs * flops / taken


def share(function: Callable[[], object], flops: int, runs: int = 5, dtype: torch.dtype = torch.float32) -> float:
    """The share of the machine's rate at which `function` does `flops` operations: the median of some runs.

    The rate is measured before and after each run, for as long as a run takes: what else the machine does comes and
    goes, and its clock falls under a longer load.
    """
    function()
    start = time.perf_counter()
    function()
    duration = time.perf_counter() - start
    shares, before = [], rate(duration, dtype)
    for _ in range(runs):
        start = time.perf_counter()
        function()
        reached = flops / (time.perf_counter() - start)
        after = rate(duration, dtype)
        shares.append(reached / ((before + after) / 2))
        before = after
    return median(shares)


def dtypes() -> list[torch.dtype]:
    """Those in which this CPU is worth measuring."""
    return [torch.float32, *([torch.bfloat16] if has_fast_bf16() else [])]


def count_flops(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def resident(name: str) -> float:
    """VmRSS (now) or VmHWM (the peak) of this process, in GB."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e6


def forget_peak() -> float:
    """The memory in use, from which on the peak is counted anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def main() -> None:
    torch.manual_seed(0)
    plain = Tokenizer(TokenizerConfig()).eval().requires_grad_(False)
    images = {batch: torch.randint(256, (batch, 3, 256, 256), dtype=torch.uint8) for batch in (1, 4)}
    codes = {batch: torch.randint(8192, (batch, 128)) for batch in images}

    def plain_encode(batch: int) -> object:
        return plain.quantizer(plain.encode_latents(to_float(images[batch])).latents)

    flops = {}
    for batch in images:
        for name, function in (("encode", plain_encode), ("decode", lambda batch: plain.decode(codes[batch]))):
            flops[name, batch] = count_flops(partial(function, batch))
            reached = share(partial(function, batch), flops[name, batch])
            print(f"{name}, batch {batch}, plain layers: {reached:.0%} of the rate", flush=True)
    for dtype in dtypes():
        tokenizer = copy.deepcopy(plain) if dtype != dtypes()[-1] else plain
        rewrite(tokenizer, dtype)
        measure(tokenizer, dtype, images, codes, flops)


def measure(tokenizer: Tokenizer, dtype: torch.dtype, images: dict, codes: dict, flops: dict) -> None:
    """Print what a rewritten tokenizer reaches, and what memory it takes."""
    loaded = forget_peak()
    for name, batch in flops:
        function, given = (encode_images, images) if name == "encode" else (decode_codes, codes)
        work = partial(function, tokenizer, given[batch])
        reached = share(work, flops[name, batch], dtype=dtype)
        print(
            f"{name}, {dtype}, batch {batch}: {flops[name, batch] / batch / 1e9:.0f} GFLOP an image, {reached:.0%} of"
            f" the rate, {seconds(work, 1) / batch:.2f} s an image; peak memory"
            f" {resident('VmHWM') - loaded:.2f} GB above the weights",
            flush=True,
        )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
