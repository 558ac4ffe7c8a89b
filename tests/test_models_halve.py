"""`restok models halve`: the same model in half the bytes."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from restok_cli.pretrained.folder import CONFIG_FILE, WEIGHTS_FILE, open_har, open_tokenizer


@pytest.mark.parametrize("kind", ["tokenizer", "har"])
def test_weights_are_rounded_and_all_else_stays(restok, tiny_models, tmp_path, kind):
    out = tmp_path / "half"
    result = restok("models", "halve", tiny_models / kind, out)
    assert (result.code, result.out) == (0, f"{out}\n")
    whole, half = load_file(tiny_models / kind / WEIGHTS_FILE), load_file(out / WEIGHTS_FILE)
    assert whole.keys() == half.keys()
    assert all(torch.equal(half[name], whole[name].half()) for name in half)
    assert (out / CONFIG_FILE).read_bytes() == (tiny_models / kind / CONFIG_FILE).read_bytes()


def test_a_halved_generator_draws_with_the_tokenizer_it_had(restok, tiny_models, tmp_path):
    assert restok("models", "halve", tiny_models / "har", tmp_path / "half").code == 0
    assert open_har(tmp_path / "half").tokenizer_fingerprint == open_har(tiny_models / "har").tokenizer_fingerprint
    theirs = open_tokenizer(tmp_path / "half").weights_file
    assert theirs.read_bytes() == (tiny_models / "tokenizer" / WEIGHTS_FILE).read_bytes()
    result = restok("generate", "--model", tmp_path / "half", "--count", 2, "-o", tmp_path / "out")
    assert result.code == 0, result.err


def test_a_halved_generator_without_its_tokenizer_still_knows_which_it_was(restok, fails, tiny_models, tmp_path):
    """And one beside another tokenizer is not taken for that one's."""
    shutil.copytree(tiny_models / "har", tmp_path / "har")
    shutil.rmtree(tmp_path / "har" / "tokenizer")
    assert restok("models", "halve", tmp_path / "har", tmp_path / "half").code == 0
    assert open_har(tmp_path / "half").tokenizer_fingerprint == open_har(tiny_models / "har").tokenizer_fingerprint
    other = ("--tokenizer", tiny_models / "other", "--count", 1, "-o", tmp_path / "out")
    assert "trained on the codes of another tokenizer" in fails(2, "generate", "--model", tmp_path / "half", *other)
    shutil.copytree(tiny_models / "other", tmp_path / "har" / "tokenizer")
    assert restok("models", "halve", tmp_path / "har", tmp_path / "half", "--overwrite").code == 0
    assert "its tokenizer is another one than it was trained with" in restok("models", "verify", tmp_path / "half").out


@pytest.mark.parametrize(
    ("model", "out"), [("run/model", "run/model"), ("run", "run/model"), ("run", "run/model/tokenizer")]
)
def test_what_is_read_is_not_replaced(fails, tiny_models, tmp_path, model, out):
    """Neither the model that a run's folder stands for, nor a generator's own tokenizer."""
    shutil.copytree(tiny_models / "har", tmp_path / "run" / "model")
    line = fails(2, "models", "halve", tmp_path / model, tmp_path / out, "--overwrite")
    assert f"the output {tmp_path / out} would replace {tmp_path / out}, which is read" in line


def test_nothing_is_replaced_unasked(restok, fails, tiny_models, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "README.md").write_text("mine")
    assert "there" in fails(2, "models", "halve", tiny_models / "tokenizer", tmp_path / "there")
    assert "mine" in (tmp_path / "there" / "README.md").read_text()
    assert restok("models", "halve", tiny_models / "har", tmp_path / "half").code == 0
    assert fails(2, "models", "halve", tiny_models / "har", tmp_path / "half")
    assert restok("models", "halve", tiny_models / "har", tmp_path / "half", "--overwrite").code == 0
