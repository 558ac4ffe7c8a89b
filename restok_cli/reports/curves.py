"""The numbers of runs as curves over their steps, in one image."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from restok_cli.errors import UsageError, did_you_mean
from restok_cli.files import whole_file
from restok_cli.training.metrics_log import METRICS_FILE, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
PANEL = 4.2, 2.8  # inches, at 100 dots each

Curves = dict[str, tuple[list[int], list[float]]]  # name → steps, values


def read_curves(run: Path) -> Curves:
    """Read the log of a run, which may still be training. Raises UsageError where `run` is none or has no log."""
    if not (run / METRICS_FILE).is_file():
        raise UsageError(f"{run} holds no {METRICS_FILE}; give the folder of a run that has logged a step")
    curves: Curves = {}
    for step, numbers in read_log(run / METRICS_FILE):
        for name, value in numbers.items():
            if math.isfinite(value):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(step)
                values.append(value)
    if not curves:
        raise UsageError(f"{run} has logged nothing yet")
    return curves


def short_names(runs: Sequence[Path]) -> list[str]:
    """Name runs by the names of their folders or, where two have the same, by their paths."""
    names = [run.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def draw_curves(runs: dict[str, Curves], names: list[str], path: Path) -> None:
    """Write a PNG with a panel for each of `names`, or for all that the runs logged, and a line in it for each run.

    Raises UsageError for a name that no run logged, and without matplotlib.
    """
    known = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    for name in names:
        if name not in known:
            raise UsageError(f"--metric {name}: not logged{did_you_mean(name, known)}; there are: {', '.join(known)}")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UsageError("curves need matplotlib, which is not installed; pip install 'restok[plots]'") from error
    names = names or known
    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(columns * PANEL[0], rows * PANEL[1] + 0.4), dpi=100, layout="constrained")
    last_step = max(steps[-1] for curves in runs.values() for steps, _ in curves.values())
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, name in zip(panels[: len(names)], names, strict=True):
        _draw_panel(panel, name, runs)
        panel.set_xlim(0, last_step * 1.02)
        panel.xaxis.get_major_locator().set_params(integer=True)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    figure.legend(*_legend(runs), loc="outside upper left", ncols=4, frameon=False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_panel(panel: "Axes", name: str, runs: dict[str, Curves]) -> None:
    for number, curves in enumerate(runs.values()):
        steps, values = curves.get(name, ([], []))
        # a single point would be an invisible line
        panel.plot(steps, values, color=f"C{number}", linewidth=1, marker="." if len(steps) < 30 else None)
    panel.set_title(name.replace("_", " "), fontsize="medium")
    panel.set_xlabel("step", fontsize="small")
    panel.tick_params(labelsize="small")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def _legend(runs: dict[str, Curves]) -> tuple[list, list[str]]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=f"C{number}") for number in range(len(runs))], list(runs)
