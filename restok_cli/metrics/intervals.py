"""95 % intervals of numbers: how far each would move if as many images were drawn again. No image is read again.

A number that changes smoothly with its images has an influence of each image on it: n times the change of the number
for the weight of that image, as in the infinitesimal jackknife. Influences vary as independent values do, so their
squares give the variance (`variance`). Numbers that count neighbours jump instead; see `formulas/neighbours.py`.
Means of independent values, as of each image or of runs, have Student's interval.
"""

import math
import statistics
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, stdtrit

from restok_cli.metrics.table import FEWEST, GROUPS, LEVEL

Interval = tuple[float, float]  # LEVEL of it


class Estimate(NamedTuple):
    """A number, and its interval where there are enough images for one."""

    value: float
    interval: Interval | None = None
    given_reference: Interval | None = None  # likewise, where a reference of images counts as exact


class Influences(NamedTuple):
    """Those of the images of one set."""

    values: np.ndarray  # (n,) float64
    indices: np.ndarray  # (n,): the places of the images in their set, ascending, at which partners find each other


def variance(ours: Influences, theirs: Influences | None = None, paired: bool = False) -> float:
    """The variance of a number with these influences; of `paired` sets, partners are drawn together."""
    sets = [ours] if theirs is None else [ours, theirs]
    shares = [(one.values - one.values.mean()) / len(one.values) for one in sets]
    squares = sum(np.square(share).sum() * len(share) / (len(share) - 1) for share in shares)
    if paired and theirs is not None:
        _, a, b = np.intersect1d(ours.indices, theirs.indices, assume_unique=True, return_indices=True)
        squares += 2 * (shares[0][a] * shares[1][b]).sum()
    return max(float(squares), 0.0)


def jackknife_variance(without: Sequence[float]) -> float:
    """The variance of a number, from its values without each of some groups of images that are as many."""
    return (len(without) - 1) * float(np.var(without))


def student(centre: float, squared_error: float, freedom: float = math.inf) -> Interval:
    """The interval of what varies as Student's t does or, of endless freedom, as a normal number."""
    half = math.sqrt(squared_error) * float(stdtrit(freedom, (1 + LEVEL) / 2))
    return centre - half, centre + half


def around(value: float, variance: float, fewest_images: int, freedom: float = math.inf) -> Estimate:
    """A number that varies as a normal one or, where its variance comes from few groups of images, as Student's t."""
    return Estimate(value, student(value, variance, freedom) if fewest_images >= FEWEST else None)


def jackknife(value: float, without: Sequence[float], fewest_images: int) -> Estimate:
    """A number with the variance that leaving groups of images out in turn shows."""
    return around(value, jackknife_variance(without), fewest_images, len(without) - 1)


def around_share(share: float, variance: float, fewest_images: int) -> Estimate:
    """A share of images, whose variance comes from GROUPS groups: its log-odds vary as Student's t does.

    So the interval stays within 0 and 1. A share of none or of all has none: it shows nothing vary.
    """
    if fewest_images < FEWEST or not 0 < share < 1:
        return Estimate(share)
    low, high = student(float(logit(share)), variance / (share * (1 - share)) ** 2, GROUPS - 1)
    return Estimate(share, (float(expit(low)), float(expit(high))))


def mean_interval(values: Sequence[float]) -> Interval:
    """Student's interval of the mean that at least two values scatter around."""
    return student(fmean(values), statistics.variance(values) / len(values), len(values) - 1)


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
        return student(difference, statistics.variance(several) * (1 + 1 / len(several)), len(several) - 1)
    errors = [statistics.variance(values) / len(values) for values in (a, b)]
    total = sum(errors)
    if not total:
        return difference, difference
    shares = [error / total for error in errors]
    freedom = 1 / sum(share**2 / (len(values) - 1) for share, values in zip(shares, (a, b), strict=True))
    return student(difference, total, freedom)


def difference_interval(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """The interval of b - a for independent numbers with intervals of their own (Zou & Donner 2008).

    Each limit is as far away as the two sides that face it: b's upper and a's lower one make the difference large.
    A side that its number lies beyond counts as no distance.
    """
    down = math.hypot(max(b - of_b[0], 0), max(of_a[1] - a, 0))
    up = math.hypot(max(of_b[1] - b, 0), max(a - of_a[0], 0))
    return b - a - down, b - a + up
