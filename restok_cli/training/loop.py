"""The loop of both trainers: step, log, validate, preview, save, stop. What these are, a `Trainee` says."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from restok_cli.console import Progress, note
from restok_cli.data.images import Pixels
from restok_cli.processes import Agreement, rank
from restok_cli.settings.training import RunConfig
from restok_cli.training.early_stopping import EarlyStopping
from restok_cli.training.monitor import Health, Meter
from restok_cli.training.parallel import Parts
from restok_cli.training.run_folder.checkpoints import NAME
from restok_cli.training.run_folder.run import RunFolder, as_line
from restok_cli.training.stopping import Arriving, interrupted, stop_signals, stopped
from restok_cli.training.update import Update


class State(Parts):
    """All that changes while a model trains, and so all that a checkpoint holds."""

    def __init__(self, what: str, model: nn.Module, ema: nn.Module, config: RunConfig, device: torch.device):
        self.update = Update(model, config.optimizer, config.schedule.max_steps, config.compute.precision)
        self.updates = {what: self.update}  # by the name of what they move, the model itself first
        self.meter, self.early = Meter(device), EarlyStopping(config.schedule.early_stop)
        self.device = device
        self.parts = {"model": model, "ema": ema, "update": self.update}
        self.parts |= {"window": self.meter, "early_stopping": self.early}


class Trainee(NamedTuple):
    """A model that the loop trains, and how that is done."""

    command: str  # for the progress bar
    shown: tuple[str, str]  # what stands beside the bar: its name there, and in the log
    data_remedy: str  # what helps where steps wait for data
    state: State
    step: Callable[[int, Iterator[Any]], None]  # the number of the step, batches as they arrive
    numbers: Callable[[int], tuple[dict[str, float], Mapping[int, float]]]  # to log; the codebook's use
    validate: Callable[[Arriving], dict[str, float]]
    preview: Callable[[Path, Arriving], None]
    write_model: Callable[[int, dict[str, Any]], None]  # after a step, of which the state is given


def run_loop(
    trainee: Trainee,
    config: RunConfig,
    run: RunFolder,
    batch_iterator: Generator[Any, None, None],
    first_step: int,
    stop_at: int | None,
) -> Path:
    """Train from `first_step` to the end, or to `stop_at` as an interruption would, and return the model's folder.

    Raises Interrupted after Ctrl-C or SIGTERM, once the state is saved.
    """
    schedule, state, early = config.schedule, trainee.state, trainee.state.early
    health, agreed = Health(config.health, first_step or None, trainee.data_remedy), Agreement()

    def save(done: int) -> None:
        save_run(done, trainee, run)
        health.saved_step = done

    progress = Progress(trainee.command, schedule.max_steps, "steps", first_step)
    with stop_signals() as stop, progress, closing(batch_iterator):  # which ends its workers
        arriving = stop.arriving(batch_iterator)
        for step in range(first_step, min(schedule.max_steps, stop_at or schedule.max_steps)):
            if early.is_over:
                break
            saving = stop.saving(step, save if step > first_step else None, run.path)
            with saving, state.meter.step(schedule.batch_size):
                trainee.step(step, arriving)
            progress.advance()

            done, last = step + 1, step + 1 == schedule.max_steps
            stopping = agreed(stop.number)
            if done % schedule.log_every == 0 or last:
                _log(done, trainee, config, run, health, progress)
            if done % schedule.validate_every == 0 or last:
                with stop.saving(done, save, run.path):
                    numbers = trainee.validate(stop.arriving)
                run.log(done, numbers)
                note(as_line(done, numbers), keep=False)  # as `log` has kept it
                early.look(done, numbers)
            if done % schedule.preview_every == 0 or last:
                with stop.saving(done, save, run.path):
                    trainee.preview(run.preview_file(done), stop.arriving)
                run.track_preview(done)
            decided = early.is_over or early.best_step == done
            if done % schedule.save_every == 0 or last or stopping or done == stop_at or decided:
                save(done)
            if stopping and not last:
                raise interrupted(stopping, done, run.path)
    if stop_at is not None and stop_at < schedule.max_steps and not early.is_over:
        note(stopped(stop_at, schedule.max_steps, run.path))
    if report := early.report(run.checkpoint_folder, NAME):
        note(report)
    return run.model_folder


def save_run(done: int, trainee: Trainee, run: RunFolder) -> None:
    """Write the model, then the checkpoint, which says that all of the step is done. All processes must call it."""
    early, saved = trainee.state.early, trainee.state.state_dict()
    if rank() == 0 and early.is_model(done):
        trainee.write_model(done, saved)
    run.save(done, saved, early.best_step)


def shown(path: Path, *parts: Pixels) -> list[Tensor]:
    """The images of a preview on the CPU; a line says where they are nothing to look at, which ends no training."""
    if not all(pixels.finite.all() for pixels in parts):
        note(f"{path}: the model makes pixels that are not finite numbers; those images show nothing")
    return [pixels.images.cpu() for pixels in parts]


def _log(done: int, trainee: Trainee, config: RunConfig, run: RunFolder, health: Health, progress: Progress) -> None:
    """Log the steps since the last line, and warn or stop where they are not well."""
    schedule = config.schedule
    numbers, codebook_use = trainee.numbers(done)
    numbers |= health.look(trainee.state.updates)
    numbers["learning_rate"] = next(iter(trainee.state.updates.values())).learning_rate
    numbers["eta_seconds"] = (schedule.max_steps - done) * schedule.batch_size / numbers["images_per_second"]
    run.log(done, numbers)
    health.judge(numbers, codebook_use)
    label, name = trainee.shown
    if name in numbers:
        progress.show(**{label: numbers[name]})  # beside a bar, within 80 columns
