"""Curves: what a run logged, in an image that shows it."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from restok_cli.reports.curves import panels_of, read_curves


@pytest.fixture
def run(tmp_path):
    """A run that has logged ten steps and, with gaps, a validation."""
    (tmp_path / "run").mkdir()
    lines = [{"step": step, "loss": 1 / step, "learning_rate": 1e-4} for step in range(1, 11)]
    lines += [{"step": step, "validation_psnr": float(step)} for step in (5, 10)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "run"


def test_curves_are_the_numbers_of_the_log(run):
    curves = read_curves(run)
    assert list(curves) == ["loss", "learning_rate", "validation_psnr"]
    assert curves["loss"] == (list(range(1, 11)), [1 / step for step in range(1, 11)])
    assert curves["validation_psnr"] == ([5, 10], [5.0, 10.0])


def test_a_line_that_is_being_written_and_numbers_that_are_none_are_passed_over(run):
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 11, "loss": NaN}\n{"step": 12, "lo')
    assert read_curves(run)["loss"][0] == list(range(1, 11))


def test_a_picture_has_a_panel_for_each_number_and_a_colour_for_each_run(restok, run, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 9, "loss": 3}\n')
    sizes, colours = [], []
    for number, arguments in enumerate(([], ["--metric", "loss"], [tmp_path / "other"])):
        file = tmp_path / f"{number}.png"
        assert restok("curves", run, *arguments, "-o", file).out == f"{file}\n"
        pixels = np.asarray(Image.open(file).convert("RGB"))
        sizes.append(pixels.shape[1])
        colours.append({tuple(colour) for colour in pixels.reshape(-1, 3)})
    assert sizes[0] == 3 * sizes[1] == sizes[2]
    blue, orange = (31, 119, 180), (255, 127, 14)
    assert all(blue in found for found in colours)
    assert [orange in found for found in colours] == [False, False, True]


def test_trainers_have_their_own_panels_and_what_is_no_curve_has_none():
    tokenizer = {"loss": ([1], [2.0]), "validation_psnr": ([1], [20.0]), "eta_seconds": ([1], [9.0])}
    runs = {"a": tokenizer, "b": {"loss": ([1], [6.0])}, "c": tokenizer}
    trainers = {"a": "tokenizer", "b": "har", "c": "tokenizer"}
    found = [(title, list(own)) for title, _, own in panels_of(runs, trainers, [])]
    psnr = ("tokenizer: validation_psnr", ["a", "c"])
    assert found == [("tokenizer: loss", ["a", "c"]), psnr, ("har: loss", ["b"])]
    assert [title for title, *_ in panels_of(runs, trainers, ["validation_psnr"])] == [psnr[0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run -o c.jpg", "-o c.jpg: give a file name that ends in .png"),
        ("run -o there.png", "-o there.png already exists; give another file, or --overwrite"),
        ("run -o c.png --metric los", "--metric los: not logged (did you mean loss?); there are: loss, learning_rate"),
        ("run nowhere -o c.png", "nowhere holds no metrics.jsonl; give the folder of a run that has logged a step"),
        ("empty -o c.png", "empty has logged nothing yet"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(fails, run, monkeypatch, arguments, message):
    monkeypatch.chdir(run.parent)
    (run.parent / "there.png").touch()
    (run.parent / "empty").mkdir()
    (run.parent / "empty" / "metrics.jsonl").touch()
    assert message in fails(2, "curves", *arguments.split())
    assert not (run.parent / "c.png").exists()


def test_help_names_the_extra_to_install_and_the_file_to_replace(restok):
    text = " ".join(restok("curves", "--help").out.split())
    assert "pip install 'restok[plots]'" in text and "Replace the output where" in text


def test_a_log_of_something_else_is_named(fails, run, tmp_path):
    (run / "metrics.jsonl").write_text("[1]\n")
    line = fails(1, "curves", run, "-o", tmp_path / "c.png")
    assert "metrics.jsonl, line 1 is wrong: [1]: input should be an object" in line


def test_without_matplotlib_one_line_says_what_to_install(fails, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    line = fails(2, "curves", run, "-o", tmp_path / "c.png")
    assert "curves need matplotlib, which is not installed; pip install 'restok[plots]'" in line
