"""The Fréchet distance between Gaussians fitted to features: the algebra behind FID, in float64."""

from typing import NamedTuple

import torch
from torch import Tensor

from restok_cli.errors import RestokError


class Gaussian(NamedTuple):
    mu: Tensor  # (D,) float64
    sigma: Tensor  # (D, D) float64, unbiased


class GaussianStatistics:
    """Mean and scatter of features that come in batches; memory does not grow with their number."""

    def __init__(self, dimensions: int):
        self.count = 0
        self.mean = torch.zeros(dimensions, dtype=torch.float64)
        self.scatter = torch.zeros(dimensions, dimensions, dtype=torch.float64)  # sum of outer products about the mean

    def add(self, features: Tensor) -> None:
        """Take in features (B, D), B at least 1, of any float type and device."""
        features = features.cpu().double()
        mean = features.mean(0)
        centred = features - mean
        self._combine(len(features), mean, centred.T @ centred)

    def merge(self, other: "GaussianStatistics") -> None:
        """Take in what `other` has seen, as if it had come here."""
        self._combine(other.count, other.mean, other.scatter)

    def gaussian(self) -> Gaussian:
        """The Gaussian with this mean and the unbiased covariance. Raises RestokError below two samples."""
        if self.count < 2:
            raise RestokError(f"a covariance needs at least 2 pictures, here are {self.count}; give more pictures")
        return Gaussian(self.mean, self.scatter / (self.count - 1))

    def _combine(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        # Chan's update: about the mean, so that features far from zero lose no digits as raw sums of squares would
        total = self.count + count
        if total == 0:
            return
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + shift.outer(shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mu_a - mu_b|² + Tr(sigma_a + sigma_b - 2 (sigma_a sigma_b)^½), never negative.

    With sigma_a = R Rᵀ the last trace is that of (Rᵀ sigma_b R)^½: two symmetric eigenproblems in place of the general
    one of the product. The error is at most about 1e-8 of the traces, mostly far less.
    Raises RestokError where the dimensions differ.
    """
    if len(a.mu) != len(b.mu):
        raise RestokError(
            f"statistics of {len(a.mu)} and of {len(b.mu)} features cannot be compared; use the same feature network"
        )
    root = _root(a.sigma)
    shared = torch.linalg.eigvalsh(root.T @ b.sigma @ root).clamp(min=0).sqrt().sum()
    distance = (a.mu - b.mu).square().sum() + a.sigma.trace() + b.sigma.trace() - 2 * shared
    return max(distance.item(), 0.0)


def _root(sigma: Tensor) -> Tensor:
    """R (D, rank) with R Rᵀ = sigma. Directions of rounding noise are left out: its square roots would add up."""
    values, vectors = torch.linalg.eigh(sigma)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()
