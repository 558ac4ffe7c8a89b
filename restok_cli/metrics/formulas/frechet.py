"""The Fréchet distance between Gaussians fitted to features: the algebra behind FID, in float64."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import LinAlgError, eigh, eigvalsh
from scipy.linalg.blas import dsyrk  # pyright: ignore[reportAttributeAccessIssue] (SciPy makes it at run time)
from torch import Tensor

from restok_cli.errors import RestokError

ROWS_AT_ONCE = 512  # an outer product of fewer is bound by the memory of its result, not by arithmetic


class Gaussian(NamedTuple):
    mu: Tensor  # (D,) float64
    sigma: Tensor  # (D, D) float64, unbiased


class GaussianStatistics:
    """Mean and scatter of features that come in batches; memory does not grow with their number.

    By NumPy, or where most of the arithmetic is to be done on a `device`, which has float64, by torch.

    How the features are cut into batches changes nothing, not even the last digit.
    """

    def __init__(self, dimensions: int, device: torch.device | None = None):
        self.count = 0  # without those that wait
        self.mean = np.zeros(dimensions)
        # sum of outer products about the mean: its upper triangle, as BLAS reads it; zeros below
        self.scatter = np.zeros((dimensions, dimensions), order="F")
        self.on_device = None  # in its place, all of it, where there is a device
        if device is not None:
            self.on_device = torch.zeros(dimensions, dimensions, dtype=torch.float64, device=device)
        self.waiting = np.empty((ROWS_AT_ONCE + 1, dimensions))  # the last row is `_combine`'s
        self.num_waiting = 0

    def add(self, features: Tensor) -> None:
        """Take in features (B, D) of any float type and device. Raises RestokError where they are not all finite."""
        rows = features.cpu().double().numpy()
        if not np.isfinite(rows).all():
            raise RestokError(
                "the feature network gives NaN or infinity for an image; its weights are damaged, or made for another"
                " range of values"
            )
        while len(rows):
            taken = rows[: ROWS_AT_ONCE - self.num_waiting]
            self.waiting[self.num_waiting : self.num_waiting + len(taken)] = taken
            self.num_waiting += len(taken)
            rows = rows[len(taken) :]
            if self.num_waiting == ROWS_AT_ONCE:
                self._combine()

    @property
    def total(self) -> int:
        """How many features were taken in."""
        return self.count + self.num_waiting

    def gaussian(self) -> Gaussian:
        """The Gaussian with this mean and the unbiased covariance. Raises RestokError below two samples."""
        if self.num_waiting:
            self._combine()
        if self.count < 2:
            raise RestokError(f"a covariance needs at least 2 images, here are {self.count}; give more images")
        if self.on_device is not None:
            sigma = self.on_device.cpu()
        else:
            triangle = torch.from_numpy(self.scatter.T)  # the lower one, row by row
            sigma = triangle + triangle.T
            sigma.diagonal().mul_(0.5)  # was added to itself
        return Gaussian(torch.from_numpy(self.mean), sigma.div_(self.count - 1))

    def _combine(self) -> None:
        # Chan's update: about the mean, so that features far from zero lose no digits as raw sums of squares would.
        # In NumPy and SciPy alone: torch's threads, idle but awake, would keep the cores from those of SciPy's BLAS
        number = self.num_waiting
        rows, total = self.waiting[: number + 1], self.count + number
        mean = rows[:number].mean(0)
        shift = mean - self.mean
        rows[:number] -= mean
        rows[number] = shift * np.sqrt(self.count * number / total)
        if self.on_device is not None:
            deviations = torch.from_numpy(rows).to(self.on_device.device)
            self.on_device.addmm_(deviations.T, deviations)
        else:  # half a product's arithmetic
            self.scatter = dsyrk(1.0, rows.T, beta=1.0, c=self.scatter, overwrite_c=True)
        self.mean = self.mean + shift * (number / total)
        self.count, self.num_waiting = total, 0


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mu_a - mu_b|² + Tr(sigma_a + sigma_b - 2 (sigma_a sigma_b)^½), never negative.

    With sigma_a = R Rᵀ the last trace is that of (Rᵀ sigma_b R)^½: one symmetric eigenproblem in place of the general
    one of the product. The error is at most about 1e-8 of the traces, mostly far less.
    Raises RestokError where the dimensions differ.
    """
    if len(a.mu) != len(b.mu):
        raise RestokError(
            f"statistics of {len(a.mu)} and of {len(b.mu)} features cannot be compared; use the same feature network"
        )
    (mu_a, sigma_a), (mu_b, sigma_b) = ((mu.numpy(), sigma.numpy()) for mu, sigma in (a, b))
    shared = np.sqrt(_product_eigenvalues(sigma_a, sigma_b).clip(min=0)).sum()
    distance = np.square(mu_a - mu_b).sum() + sigma_a.trace() + sigma_b.trace() - 2 * shared
    return max(float(distance), 0.0)


def _product_eigenvalues(sigma_a: np.ndarray, sigma_b: np.ndarray) -> np.ndarray:
    """Those of sigma_a sigma_b that are not zero, and perhaps some that are."""
    try:  # SciPy's LAPACK (OpenBLAS): on AMD's processors it is five times as fast as torch's (MKL), on Intel's as fast
        # Transposed, since LAPACK wants columns: what is symmetric need not be turned round while it is copied. Of the
        # triangles, the upper one's Cholesky factor and product are faster
        return eigh(sigma_b.T, sigma_a.T, lower=False, type=3, driver="gv", eigvals_only=True, check_finite=False)
    except LinAlgError:  # no Cholesky factor: sigma_a is singular, as with fewer images than features
        values, vectors = eigh(sigma_a, check_finite=False)
    # directions of rounding noise are left out: its square roots would add up
    kept = values > values[-1] * len(values) * np.finfo(values.dtype).eps
    root = vectors[:, kept] * np.sqrt(values[kept])
    return eigvalsh(root.T @ sigma_b @ root, check_finite=False)
