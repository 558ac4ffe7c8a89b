"""`restok evaluate` on codes: a generator's NLL, codebook use, wherever the codes come from."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import make_har
from launchers import accelerate
from PIL import Image

from restok_cli.data.code_files import Codes, write_codes
from restok_cli.data.shards.code_cache import open_codes
from restok_cli.data.shards.layout import Sample
from restok_cli.data.shards.writer import write_dataset
from restok_cli.model.config import HarConfig
from restok_cli.model.levels import level_sizes
from restok_cli.pretrained.folder import fingerprint, open_tokenizer
from restok_cli.pretrained.modules import save_har, save_tokenizer

CLASSES = [f"class {i}" for i in range(5)]


@pytest.fixture
def tokenizer_folder(tmp_path, tiny_tokenizer):
    save_tokenizer(tiny_tokenizer, tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def har(tiny_config):
    return make_har(
        HarConfig(
            codebook_size=tiny_config.codebook_size,
            num_codes=tiny_config.num_latent_tokens,
            num_classes=len(CLASSES),
            width=32,
            num_layers=2,
            num_heads=2,
        )
    )


@pytest.fixture
def har_folder(tmp_path, har, tokenizer_folder):
    save_har(har, open_tokenizer(tokenizer_folder), CLASSES, tmp_path / "har")
    return tmp_path / "har"


def draw_codes(tiny_config, tokenizer="", count=21):
    rng = np.random.default_rng(0)
    return Codes(
        codes=rng.integers(0, tiny_config.codebook_size, (count, tiny_config.num_latent_tokens), np.int32),
        keys=[f"{i:06d}" for i in range(count)],
        class_ids=rng.integers(0, len(CLASSES), count),
        codebook_size=tiny_config.codebook_size,
        tokenizer=tokenizer,
    )


def naive_nll(har, codes):
    """(n, L): code by code, image by image."""
    rows = []
    for row, class_id in zip(codes.codes, codes.class_ids, strict=True):
        with torch.inference_mode():
            logits = har(torch.tensor([class_id]), torch.from_numpy(row[None]).long())[0].double()
        rows.append([-logits[i].log_softmax(0)[code].item() for i, code in enumerate(row)])
    return np.array(rows)


def evaluate(restok, *arguments):
    found = restok("evaluate", *arguments, "--json")
    assert found.code == 0, found.err
    return json.loads(found.out)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "jsonl"])
def test_nll_equals_a_naive_one_in_all_and_by_level(tmp_path, restok, har, har_folder, tiny_config, suffix):
    codes = draw_codes(tiny_config)
    write_codes(codes, tmp_path / f"codes.{suffix}")
    result = evaluate(restok, tmp_path / f"codes.{suffix}", "--metric", "nll", "--model", har_folder)
    expected = naive_nll(har, codes)
    nll = result["metrics"]["nll"]
    assert nll["value"] == pytest.approx(expected.mean(), rel=1e-5)
    ends = np.cumsum(level_sizes(tiny_config.num_latent_tokens))[:-1]
    assert nll["levels"] == pytest.approx([part.mean() for part in np.split(expected, ends, axis=1)], rel=1e-5)
    assert (nll["name"], nll["unit"], nll["n"]) == ("NLL-21", "nats/code", 21)
    assert len(result["protocol"]["model_fingerprint"]) == 64


def test_generator_that_knows_nothing_has_the_nll_of_the_uniform_distribution(
    tmp_path, restok, har, tokenizer_folder, tiny_config
):
    torch.nn.init.zeros_(har.head.weight)
    save_har(har, open_tokenizer(tokenizer_folder), CLASSES, tmp_path / "har")
    write_codes(draw_codes(tiny_config), tmp_path / "codes.npz")
    nll = evaluate(restok, tmp_path / "codes.npz", "--metric", "nll", "--model", tmp_path / "har")["metrics"]["nll"]
    assert nll["value"] == pytest.approx(np.log(tiny_config.codebook_size))


def write_data_set(folder, image_size, count=20):
    samples = []
    rng = np.random.default_rng(0)
    for i in range(count):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*image_size, 3), np.uint8)).save(buffer, "PNG")
        samples.append(Sample(f"{i:06d}", "png", buffer.getvalue(), image_size, i % len(CLASSES), {}))
    folder.mkdir()
    write_dataset(folder, {"train": samples}, name="noise", class_names=CLASSES, provenance={})
    return folder


def test_code_cache_measures_like_the_pictures_it_was_made_of(
    tmp_path, restok, tiny_config, har, har_folder, tokenizer_folder
):
    data, cache = write_data_set(tmp_path / "data", tiny_config.image_size), tmp_path / "cache"
    made = restok("prepare", "codes", data, cache, "--tokenizer", tokenizer_folder, "--views", "centre")
    assert made.code == 0, made.err
    metrics = ("--split", "train", "--metric", "codebook")
    found = evaluate(restok, cache, *metrics)["metrics"]
    assert found == evaluate(restok, data, *metrics, "--model", tokenizer_folder)["metrics"]
    assert found["codebook_usage"]["n"] == 20
    result = evaluate(restok, cache, "--split", "train", "--metric", "all", "--model", har_folder)
    assert set(result["metrics"]) == {*found, "nll"}
    split = open_codes(cache).split("train")
    codes = np.stack([split.codes(i, 0) for i in range(20)]).astype(np.int64)
    expected = naive_nll(har, Codes(codes, [], np.arange(20) % len(CLASSES), 0, ""))
    assert result["metrics"]["nll"]["value"] == pytest.approx(expected.mean(), rel=1e-5)
    assert result["protocol"]["samples"]["fingerprint"] == open_codes(cache).fingerprint


@pytest.mark.slow
def test_two_processes_measure_codes_exactly_as_one(tmp_path, restok, har_folder, tiny_config):
    write_codes(draw_codes(tiny_config, count=50), tmp_path / "codes.npz")
    command = (tmp_path / "codes.npz", "--metric", "all", "--model", har_folder)
    two = (sys.executable, *accelerate(tmp_path), "-m", "restok_cli", "evaluate", *map(str, command), "--json")
    found = json.loads(subprocess.run(two, capture_output=True, check=True, timeout=120).stdout)["metrics"]
    assert found == evaluate(restok, *command)["metrics"]
    assert set(found) == {"codebook_usage", "codebook_entropy", "codebook_perplexity", "nll"}


def test_codes_of_another_tokenizer_are_refused(tmp_path, fails, har_folder, tokenizer_folder, tiny_config):
    own = fingerprint(open_tokenizer(tokenizer_folder))
    write_codes(draw_codes(tiny_config, tokenizer="0" * 64), tmp_path / "other.npz")
    write_codes(draw_codes(tiny_config, tokenizer=own), tmp_path / "own.npz")
    arguments = ("--metric", "nll", "--model", har_folder)
    assert "on the codes of another tokenizer" in fails(2, "evaluate", tmp_path / "other.npz", *arguments)


def test_codes_of_another_shape_are_refused(tmp_path, fails, har_folder, tiny_config):
    codes = draw_codes(tiny_config)
    write_codes(codes._replace(codes=codes.codes[:, :4]), tmp_path / "short.npz")
    line = fails(2, "evaluate", tmp_path / "short.npz", "--metric", "nll", "--model", har_folder)
    assert f"draws {tiny_config.num_latent_tokens} of {tiny_config.codebook_size} codes, here are 4 of" in line


def test_codes_without_classes_are_refused_by_a_generator_with_classes(tmp_path, fails, har_folder, tiny_config):
    codes = draw_codes(tiny_config)
    write_codes(codes._replace(class_ids=np.full(21, -1)), tmp_path / "codes.npz")
    line = fails(2, "evaluate", tmp_path / "codes.npz", "--metric", "nll", "--model", har_folder)
    assert "an image has class -1, but" in line


def test_codes_need_no_tokenizer(tmp_path, fails, tokenizer_folder, tiny_config):
    write_codes(draw_codes(tiny_config), tmp_path / "codes.npz")
    line = fails(2, "evaluate", tmp_path / "codes.npz", "--metric", "codebook", "--model", tokenizer_folder)
    assert "holds codes already" in line


def test_codes_of_other_lengths_are_one_level_of_as_many_images(tmp_path, restok, tiny_config):
    codes = draw_codes(tiny_config)
    write_codes(codes._replace(codes=codes.codes[:, :3]), tmp_path / "codes.npz")
    found = evaluate(restok, tmp_path / "codes.npz", "--metric", "codebook")["metrics"]["codebook_usage"]
    assert (found["n"], len(found["levels"])) == (len(codes.codes), 1)
