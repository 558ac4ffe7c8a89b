"""Names of files as text: also of those whose bytes are no text."""

import json
import os

import pytest
from pictures import noise

from restok_cli.console import readable

RAW = [b"caf\xe8", b"caf\xe9", "café".encode(), b"\xff\xfe"]
TEXTS = [r"caf\xe8", r"caf\xe9", "café", r"\xff\xfe"]


@pytest.mark.parametrize(("raw", "text"), list(zip(RAW, TEXTS, strict=True)))
def test_bytes_that_are_no_utf_8_are_escaped_and_text_stays(raw, text):
    assert readable(os.fsdecode(raw)) == text
    assert readable(text) == text  # so that the name of an output leads to that of its source


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "in").mkdir()
    for i, name in enumerate(RAW):
        with open(os.path.join(os.fsencode(tmp_path / "in"), name + b".png"), "wb") as file:
            noise(i).save(file, "PNG")
    return tmp_path / "in"


def test_pictures_whose_names_are_no_text_are_told_apart_and_find_their_partners(
    restok, pictures, tiny_models, tmp_path
):
    result = restok("reconstruct", pictures, "--model", tiny_models / "tokenizer", "-o", tmp_path / "out")
    assert result.code == 0, result.err
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {f"{text}.png" for text in TEXTS}
    words = ("--metric", "mse", "--reference", pictures, "--crop", "32")
    result = restok("evaluate", tmp_path / "out", *words, "--json")
    assert result.code == 0, result.err


def test_prepared_pictures_say_their_names_apart(restok, pictures, tmp_path):
    (pictures / "notes.txt").write_text("no image")
    os.rename(pictures / "notes.txt", os.path.join(os.fsencode(pictures), b"n\xf6tes.txt"))
    assert restok("prepare", "folder", pictures, tmp_path / "out", "--validation-fraction", 0).code == 0
    shard = (tmp_path / "out/train-000000.tar").read_bytes()
    assert all(json.dumps({"file": f"{text}.png"}, ensure_ascii=False)[1:-1].encode() in shard for text in TEXTS)
    assert json.loads((tmp_path / "out/bad.jsonl").read_text())["file"] == r"n\xf6tes.txt"
