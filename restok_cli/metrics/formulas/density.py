"""Density and coverage (Naeem et al. 2020): how full of samples is the neighbourhood of reference images?"""

from typing import NamedTuple

import torch
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics.formulas.neighbours import (
    blocks,
    draw_groups,
    mean_and_variance,
    num_balls,
    squared_distances,
    squared_radii,
)
from restok_cli.metrics.intervals import Estimate, around, around_share, jackknife_variance
from restok_cli.metrics.table import DENSITY_NEIGHBOURS, GROUPS


class DensityCoverage(NamedTuple):
    density: Estimate  # balls of reference images that a sample lies in, mean over samples, divided by their k
    coverage: Estimate  # share of the reference images in whose ball a sample lies


def density_coverage(samples: Tensor, reference: Tensor) -> DensityCoverage:
    """Both, of features (n, D) and (m, D), with the cost and the intervals of `precision_recall`.

    Raises RestokError where the reference has no more than DENSITY_NEIGHBOURS images.
    """
    n, m, device = len(samples), len(reference), samples.device
    if m <= DENSITY_NEIGHBOURS:
        raise RestokError(
            f"density and coverage need a reference of more than {DENSITY_NEIGHBOURS} images, this one has {m}"
        )
    # open balls, as the authors have them, so that the density of a set against itself is about 1
    radii = squared_radii(reference, DENSITY_NEIGHBOURS)
    radii = torch.where(radii > 0, torch.nextafter(radii, torch.zeros_like(radii)), -1)
    counts = torch.zeros(n, GROUPS + 1, device=device)  # balls that a sample lies in
    nearest = torch.full((m, GROUPS), torch.inf, dtype=torch.float64, device=device)  # sample of each group
    groups = draw_groups(samples)
    for columns in blocks(reference):
        for rows in blocks(samples):
            distances = squared_distances(samples[rows], reference[columns])
            counts[rows] += num_balls(distances, radii[columns])
            into = groups[rows].expand(distances.shape[1], -1)
            nearest[columns] = nearest[columns].scatter_reduce(1, into, distances.T, "amin")
    density, variance = mean_and_variance(counts / DENSITY_NEIGHBOURS)
    fewest = min(n, m)
    return DensityCoverage(around(density, variance, fewest), _coverage(nearest, radii, draw_groups(reference), fewest))


def _coverage(nearest: Tensor, radii: Tensor, groups: Tensor, fewest_images: int) -> Estimate:
    """From the squared distances (m, GROUPS) to the nearest sample of each group, and the radii and groups of balls."""

    def share(distances: Tensor, radii: Tensor) -> float:
        return (distances <= radii).double().mean().item()

    whole, all_radii = nearest.min(1).values, radii[:, GROUPS]
    without_samples = [
        share(nearest[:, [other for other in range(GROUPS) if other != group]].min(1).values, all_radii)
        for group in range(GROUPS)
    ]
    kept = [groups != group for group in range(GROUPS)]
    without_balls = [share(whole[balls], radii[balls, group]) for group, balls in enumerate(kept)]
    variance = jackknife_variance(without_samples) + jackknife_variance(without_balls)
    return around_share(share(whole, all_radii), variance, fewest_images)
