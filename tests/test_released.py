"""Folders in the layout that the authors released load as they are, from disk and from the hub's cache."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_models import GOLDEN, difference, fill, load_case
from plain_models import plain_generator, plain_tokenizer
from safetensors.torch import load_file, save_file

from restok_cli.errors import RestokError, UsageError
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, sample
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import fingerprint, open_model, open_tokenizer
from restok_cli.pretrained.modules import save_har, save_tokenizer
from restok_cli.pretrained.released import (
    har_config,
    released_har_config,
    released_tokenizer_config,
    tokenizer_config,
)
from restok_cli.settings.presets import preset_names

CPU = torch.device("cpu")


def write_released(folder: Path, config: dict, weights: dict[str, torch.Tensor], pickled: bool = False) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if pickled:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def tokenizer_case():
    facts, golden = load_case("tokenizer", "small_alignment")
    facts["weights"] = fill.fill_state_dict(facts["shapes"])
    return facts, golden


@pytest.fixture(scope="module")
def generator_case():
    facts, golden = load_case("generator", "har_128")
    facts["weights"] = fill.fill_state_dict(facts["shapes"])
    return facts, golden


def test_the_config_of_a_conversion_has_the_released_values():
    """Also those that restok has no word for: the released code computes by them."""
    for file in ("generator_ar_128", "generator_har_128", "generator_har_128_ar8", "released_har_l_128"):
        theirs = json.loads((GOLDEN / f"{file}.json").read_text())["args"]
        assert released_har_config(har_config(theirs)).items() <= theirs.items()
    theirs = json.loads((GOLDEN / "released_restok_l_128.json").read_text())["config"]
    ours = released_tokenizer_config(tokenizer_config(theirs))
    different = ours["model"]["vq_model"].items() - theirs["model"]["vq_model"].items()
    assert different == {("drop_latent_tokens", False), ("drop_prob", 0.0)}  # nested dropout, of their training alone
    assert ours["dataset"]["preprocessing"].items() <= theirs["dataset"]["preprocessing"].items()


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("released_restok_l_128", "rope_base_len", 20000),
        ("released_restok_l_128", "learnable_latent_tokens", True),
        ("released_restok_l_128", "vit_dec_patch_size", 8),
        ("released_har_l_128", "rope_base", 500000.0),
        ("released_har_l_128", "norm_eps", 1e-6),
        ("released_har_l_128", "cls_token_num", 120),
    ],
)
def test_released_settings_that_would_be_computed_otherwise_are_refused(file, name, value):
    """No tensor's shape shows them."""
    facts = json.loads((GOLDEN / f"{file}.json").read_text())
    config = facts.get("config") or facts["args"]
    parse = tokenizer_config if "config" in facts else har_config
    parse(config)
    (config["model"]["vq_model"] if "config" in facts else config)[name] = value
    with pytest.raises(UsageError, match=rf"config\.json: {name} is {value!r}, and restok computes only with "):
        parse(config)


@pytest.mark.parametrize("layout", ["safetensors", "pickled", "compiled", "with teacher", "without training heads"])
@torch.inference_mode()
def test_a_released_tokenizer_loads_from_every_layout_seen(tmp_path, tokenizer_case, layout):
    facts, golden = tokenizer_case
    weights = dict(facts["weights"])
    if layout == "compiled":
        weights = {f"_orig_mod.{name}": tensor for name, tensor in weights.items()}
    if layout == "with teacher":
        weights["foundation_model.blocks.0.weight"] = torch.zeros(3)
    if layout == "without training heads":
        weights = {name: tensor for name, tensor in weights.items() if "vf_proj" not in name}
        del weights["decoder.feat_mask_token"]
    folder = write_released(tmp_path / "released", facts["config"], weights, layout == "pickled")
    tokenizer = plain_tokenizer(folder, CPU)
    images = fill.images(facts["batch"], facts["image_size"])
    assert np.array_equal(tokenizer.encode(images), golden["codes"])
    assert hasattr(tokenizer, "encoder_alignment") == (layout != "without training heads")


