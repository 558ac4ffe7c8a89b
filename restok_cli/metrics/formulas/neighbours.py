"""Improved precision and recall (Kynkäänniemi et al. 2019): is an image among the neighbours of the other set's?

Both sets are drawn by chance. That of the points is easily told: given the balls, a point lies inside or not. For that
of the balls, GROUPS groups of them are left out in turn, as in the jackknife, of which the share that is due to the
points is taken off.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics.intervals import Estimate, around_share
from restok_cli.metrics.table import GROUPS, GROUPS_SEED, NEIGHBOURS

BLOCK = 2048  # images a side; a block of distances takes 32 MB, whatever the number of images


class PrecisionRecall(NamedTuple):
    precision: Estimate  # share of the samples that lie in the ball of a reference image
    recall: Estimate  # share of the reference images that lie in the ball of a sample


def precision_recall(samples: Tensor, reference: Tensor) -> PrecisionRecall:
    """Both, of features (n, D) and (m, D) of one network; time grows with (n + m)², memory only with n + m.

    Intervals are of the expectation over redraws of both sets, as many images as here and independent.
    In float64: a squared distance is the small difference of large numbers.
    Raises RestokError where a set has no more than NEIGHBOURS images.
    """
    for name, features in (("samples", samples), ("reference", reference)):
        if len(features) <= NEIGHBOURS:
            raise RestokError(
                f"precision and recall need more than {NEIGHBOURS} images, the {name} have {len(features)}"
            )
    radii = (squared_radii(features, NEIGHBOURS) for features in (samples, reference))
    insides = _inside(samples, reference, *radii)
    fewest = min(len(samples), len(reference))
    return PrecisionRecall(*(around_share(*mean_and_variance(inside), fewest) for inside in insides))


def mean_and_variance(values: Tensor) -> tuple[float, float]:
    """Of values of points (n, GROUPS + 1), without each group of balls, and with all: over redraws of both."""
    values, without = values[:, GROUPS].double(), values[:, :GROUPS].double()
    means = without.mean(0)
    of_balls = (means - means.mean()).square().sum()
    # so much the means would differ by the choice of the points alone
    of_balls -= (without - without.mean(1, keepdim=True)).var(0).sum() / len(values)
    of_points = values.var() / len(values)
    return values.mean().item(), of_points.item() + max(of_balls.item(), 0.0) * (GROUPS - 1) / GROUPS


def draw_groups(features: Tensor) -> Tensor:
    """The group (n,) of each image, of GROUPS, as like in number as they can be."""
    return torch.from_numpy(np.random.RandomState(GROUPS_SEED).permutation(len(features)) % GROUPS).to(features.device)


def squared_radii(features: Tensor, k: int) -> Tensor:
    """(n, GROUPS + 1): the squared distance of each to its k-th nearest neighbour but itself, without each group.

    Below 0 for an image that is itself left out: its ball is empty. The last column is with all groups.
    """
    shape, groups = (len(features), GROUPS, k), draw_groups(features)
    nearest = torch.full(shape, torch.inf, dtype=torch.float64, device=features.device)  # in each group

    def draw_near(images: slice, others: slice, distances: Tensor) -> None:
        for group in range(GROUPS):
            candidates = torch.cat([nearest[images, group], distances[:, groups[others] == group]], 1)
            nearest[images, group] = candidates.topk(k, largest=False).values

    pieces = blocks(features)
    for i, rows in enumerate(pieces):
        for columns in pieces[: i + 1]:
            distances = squared_distances(features[rows], features[columns])
            if rows == columns:
                distances.fill_diagonal_(torch.inf)  # no image is its own neighbour
            else:
                draw_near(columns, rows, distances.T)
            draw_near(rows, columns, distances)
    without = []
    for group in range(GROUPS + 1):
        others = [other for other in range(GROUPS) if other != group]
        radii = nearest[:, others].flatten(1).topk(k, largest=False).values[:, -1]
        without.append(radii.masked_fill(groups == group, -1))
    return torch.stack(without, 1)


def _inside(a: Tensor, b: Tensor, radii_a: Tensor, radii_b: Tensor) -> tuple[Tensor, Tensor]:
    """Which of `a` lie in the ball around any of `b`, and of `b` around any of `a`, by each column of the radii."""
    inside_b, inside_a = (torch.zeros_like(radii, dtype=torch.bool) for radii in (radii_a, radii_b))
    for rows in blocks(a):
        for columns in blocks(b):
            distances = squared_distances(a[rows], b[columns])
            inside_b[rows] |= num_balls(distances, radii_b[columns]) > 0
            inside_a[columns] |= num_balls(distances.T, radii_a[rows]) > 0
    return inside_b, inside_a


def num_balls(distances: Tensor, radii: Tensor) -> Tensor:
    """How many balls each point lies in: from distances (points, balls) and radii (balls, GROUPS + 1), both squared."""
    whole = radii[:, GROUPS]
    inside = distances <= whole
    counts = inside.float() @ (radii >= 0).float()  # by one product: with the radii of all groups
    for group in range(GROUPS):
        grown = radii[:, group] > whole
        counts[:, group] += (distances[:, grown] <= radii[grown, group]).sum(1) - inside[:, grown].sum(1)
    return counts


def blocks(features: Tensor) -> list[slice]:
    """Slices of rows, of which two at a time are compared."""
    return [slice(start, start + BLOCK) for start in range(0, len(features), BLOCK)]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, D) and (m, D) -> (n, m), float64."""
    a, b = a.double(), b.double()
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_(min=0)
