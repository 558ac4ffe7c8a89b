"""Checkpoints: folders from which a run goes on, whole or not there, that show when they were damaged.

step-000500/
  model.safetensors, ema.safetensors, …   the weights of each module
  state.pt         all else: optimizers, counters
  config.yaml      the config at that time
  checksums.json   size and SHA-256 of each of these files
"""

import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restok_cli.console import counted
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import file_sha256, whole_folder
from restok_cli.schema import Count, Schema, read_json
from restok_cli.settings.changes import RATE_SETTINGS, differences, other_run
from restok_cli.settings.recorded import recorded_config, write_config
from restok_cli.settings.training import CONFIG_FILE, RunConfig, TokenizerRunConfig
from restok_cli.training.optim import learning_rate
from restok_cli.training.run_folder.existing_run import checkpoints_in, step_of
from restok_cli.weights import is_stored_zip, read_tensors, write_tensors

NAME = "step-{:06d}"
STATE_FILE, CHECKSUMS_FILE, WEIGHTS = "state.pt", "checksums.json", ".safetensors"


class _Sum(Schema):
    """Of one file, in checksums.json."""

    bytes: Count
    sha256: str


def write_checkpoint(folder: Path, state: dict[str, Any], config: RunConfig) -> None:
    """Write a checkpoint, whole or not at all. Flat dicts of tensors become safetensors files, the rest one pickle.

    The checksums cost 3 s per GB beside the writing, as measured on a busy core without SHA instructions.
    """
    with whole_folder(folder) as temporary:
        rest = {}
        for name, value in state.items():
            if isinstance(value, dict) and value and all(isinstance(tensor, Tensor) for tensor in value.values()):
                write_tensors(value, temporary / f"{name}{WEIGHTS}")
            else:
                rest[name] = value
        _torch_save(rest, temporary / STATE_FILE)
        write_config(config, temporary / CONFIG_FILE)
        sums = {file.name: {"bytes": file.stat().st_size, "sha256": file_sha256(file)} for file in temporary.iterdir()}
        (temporary / CHECKSUMS_FILE).write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The state that was written. Raises RestokError where it cannot be read."""
    weights = {file.stem: read_tensors(file, torch.device("cpu")) for file in folder.glob(f"*{WEIGHTS}")}
    return _torch_load(folder / STATE_FILE) | weights


def check_checkpoint(folder: Path, config: RunConfig) -> RunConfig:
    """The config that a checkpoint was made with, which may differ from `config` in what a run may change.

    Raises RestokError where it is torn, truncated or changed, or was made by another run.
    """
    try:
        known = read_json(dict[str, _Sum], folder / CHECKSUMS_FILE)
    except RestokError as error:
        raise RestokError(f"{folder} is damaged: it lacks its {CHECKSUMS_FILE}, or that is broken") from error
    for name in {STATE_FILE, CONFIG_FILE} | known.keys():
        file = folder / name
        if name not in known or not file.is_file():
            raise RestokError(f"{folder} is damaged: {name} is missing")
        if file.stat().st_size != known[name].bytes:
            raise RestokError(f"{folder} is damaged: {name} has {file.stat().st_size} of {known[name].bytes} bytes")
        if file_sha256(file) != known[name].sha256:
            raise RestokError(f"{folder} is damaged: {name} is not as it was written")
    try:
        theirs = recorded_config(type(config), folder / CONFIG_FILE)
    except UsageError as error:
        raise RestokError(f"{folder} is of another run ({error})") from error
    for key, (before, now) in other_run(theirs, config).items():
        raise RestokError(f"{folder} is of another run: its {key} is {before} and not {now}")
    return theirs


def check_rates(before: RunConfig, now: RunConfig, step: int) -> None:
    """Raises UsageError where what changed would have given one of the first `step` steps another learning rate."""
    if now.schedule.max_steps < step:
        raise UsageError(
            f"--resume: max_steps = {now.schedule.max_steps}, but the run has done {counted(step, 'step')} already"
        )
    changed = {key: values for key, values in differences(before, now).items() if key in RATE_SETTINGS}
    # two curves are the same up to some step and nowhere after it, so the last one that was done tells
    if changed and step and rates(before, step - 1) != rates(now, step - 1):
        key, (old, new) = next(iter(changed.items()))
        raise UsageError(
            f"--resume: {key.rpartition('.')[2]} was {old} and is now {new}, which would change the learning rates of "
            f"the {counted(step, 'step')} done so far (schedule = {now.optimizer.schedule}); to end early, give "
            "--stop-at; to be able to go on for longer, train with optimizer.schedule constant or wsd"
        )


def rates(config: RunConfig, step: int) -> list[float]:
    """The learning rates in a step: of the model and, once it plays, of the discriminator, which has its own steps."""
    max_steps = config.schedule.max_steps
    found = [learning_rate(step, max_steps, config.optimizer)]
    if isinstance(config, TokenizerRunConfig) and config.discriminator.weight > 0:
        start = config.discriminator.start_step
        if step >= start:
            found.append(learning_rate(step - start, max_steps - start, config.discriminator.optimizer))
    return found


def prune_checkpoints(folder: Path, step: int, keep: int, keep_every: int | None, best: int = 0) -> None:
    """Delete all but the last `keep` checkpoints up to `step`, those of every `keep_every`-th step, and that of `best`.

    What claims to be later than `step`, the last that was saved, was refused as damaged when the run went on.
    """
    past = [path for path in checkpoints_in(folder) if step_of(path) <= step]
    kept = set(past[-keep:]) | {path for path in past if keep_every and step_of(path) % keep_every == 0}
    kept |= {path for path in past if step_of(path) == best}
    for path in checkpoints_in(folder):
        if path not in kept:
            shutil.rmtree(path)


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
        is_stored_zip(path)  # or it is refused
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RestokError(
            f"{path} cannot be read ({reason}); delete its folder to resume from the one before"
        ) from error
