"""95 % intervals of numbers: how far each would move if as many images were drawn again. No image is read again.

A number that changes smoothly with its images has an influence of each image on it: n times the change of the number
for the weight of that image, as in the infinitesimal jackknife. Influences vary as independent values do, so their
squares give the variance (`variance`). Numbers that count neighbours jump instead; see `formulas/neighbours.py`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri, stdtrit

from restok_cli.metrics.spread import Interval
from restok_cli.metrics.table import LEVEL

FEWEST = 30  # images; of fewer, a variance says too little


class Estimate(NamedTuple):
    """A number, and its interval where there are enough images for one."""

    value: float
    interval: Interval | None = None


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


def jackknife(value: float, without: Sequence[float], fewest_images: int) -> Estimate:
    """A number that varies as Student's t does, with the variance that leaving groups out in turn shows."""
    if fewest_images < FEWEST:
        return Estimate(value)
    half = float(stdtrit(len(without) - 1, (1 + LEVEL) / 2)) * math.sqrt(jackknife_variance(without))
    return Estimate(value, (value - half, value + half))


def around(value: float, variance: float, fewest_images: int, error: float = 0.0) -> Estimate:
    """A number that varies as a normal one, and has besides an unknown `error` of up to so much."""
    if fewest_images < FEWEST:
        return Estimate(value)
    half = ndtri((1 + LEVEL) / 2) * math.sqrt(variance + error**2)
    return Estimate(value, (float(value - half), float(value + half)))


def around_share(share: float, variance: float, fewest_images: int, groups: int) -> Estimate:
    """A share of images, whose variance comes from so many groups: its log-odds vary as Student's t does.

    So the interval stays within 0 and 1. A share of none or of all has none: it shows nothing vary.
    """
    if fewest_images < FEWEST or not 0 < share < 1:
        return Estimate(share)
    half = stdtrit(groups - 1, (1 + LEVEL) / 2) * math.sqrt(variance) / (share * (1 - share))
    return Estimate(share, (float(expit(logit(share) - half)), float(expit(logit(share) + half))))
