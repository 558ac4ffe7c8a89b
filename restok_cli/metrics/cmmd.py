"""CMMD (Jayasumana et al. 2024): the squared MMD of CLIP's features under a Gaussian kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from restok_cli.metrics.neighbours import blocks, squared_distances
from restok_cli.metrics.table import CMMD_SCALE, CMMD_SIGMA


def clip_mmd(samples: Tensor, reference: Tensor) -> float:
    """CMMD_SCALE times the squared MMD of features (n, D) and (m, D) on the unit sphere, the biased estimate.

    Time grows with (n + m)², memory only with n + m.
    """
    samples, reference = (F.normalize(features.double(), dim=1) for features in (samples, reference))
    within = _mean_kernel(samples, samples) + _mean_kernel(reference, reference)
    return CMMD_SCALE * (within - 2 * _mean_kernel(samples, reference))


def _mean_kernel(a: Tensor, b: Tensor) -> float:
    """The mean of the kernel less 1: the ones cancel, and with so wide a kernel every value is close to 1."""
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for i, rows in enumerate(blocks(a)):
        for j, columns in enumerate(blocks(b)):
            if a is b and j > i:  # as it is turned round
                continue
            sums = torch.expm1(squared_distances(a[rows], b[columns]) / (-2 * CMMD_SIGMA**2)).sum()
            total += sums if a is not b or i == j else 2 * sums
    return total.item() / (len(a) * len(b))
