"""CMMD (Jayasumana et al. 2024): the squared MMD of CLIP's features under a Gaussian kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from restok_cli.metrics.formulas.neighbours import blocks, draw_groups, squared_distances
from restok_cli.metrics.intervals import Estimate, jackknife
from restok_cli.metrics.table import CMMD_SCALE, CMMD_SIGMA, GROUPS


def clip_mmd(samples: Tensor, reference: Tensor) -> Estimate:
    """CMMD_SCALE times the squared MMD of features (n, D) and (m, D) on the unit sphere, the biased estimate.

    Time grows with (n + m)², memory only with n + m. The interval is of its expectation over redraws of both sets by
    as many images, by leaving a group of each out in turn.
    """
    a, b = (F.normalize(features.double(), dim=1) for features in (samples, reference))
    groups_a, groups_b = (F.one_hot(draw_groups(features), GROUPS).double() for features in (a, b))
    sums = _kernel_sums(a, a, groups_a, groups_a), _kernel_sums(b, b, groups_b, groups_b)
    between, counts = _kernel_sums(a, b, groups_a, groups_b), (groups_a.sum(0), groups_b.sum(0))

    def mmd(kept: Tensor) -> float:
        n, m = (count[kept].sum() for count in counts)
        aa, bb, ab = (table[kept][:, kept].sum() for table in (*sums, between))
        return CMMD_SCALE * (aa / n**2 + bb / m**2 - 2 * ab / (n * m)).item()

    every = torch.arange(GROUPS, device=a.device)
    without = [mmd(every != group) for group in range(GROUPS)]
    return jackknife(mmd(every >= 0), without, min(len(a), len(b)))


def _kernel_sums(a: Tensor, b: Tensor, groups_a: Tensor, groups_b: Tensor) -> Tensor:
    """The sum of the kernel less 1 between each group of `a` and each of `b`: (GROUPS, GROUPS).

    In the MMD the ones cancel; with so wide a kernel every value is close to 1.
    """
    sums = torch.zeros(GROUPS, GROUPS, dtype=torch.float64, device=a.device)
    for i, rows in enumerate(blocks(a)):
        for j, columns in enumerate(blocks(b)):
            if a is b and j > i:  # as it is turned round
                continue
            kernel = torch.expm1(squared_distances(a[rows], b[columns]) / (-2 * CMMD_SIGMA**2))
            some = groups_a[rows].T @ kernel @ groups_b[columns]
            sums += some + some.T if a is b and i != j else some
    return sums
