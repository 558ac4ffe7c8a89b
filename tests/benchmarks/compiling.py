"""What torch.compile does to encoding, decoding and a sampling step: the largest difference, and the ratio of times.

    python tests/benchmarks/compiling.py

Takes some minutes, nearly all of them in the compiler.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from restok_cli.model.har import Har, KVCache
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import HarRunConfig, TokenizerRunConfig


def compare(name: str, function: Callable[..., Tensor], *arguments: object) -> None:
    compiled = torch.compile(function, fullgraph=True)
    difference = (compiled(*arguments) - function(*arguments)).abs().max().item()
    print(
        f"{name}: differs by {difference:.1e}, takes {seconds(compiled, arguments) / seconds(function, arguments):.2f}"
    )


def seconds(function: Callable[..., Tensor], arguments: tuple) -> float:
    """The fastest of ten runs."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerRunConfig.parse(read_preset("tokenizer", "sample"), "sample").model).eval()
    values = read_preset("har", "sample")
    values["model"] |= {"codebook_size": 1024, "num_classes": 98}
    config = HarRunConfig.parse(values, "sample").model
    har = Har(config).eval()
    torch.nn.init.normal_(har.head.weight)
    images, codes = torch.rand(4, 3, 64, 64), torch.randint(1024, (4, 128))
    compare("encode", lambda images: tokenizer.encode_latents(images).latents, images)
    compare("decode", tokenizer.decode, codes)
    cache, class_ids = KVCache(config, 4, torch.device("cpu"), torch.float32), torch.arange(4)
    har.step(class_ids, codes, cache, 0, 64, 1)
    compare("sampling step of 64 codes", har.step, class_ids, codes, cache, 64, 128, 64)


if __name__ == "__main__":
    main()
