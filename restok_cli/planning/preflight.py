"""Before a run of days: two steps of it, with everything that comes in one, in a folder that is then thrown away.

What would otherwise end the run at its first validation, preview, checkpoint or discriminator step ends it here.
"""

import resource
import shutil
import sys
from contextlib import nullcontext
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from psutil import Process
from safetensors import safe_open

from restok_cli.console import counted, duration, note, quiet
from restok_cli.errors import Interrupted, RestokError, UsageError
from restok_cli.files import temporary_folder
from restok_cli.planning.configs import changed, of_one_device
from restok_cli.planning.counting import FROZEN
from restok_cli.planning.memory import memory_of, remedies
from restok_cli.planning.plan import kept_checkpoints
from restok_cli.planning.steps import count_step, memory_of_step
from restok_cli.processes import gather, rank, world_size
from restok_cli.room import size_text
from restok_cli.schema import read_json_lines
from restok_cli.settings.training import RunConfig, TokenizerRunConfig
from restok_cli.training.run_folder.metrics_log import METRICS_FILE
from restok_cli.training.run_folder.run import RunFolder

WORTH_PLANNING = 2 << 30  # bytes
MANY_IMAGES = 512  # in a micro-batch: twice those of any recipe
MUCH = 0.25  # of what was counted
STEPS = 2  # the first one warms up; the second has the discriminator, and gives the time


class Preflight(NamedTuple):
    """Findings of two steps of a run."""

    parameters: int
    memory: int  # bytes at its highest: of the GPU, else of the process
    checkpoint: int  # bytes of one
    seconds_per_step: float


class Train(Protocol):
    """One of the two training loops, with all it needs beside config and folder."""

    def __call__(
        self, config: Any, run: RunFolder, *, stop_at: int | None = None, validation_batches: int | None = None
    ) -> Path: ...


def preflight(config: RunConfig, run_path: Path, train: Train, device: torch.device) -> None:
    """Do the first steps of a run by `train`, save, load what was saved, and say what the run will need.

    Raises what the run would raise, UsageError where its micro-batches will not fit into memory, and RestokError where
    its checkpoints will not fit on the disk.
    """
    check_step(config, device)
    # on the disk of the run, and in its folder if that is there: where a disk is mounted, there is no beside
    place = run_path.resolve() / "preflight" if run_path.is_dir() else run_path.resolve()
    with temporary_folder(place) if rank() == 0 else nullcontext() as made:
        folder = gather(made)[0]
        run = RunFolder(folder, shortened(config), resume=False, overwrite=True)
        before = memory_now(device)
        try:
            with quiet():
                train(run.config, run, validation_batches=1)
                run.load()
        except Interrupted as stop:
            raise Interrupted(stop.signal_number, "interrupted in the preflight; the run was not started") from None
        if rank() == 0:
            found = look(folder, device, config.schedule.batch_size)
            report(config, found, run_path)
            compare(config, found.memory - before, device)
        gather(None)  # the folder may go when all are done with it


def check_step(config: RunConfig, device: torch.device) -> None:
    """Raises UsageError where a step of very many images needs more memory than there is: on a CPU the system would end
    the process without a word. Of others, the two steps show it sooner than counting.
    """
    one = of_one_device(config, world_size())
    size = one.schedule.micro_batch_size or one.schedule.batch_size
    if size <= MANY_IMAGES:
        return
    needed, there = memory_of_step(one, device.type == "cuda"), memory_of(device)
    if needed > there:
        raise UsageError(
            f"a step of {counted(size, 'image')} needs {size_text(round(needed))} of memory, and there is "
            f"{size_text(there)}; {remedies(config)}"
        )


def shortened(config: RunConfig) -> RunConfig:
    """A config with all that comes in the run, within two steps."""
    every = dict.fromkeys(("validate_every", "preview_every", "save_every"), STEPS)
    config = changed(
        config,
        schedule=every | {"log_every": 1, "max_steps": STEPS, "keep_every": None},
        optimizer={"schedule": "constant"},
    )
    if isinstance(config, TokenizerRunConfig):
        config = changed(config, discriminator={"start_step": STEPS - 1})
    return config


def look(folder: Path, device: torch.device, batch_size: int) -> Preflight:
    """Read the findings of the two steps in `folder`."""
    lines = read_json_lines(folder / METRICS_FILE)
    last = [line for line in lines if "images_per_second" in line][-1]
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device)
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    checkpoint = sum(file.stat().st_size for file in (folder / "checkpoints").rglob("*") if file.is_file())
    with safe_open(folder / "checkpoints" / f"step-{STEPS:06d}" / "model.safetensors", "pt") as weights:
        parameters = sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return Preflight(parameters, memory, checkpoint, batch_size / last["images_per_second"])


def report(config: RunConfig, found: Preflight, run_path: Path) -> None:
    """Say what the run will need. Raises RestokError where the disk has not so much."""
    schedule = config.schedule
    needed, free = kept_checkpoints(schedule) * found.checkpoint, shutil.disk_usage(run_path.resolve().parent).free
    note(
        f"preflight: {found.parameters / 1e6:.1f} M parameters · memory {size_text(found.memory)} · checkpoints "
        f"{size_text(needed)} of {size_text(free)} free · {found.seconds_per_step:.2g} s per step, "
        f"{duration(found.seconds_per_step * schedule.max_steps)} for {counted(schedule.max_steps, 'step')}"
    )
    if needed > free:
        raise RestokError(
            f"{run_path}: its checkpoints need {size_text(needed)}, but only {size_text(free)} are free there; make "
            "room, give another folder, or lower schedule.keep_checkpoints or raise schedule.keep_every"
        )


def memory_now(device: torch.device) -> int:
    """Bytes that the GPU, else the process, holds."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else Process().memory_info().rss


def compare(config: RunConfig, rise: int, device: torch.device) -> None:
    """Say where memory rose by another amount than `restok plan` counts for a step.

    Of small runs nobody needs to plan, and counting takes seconds; of several processes, each counts as if alone.
    """
    if rise < WORTH_PLANNING or world_size() > 1:
        return
    parts = count_step(of_one_device(config, 1), device.type == "cuda").at_peak()
    expected = sum(parts.values()) - parts.get(FROZEN, 0)  # networks that were there before
    if abs(rise / expected - 1) > MUCH:
        note(
            f"preflight: memory rose by {size_text(rise)}, and restok plan counts {size_text(expected)} for a step; "
            "look what else takes memory there, and trust what was measured"
        )
