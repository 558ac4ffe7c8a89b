"""A run that ends where validations stop getting better: what it counts, keeps and says, and how it goes on."""

import json
import math
import shutil

import pytest

from restok_cli.reports.html import write_report
from restok_cli.training import tokenizer_loop
from restok_cli.training.early_stopping import EarlyStopping
from restok_cli.weights import read_tensors

from training_runs import equal, state  # isort: skip

PSNR = [10.0, 12.0, math.nan, 15.0, 14.0, 15.0, 20.0]  # the second after the best, no better than it, is the last


@pytest.mark.parametrize(("name", "sign"), [("validation_psnr", 1), ("validation_loss", -1)])
def test_the_best_is_the_highest_psnr_or_the_lowest_loss_and_the_first_of_equals(name, sign):
    early = EarlyStopping(2)
    seen = []
    for step, value in enumerate(PSNR[:6], start=1):
        assert not early.is_over
        early.look(step, {"validation_codebook_usage": 1.0, name: sign * value})
        seen.append(early.best_step)
    assert early.is_over and seen == [1, 2, 2, 4, 4, 4]


def test_a_first_validation_that_is_not_finite_is_not_the_best():
    early = EarlyStopping(3)
    early.look(1, {"validation_psnr": math.inf})
    assert early.is_model(1) and early.since == 1
    early.look(2, {"validation_psnr": 1.0})
    assert (early.best, early.best_step, early.since) == (1.0, 2, 0) and not early.is_model(3)


def test_without_patience_nothing_is_counted_and_every_step_is_the_model():
    early, before = EarlyStopping(None), EarlyStopping(1)
    before.look(1, {"validation_psnr": 1.0})
    early.load_state_dict(before.state_dict())
    early.look(2, {"validation_psnr": 0.0})
    assert not early.is_over and early.is_model(2) and early.best_step == 0


def test_a_run_that_only_makes_its_start_worse_ends_with_the_start(restok, tmp_path, monkeypatch):
    """Also where it was stopped before its first step was kept, and went on without --init."""
    psnr = iter([10.0, 20.0, 19.0, 19.0, 18.0])
    monkeypatch.setattr(tokenizer_loop, "validate", lambda *_: {"validation_psnr": next(psnr)})
    first, run = tmp_path / "first", tmp_path / "run"
    command = (
        *("train-tokenizer", "sample", "--preset", "tiny", "--batch-size", 2, "--skip-preflight"),
        *("--set", "schedule.validate_every=1", "--set", "schedule.preview_every=9"),
    )
    assert restok(*command, "--max-steps", 1, "-o", first).code == 0
    command += ("--max-steps", 3, "--early-stop", 2, "-o", run)
    assert restok(*command, "--init", first / "model", "--stop-at", 1).code == 0
    shutil.rmtree(run / "checkpoints" / "step-000001")
    result = restok(*command, "--resume")
    best = f"the best validation_psnr, 20, is that of {run / 'checkpoints' / 'step-000000'}, and model/ is of that step"
    assert result.code == 0 and best in result.err
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "validation_psnr" in line] == [0, 1, 2]
    start, model = (read_tensors(folder / "model" / "model.safetensors", "cpu") for folder in (first, run))
    assert equal(model, start)


def test_a_start_is_looked_at_only_where_a_best_is_kept(restok, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(tokenizer_loop, "validate", lambda *_: seen.append(0) or {"validation_psnr": 1.0})
    command = ("train-tokenizer", "sample", "--preset", "tiny", "--batch-size", 2, "--skip-preflight", "--max-steps", 1)
    for number, options in enumerate([("--early-stop", 2), ("--init", tmp_path / "0" / "model")]):
        assert restok(*command, *options, "-o", tmp_path / str(number)).code == 0
        assert len(seen) == number + 1 and not (tmp_path / str(number) / "checkpoints" / "step-000000").exists()


@pytest.mark.parametrize("stop_at", [None, 4, 5])
def test_a_run_ends_early_with_its_best_model_also_where_it_was_stopped_and_went_on(
    restok, tmp_path, monkeypatch, stop_at
):
    validations = iter(PSNR)
    monkeypatch.setattr(tokenizer_loop, "validate", lambda *_: {"validation_psnr": next(validations)})
    settings = ("validate_every=1", "preview_every=9", "save_every=9", "keep_checkpoints=1")
    command = (
        *("train-tokenizer", "sample", "--preset", "tiny", "--max-steps", 9, "--batch-size", 2, "--skip-preflight"),
        *(word for setting in settings for word in ("--set", f"schedule.{setting}")),
        *("--early-stop", 2, "-o", tmp_path),
    )
    result = restok(*command, *(("--stop-at", stop_at) if stop_at else ()))
    if stop_at:
        assert result.code == 0 and "ended early" not in result.err
        assert write_report([tmp_path], [], tmp_path / "report.html")  # it is not at its end
        result = restok(*command, "--resume")
    best = tmp_path / "checkpoints" / "step-000004"
    assert result.code == 0 and result.out == f"{tmp_path}/model\n"
    line = (
        "ended early, after 2 validations in a row without a better one (--early-stop); "
        f"the best validation_psnr, 15, is that of {best},"
    )
    assert line in result.err and line in (tmp_path / "log.txt").read_text()
    assert not write_report([tmp_path], [], tmp_path / "report.html")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000004", "step-000006"]
    assert state(tmp_path)["early_stopping"] == {"name": "validation_psnr", "best": 15.0, "best_step": 4, "since": 2}
    model = read_tensors(tmp_path / "model" / "model.safetensors", "cpu")
    assert equal(model, read_tensors(best / "ema.safetensors", "cpu"))

    result = restok(*command, "--resume")  # has nothing left to do
    assert result.code == 0 and line in result.err and next(validations) == 20.0
