"""`restok evaluate --plot`, metrics against the number of codes; `restok tune --plot`, a metric against another."""

from pathlib import Path

from matplotlib.figure import Figure  # no pyplot: it would look for a screen

from restok_cli.evaluation.prefixes import Curve
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


def draw_trade(groups: dict[str, list[dict[str, Measurement]]], x: str, y: str, path: Path) -> None:
    """Draw metric `y` against metric `x`: points in a colour for each group, and the 95 % intervals that are known."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, found in groups.items():
        pairs = [(measured[x], measured[y]) for measured in found]
        values = ([pair[i].value for pair in pairs] for i in (0, 1))
        xerr, yerr = (list(zip(*(_reach(pair[i]) for pair in pairs), strict=True)) for i in (0, 1))
        axes.errorbar(*values, xerr=xerr, yerr=yerr, fmt="o", markersize=4, elinewidth=1, label=name)
    for metric, label in ((x, axes.set_xlabel), (y, axes.set_ylabel)):
        arrow = "higher" if METRICS[metric].higher_is_better else "lower"
        label(f"{METRICS[metric].label}, {arrow} is better")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def _reach(measurement: Measurement) -> tuple[float, float]:
    """From the value down and up to the ends of its interval."""
    low, high = measurement.interval or (measurement.value, measurement.value)
    return max(measurement.value - low, 0), max(high - measurement.value, 0)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=120)
