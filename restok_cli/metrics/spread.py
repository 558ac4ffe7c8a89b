"""Means of independent numbers, and differences of two of them, with 95 % intervals."""

import math
from collections.abc import Sequence
from statistics import fmean, variance

from scipy.special import stdtrit

from restok_cli.metrics.table import LEVEL

Interval = tuple[float, float]  # LEVEL of it


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's interval of the mean that at least two values scatter around."""
    return _around(fmean(values), variance(values) / len(values), len(values) - 1)


def paired_interval(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Student's interval of the mean of `b` less that of `a`, whose values belong together one by one."""
    return mean_interval([theirs - ours for ours, theirs in zip(a, b, strict=True)])


def welch_interval(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Welch's interval of the mean of `b` less that of `a`; a single value is taken to scatter as the other side's do.

    One of them must have at least two values.
    """
    difference = fmean(b) - fmean(a)
    if min(len(a), len(b)) == 1:
        several = max(a, b, key=len)
        return _around(difference, variance(several) * (1 + 1 / len(several)), len(several) - 1)
    errors = [variance(values) / len(values) for values in (a, b)]
    total = sum(errors)
    if not total:
        return difference, difference
    shares = [error / total for error in errors]
    freedom = 1 / sum(share**2 / (len(values) - 1) for share, values in zip(shares, (a, b), strict=True))
    return _around(difference, total, freedom)


def difference_interval(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """The interval of b - a for independent numbers with intervals of their own (Zou & Donner 2008).

    Each limit is as far away as the two sides that face it: b's upper and a's lower one make the difference large.
    A side that its number lies beyond counts as no distance.
    """
    down = math.hypot(max(b - of_b[0], 0), max(of_a[1] - a, 0))
    up = math.hypot(max(of_b[1] - b, 0), max(a - of_a[0], 0))
    return b - a - down, b - a + up


def _around(centre: float, squared_error: float, freedom: float) -> Interval:
    half = math.sqrt(squared_error) * float(stdtrit(freedom, (1 + LEVEL) / 2))
    return centre - half, centre + half
