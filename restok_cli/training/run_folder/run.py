"""A run's folder, and what both training loops do with it: log, preview, checkpoint, resume.

config.yaml     every value of the config
metrics.jsonl   one object per log line: means over the steps since the one before
log.txt         the same and every other message as lines for people, with the time
starts.jsonl    one object for each time that the run was started or resumed: command, versions, device, data
checkpoints/    step-000500/, …: all that is needed to go on (see checkpoints.py)
previews/       images made on the way
model/          the model (averaged weights), as the other commands load it
tokenizer/      in a generator's run, its tokenizer
tensorboard/, wandb/   what --track logs there
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from restok_cli.console import counted, keep_line, kept_lines, note
from restok_cli.errors import Interrupted, RestokError, UsageError
from restok_cli.files import append_text, remove_leftovers, write_text
from restok_cli.locks import locked_folder
from restok_cli.pretrained.card import Record, read_record, write_card
from restok_cli.pretrained.folder import Describe
from restok_cli.processes import check_alike, gather, rank
from restok_cli.settings.changes import differences, other_run
from restok_cli.settings.recorded import changed_since, is_older, read_config, recorded_config, write_config
from restok_cli.settings.training import CONFIG_FILE, RunConfig
from restok_cli.training.early_stopping import EarlyStopping
from restok_cli.training.parallel import Parts
from restok_cli.training.run_folder.checkpoints import (
    NAME,
    check_checkpoint,
    check_rates,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from restok_cli.training.run_folder.existing_run import (
    CHECKPOINTS,
    check_begun,
    check_new_run,
    checkpoints_in,
    step_of,
)
from restok_cli.training.run_folder.history import Data, history
from restok_cli.training.run_folder.launches import STARTS_FILE, read_starts, record_start
from restok_cli.training.run_folder.metrics_log import METRICS_FILE, read_log
from restok_cli.training.run_folder.trackers import Trackers

LOG_FILE = "log.txt"
OWN_FOLDERS = ("model", "tokenizer", "tensorboard", "wandb")  # which an overwritten run leaves nothing of


class RunFolder:
    """Where a run keeps everything. Of several processes, only the first writes; the others call the same methods."""

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        *,
        resume: bool,
        overwrite: bool,
        track: Sequence[str] = (),
        init: str | None = None,
    ):
        """Check that the folder may be written, and write the config. `init` names the model that the run starts from.

        Raises UsageError where the folder holds another run, or none that could be resumed.
        """
        self.path, self.config, self.track, self.init = path, config, track, init
        self.model_folder, self.checkpoint_folder = path / "model", path / CHECKPOINTS
        # a generator's own copy of its tokenizer: the one it is given may still be in training, or go away
        self.tokenizer_folder = path / "tokenizer"
        self.sources: dict[str, str] = {}  # fingerprints of what the run learns from, by name
        self.trackers: Trackers | None = None  # until the run begins
        if rank() > 0:
            return
        if resume:
            self._check_same_run(config)
            self._check_first_weights()
            if training := read_record(self.model_folder).training:
                self.init = training.init
        else:
            check_new_run(path, overwrite)
            self._clear()
            write_config(config, path / CONFIG_FILE)
        for folder in (path, self.checkpoint_folder):
            remove_leftovers(folder)

    @staticmethod
    def kept(path: Path) -> AbstractContextManager[None]:
        """Inside the block, the run in `path` is carried out by these processes and by no others.

        Raises UsageError where others do so.
        """
        return locked_folder(path) if rank() == 0 else nullcontext()

    def preview_file(self, step: int) -> Path:
        return self.path / "previews" / f"step-{step:06d}.png"

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Inside the block, messages for people also go to log.txt, and at its end to trackers what they hold back."""
        if rank() > 0:
            yield
            return
        with kept_lines(self.path / LOG_FILE):
            try:
                yield
            except (RestokError, Interrupted) as error:
                keep_line(str(error))
                raise
            finally:
                if self.trackers is not None:
                    self.trackers.finish()

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Append a line to metrics.jsonl and to log.txt, and tell the trackers."""
        if rank() > 0:
            return
        append_text(self.path / METRICS_FILE, _log_line(step, numbers))
        keep_line(as_line(step, numbers))
        if self.trackers is not None:
            self.trackers.log(step, numbers)

    def track_preview(self, step: int) -> None:
        """Show the trackers the preview of a step, once it is written."""
        if self.trackers is not None:
            self.trackers.log_image(step, self.preview_file(step))

    def describe(self, step: int, data: Data) -> Describe:
        """A function that writes the card of the model after a step, trained on `data`, into its folder."""
        training = history(self.config, self.path / METRICS_FILE, step, data, self.init)
        return partial(write_card, record=Record(training=training))

    def save(self, step: int, state: dict[str, Any], best: int = 0) -> None:
        """Write the checkpoint of a step, then delete others, but for that of the `best` step and those to be kept."""
        if rank() > 0:
            return
        state = {"step": step, "sources": self.sources, **state}
        write_checkpoint(self.checkpoint_folder / NAME.format(step), state, self.config)
        schedule = self.config.schedule
        prune_checkpoints(self.checkpoint_folder, step, schedule.keep_checkpoints, schedule.keep_every, best)

    def resume(self, state: Parts, device: torch.device, sources: dict[str, str], stop_at: int | None) -> int:
        """Bring `state` to where the last checkpoint left it, if there is one, and return how many steps are done.

        `sources` are fingerprints of what the run learns from, by name. Notes with what the run begins, or goes on,
        once nothing speaks against it. Raises what `load` raises, and UsageError where the run began on other sources,
        or has no step left to do up to `stop_at`.
        """
        self.sources = sources
        check_alike({"config": self.config.model_dump_json(), "--stop-at": stop_at, **sources})
        saved, step = self.load(), 0
        if saved:
            step, before = saved["step"], saved.get("sources", {"data set": saved.get("data_fingerprint")})
            for what, fingerprint in sources.items():  # an older run recorded fewer
                check_same(what, before.get(what, fingerprint), fingerprint)
        if stop_at is not None and stop_at <= step:
            raise UsageError(
                f"--stop-at {stop_at}: the run has done {counted(step, 'step')} already; give a later step"
            )
        if saved:
            nothing = {"early_stopping": EarlyStopping(None).state_dict()}  # which an older run counted
            load_parts(state, nothing | saved)
        if rank() == 0:
            self.begin(step)
            record_start(self.path, step, device, sources["data set"], self.init)
        return step

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None before the first.

        One that is damaged, or of another run, is passed over for the one before it, and that is said. To be called
        in every process, when they are connected. Raises RestokError where there are checkpoints, but all bad, and
        UsageError where a setting would change the learning rates of steps that are done.
        """
        # the answer also tells the others that the first process is done with clearing the folder
        checkpoint = gather(self._last_good() if rank() == 0 else None)[0]
        return None if checkpoint is None else read_checkpoint(checkpoint)

    def begin(self, step: int) -> None:
        """Go on after a step (0: from the beginning): what was logged after it is forgotten."""
        self._say_changes()
        write_config(self.config, self.path / CONFIG_FILE)
        self._forget_lines_after(step)
        keep_line(f"going on after step {step}" if step else "starting")
        self.trackers = Trackers(self.track, self.path, self.config, step)

    def _last_good(self) -> Path | None:
        reason = ""
        for checkpoint in reversed(checkpoints_in(self.checkpoint_folder)):
            try:
                before = check_checkpoint(checkpoint, self.config)
            except RestokError as error:
                reason = str(error)
                note(f"{reason}; trying the checkpoint before it")
            else:
                check_rates(before, self.config, step_of(checkpoint))
                return checkpoint
        if reason:
            raise RestokError(
                f"{self.checkpoint_folder} holds no checkpoint that is whole ({reason}); restore one from a backup, "
                "or start anew with --overwrite"
            )
        return None

    def _forget_lines_after(self, step: int) -> None:
        metrics = self.path / METRICS_FILE
        if metrics.exists():
            lines = [_log_line(*line) for line in read_log(metrics) if line[0] <= step]
            write_text(metrics, "".join(lines))

    def _clear(self) -> None:
        """Remove what an overwritten run left behind: nothing of it may be taken for the new one's."""
        for folder in (*(self.path / name for name in OWN_FOLDERS), *checkpoints_in(self.checkpoint_folder)):
            shutil.rmtree(folder, ignore_errors=True)
        for name in (METRICS_FILE, LOG_FILE, STARTS_FILE):
            (self.path / name).unlink(missing_ok=True)
        for file in (self.path / "previews").glob("step-*.png"):
            file.unlink()

    def _check_same_run(self, config: RunConfig) -> None:
        check_begun(self.path)
        file = self.path / CONFIG_FILE
        before = recorded_config(type(config), file)
        for key, (old, new) in other_run(before, config).items():
            raise UsageError(
                f"--resume: {key} was {old} in {file} and is now {new}, which would be another run; use the same "
                "settings, or another output folder"
            )

    def _say_changes(self) -> None:
        """Note what goes on otherwise than the config in the folder has it."""
        file = self.path / CONFIG_FILE
        before = recorded_config(type(self.config), file)
        for key, (old, new) in differences(before, self.config).items():
            was = "null" if old is None else old  # as the config file has it
            note(f"--resume: {key} was {was} and is now {new}")
        if is_older(read_config(file)):
            note(changed_since(before))

    def _check_first_weights(self) -> None:
        """Raises UsageError where a run that began from a model, and has no checkpoint yet, would go on without it."""
        starts = read_starts(self.path)
        if starts and starts[-1].init not in (None, self.init) and not checkpoints_in(self.checkpoint_folder):
            raise UsageError(
                f"--resume: the run began from the weights of {starts[-1].init} and has no checkpoint yet; give the "
                "same --init again, or another output folder"
            )


def load_parts(state: Parts, saved: dict[str, Any]) -> None:
    """Load a checkpoint. Raises RestokError where it is whole and yet holds something else."""
    try:
        state.load_state_dict(saved)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:  # torch's own words for it
        reason = shorten(str(error), 200, placeholder=" …")
        raise RestokError(
            f"the checkpoint of step {saved['step']} is not as this restok writes them ({type(error).__name__}: "
            f"{reason}); go on with the version that made it (starts.jsonl has it), or start another run"
        ) from error


def _log_line(step: int, numbers: dict[str, float]) -> str:
    """A line of metrics.jsonl, as `read_log` reads it."""
    return json.dumps({"step": step, **numbers}) + "\n"


def as_line(step: int, numbers: dict[str, float]) -> str:
    """Numbers of a step for people to read."""
    return f"step {step}: " + " · ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def check_same(what: str, before: str, now: str) -> None:
    """Raises UsageError where a resumed run is given other data, or another tokenizer, than it was started with."""
    if before != now:
        raise UsageError(f"--resume: the {what} is not the one that this run was started with; give that one")
