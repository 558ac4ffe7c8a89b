"""Limits that --fail-under sets."""

import math
from typing import TYPE_CHECKING

from restok_cli.errors import Unmet, UsageError, did_you_mean
from restok_cli.metrics.table import METRICS

if TYPE_CHECKING:
    from restok_cli.metrics.protocol import Measurement


def parse_limits(texts: list[str]) -> dict[str, float]:
    """The limit of each metric named in texts like "gfid=3.5". Raises UsageError."""
    limits = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in METRICS:
            meant = did_you_mean(name, METRICS)
            raise UsageError(f"--fail-under {text}: unknown metric {name}{meant}; give NAME=VALUE")
        try:
            limits[name] = float(value)
        except ValueError:
            limits[name] = math.nan
        if not math.isfinite(limits[name]):
            raise UsageError(f"--fail-under {text}: {value or 'nothing'} is no number; give for example {name}=3.5")
    return limits


def check_limits(limits: dict[str, float], measurements: "dict[str, Measurement]") -> None:
    """Raises Unmet where a measurement is worse than its limit, UsageError where the inputs did not allow one."""
    worse = []
    for name, limit in limits.items():
        if name not in measurements:
            raise UsageError(f"--fail-under {name}: these inputs do not allow it, so that it was not measured")
        measurement, higher = measurements[name], METRICS[name].higher_is_better
        if measurement.value < limit if higher else measurement.value > limit:
            side = "below" if higher else "above"
            worse.append(f"{measurement.label} is {measurement.value:.6g}, {side} {limit:g}")
    if worse:
        raise Unmet("; ".join(worse))
