"""What each part that `cpu.rewrite` puts in another's place is worth: the time without it over the time with it.

    python tests/benchmarks/rewriting.py [LAYERS]

ResTok-L and HAR-L with random weights and LAYERS (all, 24) of their layers; encoding, decoding and drawing with
guidance, one image at a time. All ways run in turns, and of each the least processor time counts, so that what else the
machine does weighs little; run it with OMP_NUM_THREADS=1, since threads that wait take processor time, too. Some
minutes.
"""

import sys
import time
from collections.abc import Callable
from unittest.mock import patch

import coding  # noqa: F401  which sets how products round, before any is made
import torch
from torch import nn

from restok_cli.cpu import rewrite as rewriting
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, sample, sampling_cache, seeded_uniforms
from restok_cli.model.tokenizer import Tokenizer

ROUNDS = 4
OPTIONS = SamplingOptions(cfg_scale=3.75, top_p=0.95)


def rewritten(make: Callable[[], nn.Module], but: type | None = None) -> nn.Module:
    """A new model, rewritten, but for the parts of one type."""
    torch.manual_seed(0)
    model = make().eval().requires_grad_(False)
    kept = {part: other for part, other in rewriting.REPLACEMENTS.items() if part is not but}
    with patch.object(rewriting, "REPLACEMENTS", kept):
        rewriting.rewrite(model)
    return model


def compare(name: str, make: Callable[[], nn.Module], use: Callable[[nn.Module], object]) -> None:
    """Print what the use of a model takes without each part, as a ratio to what it takes with all."""
    present = {type(part) for part in make().modules()} & rewriting.REPLACEMENTS.keys()
    models = {part and part.__name__: rewritten(make, part) for part in (None, *sorted(present, key=str))}
    least = dict.fromkeys(models, float("inf"))
    for turn in range(1 + ROUNDS):
        for part, model in models.items():
            start = time.process_time()
            use(model)
            if turn:  # the first is to warm up
                least[part] = min(least[part], time.process_time() - start)
    ratios = ", ".join(f"{part} {taken / least[None]:.2f}" for part, taken in least.items() if part)
    print(f"{name}, {least[None]:.2f} s; without the replacement of {ratios}", flush=True)


@torch.inference_mode()
def main() -> None:
    layers = int(sys.argv[1]) if sys.argv[1:] else 24
    config = TokenizerConfig(encoder_layers=layers, decoder_layers=layers)
    images, codes, class_ids = torch.rand(1, 3, *config.image_size), torch.randint(8192, (1, 128)), torch.tensor([0])
    uniforms = seeded_uniforms(0, 0, 1, 128)

    def generator() -> Har:
        har = Har(HarConfig(num_layers=layers))
        nn.init.normal_(har.head.weight, std=0.02)
        return har

    compare("encode", lambda: Tokenizer(config), lambda tokenizer: tokenizer.encode(images))
    compare("decode", lambda: Tokenizer(config), lambda tokenizer: tokenizer.decode(codes))
    compare(
        "generate codes",
        generator,
        lambda har: sample(har, class_ids, uniforms, OPTIONS, cache=sampling_cache(har, OPTIONS, 1)),
    )


if __name__ == "__main__":
    main()
