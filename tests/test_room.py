"""What cannot fit is refused at once, by the option that asks for it."""

import json
import shutil
import time
from collections import namedtuple

import psutil
import pytest
import torch
from pictures import write_pictures
from plain_models import plain_tokenizer

from restok_cli.errors import UsageError
from restok_cli.inference.coding import sized
from restok_cli.room import check_disk, check_memory

ABSURD = 10**12


@pytest.mark.parametrize("form", ["-o out", "-o a.npz", "-o -", "--codes -o c.npz", "--resume"])
def test_absurd_counts_are_refused_in_no_time(fails, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    line = fails(2, "generate", "--count", ABSURD, *form.split())
    assert time.monotonic() - started < 10  # it would be years
    assert f"--count {ABSURD} needs at least 100,000.0 GB of memory" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("encode", "emoji", "-o", "codes.npz"),
        ("decode", "drawn.npz", "-o", "back"),
        ("reconstruct", "emoji"),
        ("prepare", "codes", "sample", "codes", "--tokenizer", "sample"),
    ],
    ids=lambda words: words[0],
)
def test_absurd_batches_are_refused(restok, fails, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "emoji", ["a.png"])
    assert restok("generate", "--count", 1, "--codes", "-o", "drawn.npz", "--batch-size", ABSURD).code == 0  # of one
    assert f"--batch-size {ABSURD} needs at least" in fails(2, *words, "--batch-size", ABSURD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawn.npz", "emoji"]


ABSURD_MODELS = [
    ("tokenizer", {"num_latent_tokens": 2**20}, "num_latent_tokens = 1048576 needs at least"),
    ("tokenizer", {"image_height": 2**20, "image_width": 2**20}, "image_height = 1048576 needs at least"),
    ("har", {"num_codes": 2**20}, "num_codes = 1048576 needs at least"),
]


@pytest.mark.parametrize(("model", "size", "said"), ABSURD_MODELS)
def test_model_folders_with_absurd_sizes_are_refused(restok, fails, tmp_path, tiny_models, model, size, said):
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / model, folder, ignore=shutil.ignore_patterns("checksums.json"))
    header = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(header | {"config": header["config"] | size}))
    write_pictures(tmp_path, ["a.png"])
    use = ("reconstruct", tmp_path / "a.png") if model == "tokenizer" else ("generate", "--count", 1)
    for words in (("models", "show", folder), (*use, "--model", folder, "-o", tmp_path / "out")):
        assert said in fails(2, *words)
    assert said in restok("doctor", folder).out


def test_pictures_too_large_for_a_tokenizer_are_refused(tiny_models):
    tokenizer = plain_tokenizer(tiny_models / "tokenizer", torch.device("cpu"))
    images = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(1, 3, 2**20, 2**20)
    with pytest.raises(UsageError, match=r"^images of 1048576x1048576: image_height = 1048576 needs at least "):
        sized(tokenizer, images)


def test_config_validate_refuses_what_no_memory_holds(fails, tmp_path):
    (tmp_path / "run.yaml").write_text("preset: tiny\nmodel:\n  num_latent_tokens: 1048576\n")
    message = fails(2, "config", "validate", tmp_path / "run.yaml")
    assert f"{tmp_path / 'run.yaml'}: model.num_latent_tokens = 1048576 needs at least" in message


def test_pictures_that_the_disk_cannot_hold_are_refused_before_they_are_drawn(restok, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 100_000))
    assert "--count 25 needs at least 0.1 MB of disk for out" in fails(2, "generate", "--count", 25, "-o", "out")
    assert restok("generate", "--count", 24, "-o", "out").code == 0
    of_shards = ("--count", 13, "--shards", "-o", "shards")  # which are made of files that are there until then
    assert "of disk for shards" in fails(2, "generate", *of_shards)
    assert "of disk for out.npz" in fails(2, "generate", "--count", 9, "-o", "out.npz")  # of 64 pixels squared
    assert restok("generate", "--count", 8, "-o", "out.npz").code == 0


def test_all_that_there_is_may_be_used(tmp_path):
    room, free = psutil.virtual_memory().total, shutil.disk_usage(tmp_path).free
    check_memory("--count", room // 10**6 // 2, 10**6)
    check_disk("--count", 1, free // 2, tmp_path / "not" / "yet" / "there")
    for check in (lambda: check_memory("-n", room + 1, 1), lambda: check_disk("-n", free * 2, 1, tmp_path / "x")):
        with pytest.raises(UsageError, match=r"-n .* give a lower number"):
            check()
