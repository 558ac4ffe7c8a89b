"""Is an image among the neighbours of the other set's?

Improved precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics.table import DENSITY_NEIGHBOURS, NEIGHBOURS

BLOCK = 2048  # images a side; a block of distances takes 32 MB, whatever the number of images


class PrecisionRecall(NamedTuple):
    precision: float  # share of the samples that lie in the ball of a reference image
    recall: float  # share of the reference images that lie in the ball of a sample


def precision_recall(samples: Tensor, reference: Tensor) -> PrecisionRecall:
    """Both, of features (n, D) and (m, D) of one network; time grows with (n + m)², memory only with n + m.

    In float64: a squared distance is the small difference of large numbers.
    Raises RestokError where a set has no more than NEIGHBOURS images.
    """
    for name, features in (("samples", samples), ("reference", reference)):
        if len(features) <= NEIGHBOURS:
            raise RestokError(
                f"precision and recall need more than {NEIGHBOURS} images, the {name} have {len(features)}"
            )
    radii = (_squared_radii(features, NEIGHBOURS) for features in (samples, reference))
    return PrecisionRecall(*_share_inside(samples, reference, *radii))


class DensityCoverage(NamedTuple):
    density: float  # balls of reference images that a sample lies in, mean over samples, divided by their k
    coverage: float  # share of the reference images in whose ball a sample lies


def density_coverage(samples: Tensor, reference: Tensor) -> DensityCoverage:
    """Both, of features as `precision_recall` takes them. Raises RestokError where the reference is too small."""
    if len(reference) <= DENSITY_NEIGHBOURS:
        raise RestokError(
            f"density and coverage need a reference of more than {DENSITY_NEIGHBOURS} images, this one has"
            f" {len(reference)}"
        )
    radii, balls = _squared_radii(reference, DENSITY_NEIGHBOURS), 0
    covered = torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    for columns in blocks(reference):
        for rows in blocks(samples):
            # an open ball, as the authors have it, so that a set has density 1 against itself
            inside = squared_distances(samples[rows], reference[columns]) < radii[columns]
            balls += int(inside.sum())
            covered[columns] |= inside.any(0)
    return DensityCoverage(balls / (DENSITY_NEIGHBOURS * len(samples)), covered.double().mean().item())


def _squared_radii(features: Tensor, k: int) -> Tensor:
    """(n,): the squared distance of each to its k-th nearest neighbour, not counting itself."""
    nearest = torch.full((len(features), k + 1), torch.inf, dtype=torch.float64, device=features.device)

    def draw_near(places: slice, distances: Tensor) -> None:
        nearest[places] = torch.cat([nearest[places], distances], 1).topk(k + 1, largest=False).values

    pieces = blocks(features)
    for i, rows in enumerate(pieces):
        for columns in pieces[: i + 1]:
            distances = squared_distances(features[rows], features[columns])
            if rows == columns:
                distances.fill_diagonal_(0)  # rounding could put another image nearer than itself
            else:
                draw_near(columns, distances.T)
            draw_near(rows, distances)
    return nearest[:, k]  # the first is the image itself


def _share_inside(a: Tensor, b: Tensor, radii_a: Tensor, radii_b: Tensor) -> tuple[float, float]:
    """The share of `a` that lies in the ball around any of `b`, and of `b` around any of `a`; radii are squared."""
    inside_b, inside_a = (torch.zeros(len(features), dtype=torch.bool, device=a.device) for features in (a, b))
    for rows in blocks(a):
        for columns in blocks(b):
            distances = squared_distances(a[rows], b[columns])
            inside_b[rows] |= (distances <= radii_b[columns]).any(1)
            inside_a[columns] |= (distances <= radii_a[rows, None]).any(0)
    return inside_b.double().mean().item(), inside_a.double().mean().item()


def blocks(features: Tensor) -> list[slice]:
    """Slices of rows, of which two at a time are compared."""
    return [slice(start, start + BLOCK) for start in range(0, len(features), BLOCK)]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, D) and (m, D) -> (n, m), float64."""
    a, b = a.double(), b.double()
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_(min=0)
