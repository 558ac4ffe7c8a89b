"""Improved precision and recall (Kynkäänniemi et al. 2019): is a picture among the neighbours of the other set's?"""

from typing import NamedTuple

import torch
from torch import Tensor

from restok_cli.errors import RestokError

NEIGHBOURS = 3  # k: a picture's ball reaches to its third nearest neighbour, as in the ADM evaluator
BLOCK = 2048  # pictures a side; a block of distances takes 32 MB, whatever the number of pictures


class PrecisionRecall(NamedTuple):
    precision: float  # share of the samples that lie in the ball of a reference picture
    recall: float  # share of the reference pictures that lie in the ball of a sample


def precision_recall(samples: Tensor, reference: Tensor) -> PrecisionRecall:
    """Both, of features (n, D) and (m, D) of one network; time grows with (n + m)², memory does not.

    In float64: a squared distance is the small difference of large numbers.
    Raises RestokError where a set has no more than NEIGHBOURS pictures.
    """
    for name, features in (("samples", samples), ("reference", reference)):
        if len(features) <= NEIGHBOURS:
            raise RestokError(
                f"precision and recall need more than {NEIGHBOURS} pictures, the {name} have {len(features)}"
            )
    samples_in = _inside(samples, reference, _squared_radii(reference))
    reference_in = _inside(reference, samples, _squared_radii(samples))
    return PrecisionRecall(samples_in.double().mean().item(), reference_in.double().mean().item())


def _squared_radii(features: Tensor) -> Tensor:
    """(n,): the squared distance of each to its k-th nearest neighbour, not counting itself."""
    radii = []
    for first, rows in enumerate(features.split(BLOCK)):
        nearest = torch.empty(len(rows), 0, dtype=torch.float64)
        for second, columns in enumerate(features.split(BLOCK)):
            distances = _squared_distances(rows, columns)
            if first == second:
                distances.fill_diagonal_(0)  # rounding could put another picture nearer than itself
            nearest = torch.cat([nearest, distances], 1)
            nearest = nearest.topk(min(NEIGHBOURS + 1, nearest.shape[1]), largest=False).values
        radii.append(nearest[:, NEIGHBOURS])  # the first is the picture itself
    return torch.cat(radii)


def _inside(features: Tensor, centres: Tensor, squared_radii: Tensor) -> Tensor:
    """(n,) bool: whether each lies in the ball around any of the centres."""
    inside = torch.zeros(len(features), dtype=torch.bool)
    for rows, found in zip(features.split(BLOCK), inside.split(BLOCK), strict=True):
        for columns, radii in zip(centres.split(BLOCK), squared_radii.split(BLOCK), strict=True):
            found |= (_squared_distances(rows, columns) <= radii).any(1)
    return inside


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.double(), b.double()
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_(min=0)
