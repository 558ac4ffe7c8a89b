"""The whole path on real images, with the preset `tiny`: emoji in, a number out. And exact resume on the way."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plain_models import plain_generator, plain_tokenizer

from restok_cli import cli
from restok_cli.data.code_files import read_codes
from restok_cli.data.images import to_float
from restok_cli.data.loading.loader import evaluation_batches
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.training.run_folder.checkpoints import read_checkpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder in which `data`, `tokenizer` and `har` were made by the real commands."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (
            "prepare sample data",
            "train-tokenizer data --preset tiny -o tokenizer",
            "train-har data --tokenizer tokenizer --preset tiny --skip-preflight -o har",
        ):
            assert cli.run(command.split()) == 0, command
    return folder


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def pictures(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.png"))}


@pytest.mark.slow
def test_losses_fall_and_the_codebook_stays_in_use(runs):
    tokenizer = [line for line in metrics(runs / "tokenizer") if "loss" in line]
    assert tokenizer[-1]["reconstruction_loss"] < 0.5 * tokenizer[0]["reconstruction_loss"]
    har = [line["validation_loss"] for line in metrics(runs / "har") if "validation_loss" in line]
    assert har[-1] < har[0] < torch.tensor(64.0).log()
    validations = [line for line in metrics(runs / "tokenizer") if "validation_psnr" in line]
    assert [line["step"] for line in validations] == [40, 80]
    assert validations[-1]["validation_psnr"] > validations[0]["validation_psnr"]
    assert validations[-1]["validation_codebook_usage"] > 50


@pytest.mark.slow
def test_run_folders_hold_what_they_should(runs):
    always = {"config.yaml", "metrics.jsonl", "log.txt", "starts.jsonl", "checkpoints", "previews", "model"}
    assert {file.name for file in (runs / "tokenizer").iterdir()} == always
    assert {file.name for file in (runs / "har").iterdir()} == always | {"tokenizer"}
    for run in (runs / "tokenizer", runs / "har"):
        assert sorted(file.name for file in (run / "checkpoints").iterdir()) == ["step-000040", "step-000080"]
        assert sorted(file.name for file in (run / "previews").iterdir()) == ["step-000040.png", "step-000080.png"]
    with Image.open(runs / "tokenizer" / "previews" / "step-000080.png") as preview:
        assert preview.width > 5 * 96  # the original, and four prefixes


@pytest.mark.slow
def test_reported_psnr_is_that_of_the_released_model(runs):
    tokenizer = plain_tokenizer(runs / "tokenizer", CPU)
    split, squares = open_dataset("sample").split("validation"), []
    with torch.inference_mode():
        for batch in evaluation_batches(split, image_size=(32, 32), batch_size=50):
            images = to_float(batch.images)
            made = (tokenizer.decode(tokenizer.encode(images)).clamp(0, 1) * 255).round() / 255
            squares += (made - images).square().mean((1, 2, 3)).tolist()
    expected = (-10 * torch.tensor(squares).log10()).mean().item()
    assert metrics(runs / "tokenizer")[-1]["validation_psnr"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_same_seed_gives_the_same_pictures_and_another_seed_others(runs, restok):
    def generate(name, *options):
        result = restok("generate", "--model", runs / "har", "--count", 6, "-o", runs / name, *options)
        assert result.code == 0 and result.out == f"{runs / name}\n"
        return pictures(runs / name)

    def draw(*options):
        command = (
            "generate",
            "--model",
            runs / "har",
            "--count",
            6,
            "--codes",
            "-o",
            runs / "c.npz",
            "--overwrite",
        )
        assert restok(*command, *options).code == 0
        return read_codes(runs / "c.npz").codes

    first = generate("first", "--steps", 7, "--grid", runs / "grid.png")
    assert list(first) == [f"{i:06d}.png" for i in range(6)]
    assert generate("again", "--batch-size", 4) == first
    # a tokenizer so small may make the same image of other codes; but those of every image are others
    codes = draw("--steps", 7)
    assert np.array_equal(draw("--batch-size", 4), codes)
    assert (draw("--seed", 1) != codes).any(1).all()
    assert np.array_equal(draw("--steps", 3), codes[:, :3])
    with Image.open(runs / "first" / "000000.png") as picture, Image.open(runs / "grid.png") as grid:
        assert picture.size == (32, 32) and picture.mode == "RGB"
        assert grid.width >= 6 * 96
    lines = [json.loads(line) for line in (runs / "first" / "manifest.jsonl").read_text().splitlines()]
    assert lines[5].items() >= {"file": "000005.png", "class_id": 5, "seed": 0, "index": 5}.items()


@pytest.mark.slow
def test_classes_are_chosen_by_name_and_number(runs, restok):
    options = ("--class", "heart", "--class", 3, "--count", 3, "--json")
    result = restok("generate", "--model", runs / "har", "-o", runs / "hearts", *options)
    assert json.loads(result.out) == {"path": str(runs / "hearts"), "images": 3, "steps": 7, "seed": 0}
    lines = [json.loads(line) for line in (runs / "hearts" / "manifest.jsonl").read_text().splitlines()]
    heart = plain_generator(runs / "har", CPU).class_names.index("heart")
    assert [line["class_id"] for line in lines] == [heart, 3, heart]


@pytest.mark.slow
def test_reconstructions_and_samples_get_a_number(runs, restok):
    result = restok("reconstruct", "sample", "--model", runs / "tokenizer", "-o", runs / "reconstructed", "--json")
    reported = json.loads(result.out)
    assert reported["images"] == 202 and reported["num_codes"] == 32
    evaluation = ("--reference", runs / "data", "--metric", "psnr", "--metric", "rfid", "--features", "random")
    result = restok("evaluate", runs / "reconstructed", *evaluation, "--json")
    measured = json.loads(result.out)["metrics"]
    assert measured["psnr"]["value"] == pytest.approx(reported["psnr"])
    assert measured["rfid"]["value"] > 0 and measured["rfid"]["n"] == 202

    restok("generate", "--model", runs / "har", "--count", 32, "-o", runs / "samples")
    result = restok("evaluate", runs / "samples", "--reference", "sample", "--features", "random")
    assert result.code == 0 and result.out.startswith("gFID-32")
    assert "not comparable" in result.err


@pytest.mark.slow
def test_fewer_tokens_give_other_pictures(runs, restok, tmp_path):
    for sample in range(8):
        (tmp_path / f"{sample}.webp").write_bytes(open_dataset("sample").split("validation").read(sample))
    made = []
    for tokens in (4, 32):
        out = runs / f"tokens-{tokens}"
        options = ("--model", runs / "har", "--num-codes", tokens, "-o", out, "--json")
        assert json.loads(restok("reconstruct", tmp_path, *options).out)["num_codes"] == tokens
        made.append(pictures(out))
    assert len(made[0]) == 8 and made[0].keys() == made[1].keys()
    assert all(made[0][name] != made[1][name] for name in made[0])


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train-tokenizer data", "train-har data --tokenizer tokenizer"])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(runs, restok, monkeypatch, command):
    """Killed after the checkpoint of step 40, and resumed in another process: bit for bit the same."""
    monkeypatch.chdir(runs)
    name = command.split()[0].removeprefix("train-")
    whole, resumed = runs / name, runs / f"{name}-killed"
    command = f"{command} --preset tiny --skip-preflight -o {resumed.name}"
    waits_for = resumed / "checkpoints/step-000040"
    process = subprocess.Popen((sys.executable, "-m", "restok_cli", *command.split()), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not waits_for.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    result = restok(*command.split(), "--resume")
    assert result.code == 0, result.err

    states = [read_checkpoint(run / "checkpoints" / "step-000080") for run in (whole, resumed)]
    assert equal(*states)
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]
    assert pictures(whole / "previews") == pictures(resumed / "previews")
    assert without_rates(metrics(whole)) == without_rates(metrics(resumed))


def without_rates(lines: list[dict]) -> list[dict]:
    rates = ("images_per_second", "data_wait", "eta_seconds")
    return [{name: value for name, value in line.items() if name not in rates} for line in lines]


def equal(one: object, other: object) -> bool:
    """Whether two nested states are the same, tensors bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.slow
