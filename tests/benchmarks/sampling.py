"""How much bf16 on a CPU changes what the models that come with restok compute: a minute.

    python tests/benchmarks/sampling.py

Of codes and pixels, how many are those of float32 and how far apart the images of the two are; of the generator the
same of its likeliest codes, given the codes before, and what it loses in nats a code. How fast it is: `restok bench`.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F

from restok_cli.cpu.rewrite import rewrite
from restok_cli.files import SAMPLE_MODEL
from restok_cli.inference.coding import decode_codes, encode_images
from restok_cli.machine import round_alike
from restok_cli.metrics.formulas.pixels import psnr
from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, sample, seeded_uniforms
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import find_tokenizer, open_har
from restok_cli.pretrained.modules import load_model

OPTIONS = SamplingOptions(cfg_scale=3.75, top_p=0.95)


@torch.inference_mode()
def main(count: int = 98) -> None:
    round_alike()  # as every restok command does first
    folder, device = open_har(SAMPLE_MODEL), torch.device("cpu")
    har, tokenizer = load_model(folder, device), load_model(find_tokenizer(folder, SAMPLE_MODEL, None), device)
    exact, rough = (changed(har, tokenizer, dtype) for dtype in (torch.float32, torch.bfloat16))
    class_ids = torch.arange(count) % har.config.num_classes
    codes = sample(exact[0], class_ids, seeded_uniforms(0, 0, count, har.config.num_codes), OPTIONS)
    images = decode_codes(exact[1], codes).images
    print(f"bf16, {count} images of the sample model:")
    print(f"decoding: {psnr(decode_codes(rough[1], codes).images, images).mean():.1f} dB (PSNR) to float32")
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
    apart = psnr(*(decode_codes(tokenizer, each).images for each in (others, codes))).mean()
    print(f"{name}: {(codes == others).float().mean():.1%} are those of float32, images {apart:.1f} dB apart")


if __name__ == "__main__":
    main()
