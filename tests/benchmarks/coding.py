"""How near encoding and decoding come to what the machine can do: counted arithmetic over its matrix-multiply rate.

    python tests/benchmarks/coding.py

ResTok-L with random weights, at batch 1 and 4, as `restok encode` and `restok decode` run it. The rate of float32
matrix products is measured just before and after each run. Takes some minutes; run it on an idle machine.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

from restok_cli.__main__ import keep_memory, round_alike

round_alike()  # as every restok command does first
keep_memory()

import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from restok_cli.commands.coding import decode_codes, encode_images  # noqa: E402
from restok_cli.model.config import TokenizerConfig  # noqa: E402
from restok_cli.model.packing import pack_linears  # noqa: E402
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


def rate() -> float:
    """Floating-point operations per second of a product of two float32 matrices of 2048 × 2048."""
    matrix = torch.randn(2048, 2048)
    return 2 * 2048**3 / seconds(lambda: matrix @ matrix, 5)


def share(function: Callable[[], object], flops: int, runs: int = 3) -> float:
    """The share of the machine's rate at which `function` does `flops` operations."""
    before = rate()
    taken = seconds(function, runs)
    return flops / taken / max(before, rate())


def count_flops(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def resident(name: str) -> float:
    """VmRSS (now) or VmHWM (the peak) of this process, in GB."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e6


def main() -> None:
    with torch.inference_mode():
        torch.manual_seed(0)
        tokenizer = Tokenizer(TokenizerConfig()).eval()
        works = {}
        for batch in (1, 4):
            images = torch.randint(256, (batch, 3, 256, 256), dtype=torch.uint8)
            codes = torch.randint(8192, (batch, 128))
            for name, function in (
                ("encode", lambda images=images: encode_images(tokenizer, images)),
                ("decode", lambda codes=codes: decode_codes(tokenizer, codes)),
            ):
                works[name, batch] = function, count_flops(function)
        pack_linears(tokenizer)  # after the flops were counted: their counter does not know packed products
        loaded = resident("VmRSS")
        for (name, batch), (function, flops) in works.items():
            print(
                f"{name}, batch {batch}: {flops / batch / 1e9:.0f} GFLOP a picture,"
                f" {share(function, flops):.0%} of the rate; peak memory {resident('VmHWM') - loaded:.2f} GB"
                " above the weights",
                flush=True,
            )


if __name__ == "__main__":
    main()
