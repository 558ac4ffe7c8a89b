"""Folders in the layout that the authors released load as they are, from disk and from the hub's cache."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_models import close, fill, load_case
from safetensors.torch import save_file

from restok_cli.errors import RestokError, UsageError
from restok_cli.model.checkpoint import load_generator, load_tokenizer, open_tokenizer

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
    tokenizer = load_tokenizer(folder, CPU)
    images = fill.images(facts["batch"], facts["image_size"])
    assert np.array_equal(tokenizer.encode(images), golden["codes"])
    assert hasattr(tokenizer, "encoder_alignment") == (layout != "without training heads")


@torch.inference_mode()
def test_a_released_generator_needs_its_tokenizer(tmp_path, tokenizer_case, generator_case):
    facts, golden = generator_case
    folder = write_released(tmp_path / "har", facts["args"], facts["weights"])
    with pytest.raises(UsageError, match=r"har has no tokenizer with it; give the one .* by --tokenizer"):
        load_generator(folder, CPU)
    tokenizer = write_released(tmp_path / "tokenizer", tokenizer_case[0]["config"], tokenizer_case[0]["weights"])
    generator = load_generator(folder, CPU, tokenizer)
    logits = generator.har(torch.from_numpy(golden["labels"]), torch.from_numpy(golden["codes"]))
    assert close(logits[..., :16], golden["logits_head"], 1e-3)
    assert generator.class_names[999] == "999"


def test_a_released_generator_refuses_a_tokenizer_of_other_codes(tmp_path, tokenizer_case, generator_case):
    folder = write_released(tmp_path / "har", generator_case[0]["args"], generator_case[0]["weights"])
    facts, _ = load_case("tokenizer", "small_patch_single_head")
    other = write_released(tmp_path / "other", facts["config"], {})
    with pytest.raises(UsageError, match=r"har draws 128 of 8192 codes, .*other makes 64 of 8192"):
        load_generator(folder, CPU, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.ffn.bias": None}, r"released weights lack the tensor decoder\.ffn\.bias"),
        ({"decoder.surprise": torch.zeros(1)}, r"released weights hold a tensor decoder\.surprise"),
        (
            {"decoder.ffn.bias": torch.zeros(7)},
            r"released tensor decoder\.ffn\.bias has shape \(7,\); .* \(256,\)",
        ),
    ],
)
def test_released_weights_that_do_not_fit_are_named(tmp_path, tokenizer_case, change, message):
    facts, _ = tokenizer_case
    weights = {name: tensor for name, tensor in (facts["weights"] | change).items() if tensor is not None}
    folder = write_released(tmp_path / "released", facts["config"], weights)
    with pytest.raises(RestokError, match=message):
        load_tokenizer(folder, CPU)


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
        load_tokenizer(folder, CPU)
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
        codes = load_tokenizer(Path("hf:someone/restok"), CPU).encode(fill.images(2, 128))
    assert np.array_equal(codes, golden["codes"])
    for name in ("hf:someone/other", "hf:someone/restok@v2", "hf:not a name"):
        with pytest.raises(RestokError, match=f"{name} cannot be downloaded .*; check name and connection"):
            open_tokenizer(Path(name))
