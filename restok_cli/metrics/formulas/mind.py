"""The Monge Inception Distance (Berthet et al. 2026): the sliced Wasserstein distance of features, by sorting."""

import torch
from torch import Tensor

from restok_cli.metrics.formulas.neighbours import draw_groups
from restok_cli.metrics.intervals import Estimate, jackknife
from restok_cli.metrics.table import GROUPS, PROJECTIONS, PROJECTIONS_SEED

ROWS, DIRECTIONS = 4096, 100  # projected together: at most 64 MB of features in float64, and 40 MB of 50,000 images


def monge_inception_distance(samples: Tensor, reference: Tensor) -> Estimate:
    """3 D times the mean over directions of the squared 2-Wasserstein distance of features (n, D) and (m, D).

    On a line, that distance matches both sets in ascending order, for which they must have one size: of the larger
    set as many are drawn as the smaller one has. Subset and directions are torch-fidelity's, and so is the value but
    for rounding, which here is float64's. The interval is of its expectation over redraws of both sets by as many
    images, by leaving a group of each out in turn.
    """
    size, dimensions = min(len(samples), len(reference)), samples.shape[1]
    rng = torch.Generator().manual_seed(PROJECTIONS_SEED)
    samples, reference = (
        features if len(features) == size else features[torch.randperm(len(features), generator=rng)[:size]]
        for features in (samples, reference)
    )
    directions = torch.randn(PROJECTIONS, dimensions, generator=rng).double().to(samples.device)
    directions /= directions.norm(dim=1, keepdim=True)
    groups = draw_groups(samples)  # of both sets: independent of each other, as long as the images are
    sums = torch.zeros(GROUPS + 1, dtype=torch.float64, device=samples.device)
    for some in directions.split(DIRECTIONS):
        ours, theirs = (_project(features, some).sort(1) for features in (samples, reference))
        sums[GROUPS] += (ours.values - theirs.values).square_().mean(1).sum()
        for group in range(min(GROUPS, size)):
            sides = (_without(side.values, groups[side.indices] != group) for side in (ours, theirs))
            sums[group] += torch.sub(*sides).square_().mean(1).sum()
    *without, whole = (3 * dimensions * sums / PROJECTIONS).tolist()
    return jackknife(whole, without, size)


def _project(features: Tensor, directions: Tensor) -> Tensor:
    """(n, D) on directions (M, D) -> (M, n), float64."""
    return torch.cat([directions @ rows.double().T for rows in features.split(ROWS)], 1)


def _without(ordered: Tensor, kept: Tensor) -> Tensor:
    """The values (M, n) that are kept, of which each line has as many."""
    return ordered[kept].view(len(ordered), -1)
