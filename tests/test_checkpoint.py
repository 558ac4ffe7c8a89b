"""A model folder gives back the same model, or says in one line why it cannot."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from plain_models import plain_generator, plain_tokenizer
from safetensors.torch import load_file, save_file

from restok_cli.errors import RestokError, UsageError
from restok_cli.files import file_sha256
from restok_cli.inference.generate import find_files
from restok_cli.pretrained.folder import fingerprint, open_tokenizer
from restok_cli.pretrained.modules import load_for_use, save_har, save_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def folders(tmp_path, tiny_tokenizer, tiny_har):
    save_tokenizer(tiny_tokenizer, tmp_path / "run" / "model")
    save_har(tiny_har, open_tokenizer(tmp_path / "run"), [f"class {i}" for i in range(98)], tmp_path / "har")
    return tmp_path


def test_a_saved_tokenizer_computes_the_same(folders, tiny_tokenizer):
    images = torch.rand(2, 3, 32, 32)
    loaded = plain_tokenizer(folders / "run" / "model", CPU)
    assert not loaded.training
    assert torch.equal(loaded.encode(images), tiny_tokenizer.encode(images))
    assert torch.equal(loaded(images).images, tiny_tokenizer(images).images)


def test_a_model_for_use_keeps_no_file_in_memory(folders, tiny_tokenizer):
    weights = open_tokenizer(folders / "run").weights_file
    stored = plain_tokenizer(folders / "run", CPU)
    assert str(weights) in Path("/proc/self/maps").read_text()  # so that it would be seen
    del stored
    used = load_for_use(open_tokenizer(folders / "run"), CPU)
    assert str(weights) not in Path("/proc/self/maps").read_text()
    images = torch.rand(1, 3, *tiny_tokenizer.config.image_size)
    with torch.inference_mode():
        assert torch.equal(used.encode(images), tiny_tokenizer.encode(images))


def test_a_generator_carries_its_tokenizer_and_class_names(folders, tiny_har):
    generator = plain_generator(folders / "har", CPU)
    codes = torch.zeros(1, 32, dtype=torch.int64)
    assert torch.equal(generator.har(torch.tensor([5]), codes), tiny_har(torch.tensor([5]), codes))
    assert generator.class_names[5] == "class 5"
    assert generator.tokenizer.config == plain_tokenizer(folders / "run", CPU).config


def test_a_run_folder_and_a_generator_stand_for_their_tokenizer(folders):
    expected = plain_tokenizer(folders / "run" / "model", CPU).state_dict()
    for path in (folders / "run", folders / "har"):
        assert all(torch.equal(expected[name], t) for name, t in plain_tokenizer(path, CPU).state_dict().items())


def test_another_tokenizer_is_refused(folders, tiny_tokenizer):
    plain_generator(folders / "har", CPU, tokenizer_path=folders / "run")
    with torch.no_grad():
        tiny_tokenizer.quantizer.codebook[0] += 1
    save_tokenizer(tiny_tokenizer, folders / "other")
    with pytest.raises(UsageError, match=r"another tokenizer than .*other; leave --tokenizer out"):
        plain_generator(folders / "har", CPU, tokenizer_path=folders / "other")


def test_a_tokenizer_that_was_given_is_hashed_once(folders, monkeypatch):
    hashed = []
    monkeypatch.setattr(
        "restok_cli.pretrained.folder.file_sha256", lambda file: hashed.append(file) or file_sha256(file)
    )
    files = find_files(folders / "har", folders / "run")
    assert files.tokenizer_fingerprint == fingerprint(open_tokenizer(folders / "run"))
    assert sorted(hashed[:-1]) == [
        folders / "har" / "model.safetensors",
        folders / "run" / "model" / "model.safetensors",
    ]


def test_fingerprint_changes_with_any_weight_and_not_with_the_place(folders, tiny_tokenizer):
    before = fingerprint(open_tokenizer(folders / "run"))
    shutil.copytree(folders / "run" / "model", folders / "copy")
    assert fingerprint(open_tokenizer(folders / "copy")) == before == fingerprint(open_tokenizer(folders / "har"))
    with torch.no_grad():
        tiny_tokenizer.pixel_decoder.conv_out.bias += 1e-3
    save_tokenizer(tiny_tokenizer, folders / "copy")
    assert fingerprint(open_tokenizer(folders / "copy")) != before


def test_what_is_not_a_model_is_refused_with_the_command_that_makes_one(folders):
    with pytest.raises(UsageError, match=r"nowhere: no such folder.*restok train-tokenizer"):
        plain_tokenizer(folders / "nowhere", CPU)
    (folders / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty is not a model: it holds no config.json; `restok train-har`"):
        plain_generator(folders / "empty", CPU)
    with pytest.raises(UsageError, match="holds a tokenizer, but a generator is needed; `restok train-har` makes one"):
        plain_generator(folders / "run", CPU)
    (folders / "empty" / "config.json").write_text('{"architectures": ["Bert"]}')
    with pytest.raises(UsageError, match="is not a restok model's; `restok models` says what is"):
        plain_tokenizer(folders / "empty", CPU)
    (folders / "empty" / "config.json").write_text("{")
    with pytest.raises(RestokError, match="is wrong: invalid JSON"):
        plain_tokenizer(folders / "empty", CPU)


def test_damaged_weights_are_named(folders):
    weights = folders / "run" / "model" / "model.safetensors"
    tensors = load_file(weights)
    name = "decoder.norm_in.weight"

    save_file({key: t for key, t in tensors.items() if key != name}, weights)
    with pytest.raises(
        RestokError, match=rf"model\.safetensors does not fit its config\.json in 1 .*: {name} is missing"
    ):
        plain_tokenizer(folders / "run", CPU)
    save_file(tensors | {"decoder.extra": torch.zeros(1)}, weights)
    with pytest.raises(RestokError, match=r"in 1 tensor: decoder\.extra has no place"):
        plain_tokenizer(folders / "run", CPU)
    save_file(tensors | {name: torch.zeros(3)}, weights)
    with pytest.raises(RestokError, match=rf"in 1 tensor: {name} is \(3,\) instead of \(32,\)"):
        plain_tokenizer(folders / "run", CPU)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RestokError, match=r"model\.safetensors cannot be read"):
        plain_tokenizer(folders / "run", CPU)
    weights.unlink()
    with pytest.raises(RestokError, match=r"model\.safetensors cannot be read"):
        plain_tokenizer(folders / "run", CPU)


def test_a_config_with_an_impossible_value_is_named(folders):
    file = folders / "run" / "model" / "config.json"
    header = json.loads(file.read_text())
    header["config"]["num_latent_tokens"] = 33
    file.write_text(json.dumps(header))
    with pytest.raises(UsageError, match=r"config\.json: num_latent_tokens = 33 is not a power of two"):
        plain_tokenizer(folders / "run", CPU)
