"""What the tests of the training loops share: small runs with every part that has a state, and a look at them."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from restok_cli.cli import run
from restok_cli.training.losses import TokenizerLosses
from restok_cli.training.run_folder.checkpoints import read_checkpoint

RATES = ("images_per_second", "data_wait", "eta_seconds")
TIMES = ("seconds", "waited")
SCHEDULE = (
    *("micro_batch_size=4", "save_every=6", "log_every=4", "keep_checkpoints=9"),
    *("validate_every=6", "validation_images=16", "preview_every=6"),
)
SMALL = (
    *("sample", "--preset", "tiny", "--max-steps", 6, "--batch-size", 8, "--skip-preflight"),
    *(word for setting in SCHEDULE for word in ("--set", f"schedule.{setting}")),
)
# every part that has a state: a discriminator from the third step on, revival, the entropy term, two micro-batches
TOKENIZER = (
    *("train-tokenizer", *SMALL),
    *("--set", "discriminator.weight=0.5", "--set", "discriminator.kind=patch", "--set", "discriminator.start_step=3"),
    *("--set", "discriminator.optimizer.warmup_steps=2", "--set", "revival.every=3"),
)
HAR = ("train-har", *SMALL)


def call(folder: Path, *arguments: object, code: int = 0, launcher: tuple[str, ...] = ()) -> str:
    """Run a command in `folder`, in a process of its own or those of a launcher's, and return its stderr."""
    command = (sys.executable, *launcher, "-m", "restok_cli", *map(str, arguments))
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def train_both(folder: Path) -> Path:
    """`folder` with `tokenizer` and `har`, trained in this process without interruption."""
    for command in ((*TOKENIZER, "-o", folder / "tokenizer"), (*train("har", folder), "-o", folder / "har")):
        assert run([str(word) for word in command]) == 0
    return folder


def break_steps(monkeypatch: pytest.MonkeyPatch, broken: set[int]) -> None:
    """Make the loss of these micro-batches of a tokenizer's run NaN, counted from 0."""
    losses, count = TokenizerLosses.__call__, iter(range(10**6))

    def broken_losses(self, *arguments):
        terms = losses(self, *arguments)
        factor = math.nan if next(count) in broken else 1.0
        return {name: value * factor for name, value in terms.items()}

    monkeypatch.setattr(TokenizerLosses, "__call__", broken_losses)


def train(kind: str, runs: Path) -> tuple[object, ...]:
    return TOKENIZER if kind == "tokenizer" else (*HAR, "--tokenizer", runs / "tokenizer")


def state(run: Path, step: int = 6) -> dict:
    saved = read_checkpoint(run / "checkpoints" / f"step-{step:06d}")
    saved["window"] = {name: value for name, value in saved["window"].items() if name not in TIMES}
    return saved


def equal(one: object, other: object) -> bool:
    """Whether two nested states are the same, tensors bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def log(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in RATES} for line in lines]
