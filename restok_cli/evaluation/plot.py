"""`restok evaluate --plot`: metrics against the number of codes."""

from pathlib import Path

from matplotlib.figure import Figure  # no pyplot: it would look for a screen

from restok_cli.evaluation.prefixes import Curve
from restok_cli.files import whole_file
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
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=120)
