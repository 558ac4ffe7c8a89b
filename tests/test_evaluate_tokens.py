"""`restok evaluate --num-codes`: metric against the number of codes."""

import json

import pytest
import torch
from pictures import write_pictures

from restok_cli.data.images import save_image
from restok_cli.pretrained.modules import save_tokenizer


@pytest.fixture
def model(tmp_path, tiny_tokenizer):
    save_tokenizer(tiny_tokenizer, tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def folder(tmp_path, tiny_config):
    rng = torch.Generator().manual_seed(0)
    for i in range(20):
        image = torch.randint(0, 256, (3, *tiny_config.image_size), dtype=torch.uint8, generator=rng)
        save_image(image, tmp_path / "pictures" / f"{i:06d}.png")
    return tmp_path / "pictures"


def sweep(restok, folder, model, *arguments):
    found = restok("evaluate", folder, "--model", model, "--features", "random", *arguments)
    assert found.code == 0, found.err
    return found


def test_each_prefix_measures_like_the_pictures_that_reconstruct_writes(tmp_path, restok, folder, model):
    metrics = ("--metric", "rfid", "--metric", "psnr")
    found = json.loads(sweep(restok, folder, model, "--num-codes", "1,8", *metrics, "--json").out)
    assert [step["num_codes"] for step in found["curve"]] == [1, 8]
    for step in found["curve"]:
        output = tmp_path / f"first-{step['num_codes']}"
        made = restok("reconstruct", folder, "--model", model, "--num-codes", step["num_codes"], "-o", output)
        assert made.code == 0, made.err
        measured = restok("evaluate", output, "--reference", folder, *metrics, "--features", "random", "--json")
        expected = json.loads(measured.out)["metrics"]
        for metric in ("rfid", "psnr"):
            assert step["metrics"][metric]["value"] == pytest.approx(expected[metric]["value"], rel=1e-4)
    assert len(found["protocol"]["model_fingerprint"]) == 64


def test_all_takes_every_level_and_prints_a_line_for_each(restok, folder, model, tiny_config):
    lines = sweep(restok, folder, model, "--num-codes", "all", "--metric", "mse").out.splitlines()
    assert lines[0].split() == ["codes", "MSE-20"]
    lengths = [int(line.split()[0]) for line in lines[1:]]
    assert lengths == [2**k for k in range(tiny_config.num_latent_tokens.bit_length())]
    former = sweep(restok, folder, model, "--tokens", "all", "--metric", "mse")  # the option's former name
    assert former.out.splitlines() == lines


def test_random_features_are_named_in_the_table_and_stay_under_their_heading(restok, folder, model):
    options = ("--num-codes", "1,2", "--metric", "precision", "--metric", "mse")
    heading, *lines = sweep(restok, folder, model, *options).out.splitlines()
    assert heading.split() == ["codes", "precision-20", "(random)", "MSE-20"]
    assert {len(line) for line in lines} == {len(heading)}
    end = heading.index("(random)") + len("(random)")
    assert all(line[end - 1] != " " and line[end] == " " for line in lines)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plot_is_drawn(tmp_path, restok, folder, model, suffix, start):
    sweep(restok, folder, model, "--num-codes", "1,2", "--plot", tmp_path / f"curve.{suffix}")
    assert (tmp_path / f"curve.{suffix}").read_bytes().startswith(start)


def test_a_plot_replaces_a_file_only_when_asked_to_and_never_a_picture_that_is_read(tmp_path, fails, folder, model):
    (tmp_path / "there.png").write_bytes(b"another's")
    arguments = ("evaluate", folder, "--model", model, "--num-codes", "1,2", "--features", "random", "--plot")
    assert "there.png already exists" in fails(2, *arguments, tmp_path / "there.png")
    assert "would replace what is read" in fails(2, *arguments, folder / "000000.png", "--overwrite")


def test_more_tokens_than_there_are_are_refused(fails, folder, model, tiny_config):
    line = fails(2, "evaluate", folder, "--model", model, "--num-codes", "4096", "--metric", "psnr")
    assert f"this tokenizer makes {tiny_config.num_latent_tokens} codes an image" in line


def test_both_ways_to_the_quality_of_reconstructions_compare_as_equal(restok, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "images", ["a.png", "b.png"], 40, 33)  # which both ways crop
    assert restok("reconstruct", "images", "--model", model, "-o", "again").code == 0
    found = restok("evaluate", "again", "--reference", "images", "--metric", "psnr", "--metric", "mse", "--json")
    (tmp_path / "files.json").write_text(found.out)
    for lengths, file in (("32", "codes.json"), ("1,32", "several.json")):
        found = sweep(restok, "images", model, "--num-codes", lengths, "--metric", "psnr", "--metric", "mse", "--json")
        (tmp_path / file).write_text(found.out)
    result = restok("evaluate", "--compare", "files.json", "codes.json")
    assert result.code == 0 and result.out.count("+0") + result.out.count("-0") == 2, result
    assert "not comparable" not in result.out
    assert "with one --num-codes" in restok("evaluate", "--compare", "files.json", "several.json").err
