"""What `compute.memory` costs the host: time to start the operations of a step, not to compute them.

    python tests/benchmarks/recomputing.py

Models of many narrow blocks, one image, one thread, in bf16: there is hardly anything to compute. The choices take
turns; of each, the fastest of several passes forward and backward, in processor time. "selective" is PyTorch's own way
to "balanced", in which Python sees each operation; compiled blocks have it.
"""

import time
from collections.abc import Callable
from copy import deepcopy

import torch

from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import HarRunConfig, TokenizerRunConfig
from restok_cli.training.recomputing import recompute_activations

LAYERS, PASSES = 24, 10
CHOICES = {"fast": ("fast", False), "balanced": ("balanced", False)}
CHOICES |= {"selective": ("balanced", True), "small": ("small", False)}


def compare(model: Tokenizer | Har, forward: Callable[..., torch.Tensor]) -> str:
    models = {name: deepcopy(model) for name in CHOICES}
    for name, copy in models.items():
        recompute_activations(copy, *CHOICES[name])
    fastest = dict.fromkeys(CHOICES, float("inf"))
    for number in range(PASSES):
        for name, copy in models.items():
            start = time.process_time()
            with torch.autocast("cpu", torch.bfloat16):
                output = forward(copy)
            output.float().square().mean().backward()
            if number > 0:  # the first one makes what stays
                fastest[name] = min(fastest[name], time.process_time() - start)
            copy.zero_grad()
    fast = fastest["fast"]
    return ", ".join(f"{name} {seconds * 1000:.0f} ms ({seconds / fast:.2f})" for name, seconds in fastest.items())


if __name__ == "__main__":
    torch.set_num_threads(1)
    layers = {"encoder_layers": LAYERS, "decoder_layers": LAYERS}
    config = TokenizerRunConfig.parse(read_preset("tokenizer", "tiny"), "tiny").model.model_copy(update=layers)
    images = torch.rand(1, 3, *config.image_size)
    print("tokenizer:", compare(Tokenizer(config), lambda model: model(images).images))
    har = HarRunConfig.parse(read_preset("har", "tiny"), "tiny").model.model_copy(update={"num_layers": LAYERS})
    codes = torch.randint(har.codebook_size, (1, har.num_codes))
    print("generator:", compare(Har(har), lambda model: model(torch.tensor([0]), codes)))
