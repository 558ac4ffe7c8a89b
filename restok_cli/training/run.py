"""A run's folder, and what both training loops do with it: log, preview, checkpoint, resume, stop on a signal.

config.yaml     every value of the config
metrics.jsonl   one object per log line: means over the steps since the one before
checkpoints/    step-000500.pt, …: all that is needed to go on; the last few are kept
previews/       pictures made on the way
model/          the model (averaged weights), as the other commands load it
tokenizer/      in a generator's run, its tokenizer
"""

import json
import math
import pickle
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restok_cli.console import note
from restok_cli.errors import Interrupted, RestokError, UsageError
from restok_cli.files import check_output_folder, remove_leftovers, whole_file
from restok_cli.model.config import Config
from restok_cli.training.config import flatten, read_config, write_config

CONFIG_FILE, METRICS_FILE, CHECKPOINT = "config.yaml", "metrics.jsonl", "step-{:06d}.pt"


# Every file that a run writes: what --overwrite may delete.
RUN_FILES = re.compile(
    r"config\.yaml|metrics\.jsonl|checkpoints/step-\d+\.pt|previews/step-\d+\.png"
    r"|(model/)?(tokenizer/)?(config\.json|model\.safetensors|pytorch_model\.bin)|(checkpoints/)?\..*\.(tmp|old)(/.*)?"
)


class RunFolder:
    """Where a run keeps everything. Opening it checks that it may be written, and writes the config."""

    def __init__(self, path: Path, config: Config, *, resume: bool, overwrite: bool):
        """Raises UsageError where the folder holds another run, or none that could be resumed."""
        self.path = path
        if resume:
            self._check_same_config(config)
        else:
            check_output_folder(path, overwrite, RUN_FILES.fullmatch)
            path.mkdir(parents=True, exist_ok=True)
            self._clear()
            write_config(config, path / CONFIG_FILE)
        for folder in (path, path / "checkpoints"):
            remove_leftovers(folder)

    @property
    def model_folder(self) -> Path:
        return self.path / "model"

    @property
    def tokenizer_folder(self) -> Path:
        """A generator's own copy of its tokenizer: the one it is given may still be in training, or go away."""
        return self.path / "tokenizer"

    def preview_file(self, step: int) -> Path:
        return self.path / "previews" / f"step-{step:06d}.png"

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Append a line to metrics.jsonl."""
        with open(self.path / METRICS_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")

    def save(self, step: int, state: dict[str, Any], keep: int) -> None:
        """Write the checkpoint of a step, whole or not at all, then delete all but the last `keep`."""
        with whole_file(self.path / "checkpoints" / CHECKPOINT.format(step)) as temporary:
            _torch_save({"step": step, **state}, temporary)
        for old in self._checkpoints()[:-keep]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None before the first. What was logged after it is forgotten."""
        checkpoints = self._checkpoints()
        state = _torch_load(checkpoints[-1]) if checkpoints else None
        metrics = self.path / METRICS_FILE
        if metrics.exists():
            last_step = state["step"] if state else 0
            lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            with whole_file(metrics) as temporary:
                temporary.write_text("".join(line for line in lines if _is_up_to(last_step, line)), encoding="utf-8")
        return state

    def _checkpoints(self) -> list[Path]:
        """Oldest first. The number may have outgrown its six digits."""
        files = (self.path / "checkpoints").glob("step-*.pt")
        return sorted((file for file in files if file.stem[5:].isdecimal()), key=lambda file: int(file.stem[5:]))

    def _clear(self) -> None:
        """Remove what an overwritten run left behind: nothing of it may be taken for the new one's."""
        for folder in (self.model_folder, self.tokenizer_folder):
            shutil.rmtree(folder, ignore_errors=True)
        for file in [*self._checkpoints(), *(self.path / "previews").glob("step-*.png"), self.path / METRICS_FILE]:
            file.unlink(missing_ok=True)

    def _check_same_config(self, config: Config) -> None:
        file = self.path / CONFIG_FILE
        if not file.is_file():
            raise UsageError(f"{self.path} holds no run to resume; leave --resume out to start one there")
        before, now = flatten(read_config(file)), flatten(config.model_dump(mode="json"))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise UsageError(
                    f"--resume: {key} was {before.get(key)} in {file} and is now {now.get(key)}, which would be "
                    "another run; use the same options, or another output folder"
                )


def _is_up_to(step: int, line: str) -> bool:
    """Whether a line of metrics.jsonl belongs to `step` or before. One that a kill cut short does not."""
    try:
        return json.loads(line)["step"] <= step
    except ValueError:
        return False


class Window:
    """Means of scalars over the steps between two log lines, kept on the device until they are read."""

    def __init__(self):
        self._clear()

    def _clear(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count, self.images, self.seconds = 0, 0, 0.0

    def start_step(self) -> None:
        """Start the clock: time between steps (validation, saving) does not count into the rate."""
        self.start = time.monotonic()

    def add(self, batch_size: int, **scalars: Tensor) -> None:
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.count += 1
        self.images += batch_size
        self.seconds += time.monotonic() - self.start

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to hold for the next line to be the same after a resume."""
        return {"sums": self.sums, "count": self.count, "images": self.images, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.count, self.images, self.seconds = (
            dict(state["sums"]),
            state["count"],
            state["images"],
            state["seconds"],
        )

    def close(self) -> dict[str, float]:
        """The means and the rate in images per second, and a fresh start. Waits for the device.

        Raises RestokError where a number is NaN or infinite.
        """
        numbers = {name: (total / self.count).item() for name, total in self.sums.items()}
        numbers["images_per_second"] = self.images / self.seconds
        self._clear()
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise RestokError(
                    f"{name} became {value}: training diverged; start another run with a lower learning rate"
                )
        return numbers


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Inside the block, Ctrl-C and SIGTERM only fill the list that it gives, so that a step is never cut in half.

    A second signal stops at once: it raises Interrupted wherever the program is.
    """
    received: list[int] = []

    def receive(number: int, _frame: object) -> None:
        if received:
            raise Interrupted(number, "stopped at once; what the last checkpoint holds is kept")
        received.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted(signal_number: int, step: int, folder: Path) -> Interrupted:
    """What a loop raises once it has saved."""
    return Interrupted(
        signal_number, f"interrupted after step {step}; the same command with --resume goes on in {folder}"
    )


def check_same(what: str, before: str, now: str) -> None:
    """Raises UsageError where a resumed run is given other data, or another tokenizer, than it was started with."""
    if before != now:
        raise UsageError(f"--resume: the {what} is not the one that this run was started with; give that one")


def announce(step: int, numbers: dict[str, float]) -> None:
    """One line per validation, so that a log shows how it went."""
    note(f"step {step}: " + " · ".join(f"{name} {value:.4g}" for name, value in numbers.items()))


def _torch_save(state: dict[str, Any], path: Path) -> None:
    try:
        with open(path, "wb") as file:
            torch.save(state, file)
    except RuntimeError as error:  # what torch makes of a failed write, for instance on a full disk
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise OSError(None, f"cannot write ({str(error).splitlines()[0]})", str(path)) from error


def _torch_load(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RestokError(f"{path} cannot be read ({reason}); delete it to resume from the one before") from error
