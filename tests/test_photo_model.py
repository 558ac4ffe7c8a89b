"""The tokenizer of photographs that comes with restok: small, as good as its card says, and found by its name."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

from restok_cli.data.image_files import center_crop
from restok_cli.data.images import to_float, to_tensor, to_uint8
from restok_cli.data.loading.loader import evaluation_batches
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.files import PHOTO_MODEL, SAMPLE_MODEL, parse_model
from restok_cli.metrics.formulas.pixels import psnr
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.modules import load_for_use
from restok_cli.weights import read_tensors

CPU = torch.device("cpu")


def decibels(model: Path, images: torch.Tensor) -> torch.Tensor:
    tokenizer = load_for_use(open_tokenizer(model), CPU)
    with torch.inference_mode():
        return psnr(to_uint8(tokenizer.decode(tokenizer.encode(to_float(images)))), images)


def test_it_gives_photographs_back_that_it_never_saw_and_the_sample_does_not():
    photographs = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    images = torch.stack([to_tensor(center_crop(Image.fromarray(pixels), (64, 64))) for pixels in photographs])
    gain = decibels(PHOTO_MODEL, images) - decibels(SAMPLE_MODEL, images)
    assert gain.min() >= 1 and gain.mean() >= 2


def test_its_card_says_how_well_it_gives_held_out_emoji_back():
    batches = evaluation_batches(open_dataset("sample").held_out, image_size=(64, 64), batch_size=32)
    value = decibels(PHOTO_MODEL, torch.cat([batch.images for batch in batches])).mean().item()
    card = (PHOTO_MODEL / "README.md").read_text(encoding="utf-8")
    assert float(re.search(r"PSNR-202 from 128 tokens \| ([\d.]+) dB", card)[1]) == pytest.approx(value, abs=0.01)


def test_it_is_small_and_says_what_it_was_trained_on():
    folders = ("sample", "model", "tokenizer", "photo")
    files = [file for file in PHOTO_MODEL.parent.rglob("*") if file.is_file() and file.parent.name in folders]
    assert sum(file.stat().st_size for file in files) <= 18e6
    dtypes = {tensor.dtype for tensor in read_tensors(PHOTO_MODEL / "model.safetensors").values()}
    assert dtypes == {torch.float16, torch.float8_e4m3fn}
    assert "CC-BY-SA" in (PHOTO_MODEL / "NOTICE").read_text(encoding="utf-8")


def test_photo_names_it_and_a_folder_called_so_is_dot_photo(tmp_path, monkeypatch, restok, fails):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo").mkdir()  # holds no model
    assert parse_model("photo") == PHOTO_MODEL and parse_model("./photo") != PHOTO_MODEL
    Image.new("RGB", (64, 64), (200, 30, 30)).save("red.png")
    assert restok("encode", "red.png", "--model", "photo", "-o", "codes.npz").code == 0
    fails(2, "encode", "red.png", "--model", "./photo", "-o", "others.npz")
    assert restok("models", "verify", "photo").code == 0
    assert "copy it first" in restok("models", "card", "photo").err
    assert "tokenizer" in fails(2, "generate", "--model", "photo", "-o", "out")
