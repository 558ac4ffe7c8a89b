"""Model folders that were damaged are refused by name, and `restok models verify` compares all that can be compared."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from damage import damages
from plain_models import plain_generator, plain_tokenizer

from restok_cli.errors import RestokError, UsageError
from restok_cli.pretrained.integrity import verify_model

CPU = torch.device("cpu")
FILES = ("config.json", "model.safetensors", "checksums.json")


@pytest.fixture
def model(tiny_models, tmp_path) -> Path:
    """A copy of a generator with its tokenizer."""
    return shutil.copytree(tiny_models / "har", tmp_path / "har")


@pytest.fixture
def bare(model) -> Path:
    """Without digests, as older versions wrote it."""
    for folder in (model, model / "tokenizer"):
        (folder / "checksums.json").unlink()
    return model


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("part", ["tokenizer", "."])
def test_damage_is_refused_by_name(model, part, name):
    file = model / part / name
    for damaged in damages(file.read_bytes(), number=16):
        file.write_bytes(damaged)
        with pytest.raises((RestokError, UsageError), match=str(file.parent.resolve())):
            plain_generator(model, CPU)


def test_damaged_weights_are_not_published(fails, model):
    weights = model / "model.safetensors"
    weights.write_bytes(next(damages(weights.read_bytes())))
    assert "model.safetensors is not as it was written" in fails(1, "models", "push", model, "owner/name", "--dry-run")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_model_is_refused(tiny_models, tmp_path, name):
    folder = shutil.copytree(tiny_models / "tokenizer", tmp_path / "tokenizer")
    shutil.copyfile(tiny_models / "other" / name, folder / name)
    if name == "config.json":  # which they have in common
        plain_tokenizer(folder, CPU)
    else:
        with pytest.raises(RestokError, match=r"model\.safetensors is not as it was written; copy or make the model"):
            plain_tokenizer(folder, CPU)


def test_the_tokenizer_of_another_generator_is_refused(fails, tiny_models, model):
    shutil.rmtree(model / "tokenizer")
    shutil.copytree(tiny_models / "other", model / "tokenizer")
    assert "is not the tokenizer that" in fails(1, "generate", "--model", model, "-o", model.parent / "out")
    shown = f"{model}: its tokenizer is another one than it was trained with"
    assert shown in problems(model)


def test_a_model_without_checksums_is_loaded(bare, tiny_models):
    ours, theirs = (plain_generator(path, CPU) for path in (bare, tiny_models / "har"))
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def problems(*models: Path) -> list[str]:
    """What `restok models verify` prints of models that have problems."""
    return [f"{file.path}: {file.problem}" for model in models for file in verify_model(model) if file.problem]


def test_whole_models_have_no_problems(restok, tiny_models):
    result = restok("models", "verify", tiny_models / "har", tiny_models / "other", "sample")
    assert result.code == 0 and result.err == ""
    assert result.out.splitlines()[:2] == [f"{tiny_models / name} is as it was written" for name in ("har", "other")]


def test_every_problem_is_a_line_and_the_exit_code_is_1(restok, model, tiny_models):
    weights, config = model / "model.safetensors", model / "tokenizer" / "config.json"
    weights.write_bytes(next(damages(weights.read_bytes())))
    config.write_bytes(config.read_bytes() + b" ")
    result = restok("models", "verify", model, tiny_models / "other")
    assert result.code == 1
    assert result.out.splitlines() == [
        f"{weights}: is not as it was written",
        f"{config}: has {config.stat().st_size} bytes instead of {config.stat().st_size - 1}",
        f"{tiny_models / 'other'} is as it was written",
    ]
    assert result.err == "restok: 2 problems found; copy or make the models again\n"
    found = json.loads(restok("models", "verify", "--json", model).out)["models"]
    assert [file["digest"] for file in found[0]["files"]] == ["crc32"] * 4
    assert [file["problem"] is None for file in found[0]["files"]] == [True, False, False, True]


def test_files_without_digests_are_named_with_their_sha256(restok, bare):
    result = restok("models", "verify", bare)
    assert result.code == 1 and result.out == ""
    weights = bare / "model.safetensors"
    assert f"{weights} has no digest" in result.err and hashlib.sha256(weights.read_bytes()).hexdigest() in result.err
    assert "4 files could not be compared" in result.err
    weights.write_bytes(weights.read_bytes()[:-4])
    assert "cannot be read" in restok("models", "verify", bare).out


def test_checksums_that_are_damaged_are_a_problem_themselves(model):
    sums = model / "checksums.json"
    sums.write_bytes(next(damages(sums.read_bytes())))
    assert problems(model) == [f"{sums}: is damaged"]


def test_a_generator_without_its_tokenizer_or_without_a_word_of_it_is_whole(bare):
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps(config | {"tokenizer_fingerprint": None}))
    assert not problems(bare)
    shutil.rmtree(bare / "tokenizer")
    assert not problems(bare)


@pytest.fixture
def snapshot(tiny_models, tmp_path) -> Path:
    """A model in the hub's cache: links to files that are called by their digests, SHA-256 or, of small ones, git's."""
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        data = (tiny_models / "tokenizer" / name).read_bytes()
        of_git = hashlib.sha1(b"blob " + str(len(data)).encode() + b"\0" + data)
        digest = (of_git if name == "config.json" else hashlib.sha256(data)).hexdigest()
        (blobs / digest).write_bytes(data)
        (folder / name).symlink_to(Path("../../blobs") / digest)
    return folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_models_of_the_hub_are_compared_with_what_it_published(restok, snapshot, name):
    assert restok("models", "verify", snapshot).out == f"{snapshot} is as it was written\n"
    assert {file.digest for file in verify_model(snapshot)} == {"git", "sha256"}
    blob = (snapshot / name).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b" ")
    assert problems(snapshot) == [f"{snapshot / name}: is not as it was published"]
    blob.unlink()
    assert problems(snapshot) == [f"{snapshot / name}: is missing"]


def test_what_is_saved_and_converted_has_checksums(restok, tiny_models, tmp_path):
    for how in ("halve", "convert"):
        assert restok("models", how, tiny_models / "har", tmp_path / how).code == 0
        found = json.loads(restok("models", "verify", "--json", tmp_path / how).out)["models"][0]["files"]
        assert {file["digest"] for file in found} == {"crc32"} and not any(file["problem"] for file in found)
        assert len(found) == (4 if how == "halve" else 2)  # the authors' layout has no tokenizer with it
