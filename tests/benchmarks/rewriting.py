"""What each part of `cpu.rewrite` is worth: the time without it over the time with it; and what bf16 is.

    python tests/benchmarks/rewriting.py [LAYERS]

ResTok-L and HAR-L with random weights and LAYERS (all, 24) of their layers; encoding, decoding and drawing with
guidance, one image at a time. Each way runs in turns with all, and of both the least processor time counts, so that
what else the machine does weighs little; run it with OMP_NUM_THREADS=1, since threads that wait take processor time,
too. A quarter of an hour.
"""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from unittest.mock import patch

import torch
from torch import nn

from restok_cli.__main__ import keep_memory
from restok_cli.cpu import leaves as cpu_layers
from restok_cli.cpu import rewrite as rewriting
from restok_cli.machine import round_alike
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.har import Har, HarBlock
from restok_cli.model.layers import Mlp, rotate
from restok_cli.model.pixel_codec import NormSiLU, ResidualBlock, UpsampledConv
from restok_cli.model.sampling import SamplingOptions, sample, sampling_cache, seeded_uniforms
from restok_cli.model.tokenizer import Tokenizer

ROUNDS = 4
OPTIONS = SamplingOptions(cfg_scale=3.75, top_p=0.95)


def without(*parts: type) -> AbstractContextManager:
    kept = {part: other for part, other in rewriting.REPLACEMENTS.items() if part not in parts}
    return patch.object(rewriting, "REPLACEMENTS", kept)


WAYS: dict[str, Callable[[], AbstractContextManager]] = {
    "packed linear layers": lambda: without(Mlp, nn.Linear),
    "the GELU in a product": lambda: without(Mlp),
    "packed convolutions": lambda: without(nn.Conv2d),
    "residual blocks in place": lambda: without(ResidualBlock),
    "Winograd's convolutions": lambda: patch.object(rewriting, "suits", lambda conv: False),
    "spans": lambda: patch.object(cpu_layers, "SPAN", 1 << 30),
    "complex rotation": lambda: patch.object(cpu_layers, "rotate", rotate),
    "doubling convolutions": lambda: without(UpsampledConv),
    "stable norms": lambda: without(NormSiLU),
    "RMS norms": lambda: without(nn.RMSNorm),
    "blocks in place, with RMS norms and rotation": lambda: without(HarBlock, nn.RMSNorm),
}


def compare(name: str, make: Callable[[], nn.Module], use: Callable[[nn.Module], object]) -> None:
    """Print what the use of a model takes without each part, as a ratio to what it takes with all; one after another,
    since many models do not fit into memory.
    """
    best = rewritten(make, nullcontext)
    for way, patched in WAYS.items():
        other = rewritten(make, patched)
        taken, least = ratio(lambda: use(best), lambda other=other: use(other), patched)
        print(f"{name}: {taken:.2f} s; without {way}: {least / taken:.2f}", flush=True)
        del other
    if rewriting.has_fast_bf16():
        other = rewritten(make, nullcontext, torch.bfloat16)
        taken, least = ratio(lambda: use(best), lambda: use(other), nullcontext)
        print(f"{name}: {taken:.2f} s; in bf16: {least / taken:.2f}", flush=True)


def rewritten(make: Callable[[], nn.Module], patched: Callable, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    model = make().eval().requires_grad_(False)
    with patched():
        rewriting.rewrite(model, dtype)
    return model


def ratio(one: Callable[[], object], other: Callable[[], object], patched: Callable) -> tuple[float, float]:
    """The least processor time of each of two, in turns."""
    times = ([], [])
    for _ in range(1 + ROUNDS):
        for way, context, taken in ((one, nullcontext, times[0]), (other, patched, times[1])):
            with context():
                start = time.process_time()
                way()
                taken.append(time.process_time() - start)
    return min(times[0][1:]), min(times[1][1:])  # the first is to warm up


@torch.inference_mode()
def main() -> None:
    round_alike()  # as every restok command does first
    keep_memory()
    layers = int(sys.argv[1]) if sys.argv[1:] else 24
    config = TokenizerConfig(encoder_layers=layers, decoder_layers=layers)
    images, codes, class_ids = torch.rand(1, 3, *config.image_size), torch.randint(8192, (1, 128)), torch.tensor([0])
    uniforms = seeded_uniforms(0, 0, 1, 128)

    def generator() -> Har:
        har = Har(HarConfig(num_layers=layers))
        nn.init.normal_(har.head.weight, std=0.02)
        return har

    def draw(har: Har) -> torch.Tensor:
        return sample(har, class_ids, uniforms, OPTIONS, cache=sampling_cache(har, OPTIONS, 1))

    compare("generate codes", generator, draw)
    compare("encode", lambda: Tokenizer(config), lambda tokenizer: tokenizer.encode(images))
    compare("decode", lambda: Tokenizer(config), lambda tokenizer: tokenizer.decode(codes))


if __name__ == "__main__":
    main()
