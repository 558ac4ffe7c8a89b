"""Our models compute what the authors' released implementation computes (tests/golden, see its README).

Each bound is about twice what rounding does (with AVX2 and AVX-512, one thread and two), and below what another eps
would do: of the norms of blocks, of those before the first block, of group norms, or of the generator's.
"""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import GOLDEN
from golden_models import difference, fill, load_case

from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, sample
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.released import har_config, tokenizer_config
from restok_cli.pretrained.released_tensors import from_released, released_shapes

TOKENIZERS = ("small", "small_no_residual", "small_patch_single_head", "small_flat_latents", "small_alignment")
GENERATORS = ("har_128", "har_128_ar8", "har_64_ar1", "ar_128")
SCHEDULES = {"linear_re": "linear-reversed", "linear_constant": "linear-constant", "cosine_re": "cosine-reversed"}


def filled(module, config, facts):
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    module.load_state_dict(from_released(config, shapes, fill.fill_state_dict(facts["shapes"])))
    return module.eval()


@pytest.mark.parametrize("case", TOKENIZERS)
@torch.inference_mode()
def test_tokenizer_equals_the_released_one(case):
    facts, golden = load_case("tokenizer", case)
    config = tokenizer_config(facts["config"])
    tokenizer = filled(Tokenizer(config), config, facts)
    images = fill.images(facts["batch"], facts["image_size"])

    encoded = tokenizer.encode_latents(images)
    for i, tokens in enumerate(encoded.image_tokens):
        assert difference(tokens.mean(-1), golden[f"image_tokens_{i}_mean"]) < 1.2e-5
        assert difference(tokens.std(-1), golden[f"image_tokens_{i}_std"]) < 8e-7
    assert difference(encoded.image_tokens[0].mean(1), golden["last_image_tokens_mean"]) < 3e-6
    assert difference(encoded.latents, golden["latents"]) < 5e-6

    quantized = tokenizer.quantizer(encoded.latents)
    assert np.array_equal(quantized.codes, golden["codes"])
    assert quantized.codebook_loss.item() == pytest.approx(golden["codebook_loss"], rel=1e-6)
    assert quantized.commitment_loss.item() == pytest.approx(golden["commitment_loss"], rel=1e-6)

    lengths = [int(name[6:]) for name in golden if name[6:].isdecimal() and name.startswith("image_")]
    assert lengths
    for length in lengths:
        decoded = tokenizer.decode(quantized.codes[:, :length])
        assert difference(F.avg_pool2d(decoded, 8), golden[f"image_{length}"]) < 3e-5
        assert difference(decoded[..., :16, :16], golden[f"image_{length}_corner"]) < 3e-5

    if case == "small_alignment":
        aligned = tokenizer(images, align=True)
        assert difference(aligned.encoder_features, golden["encoder_features_proj"]) < 2e-6
        assert difference(aligned.decoder_features.mean(1), golden["decoder_features_proj_mean"]) < 3e-6
        kept = tokenizer(images, prefix_lengths=torch.from_numpy(golden["keep"]))
        assert difference(F.avg_pool2d(kept.images, 8), golden["image_keep"]) < 3e-5


@pytest.mark.parametrize("case", GENERATORS)
@torch.inference_mode()
def test_generator_equals_the_released_one(case):
    facts, golden = load_case("generator", case)
    config = har_config(facts["args"])
    har = filled(Har(config), config, facts)
    class_ids, codes = torch.from_numpy(golden["labels"]), torch.from_numpy(golden["codes"])

    logits = har(class_ids, codes)
    length = config.num_codes  # the released plain AR has one position more, which predicts past the end
    assert np.array_equal(logits.argmax(-1), golden["logits_argmax"][:, :length])
    assert difference(logits.mean(-1), golden["logits_mean"][:, :length]) < 1.2e-6
    assert difference(logits.std(-1), golden["logits_std"][:, :length]) < 4e-7
    assert difference(logits[..., :16], golden["logits_head"][:, :length]) < 1.2e-6
    loss = F.cross_entropy(logits.flatten(0, 1), codes.flatten()).item()
    assert loss == pytest.approx(float(golden["loss"]), abs=4e-6)

    for name in golden:
        if not name.startswith("greedy_"):
            continue
        schedule, scale = name.removeprefix("greedy_").rsplit("_", 1)
        schedule = SCHEDULES.get(schedule, schedule)
        start = 0.2 if schedule == "rectangular" else 0.25
        options = SamplingOptions(
            cfg_scale=float(scale), cfg_schedule=schedule, cfg_start=start, cfg_stop=0.8, cfg_peak=0.5, temperature=0
        )
        sampled = sample(har, class_ids, torch.zeros(len(class_ids), length), options)
        assert np.array_equal(sampled, golden[name]), name


@pytest.mark.parametrize(
    ("file", "kind"), [("released_restok_l_128.json", "tokenizer"), ("released_har_l_128.json", "generator")]
)
def test_our_large_configs_build_the_released_tensors(file, kind):
    facts = json.loads((GOLDEN / file).read_text())
    config = tokenizer_config(facts["config"]) if kind == "tokenizer" else har_config(facts["args"])
    with torch.device("meta"):
        module = Tokenizer(config) if kind == "tokenizer" else Har(config)
    ours = {name: tensor.shape for name, tensor in module.state_dict().items()}
    theirs = released_shapes(config, ours)
    assert {name: list(shape) for name, shape in theirs.items()} == facts["shapes"]
    assert sum(shape.numel() for shape in theirs.values()) == facts["params"]
