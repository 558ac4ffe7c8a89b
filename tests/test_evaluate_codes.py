"""`restok evaluate` on codes: a generator's NLL, codebook use, wherever the codes come from."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import make_har

from restok_cli.data.code_files import Codes, write_codes
from restok_cli.model.checkpoint import fingerprint, open_tokenizer, save_har, save_tokenizer
from restok_cli.model.config import HarConfig
from restok_cli.model.levels import level_sizes

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
    """(n, L): code by code, picture by picture."""
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


def test_code_cache_measures_like_the_codes_in_it(tmp_path, restok, har_folder, tokenizer_folder):
    cache = tmp_path / "cache"
    made = restok("prepare", "codes", "sample", cache, "--tokenizer", tokenizer_folder)
    assert made.code == 0, made.err
    for folder, kind in ((cache, "cache"), ("sample", "pictures")):
        model = ("--model", tokenizer_folder) if kind == "pictures" else ()
        result = evaluate(restok, folder, "--metric", "codebook", *model)
        if kind == "cache":
            expected = result["metrics"]
    assert result["metrics"] == expected
    assert expected["codebook_usage"]["n"] == 202
    assert set(evaluate(restok, cache, "--metric", "all")["metrics"]) == set(expected)
    line = restok("evaluate", cache, "--metric", "nll", "--model", har_folder).err
    assert "knows 0 to 4" in line  # the emoji have more classes


@pytest.mark.slow
def test_two_processes_measure_codes_exactly_as_one(tmp_path, har_folder, tiny_config):
    write_codes(draw_codes(tiny_config, count=50), tmp_path / "codes.npz")
    command = [sys.executable, "-m", "restok_cli", "evaluate", str(tmp_path / "codes.npz"), "--metric", "all"]
    command += ["--model", str(har_folder), "--json", "--num-processes"]
    results = [
        json.loads(subprocess.run([*command, number], capture_output=True, check=True, timeout=120).stdout)["metrics"]
        for number in ("1", "2")
    ]
    assert results[0] == results[1]
    assert set(results[0]) == {"codebook_usage", "codebook_entropy", "codebook_perplexity", "nll"}


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
    assert "a picture has class -1, but" in line


def test_codes_need_no_tokenizer(tmp_path, fails, tokenizer_folder, tiny_config):
    write_codes(draw_codes(tiny_config), tmp_path / "codes.npz")
    line = fails(2, "evaluate", tmp_path / "codes.npz", "--metric", "codebook", "--model", tokenizer_folder)
    assert "holds codes already" in line
    assert "give it by --model" in fails(2, "evaluate", tmp_path / "codes.npz", "--metric", "nll")