@torch.inference_mode()
def test_a_released_generator_needs_its_tokenizer(tmp_path, tokenizer_case, generator_case):
    facts, golden = generator_case
    folder = write_released(tmp_path / "har", facts["args"], facts["weights"])
    with pytest.raises(UsageError, match=r"har has no tokenizer with it; give the one .* by --tokenizer"):
        plain_generator(folder, CPU)
    tokenizer = write_released(tmp_path / "tokenizer", tokenizer_case[0]["config"], tokenizer_case[0]["weights"])
    generator = plain_generator(folder, CPU, tokenizer_path=tokenizer)
    logits = generator.har(torch.from_numpy(golden["labels"]), torch.from_numpy(golden["codes"]))
    assert difference(logits[..., :16], golden["logits_head"]) < 1.2e-6
    assert generator.class_names[999] == "999"


def test_a_released_generator_refuses_a_tokenizer_of_other_codes(tmp_path, tokenizer_case, generator_case):
    folder = write_released(tmp_path / "har", generator_case[0]["args"], generator_case[0]["weights"])
    facts, _ = load_case("tokenizer", "small_patch_single_head")
    other = write_released(tmp_path / "other", facts["config"], {})
    with pytest.raises(UsageError, match=r"har draws 128 of 8192 codes, .*other makes 64 of 8192"):
        plain_generator(folder, CPU, tokenizer_path=other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"decoder.ffn.bias": None},
            r"model\.safetensors does not fit .* in 1 tensor: decoder\.ffn\.bias is missing",
        ),
        ({"decoder.surprise": torch.zeros(1)}, r"in 1 tensor: decoder\.surprise has no place"),
        (
            {"decoder.ffn.bias": torch.zeros(7)},
            r"in 1 tensor: decoder\.ffn\.bias is \(7,\) instead of \(256,\)",
        ),
    ],
)
def test_released_weights_that_do_not_fit_are_named(tmp_path, tokenizer_case, change, message):
    facts, _ = tokenizer_case
    weights = {name: tensor for name, tensor in (facts["weights"] | change).items() if tensor is not None}
    folder = write_released(tmp_path / "released", facts["config"], weights)
    with pytest.raises(RestokError, match=message):
        plain_tokenizer(folder, CPU)