def test_resuming_on_other_data_is_refused(runs, restok, fails, tmp_path):
    (tmp_path / "red").mkdir()
    for i in range(8):
        Image.new("RGB", (32, 32), (i * 30, 0, 0)).save(tmp_path / "red" / f"{i}.png")
    assert restok("prepare", "folder", tmp_path / "red", tmp_path / "data").code == 0
    options = ("--preset", "tiny", "-o", runs / "tokenizer", "--resume")
    assert "the data set is not the one" in fails(2, "train-tokenizer", tmp_path / "data", *options)


@pytest.mark.slow
def test_pictures_without_classes_train_an_unconditional_generator(runs, restok, fails, tmp_path):
    (tmp_path / "red").mkdir()
    for i in range(8):
        Image.new("RGB", (40, 32), (i * 30, 0, 0)).save(tmp_path / "red" / f"{i}.png")
    assert restok("prepare", "folder", tmp_path / "red", tmp_path / "data").code == 0
    train = ("--tokenizer", runs / "tokenizer", "--preset", "tiny", "--max-steps", 2, "-o", tmp_path / "har")
    assert restok("train-har", tmp_path / "data", *train).code == 0
    options = ("generate", "--model", tmp_path / "har", "--count", 2, "-o", tmp_path / "out")
    assert "trained without classes" in fails(2, *options, "--class", "red")
    assert restok(*options, "--cfg-scale", 2).code == 0
    assert len(pictures(tmp_path / "out")) == 2
