"""Facts of a run from its folder, also while it trains: for reports."""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from restok_cli.files import text_lines
from restok_cli.model.size import check_model_memory
from restok_cli.pretrained.modules import count_parameters
from restok_cli.reports.curves import Curves, read_curves, short_names
from restok_cli.reports.report_inputs import check_runs
from restok_cli.settings.changes import differences
from restok_cli.settings.precedence import kind_of
from restok_cli.settings.recorded import recorded_config
from restok_cli.settings.training import CONFIG_FILE, RUN_CONFIGS, RunConfig, RunKind
from restok_cli.training.early_stopping import ENDED_EARLY, SIGNS
from restok_cli.training.run_folder.history import all_presets, nearest_preset
from restok_cli.training.run_folder.launches import Start, read_starts
from restok_cli.training.run_folder.metrics_log import METRICS_FILE
from restok_cli.training.run_folder.run import LOG_FILE

MESSAGES = 40  # of the log, the last ones
STEP_LINE = re.compile(r"[\d-]+ [\d:]+ step \d+: ")


class RunFacts(NamedTuple):
    name: str  # short, and of no other run that is looked at
    path: Path
    kind: RunKind
    config: RunConfig
    parameters: int
    preset: str  # the nearest one
    changes: dict[str, tuple[object, object]]  # by dotted key: the preset's value and the run's
    curves: Curves
    last_line: datetime  # when the run last logged something
    previews: list[tuple[int, Path]]  # by step
    starts: list[Start]
    messages: list[str]  # of the log, without the numbers

    @property
    def step(self) -> int:
        """The last one that was logged."""
        return max(steps[-1] for steps, _ in self.curves.values())

    @property
    def max_steps(self) -> int:
        return self.config.schedule.max_steps

    @property
    def has_ended(self) -> bool:
        """Whether it did all its steps, or ended early and was not taken up again."""
        return self.step >= self.max_steps or any(ENDED_EARLY in message for message in self.messages[-1:])

    @property
    def best(self) -> tuple[float, int] | None:
        """The best validation and its step; None where the run does not keep the model of that (--early-stop)."""
        name = next((name for name in SIGNS if name in self.curves), None)
        if name is None or self.config.schedule.early_stop is None:
            return None
        seen = [(value, step) for step, value in zip(*self.curves[name], strict=True) if math.isfinite(value)]
        return max(seen, key=lambda one: SIGNS[name] * one[0], default=None)

    def last(self, name: str) -> float | None:
        """The last logged value of a number; None where there is none."""
        return self.curves[name][1][-1] if name in self.curves else None


def read_run(path: Path, name: str) -> RunFacts:
    """All of a run that `check_runs` has found. Raises UsageError where it has logged nothing, RestokError where it is
    damaged.
    """
    file = path / CONFIG_FILE
    kind = kind_of([path])
    config = recorded_config(RUN_CONFIGS[kind], file)
    check_model_memory(config.model, f"{file}: ", "model.")  # before its weights are counted
    curves = read_curves(path)
    preset, _ = nearest_preset(config)
    return RunFacts(
        name=name,
        path=path,
        kind=kind,
        config=config,
        parameters=count_parameters(config.model),
        preset=preset,
        changes=differences(all_presets(kind)[preset], config),
        curves=curves,
        last_line=datetime.fromtimestamp((path / METRICS_FILE).stat().st_mtime),
        previews=find_previews(path),
        starts=read_starts(path),
        messages=read_messages(path),
    )


def read_runs(paths: Sequence[Path]) -> list[RunFacts]:
    """Several, each with a name of its own. Raises as `check_runs` and `read_run` do."""
    check_runs(paths)
    return [read_run(path, name) for path, name in zip(paths, short_names(paths), strict=True)]


def find_previews(path: Path) -> list[tuple[int, Path]]:
    """The previews of a run by step."""
    found = (path / "previews").glob("step-*.png")
    return sorted((int(file.stem[5:]), file) for file in found if file.stem[5:].isdecimal())


def read_messages(path: Path) -> list[str]:
    """The last messages of a run's log that are not a line of numbers."""
    file = path / LOG_FILE
    if not file.is_file():
        return []
    return [line for line in text_lines(file) if not STEP_LINE.match(line)][-MESSAGES:]
