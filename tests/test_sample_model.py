"""The model that comes with restok: as good as its card says, and there where no other is named."""

import json
import re

import pytest
import torch
from PIL import Image

from restok_cli.data.images import to_float, to_uint8
from restok_cli.data.loading.loader import evaluation_batches
from restok_cli.errors import Done
from restok_cli.files import SAMPLE_MODEL
from restok_cli.metrics.formulas.codebook import use_of_counts
from restok_cli.metrics.formulas.pixels import psnr
from restok_cli.pretrained.folder import TOKENIZER_FOLDER, open_har, open_tokenizer
from restok_cli.pretrained.modules import load_for_use

CPU = torch.device("cpu")
LENGTHS = (1, 4, 16, 32, 64, 128)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def tokenizer():
    return load_for_use(open_tokenizer(SAMPLE_MODEL), CPU)


@pytest.fixture(scope="module")
def held_out():
    """(n, 3, 64, 64) the 202 emoji that no training saw."""
    from restok_cli.data.shards.dataset import open_dataset

    data = open_dataset("sample")
    return torch.cat([batch.images for batch in evaluation_batches(data.held_out, image_size=(64, 64), batch_size=32)])


@torch.inference_mode()
def test_it_gives_held_out_emoji_back_and_more_of_them_with_every_level(tokenizer, held_out):
    codes = tokenizer.encode(to_float(held_out))
    some = slice(None, None, 5)  # enough to see the levels in order
    values = [psnr(to_uint8(tokenizer.decode(codes[some, :n])), held_out[some]).mean().item() for n in LENGTHS]
    assert values == sorted(values)
    value = psnr(to_uint8(tokenizer.decode(codes)), held_out).mean().item()
    assert value >= 19
    card = (SAMPLE_MODEL / TOKENIZER_FOLDER / "README.md").read_text(encoding="utf-8")
    said = float(re.search(r"PSNR-202 from 128 tokens \| ([\d.]+) dB", card)[1])
    assert said == pytest.approx(value, abs=0.01)
    use = use_of_counts(codes.flatten().bincount(minlength=tokenizer.config.codebook_size).numpy())
    assert use.usage >= 50


def test_it_is_small_in_16_bits_and_fits_the_sample(sample_data):
    files = [file for file in SAMPLE_MODEL.parent.rglob("*") if file.parent.name in ("sample", "model", "tokenizer")]
    assert sum(file.stat().st_size for file in files if file.is_file()) <= 14e6
    har = open_har(SAMPLE_MODEL)
    assert har.class_names == sample_data.class_names
    for folder in (har, open_tokenizer(SAMPLE_MODEL)):
        assert {tensor.dtype for tensor in tensors(folder).values() if tensor.is_floating_point()} == {torch.float16}


def tensors(folder):
    from safetensors.torch import load_file

    return load_file(folder.weights_file)


def test_generate_alone_draws_a_captioned_grid(here, restok):
    result = restok("generate", "--steps", 9, "--count", 4)
    assert (result.code, result.out) == (0, "pictures\n")
    assert len(list((here / "pictures").glob("*.png"))) == 4
    assert (here / "pictures.png").is_file()
    line = restok("generate", "--count", 4).err
    assert "already" in line and "--overwrite" in line
    assert restok("generate", "--count", 4, "-o", "others").code == 0
    assert not (here / "others.png").exists()


def test_what_it_drew_is_compared_with_the_emoji_it_was_trained_on(here, restok, fails, monkeypatch):
    assert "gfid needs something to compare with" in fails(2, "evaluate")
    assert restok("generate", "--count", 4).code == 0
    result = restok("evaluate", "--metric", "gfid", "--features", "random", "--json")
    assert result.code == 0, result.err
    reference = json.loads(result.out)["protocol"]["reference"]
    assert reference["n"] == 1704
    assert "was drawn by the model that comes with restok" in result.err
    with monkeypatch.context() as patch:  # the process that only starts the others says nothing
        patch.setattr("restok_cli.commands.evaluate.run_in_processes", lambda _: (_ for _ in ()).throw(Done))
        assert restok("evaluate", "--num-processes", 2).err == ""
    result = restok("evaluate", "--metric", "is", "--features", "random", "--json")
    assert result.code == 0 and json.loads(result.out)["protocol"]["reference"] is None
    assert "psnr needs something to compare with" in fails(2, "evaluate", "--metric", "psnr")
    (here / "pictures" / "request.json").write_text(json.dumps({"model": "another"}))
    assert "gfid needs something to compare with" in fails(2, "evaluate")


def test_pictures_go_to_codes_and_back_without_naming_a_model(here, restok, held_out):
    from restok_cli.data.images import save_image

    save_image(held_out[0], here / "emoji.png")
    result = restok("reconstruct", "emoji.png", "-o", "back")
    assert result.code == 0, result.err
    assert float(re.search(r"PSNR ([\d.]+) dB", result.out + result.err)[1]) > 10
    assert restok("encode", "emoji.png", "-o", "codes.npz").code == 0
    assert restok("decode", "codes.npz", "-o", "decoded").code == 0
    (file,) = (here / "back").glob("*.png")
    assert file.read_bytes() == next((here / "decoded").glob("*.png")).read_bytes()


def test_codes_are_measured_without_naming_a_model(here, restok, held_out):
    from restok_cli.data.images import save_image

    (here / "emoji").mkdir()
    for i, image in enumerate(held_out[:3]):
        save_image(image, here / "emoji" / f"{i}.png")
    model = ("--model", "sample")
    for options in (("--metric", "codebook"), ("--num-codes", "1,128", "--metric", "psnr")):
        alone, named = (restok("evaluate", "emoji", *options, *rest) for rest in ((), model))
        assert alone.code == 0 and alone.out == named.out
    assert restok("generate", "--count", 2, "--codes", "-o", "codes.npz").code == 0
    alone, named = (restok("evaluate", "codes.npz", "--metric", "nll", *rest) for rest in ((), model))
    assert alone.code == 0 and alone.out == named.out


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "--count", 1, "--model", "sample", "--tokenizer", "sample", "-o", "out"),
        ("models", "show", "sample"),
        ("models", "halve", "sample", "out"),
        ("models", "push", "sample", "owner/name", "--dry-run"),
        ("prepare", "codes", "data", "out", "--tokenizer", "sample", "--views", "centre"),
        ("train-har", "data", "--tokenizer", "sample", "--init", "sample", "-o", "out", "--dry-run"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_sample_names_it_wherever_a_model_is_taken_and_a_folder_called_so_is_dot_sample(here, restok, fails, words):
    if "data" in words:
        (here / "emoji").mkdir()
        for i in range(2):
            Image.new("RGB", (64, 64), (i, 0, 0)).save(here / "emoji" / f"{i}.png")
        assert restok("prepare", "folder", "emoji", "data").code == 0
    (here / "sample").mkdir()  # holds no model
    result = restok(*words)
    assert result.code == 0, result.err
    fails(2, *("./sample" if word == "sample" else word for word in words))


def test_it_is_as_good_named_as_not(here, restok):
    for options in ((), ("--model", "sample")):
        assert restok("generate", "--count", 2, "-o", f"out{len(options)}", *options).code == 0
    assert (here / "out0/000000.png").read_bytes() == (here / "out2/000000.png").read_bytes()
    assert "copy it first" in restok("models", "card", "sample").err
