"""Several processes train like one, stop together, and fail with one voice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from launchers import SHARDED, accelerate
from training_runs import TOKENIZER, call, log, state, train

from restok_cli.settings import run_config


@pytest.mark.slow
def test_two_processes_train_a_tokenizer_like_one(runs, restok, fails, tmp_path, monkeypatch):
    """And the run goes on in one process, as if it had always been there."""
    call(tmp_path, *TOKENIZER, "-o", "run", "--stop-at", 5, launcher=accelerate(tmp_path))
    resume = (*TOKENIZER, "-o", tmp_path / "run", "--resume")
    with monkeypatch.context() as patch:
        patch.setattr(run_config, "world_size", lambda: 4)
        assert "--set schedule.micro_batch_size=2" in fails(2, *resume)
    assert restok(*resume).code == 0
    for name in ("model", "ema"):
        ours, theirs = state(tmp_path / "run")[name], state(runs / "tokenizer")[name]
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5, msg=key)
    means, expected = (state(run)["adversary"]["lecam"] for run in (tmp_path / "run", runs / "tokenizer"))
    torch.testing.assert_close(means, expected, rtol=1e-3, atol=0)
    for ours, theirs in zip(log(tmp_path / "run"), log(runs / "tokenizer"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_processes_train_a_generator_like_one(runs, tmp_path, sharding):
    """Those that restok starts itself, and those of `accelerate launch`, whose config may ask for the shards."""
    # a look at the averaged weights in the middle, which gathers the shards, must leave them as they were
    options = ("--set", "schedule.validate_every=1", "--set", "schedule.preview_every=2")
    command = (*train("har", runs), "-o", "run", *options)
    if sharding == "none":
        call(tmp_path, *command, "--num-processes", 2)
    else:  # which also has to take its shards up again
        first = ("--set", "compute.sharding=fsdp", "--stop-at", 3, "--num-processes", 2)
        call(tmp_path, *command, *first)
        call(tmp_path, *command, "--resume", launcher=accelerate(tmp_path, **SHARDED))
    assert f"sharding: {sharding}" in (tmp_path / "run" / "config.yaml").read_text()
    starts = (tmp_path / "run" / "starts.jsonl").read_text().splitlines()
    assert {json.loads(line)["processes"] for line in starts} == {2}
    for name in ("model", "ema"):
        ours, theirs = state(tmp_path / "run")[name], state(runs / "har")[name]
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5, msg=key)
    last = [line for line in log(tmp_path / "run") if line["step"] == 6]
    for ours, theirs in zip(last, log(runs / "har")[-2:], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "processes", "workers"),
    [
        (signal.SIGINT, 130, 2, 0),
        (signal.SIGTERM, 143, 2, 1),
        (signal.SIGINT, 130, 1, 0),
        (signal.SIGTERM, 143, 1, 1),
    ],
)
def test_processes_that_are_told_to_stop_all_at_once_save_together(tmp_path, number, code, processes, workers):
    """As a terminal, `timeout` and SLURM tell them: with the processes that load images.

    With one line that says how to go on, the exit code of the signal, and no process left behind.
    """
    command = [*TOKENIZER, "--max-steps", 5000, "--num-processes", processes, "-o", "run"]
    command += ["--set", f"data.num_workers={workers}"]
    process = subprocess.Popen(
        (sys.executable, "-m", "restok_cli", *map(str, command)),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=600)
    assert process.returncode == code and out == "" and "Traceback" not in err, err
    [line] = [line for line in err.splitlines() if line.startswith("restok: ")]
    step = int(re.fullmatch(r"restok: interrupted after step (\d+); the same command with --resume .*", line)[1])
    assert max(folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()) == f"step-{step:06d}"
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    assert not any(str(tmp_path) in line for line in running_commands())


def running_commands() -> list[str]:
    folders = [path for path in Path("/proc").iterdir() if path.name.isdecimal()]
    found = []
    for folder in folders:
        try:
            found.append(f"{(folder / 'cwd').readlink()} {(folder / 'cmdline').read_text()}")
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_of_processes_that_fail_one_speaks(tmp_path):
    err = call(tmp_path, *TOKENIZER, "--batch-size", 4, "-o", "run", "--num-processes", 2, code=2)
    [line] = [line for line in err.splitlines() if line.startswith("restok: ")]
    assert "a batch of 4 cannot be cut into micro-batches of 4 for 2 processes" in line
    assert err.splitlines() == [line]
