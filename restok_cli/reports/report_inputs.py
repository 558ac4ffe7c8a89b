"""Runs that a report may be made of, and files that it may replace. No torch here."""

from collections.abc import Sequence
from pathlib import Path

from restok_cli.errors import UsageError
from restok_cli.files import check_is_folder
from restok_cli.settings.training import CONFIG_FILE

MOST_RUNS = 6  # that have a colour of their own
MARK = "restok report</title>"  # of every report, near its beginning


def check_runs(paths: Sequence[Path]) -> None:
    """Raises UsageError where one of them is no run, or given twice, or there are too many."""
    if len(paths) > MOST_RUNS:
        raise UsageError(f"{len(paths)} runs are too many to tell apart; give at most {MOST_RUNS}")
    for path in paths:
        check_is_folder(path, "the folder of a run")
        if not (path / CONFIG_FILE).is_file():
            what = "holds a model and no run" if (path / "config.json").is_file() else "is no run"
            raise UsageError(
                f"{path} {what}: it has no {CONFIG_FILE}; give the folder that train-tokenizer or train-har wrote"
            )
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("a run is given twice; give each once")


def is_report(path: Path) -> bool:
    """Whether the file is a report of ours, which another one may replace."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return MARK.encode() in file.read(4096)
