"""The Kernel Inception Distance (Bińkowski et al. 2018): the squared MMD of features under a cubic kernel."""

import numpy as np
import torch
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics.table import SUBSET_SIZE, SUBSETS

SEED = 2020  # torch-fidelity's, whose subsets these are


def kernel_inception_distance(samples: Tensor, reference: Tensor) -> float:
    """Mean over SUBSETS random subsets of the unbiased squared MMD of features (n, D) and (m, D).

    The subsets are of SUBSET_SIZE images, or of all of the smaller set where that has fewer. Unbiased, so the
    distance of like sets may lie a little below 0. Raises RestokError where a set has a single image.
    """
    size = min(SUBSET_SIZE, len(samples), len(reference))
    if size < 2:
        raise RestokError(f"kid needs at least 2 images in each set, here are {len(samples)} and {len(reference)}")
    rng = np.random.RandomState(SEED)
    distances = []
    for _ in range(SUBSETS):
        a, b = (features[rng.choice(len(features), size, replace=False)].double() for features in (samples, reference))
        distances.append(_squared_mmd(a, b))
    return float(np.mean(distances))


def _squared_mmd(a: Tensor, b: Tensor) -> float:
    """Unbiased, of two sets of one size m."""
    m = len(a)
    within = sum(kernel.sum() - kernel.trace() for kernel in (_kernel(a, a), _kernel(b, b)))
    return (within / (m * (m - 1)) - 2 * _kernel(a, b).mean()).item()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return torch.pow(a @ b.T / a.shape[1] + 1, 3)