class Harmful:
    """Unpickled without care, this makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_nothing_in_a_pickled_file_is_run(tmp_path, tokenizer_case):
    weights = {"decoder.ffn.bias": Harmful(tmp_path / "harm")}
    folder = write_released(tmp_path / "released", tokenizer_case[0]["config"], weights, pickled=True)
    with pytest.raises(RestokError, match=r"pytorch_model\.bin cannot be read"):
        plain_tokenizer(folder, CPU)
    assert not (tmp_path / "harm").exists()


def test_hub_names_load_from_the_cache_without_a_network(tmp_path, monkeypatch, tokenizer_case):
    facts, golden = tokenizer_case
    cached = tmp_path / "models--someone--restok"
    write_released(cached / "snapshots" / "0123abc", facts["config"], facts["weights"])
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("hf:someone/restok", "hf:someone/restok@main"):
        assert open_tokenizer(Path(name)).path == cached / "snapshots" / "0123abc"
    with torch.inference_mode():
        codes = plain_tokenizer(Path("hf:someone/restok"), CPU).encode(fill.images(2, 128))
    assert np.array_equal(codes, golden["codes"])
    for name in ("hf:someone/other", "hf:someone/restok@v2", "hf:not a name"):
        with pytest.raises(RestokError, match=f"{name} cannot be downloaded .*; check name and connection"):
            open_tokenizer(Path(name))


@pytest.mark.parametrize("kind", ["tokenizer", "har"])
def test_converting_to_ours_and_back_gives_the_released_tensors(tmp_path, restok, tokenizer_case, generator_case, kind):
    facts, _ = tokenizer_case if kind == "tokenizer" else generator_case
    config = facts["config"] if kind == "tokenizer" else facts["args"]
    start = write_released(tmp_path / "start", config, facts["weights"])
    for source, target in (("start", "ours"), ("ours", "back"), ("back", "again")):
        result = restok("models", "convert", tmp_path / source, tmp_path / target)
        assert result.code == 0 and result.out == f"{tmp_path / target}\n", result.err
    first, back = load_file(start / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    if kind == "har":  # rows that nothing uses are not kept
        first["spe_tok_embeddings.special_embeddings.weight"][63:] = 0
    assert {name: tensor.shape for name, tensor in back.items()} == {n: tuple(s) for n, s in facts["shapes"].items()}
    assert all(torch.equal(back[name], tensor) for name, tensor in first.items())
    ours, again = (open_model(tmp_path / name) for name in ("ours", "again"))
    assert ours.config == again.config and fingerprint(ours) == fingerprint(again)


def test_what_the_released_layout_cannot_say_is_refused(tmp_path, fails, tiny_tokenizer, tiny_config):
    save_tokenizer(tiny_tokenizer, tmp_path / "tiny")
    line = fails(2, "models", "convert", tmp_path / "tiny", tmp_path / "out")
    assert "no transformer of 3 layers of width 32" in line and not (tmp_path / "out").exists()
    config = tokenizer_config(load_case("tokenizer", "small")[0]["config"])
    for field, value in (("merge", "average"), ("latent_layout", "straight"), ("image_width", 128)):
        with pytest.raises(UsageError, match=f"the released layout cannot say {field} = {value}, only "):
            released_tokenizer_config(config.model_copy(update={field: value}))


def test_models_lists_presets_and_what_the_hub_has(restok):
    result = restok("models")
    assert "presets of train-har: ar-l, har-1b, har-3b, har-b, har-l, " in result.out
    assert "hf:xushu-me/restok_l_128.r256_in1k: tokenizer, 662 M, Apache-2.0" in result.out
    assert json.loads(restok("models", "--json").out)["presets"]["tokenizer"] == preset_names("tokenizer")


def test_models_show_says_what_a_folder_holds(tmp_path, restok, tiny_tokenizer, tiny_har):
    save_tokenizer(tiny_tokenizer, tmp_path / "tokenizer")
    save_har(tiny_har, open_tokenizer(tmp_path / "tokenizer"), ["x"] * 98, tmp_path / "har")
    facts = json.loads(restok("models", "show", tmp_path / "tokenizer", "--json").out)
    assert facts["levels"] == [1, 1, 2, 4, 8, 16] and facts["kind"] == "tokenizer"
    assert facts["parameters"]["all"] == sum(p.numel() for p in tiny_tokenizer.parameters())
    assert facts["fingerprint"] == fingerprint(open_tokenizer(tmp_path / "tokenizer"))
    text = restok("models", "show", tmp_path / "har").out
    assert "steps: 7\n" in text and f"tokenizer_fingerprint: {facts['fingerprint']}\n" in text
    assert f"  all: {sum(p.numel() for p in tiny_har.parameters()):,}\n" in text


def test_the_released_models_have_the_reported_numbers_of_parameters():
    with torch.device("meta"):
        tokenizer = Tokenizer(TokenizerConfig(encoder_alignment_dim=1024, decoder_alignment_dim=1024))
        har = Har(HarConfig())
    for model, millions in ((tokenizer, 662), (har, 326)):
        assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions


@torch.inference_mode()
def test_bf16_models_compute_nearly_the_same(tmp_path, tokenizer_case, generator_case):
    tokenizer_folder = write_released(tmp_path / "tokenizer", tokenizer_case[0]["config"], tokenizer_case[0]["weights"])
    har_folder = write_released(tmp_path / "har", generator_case[0]["args"], generator_case[0]["weights"])
    golden = generator_case[1]
    class_ids, codes = torch.from_numpy(golden["labels"]), torch.from_numpy(golden["codes"])
    full = plain_generator(har_folder, CPU, tokenizer_path=tokenizer_folder)
    half = plain_generator(har_folder, CPU, torch.bfloat16, tokenizer_folder)
    assert half.har.head.weight.dtype == half.tokenizer.decoder.out.weight.dtype == torch.bfloat16
    assert half.tokenizer.quantizer.codebook.dtype == half.tokenizer.pixel_decoder.conv_in.weight.dtype == torch.float32
    difference = (half.har(class_ids, codes).float() - full.har(class_ids, codes)).std()
    assert difference < 0.05 * full.har(class_ids, codes).std()
    made, expected = half.tokenizer.decode(codes), full.tokenizer.decode(codes)
    assert made.dtype == torch.float32 and (made - expected).std() < 0.05 * expected.std()
    latents = half.tokenizer.encode_latents(fill.images(2, 128)).latents
    assert (latents.float() - full.tokenizer.encode_latents(fill.images(2, 128)).latents).std() < 0.1 * latents.std()
    sampled = sample(half.har, class_ids, torch.rand(2, 128), SamplingOptions(cfg_scale=2.0))
    assert sampled.shape == (2, 128)
