"""How near sampling comes to what the machine can do: counted arithmetic over its fastest rate (see coding.py).

    python tests/benchmarks/sampling.py

HAR-L with random weights, 9 steps with guidance in all of them, codes only, at batch 1 and 8, as `restok generate` runs
it, without what a CPU wants otherwise, and with --quantize int8. Takes some minutes; run it on an idle machine.

What 8 bits change is told of the model that comes with restok: given the codes before, how many of the likeliest codes
are those of float32, and how far apart the images of the two are.

    python tests/benchmarks/sampling.py changes     only that: seconds
"""

import sys
from copy import deepcopy

import torch
from coding import count_flops, resident, share  # which sets how products round, before any is made

from restok_cli.cpu.rewrite import quantize_linears, rewrite
from restok_cli.files import SAMPLE_MODEL
from restok_cli.inference.coding import decode_codes
from restok_cli.metrics.pixels import psnr
from restok_cli.model.config import HarConfig
from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, sample, sampling_cache, seeded_uniforms
from restok_cli.pretrained.folder import find_tokenizer, load_model, open_har

OPTIONS = SamplingOptions(cfg_scale=3.75, top_p=0.95)


def measure_speed() -> None:
    with torch.inference_mode():
        torch.manual_seed(0)
        har = Har(HarConfig()).eval()
        torch.nn.init.normal_(har.head.weight, std=0.02)
        draws = {batch: drawing(har, batch) for batch in (1, 8)}
        flops = {batch: count_flops(draw) for batch, draw in draws.items()}
        rough = deepcopy(har)
        quantize_linears(rough)
        rewrite(rough)
        for name in ("as they are stored", "rewritten", "in 8 bits"):
            if name == "rewritten":
                rewrite(har)  # after the flops were counted: their counter does not know packed products
            elif name == "in 8 bits":
                draws = {batch: drawing(rough, batch) for batch in draws}
            loaded = resident("VmRSS")
            for batch, draw in draws.items():
                reached = share(draw, flops[batch])
                print(
                    f"weights {name}, batch {batch}: {flops[batch] / batch / 1e9:.0f} GFLOP an image,"
                    f" {reached:.0%} of the rate; peak memory {resident('VmHWM') - loaded:.2f} GB above the weights",
                    flush=True,
                )


def measure_changes(count: int = 98) -> None:
    folder, device = open_har(SAMPLE_MODEL), torch.device("cpu")
    har, tokenizer = (load_model(found, device) for found in (folder, find_tokenizer(folder, SAMPLE_MODEL, None)))
    rough = deepcopy(har)
    quantize_linears(rough)
    with torch.inference_mode():
        class_ids = torch.arange(count) % har.config.num_classes
        codes = sample(har, class_ids, seeded_uniforms(0, 0, count, har.config.num_codes), OPTIONS)
        likeliest = [generator(class_ids, codes).argmax(-1) for generator in (har, rough)]
        agreement = (likeliest[0] == likeliest[1]).float().mean()
        distance = psnr(*(decode_codes(tokenizer, each) for each in likeliest)).mean()
    print(f"8 bits, {count} images of the sample model: {agreement:.1%} of the likeliest codes are those of float32;")
    print(f"images of the two are {distance:.1f} dB (PSNR) apart")


def drawing(har: Har, batch: int):
    """A function that draws a batch."""
    class_ids, uniforms = torch.arange(batch), seeded_uniforms(0, 0, batch, 128)
    cache = sampling_cache(har, OPTIONS, batch)
    return lambda: sample(har, class_ids, uniforms, OPTIONS, cache=cache)


if __name__ == "__main__":
    if sys.argv[1:] != ["changes"]:
        measure_speed()
    measure_changes()
