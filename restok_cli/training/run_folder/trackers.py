"""Where a run's numbers also go: tensorboard, wandb, trackio, each through Accelerate's tracker and only if asked for.

All of them work without a network: wandb keeps a run in RUN/wandb until `wandb sync` (with WANDB_MODE=online it sends
it at once), trackio in its own folder.
"""

import json
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restok_cli.console import note
from restok_cli.errors import RestokError, UsageError, did_you_mean
from restok_cli.settings.training import RunConfig
from restok_cli.settings.yaml_file import flatten

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

PROJECT = "restok"
NAMES = ("tensorboard", "wandb", "trackio")
WITH_IMAGES = ("tensorboard", "wandb")
ID_FILE = "wandb/restok-run-id"  # by which a resumed run is the same one for wandb


def check_trackers(names: Sequence[str]) -> None:
    """Raises UsageError for a tracker that does not exist, or whose package is not installed. Imports nothing."""
    for name in names:
        if name not in NAMES:
            raise UsageError(
                f"--track {name}: no such tracker{did_you_mean(name, NAMES)}; there are {', '.join(NAMES)}"
            )
        try:
            version(name)
        except PackageNotFoundError:
            raise UsageError(f"--track {name}: not installed here; pip install {name}") from None


class Trackers:
    """The trackers of a run. One that fails is left out from there on: it is not worth the training."""

    def __init__(self, names: Sequence[str], run: Path, config: RunConfig, step: int):
        """Start them; `run` is its folder and `step` the last one that is done. Raises RestokError where one cannot.

        The config is sent once, when the run starts.
        """
        self.running: dict[str, GeneralTracker] = {}
        values = flatten(config.model_dump(mode="json"))
        values |= {key: json.dumps(value) for key, value in values.items() if value is None or isinstance(value, list)}
        for name in names:
            try:
                with redirect_stdout(sys.stderr):  # which is for our results; trackio greets there
                    self.running[name] = _start(name, run, step)
                    if step == 0:
                        self.running[name].store_init_configuration(values)
            except Exception as error:  # whatever a foreign program may raise
                raise RestokError(f"--track {name} cannot start ({_reason(error)}); leave it out") from error

    def log(self, step: int, numbers: dict[str, float]) -> None:
        for name in list(self.running):
            self._try(name, "log", numbers, step=step)

    def log_image(self, step: int, image: Path) -> None:
        """Show an image file in the trackers that can."""
        import numpy as np

        from restok_cli.data.image_files import read_image

        for name in self.running.keys() & set(WITH_IMAGES):
            pixels = np.asarray(read_image(image, str(image)))
            formats = {"dataformats": "NHWC"} if name == "tensorboard" else {}
            self._try(name, "log_images", {"preview": pixels[None]}, step=step, **formats)

    def finish(self) -> None:
        """Let them write what they hold back."""
        for name in list(self.running):
            self._try(name, "finish")
        self.running.clear()

    def _try(self, name: str, method: str, *arguments: Any, **options: Any) -> None:
        try:
            with redirect_stdout(sys.stderr):
                getattr(self.running[name], method)(*arguments, **options)
        except Exception as error:
            note(f"--track {name} failed ({_reason(error)}) and is left out from here on")
            del self.running[name]


def _start(name: str, run: Path, step: int) -> "GeneralTracker":
    from accelerate import PartialState
    from accelerate.tracking import TensorBoardTracker, TrackioTracker, WandBTracker

    PartialState()  # which Accelerate's logging asks for
    if name == "tensorboard":
        # what a run logged after the checkpoint that it now goes on from is hidden
        tracker = TensorBoardTracker(name, run, purge_step=step + 1 if step else None)
    elif name == "wandb":
        mode = os.environ.get("WANDB_MODE", "offline")  # online asks for a login, and would block without one
        tracker = WandBTracker(PROJECT, name=run.name, dir=str(run), mode=mode, id=_run_id(run), resume="allow")
    else:
        import trackio  # pyright: ignore[reportMissingImports] (no extra brings it)

        class UntilTheEnd(TrackioTracker):
            def finish(self) -> None:
                trackio.finish()  # Accelerate's finishes the run alone, and trackio does it again at exit, on stdout

        tracker = UntilTheEnd(PROJECT, name=run.resolve().name, resume="allow" if step else "never")
    tracker.main_process_only = False  # only the first process opens any
    tracker.start()
    return tracker


def _run_id(run: Path) -> str:
    file = run / ID_FILE
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_text(secrets.token_hex(4), encoding="utf-8")
    return file.read_text(encoding="utf-8")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
