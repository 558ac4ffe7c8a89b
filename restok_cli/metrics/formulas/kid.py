"""The Kernel Inception Distance (Bińkowski et al. 2018): the squared MMD of features under a cubic kernel."""

from statistics import variance
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics.intervals import Estimate, around
from restok_cli.metrics.table import SUBSET_SIZE, SUBSETS

SEED = 2020  # torch-fidelity's, whose subsets these are


class Moments(NamedTuple):
    """The squared MMD of two sets a and b, and unbiased estimates of what makes it vary."""

    squared_mmd: float
    first_a: float  # variance of an image's mean kernel with its own set less that with the other
    first_b: float
    second_aa: float  # variance of the kernel of two images beyond what either has with all
    second_bb: float
    second_ab: float

    def variance(self, n: int, m: int) -> float:
        """That of the squared MMD of n and m images: both orders of its Hoeffding decomposition."""
        first = max(self.first_a, 0.0) / n + max(self.first_b, 0.0) / m
        within = self.second_aa / (n * (n - 1)) + self.second_bb / (m * (m - 1))
        return 4 * first + 2 * within + 4 * self.second_ab / (n * m)


def kernel_inception_distance(samples: Tensor, reference: Tensor) -> Estimate:
    """Mean over SUBSETS random subsets of the unbiased squared MMD of features (n, D) and (m, D).

    The subsets are of SUBSET_SIZE images, or of all of the smaller set where that has fewer. Unbiased, so the
    distance of like sets may lie a little below 0. The interval is of the distance of what both sets are drawn from,
    as if independently. Raises RestokError where a set has a single image.
    """
    n, m = len(samples), len(reference)
    size = min(SUBSET_SIZE, n, m)
    if size < 2:
        raise RestokError(f"kid needs at least 2 images in each set, here are {n} and {m}")
    rng = np.random.RandomState(SEED)
    found = []
    for _ in range(SUBSETS):
        a, b = (features[rng.choice(len(features), size, replace=False)].double() for features in (samples, reference))
        found.append(moments(_kernel(a, a), _kernel(b, b), _kernel(a, b)))
    mean = Moments(*np.mean(found, 0).tolist())
    of_subsets = variance([one.squared_mmd for one in found]) / SUBSETS
    return around(mean.squared_mmd, mean.variance(n, m) + of_subsets, min(n, m))


def moments(aa: Tensor, bb: Tensor, ab: Tensor) -> Moments:
    """From the kernels (m, m), float64, within two sets of one size and between them.

    Of fewer than four images, not all of these are numbers. The kernels within are changed.
    """
    m = len(ab)
    for kernel in (aa, bb):
        kernel.fill_diagonal_(0)  # of an image with itself
    rows_a, rows_b = aa.sum(1), bb.sum(1)
    mmd = (rows_a.sum() + rows_b.sum()) / (m * (m - 1)) - 2 * ab.mean()
    aa_rest, bb_rest = (_rest_within(kernel) for kernel in (aa, bb))
    ab_rest = (ab - ab.mean(1, keepdim=True) - ab.mean(0) + ab.mean()).square().sum() / (m - 1) ** 2
    # m - 2: an image's part of the sums of others, which go into its row, is taken out of it
    first_a = (rows_a / (m - 2) - ab.mean(1)).var() - aa_rest / (m - 2) - ab_rest / m
    first_b = (rows_b / (m - 2) - ab.mean(0)).var() - bb_rest / (m - 2) - ab_rest / m
    return Moments(*torch.stack([mmd, first_a, first_b, aa_rest, bb_rest, ab_rest]).tolist())


def _rest_within(kernel: Tensor) -> Tensor:
    """Variance of a kernel (m, m) without diagonal beyond its rows' and columns' means (U-centred)."""
    m = len(kernel)
    rows = kernel.sum(1) / (m - 2)
    rest = (kernel - rows[:, None] - rows + kernel.sum() / ((m - 1) * (m - 2))).fill_diagonal_(0)
    return rest.square().sum() / (m * (m - 3))


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return torch.pow(a @ b.T / a.shape[1] + 1, 3)
