"""`restok evaluate --plot`, metrics against the number of codes; `restok tune --plot`, a metric against another."""

from pathlib import Path

from matplotlib.figure import Figure  # no pyplot: it would look for a screen

from restok_cli.evaluation.result import Curve
from restok_cli.files import whole_file
from restok_cli.metrics.protocol import Measurement
from restok_cli.metrics.table import METRICS, metric_of


def draw_curve(curve: Curve, path: Path) -> None:
    """Draw each metric against the number of codes."""
    keys = list(next(iter(curve.values())))
    figure = Figure(figsize=(4 * len(keys), 3.2), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        found = [measurements[key] for measurements in curve.values()]
        axes.plot(list(curve), [each.value for each in found], marker="o")
        if bounds := {length: each.interval for length, each in zip(curve, found, strict=True) if each.interval}:
            axes.fill_between(list(bounds), *zip(*bounds.values(), strict=True), alpha=0.2)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(curve), [str(count) for count in curve])
        metric = METRICS[metric_of(key)]
        arrow = "higher" if metric.higher_is_better else "lower"
        unit = f", {metric.unit}" if metric.unit else ""
        axes.set(xlabel="codes", title=found[0].label, ylabel=f"{arrow} is better{unit}")
        axes.grid(alpha=0.3)
    _save(figure, path)


def draw_trade(rounds: list[list[dict[str, Measurement]]], x: str, y: str, path: Path) -> None:
    """Draw metric `y` against metric `x`, a colour for each round; of the last one, on fresh seeds, with intervals."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for measured in rounds:
        (xs, xerr), (ys, yerr) = (_points([numbers[metric] for numbers in measured]) for metric in (x, y))
        is_last = measured is rounds[-1]
        axes.errorbar(
            *(xs, ys),
            xerr=xerr if is_last else None,
            yerr=yerr if is_last else None,
            fmt="o",
            markersize=4,
            elinewidth=1,
            label=f"{measured[0][x].n:,} images" + (", fresh seeds" if is_last else ""),
        )
    for metric, label in ((x, axes.set_xlabel), (y, axes.set_ylabel)):
        arrow = "higher" if METRICS[metric].higher_is_better else "lower"
        label(f"{METRICS[metric].label}, {arrow} is better")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def _points(measurements: list[Measurement]) -> tuple[list[float], list[list[float]]]:
    """The values, and how far the intervals that are known reach below and above them."""
    values = [measurement.value for measurement in measurements]
    ends = [measurement.interval or (measurement.value, measurement.value) for measurement in measurements]
    below = [max(value - low, 0) for value, (low, _) in zip(values, ends, strict=True)]
    above = [max(high - value, 0) for value, (_, high) in zip(values, ends, strict=True)]
    return values, [below, above]


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=120)
