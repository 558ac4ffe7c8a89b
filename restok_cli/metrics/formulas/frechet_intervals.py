"""Intervals of Fréchet distances, and the distance that endlessly many images would have."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics.formulas.frechet import ROWS_AT_ONCE, Gaussian, GaussianStatistics, frechet_distance
from restok_cli.metrics.intervals import Estimate, Influences, around, variance
from restok_cli.metrics.table import FEWEST, METRICS

SEED = 2020  # of the halves


class Cloud(NamedTuple):
    """The features of a set. Without rows, its Gaussian counts as exact."""

    gaussian: Gaussian
    rows: Tensor | None = None  # (n, D) float32
    indices: np.ndarray = np.empty(0, int)  # (n,): the places of the images in their set, ascending


class FrechetDistance:
    """The distance of two sets. Sets with rows count as drawn by chance; of `paired` ones, partners together."""

    def __init__(self, ours: Cloud, theirs: Cloud, paired: bool, device: torch.device | None = None):
        self.ours, self.theirs, self.device = ours, theirs, device
        self.value = frechet_distance(ours.gaussian, theirs.gaussian)
        self.counts = [len(cloud.indices) for cloud in (ours, theirs) if cloud.rows is not None]
        self.fewest = min(self.counts, default=0)
        found = _influences(ours, theirs, device) if self.fewest >= FEWEST else []
        self.variance = variance(*found, paired=paired) if found else 0.0
        self.given_reference = variance(found[0]) if len(found) > 1 and not paired else None

    def estimate(self) -> Estimate:
        """FID-n, with an interval of its expectation over redraws."""
        return self._around(self.value)

    def infinite(self) -> Estimate:
        """FID∞, with an interval of the true distance.

        It varies as FID-n does: two halves of a set move, on average, as the set. Raises RestokError where a set has
        too few images.
        """
        ours, theirs, dimensions = self.ours, self.theirs, len(self.ours.gaussian.mu)
        needed = METRICS["fid-inf"].fewest_per_dimension * dimensions
        if self.fewest < needed:
            raise RestokError(
                f"fid-inf needs at least {needed} images in each set with {dimensions} features an image, here are"
                f" {self.fewest}; give more images, or leave it out"
            )
        order = np.random.RandomState(SEED).permutation(1 + max(set_.indices.max(initial=0) for set_ in (ours, theirs)))
        halves = zip(_halves(ours, order, self.device), _halves(theirs, order, self.device), strict=True)
        # The bias goes with 1/n: the line through the whole set, at 1/n, and its halves, at 2/n, meets 0 at
        value = 2 * self.value - sum(frechet_distance(a, b) for a, b in halves) / 2
        # For Gaussians its next term goes with 1/n². Of equal ones, the bias is what they share times D/8n + (D/n)²/64,
        # over both sizes. The line through n and n/2 misses twice the second term: the first, times D/4n
        bend = (self.value - value) / 4 * sum(dimensions / n for n in self.counts)
        return self._around(value, bend**2)

    def _around(self, value: float, squared_error: float = 0.0) -> Estimate:
        found = around(value, self.variance + squared_error, self.fewest)
        if self.given_reference is None:
            return found
        alone = around(value, self.given_reference + squared_error, self.fewest)
        return found._replace(given_reference=alone.interval)


def influences(rows: Tensor, own: Gaussian, other: Gaussian, device: torch.device | None = None) -> np.ndarray:
    """(n,): that of each image of a set on the distance of its Gaussian from another one.

    A small change of `own.sigma` changes the distance by the trace of (1 - T) times it, where T is the optimal
    transport to `other`: symmetric, T own T = other. In the space that the set spans: it may be of few images.
    """
    values, vectors = eigh(own.sigma.numpy(), check_finite=False)
    kept = values > values[-1] * len(values) * np.finfo(values.dtype).eps
    scales, vectors = np.sqrt(values[kept]), vectors[:, kept]
    root = vectors * scales
    squares, axes = eigh(root.T @ other.sigma.numpy() @ root, check_finite=False)
    half = (vectors / scales) @ (axes * squares.clip(min=0) ** 0.25)
    device = device or torch.device("cpu")
    transport, mean, shift = (
        tensor.to(device) for tensor in (torch.from_numpy(half @ half.T), own.mu, 2 * (own.mu - other.mu))
    )
    unbiased = len(rows) / (len(rows) - 1)
    found = []
    for block in rows.split(ROWS_AT_ONCE):
        deviations = block.to(device).double() - mean
        found.append((((deviations - deviations @ transport) * unbiased + shift) * deviations).sum(1).cpu())
    return torch.cat(found).numpy()


def _influences(ours: Cloud, theirs: Cloud, device: torch.device | None) -> list[Influences]:
    """Those on the distance of the images of each set that has rows."""
    return [
        Influences(influences(own.rows, own.gaussian, other.gaussian, device), own.indices)
        for own, other in ((ours, theirs), (theirs, ours))
        if own.rows is not None
    ]


def _halves(cloud: Cloud, order: np.ndarray, device: torch.device | None) -> list[Gaussian]:
    """Those of two halves of a set, divided by the `order` of its images; so partners of two sets stay together."""
    if cloud.rows is None:
        return [cloud.gaussian, cloud.gaussian]
    gaussians = []
    for half in np.array_split(np.argsort(order[cloud.indices]), 2):
        statistics = GaussianStatistics(cloud.rows.shape[1], device)
        for places in torch.from_numpy(np.sort(half)).split(ROWS_AT_ONCE):
            statistics.add(cloud.rows[places])
        gaussians.append(statistics.gaussian())
    return gaussians
