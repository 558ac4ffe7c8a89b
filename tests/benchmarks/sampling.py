"""How near sampling comes to what the machine can do: counted arithmetic over its fastest rate (see coding.py).

    python tests/benchmarks/sampling.py

HAR-L with random weights, 9 steps with guidance in all of them, codes only, at batch 1 and 8, of plain layers, as
`restok generate` runs it, and, where the CPU multiplies in bf16, with --dtype bf16. Takes some minutes; run it on an
idle machine.

What bf16 changes is told of the models that come with restok: for codes and pixels how many are those of float32 and
how far apart the images of the two are, for the generator the same of its likeliest codes, given the codes before, and
what it loses in nats a code.

    python tests/benchmarks/sampling.py changes     only that: a minute
"""

import sys
from copy import deepcopy

import torch
import torch.nn.functional as F
from coding import (  # sets how products round, before any is made
    count_flops,
    dtypes,
    forget_peak,
    resident,
    seconds,
    share,
)

from restok_cli.cpu.rewrite import rewrite
from restok_cli.files import SAMPLE_MODEL
from restok_cli.inference.coding import decode_codes, encode_images
from restok_cli.metrics.pixels import psnr
from restok_cli.model.config import HarConfig
from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, sample, sampling_cache, seeded_uniforms
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import find_tokenizer, load_model, open_har

OPTIONS = SamplingOptions(cfg_scale=3.75, top_p=0.95)


def measure_speed() -> None:
    torch.manual_seed(0)
    har = Har(HarConfig()).eval()
    torch.nn.init.normal_(har.head.weight, std=0.02)
    flops = {batch: count_flops(drawing(har, batch)) for batch in (1, 8)}
    report("plain layers", har, flops, torch.float32)
    for dtype in dtypes():
        rewritten = deepcopy(har)
        rewrite(rewritten, dtype)
        report(f"rewritten, {dtype}", rewritten, flops, dtype)


def report(name: str, har: Har, flops: dict[int, int], dtype: torch.dtype) -> None:
    loaded = forget_peak()
    for batch, operations in flops.items():
        draw = drawing(har, batch)
        reached = share(draw, operations, dtype=dtype)
        print(
            f"{name}, batch {batch}: {operations / batch / 1e9:.0f} GFLOP an image, {reached:.0%} of the rate,"
            f" {seconds(draw, 1) / batch:.2f} s an image; peak memory {resident('VmHWM') - loaded:.2f} GB above the"
            " weights",
            flush=True,
        )


def measure_changes(count: int = 98) -> None:
    folder, device = open_har(SAMPLE_MODEL), torch.device("cpu")
    har, tokenizer = load_model(folder, device), load_model(find_tokenizer(folder, SAMPLE_MODEL, None), device)
    exact, rough = (changed(har, tokenizer, dtype) for dtype in (torch.float32, torch.bfloat16))
    class_ids = torch.arange(count) % har.config.num_classes
    codes = sample(exact[0], class_ids, seeded_uniforms(0, 0, count, har.config.num_codes), OPTIONS)
    images = decode_codes(exact[1], codes)
    print(f"bf16, {count} images of the sample model:")
    print(f"decoding: {psnr(decode_codes(rough[1], codes), images).mean():.1f} dB (PSNR) to float32")
    tell_codes("encoding", *(encode_images(model[1], images) for model in (exact, rough)), exact[1])
    logits = [model[0](class_ids, codes) for model in (exact, rough)]
    tell_codes("the likeliest codes", *(each.argmax(-1) for each in logits), exact[1])
    own = sample(exact[0], class_ids, seeded_uniforms(1, 0, count, har.config.num_codes), SamplingOptions())
    known, other = (model[0](class_ids, own).log_softmax(-1) for model in (exact, rough))
    lost = F.kl_div(other, known, log_target=True, reduction="none").sum(-1).mean()
    print(f"the generator loses {lost:.5f} nats a code")


def changed(har: Har, tokenizer: Tokenizer, dtype: torch.dtype) -> tuple[Har, Tokenizer]:
    """The two, rewritten to compute in `dtype`."""
    har, tokenizer = deepcopy(har), deepcopy(tokenizer)
    rewrite(har, dtype)
    rewrite(tokenizer, dtype)
    return har, tokenizer


def tell_codes(name: str, codes: torch.Tensor, others: torch.Tensor, tokenizer: Tokenizer) -> None:
    apart = psnr(*(decode_codes(tokenizer, each) for each in (others, codes))).mean()
    print(f"{name}: {(codes == others).float().mean():.1%} are those of float32, images {apart:.1f} dB apart")


def drawing(har: Har, batch: int):
    """A function that draws a batch."""
    class_ids, uniforms = torch.arange(batch), seeded_uniforms(0, 0, batch, 128)
    cache = sampling_cache(har, OPTIONS, batch)
    return lambda: sample(har, class_ids, uniforms, OPTIONS, cache=cache)


if __name__ == "__main__":
    with torch.inference_mode():
        if sys.argv[1:] != ["changes"]:
            measure_speed()
        measure_changes()
