"""The numbers of runs as curves over their steps, in one image."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from restok_cli.errors import UsageError, did_you_mean
from restok_cli.files import whole_file
from restok_cli.settings.precedence import kind_of
from restok_cli.settings.training import CONFIG_FILE
from restok_cli.training.run_folder.metrics_log import METRICS_FILE, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
NO_CURVES = {"eta_seconds"}  # what only the moment is of interest of
PANEL = 4.2, 2.8  # inches, at 100 dots each

Curves = dict[str, tuple[list[int], list[float]]]  # name → steps, values
Panel = tuple[str, str, dict[str, Curves]]  # title, name of the number, runs by name


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


def trainer_of(run: Path) -> str:
    """The trainer that wrote a run, tokenizer or har; "" where its config is gone."""
    return kind_of([run]) if (run / CONFIG_FILE).is_file() else ""


def panels_of(runs: dict[str, Curves], trainers: dict[str, str], names: list[str]) -> list[Panel]:
    """The panels, those of each trainer apart, since their numbers mean different things.

    All that were logged are shown, but what is no curve, or those of `names`.
    """
    panels = []
    for trainer in dict.fromkeys(trainers.values()):
        own = {run: curves for run, curves in runs.items() if trainers[run] == trainer}
        logged = dict.fromkeys(name for curves in own.values() for name in curves)
        shown = [name for name in names if name in logged] if names else [n for n in logged if n not in NO_CURVES]
        panels += [(trainer, name, own) for name in shown]
    several = len(set(trainers.values())) > 1
    return [(f"{trainer}: {name}" if several else name, name, own) for trainer, name, own in panels]


def draw_curves(runs: dict[str, Curves], trainers: dict[str, str], names: list[str], path: Path) -> None:
    """Write a PNG with panels as `panels_of` finds them, and in each a line for each run, by its name.

    Raises UsageError for a name that no run logged, and without matplotlib.
    """
    known = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    for name in names:
        if name not in known:
            raise UsageError(f"--metric {name}: not logged{did_you_mean(name, known)}; there are: {', '.join(known)}")
    try:
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ModuleNotFoundError as error:
        raise UsageError("curves need matplotlib, which is not installed; pip install 'restok[plots]'") from error
    contents = panels_of(runs, trainers, names)
    columns = min(COLUMNS, len(contents))
    rows = math.ceil(len(contents) / columns)
    figure = Figure(figsize=(columns * PANEL[0], rows * PANEL[1] + 0.4), dpi=100, layout="constrained")
    last_step = max(1, *(steps[-1] for curves in runs.values() for steps, _ in curves.values()))
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    colours = {run: f"C{number}" for number, run in enumerate(runs)}
    for panel, (title, name, own) in zip(panels[: len(contents)], contents, strict=True):
        _draw_panel(panel, title, name, own, colours)
        panel.set_xlim(0, last_step * 1.02)
        panel.xaxis.get_major_locator().set_params(integer=True)
    for panel in panels[len(contents) :]:
        panel.set_visible(False)
    handles = [Line2D([], [], color=colour) for colour in colours.values()]
    figure.legend(handles, list(runs), loc="outside upper left", ncols=4, frameon=False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_panel(panel: "Axes", title: str, name: str, runs: dict[str, Curves], colours: dict[str, str]) -> None:
    for run, curves in runs.items():
        steps, values = curves.get(name, ([], []))
        # a single point would be an invisible line
        panel.plot(steps, values, color=colours[run], linewidth=1, marker="." if len(steps) < 30 else None)
    panel.set_title(title.replace("_", " "), fontsize="medium")
    panel.set_xlabel("step", fontsize="small")
    panel.tick_params(labelsize="small")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
