"""A training step against what this machine can do: how much of its fastest float32 rate a step reaches.

    python tests/benchmarks/training_step.py [PRESET] [BATCH]

Trains the tokenizer of a preset (restok-s-128, batch 2) on random images, without LPIPS, discriminator and teacher,
by the parts that the loop is made of. The work of a step is counted by torch (FlopCounterMode, forward and backward);
the rate of the machine is that of its fastest products or convolutions, in turns with the steps, so that what else the
machine does weighs on both alike. Run it alone.
"""

import sys
import time

import torch
from coding import rate
from torch.utils.flop_counter import FlopCounterMode

from restok_cli.model.tokenizer import Tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import TokenizerRunConfig
from restok_cli.training.losses import NUM_NOISE, TokenizerLosses
from restok_cli.training.optim import update_ema
from restok_cli.training.update import Update

ROUNDS = 2


def main() -> None:
    preset = sys.argv[1] if len(sys.argv) > 1 else "restok-s-128"
    batch = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    config = TokenizerRunConfig.parse(read_preset("tokenizer", preset), preset)
    model = config.model.model_copy(update={"encoder_alignment_dim": None, "decoder_alignment_dim": None})
    torch.manual_seed(0)
    tokenizer, ema = Tokenizer(model).train(), Tokenizer(model).requires_grad_(False)
    update = Update(tokenizer, config.optimizer, 1000, "float32")
    losses = TokenizerLosses(config, None, None)
    images, draws = torch.rand(batch, 3, *model.image_size), torch.rand(batch, NUM_NOISE)

    def step() -> None:
        result = tokenizer(images, torch.full((batch,), model.num_latent_tokens))
        update.backward(losses(result, images, tokenizer.quantizer, draws)["loss"])
        update.step(0)
        update_ema(ema, tokenizer, 0, 0.999)

    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    seconds, rates = [], []
    for _ in range(ROUNDS):
        rates.append(rate())
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    bound = flops / max(rates)
    print(f"{preset}, batch {batch}: {flops / 1e9:.0f} GFLOP a step, {torch.get_num_threads()} threads")
    print(f"fastest rate: {max(rates) / 1e9:.0f} GFLOP/s; bound {bound:.2f} s; step {min(seconds):.2f} s")
    print(f"a step reaches {bound / min(seconds):.0%} of the bound (the slowest {bound / max(seconds):.0%})")


if __name__ == "__main__":
    main()
