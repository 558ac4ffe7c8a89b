"""Both training loops: exact in every way of running them, and well behaved when something goes wrong."""

import json
import math
import os
import shutil
import signal
import threading
from itertools import islice

import pytest
import torch
from PIL import Image
from plain_models import plain_tokenizer
from training_runs import HAR, TOKENIZER, break_steps, equal, log, state, train

from restok_cli.locks import locked_folder
from restok_cli.model.quantizer import Quantizer
from restok_cli.training import code_source, stopping, tokenizer_loop


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tokenizer", "har"])
@pytest.mark.parametrize("step", [1, 4])
def test_a_run_that_ended_early_and_went_on_equals_one_that_did_not(runs, restok, tmp_path, kind, step):
    """In the middle of a log window, of an epoch, before and after the discriminator began; at first no worker.

    And with other checkpoints than the other run: that a run was saved must not be seen in what comes after.
    """
    out = tmp_path / "run"
    assert restok(*train(kind, runs), "-o", out, "--stop-at", step, "--set", "schedule.save_every=5").code == 0
    assert not any(line["step"] > step for line in log(out)) if (out / "metrics.jsonl").exists() else step < 4
    assert restok(*train(kind, runs), "-o", out, "--resume", "--set", "data.num_workers=2").code == 0
    assert equal(state(out), state(runs / kind)) and log(out) == log(runs / kind)
    assert (out / "model" / "model.safetensors").read_bytes() == (
        runs / kind / "model" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("kind", ["tokenizer", "har"])
def test_a_run_logs_at_its_steps_and_at_its_end_and_how_long_the_rest_takes(runs, kind):
    lines = [json.loads(line) for line in (runs / kind / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 6, 6]  # the last is a validation
    for line in lines[:2]:
        rest = (6 - line["step"]) * 8
        assert line["eta_seconds"] == pytest.approx(rest / line["images_per_second"], rel=1e-3)
        assert 0 <= line["data_wait"] < 1
    assert {name.partition("_")[0] for name in lines[2]} == {"step", "validation"}


def stall(monkeypatch, module, number: int) -> None:
    """Let the data stop coming after `number` batches, and send SIGTERM while the run waits for the next one."""
    make = module.batches

    def stalling(*arguments, **options):
        yield from islice(make(*arguments, **options), number)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        reader, _writer = os.pipe()
        os.read(reader, 1)

    monkeypatch.setattr(module, "batches", stalling)
    monkeypatch.setattr(stopping, "STALL_SECONDS", 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tokenizer", "har"])
def test_told_to_stop_while_data_stall_a_run_saves_and_goes_on_as_if_it_had_not(runs, restok, tmp_path, kind):
    """In the middle of step 5: of its two micro-batches one is done."""
    out, module = tmp_path / "run", tokenizer_loop if kind == "tokenizer" else code_source
    with pytest.MonkeyPatch.context() as patch:
        stall(patch, module, 9)
        result = restok(*train(kind, runs), "-o", out)
    assert result.code == 143
    assert result.err.endswith(f"interrupted after step 4; the same command with --resume goes on in {out}\n")
    assert restok(*train(kind, runs), "-o", out, "--resume").code == 0
    assert equal(state(out), state(runs / kind)) and log(out) == log(runs / kind)


def test_told_to_stop_before_the_first_data_come_a_run_ends_and_may_go_on(restok, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stall(patch, tokenizer_loop, 1)
        result = restok(*TOKENIZER, "-o", tmp_path / "run")
    assert result.code == 143 and "interrupted after step 0; the same command with --resume" in result.err
    assert restok(*TOKENIZER, "-o", tmp_path / "run", "--resume", "--stop-at", 1).code == 0


def test_one_of_several_processes_whose_data_stall_ends_and_says_so(restok, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "world_size", lambda: 2)
    monkeypatch.setattr(stopping, "STALL_SECONDS_OF_SEVERAL", 0)
    stall(monkeypatch, tokenizer_loop, 3)
    result = restok(*TOKENIZER, "-o", tmp_path / "run")
    assert (
        result.code == 143 and "stopped while it waited for data; what the last checkpoint holds is kept" in result.err
    )
    assert not list((tmp_path / "run/checkpoints").glob("*"))


def test_a_run_is_carried_out_by_one_command_at_a_time(restok, fails, tmp_path):
    run = tmp_path / "run"
    assert restok(*TOKENIZER, "-o", run, "--stop-at", 1).code == 0
    with locked_folder(run):
        for option in ("--resume", "--overwrite"):
            assert f"{run} is being written by process {os.getpid()} on " in fails(2, *TOKENIZER, "-o", run, option)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tokenizer", "har"])
def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(runs, restok, tmp_path, kind):
    out = tmp_path / "run"
    command = (*train(kind, runs), "--set", "schedule.save_every=2", "-o", out)
    assert restok(*command).code == 0
    weights = out / "checkpoints" / "step-000006" / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    result = restok(*command, "--resume")
    assert result.code == 0 and "ema.safetensors is not as it was written" in result.err
    assert equal(state(out), state(runs / kind)) and log(out) == log(runs / kind)


def test_a_step_that_is_not_finite_is_skipped_and_counted(restok, tmp_path, monkeypatch):
    break_steps(monkeypatch, {3})  # the second micro-batch of the second step
    assert restok(*TOKENIZER, "--stop-at", 4, "--set", "schedule.save_every=1", "-o", tmp_path / "run").code == 0
    before, after = (state(tmp_path / "run", step)["model"] for step in (1, 2))
    assert equal(before, after)
    assert not equal(after, state(tmp_path / "run", 3)["model"])
    last = log(tmp_path / "run")[0]
    assert last["skipped_steps"] == 1 and math.isfinite(last["loss"])


def test_too_many_steps_in_a_row_that_are_not_finite_end_the_run(restok, fails, tmp_path, monkeypatch):
    break_steps(monkeypatch, set(range(4, 100)))
    limits = ("--set", "health.max_skipped_steps=1", "--set", "schedule.save_every=2")
    message = fails(1, *TOKENIZER, *limits, "-o", tmp_path / "run")
    assert "the gradients of the tokenizer were not finite for 2 steps in a row" in message
    assert "the last good checkpoint is that of step 2" in message
    assert all(value.isfinite().all() for value in state(tmp_path / "run", 2)["model"].values())


def test_latents_that_are_not_finite_revive_nothing():
    quantizer = Quantizer(8, 4, normalize=True)
    latents = torch.full((1, 6, 4), math.nan)
    latents[0, :2] = torch.randn(2, 4)
    assert quantizer.revive(torch.zeros(8, dtype=torch.int64), latents) == 2
    assert quantizer.codebook.isfinite().all()


@pytest.mark.parametrize("memory", ["memory=balanced", "memory=small", "gradient_checkpointing=true"])
def test_recomputing_activations_changes_nothing(restok, tmp_path, memory):
    small = ("--stop-at", 2)
    assert restok(*TOKENIZER, *small, "-o", tmp_path / "kept").code == 0
    recompute = ("--set", f"compute.{memory}")
    assert restok(*TOKENIZER, *small, *recompute, "-o", tmp_path / "recomputed").code == 0
    assert equal(state(tmp_path / "kept", 2)["model"], state(tmp_path / "recomputed", 2)["model"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_follows_float32(restok, tmp_path, precision):
    small = ("--stop-at", 2, "--set", "schedule.log_every=2", "--set", "discriminator.weight=0")
    assert restok(*TOKENIZER, *small, "-o", tmp_path / "float32").code == 0
    assert restok(*TOKENIZER, *small, "--set", f"compute.precision={precision}", "-o", tmp_path / "half").code == 0
    ours, theirs = log(tmp_path / "half")[0], log(tmp_path / "float32")[0]
    assert ours["skipped_steps"] == 0 and ours["reconstruction_loss"] != theirs["reconstruction_loss"]
    assert ours["reconstruction_loss"] == pytest.approx(theirs["reconstruction_loss"], rel=0.02)
    assert all(value.dtype == torch.float32 for value in state(tmp_path / "half", 2)["model"].values())


@pytest.mark.slow
def test_a_run_starts_from_the_weights_of_another_model(runs, restok, fails, tmp_path):
    start = ("--init", runs / "tokenizer", "--stop-at", 1, "--set", "optimizer.learning_rate=1e-12")
    start += ("--set", "optimizer.final_learning_rate=0")
    assert restok(*TOKENIZER, *start, "-o", tmp_path / "run").code == 0
    given = plain_tokenizer(runs / "tokenizer", torch.device("cpu")).state_dict()
    for name, value in state(tmp_path / "run", 1)["model"].items():
        torch.testing.assert_close(value, given[name], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_weights_that_do_not_fit_are_refused_before_an_older_run_is_touched(runs, fails, tmp_path):
    shutil.copytree(runs / "tokenizer", tmp_path / "run")
    wrong = ("--init", runs / "tokenizer", "--set", "model.codebook_size=32", "--overwrite")
    assert "--init: quantizer.codebook is (64, 8)" in fails(2, *TOKENIZER, *wrong, "-o", tmp_path / "run")
    assert equal(state(tmp_path / "run"), state(runs / "tokenizer"))


@pytest.mark.slow
def test_a_run_cannot_stop_where_it_has_been(runs, fails, tmp_path):
    shutil.copytree(runs / "tokenizer", tmp_path / "run")
    message = fails(2, *TOKENIZER, "-o", tmp_path / "run", "--resume", "--stop-at", 6)
    assert "--stop-at 6: the run has done 6 steps already" in message


@pytest.mark.slow
def test_a_generator_learns_other_classes_than_it_knew(runs, restok, fails, tmp_path):
    for name in ("red", "green"):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (32, 32), (i * 40, 0, 0) if name == "red" else (0, i * 40, 0)).save(
                tmp_path / "colours" / name / f"{i}.png"
            )
    assert restok("prepare", "folder", tmp_path / "colours", tmp_path / "data").code == 0
    options = ("--tokenizer", runs / "tokenizer", "--init", runs / "har", "--stop-at", 1)
    command = [tmp_path / "data" if word == "sample" else word for word in HAR]
    result = restok(*command, *options, "-o", tmp_path / "run")
    assert result.code == 0 and "--init: starting fresh: class_embedding.weight" in result.err
    ours, theirs = state(tmp_path / "run", 1)["ema"], state(runs / "har", 6)["ema"]
    assert ours["class_embedding.weight"].shape[0] == 3
    torch.testing.assert_close(ours["head.weight"], theirs["head.weight"], rtol=0, atol=0.1)


def test_a_preflight_tells_what_a_run_needs_and_leaves_nothing(restok, tmp_path):
    command = [word for word in TOKENIZER if word != "--skip-preflight"]
    result = restok(*command, "--dry-run", "-o", tmp_path / "runs" / "run")
    assert result.code == 0 and result.out == ""
    line, shortened = result.err.splitlines()
    assert shortened.startswith("--max-steps: 6 steps of the preset's 80, so optimizer.warmup_steps 5 → 0")
    assert line.startswith("preflight: 0.1 M parameters · memory ") and "for 6 steps" in line
    assert not list(tmp_path.iterdir())


def test_a_preflight_finds_what_would_fail_later(restok, fails, tmp_path, monkeypatch):
    def fail(*_arguments):
        raise OSError(28, "No space left on device", "preview.png")

    monkeypatch.setattr("restok_cli.training.tokenizer_loop.save_preview", fail)
    command = [word for word in TOKENIZER if word != "--skip-preflight"]
    assert "No space left on device" in fails(1, *command, "-o", tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_preflight_says_when_the_disk_is_too_small(restok, fails, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
    command = [word for word in TOKENIZER if word != "--skip-preflight"]
    message = fails(1, *command, "-o", tmp_path / "run")
    assert "its checkpoints need" in message and "schedule.keep_checkpoints" in message
    assert not list(tmp_path.iterdir())
