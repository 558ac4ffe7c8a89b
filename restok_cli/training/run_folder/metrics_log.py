"""metrics.jsonl: the numbers that a run has logged, a line for each time that it did."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from restok_cli.schema import Count, Int, read_whole_lines

METRICS_FILE = "metrics.jsonl"
REMEDY = "remove the line, or give another run"


class _Line(BaseModel):
    """A line of metrics.jsonl: a step, and numbers by their names."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Int | float]

    step: Count


def read_log(file: Path) -> list[tuple[int, dict[str, float]]]:
    """The lines of a metrics.jsonl: steps, and the numbers that were logged after each; [] where there is no file.

    A line that is still being written, or was cut short by a kill, is passed over. Raises RestokError for others that
    no run has written.
    """
    lines = read_whole_lines(_Line, file, REMEDY) if file.is_file() else []
    return [(line.step, line.model_extra or {}) for line in lines]
