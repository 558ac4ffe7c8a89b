"""A probe by the nearest neighbours, which has nothing to fit: the training images most alike vote for their classes.

As in DINO (Caron et al. 2021): cosine similarity, k = 20, each vote weighs exp(similarity / 0.07).
Letters: n training images, m test images, D features, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.07
DECIMALS = 6  # of a similarity: what differs by less is as near, and the first of the training images counts
MAX_SIMILARITIES = 1 << 26  # in memory at the same time


def neighbour_scores(train: Tensor, class_ids: Tensor, test: Tensor, num_classes: int, k: int) -> Tensor:
    """Votes (m, C) of the k training images (n, D) nearest to each test image (m, D), or of all where they are less.

    A class without a vote has minus infinity.
    """
    directions = F.normalize(train.double(), dim=1)
    rows = max(1, MAX_SIMILARITIES // len(train))
    return torch.cat(
        [
            _votes(*_nearest(F.normalize(part.double(), dim=1) @ directions.T, k), class_ids, num_classes)
            for part in test.split(rows)
        ]
    )


def _nearest(similarities: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest similarities (m, k) of each row, rounded, and whose they are; of equal ones the first.

    topk alone would take any of the equal ones, of which codes make many: so that none are equal, a key is the rounded
    similarity first and then the place, both in one whole number, which float64 holds exactly.
    """
    n = similarities.shape[1]
    keys = (similarities * 10**DECIMALS).round_().mul_(n).sub_(torch.arange(n, device=similarities.device))
    keys = keys.topk(min(k, n)).values
    rounded = (keys / n).ceil()
    return rounded / 10**DECIMALS, (rounded * n - keys).long()


def _votes(similarities: Tensor, neighbours: Tensor, class_ids: Tensor, num_classes: int) -> Tensor:
    votes = similarities.new_zeros(len(similarities), num_classes)
    weights = ((similarities - 1) / TEMPERATURE).exp()  # relative to the largest that there may be
    for place in range(weights.shape[1]):  # one after the other: a GPU would add them up in any order
        votes.scatter_add_(1, class_ids[neighbours[:, place, None]], weights[:, place, None])
    return votes.masked_fill(votes == 0, -torch.inf)


def describe(k: int) -> dict:
    """For the protocol."""
    return {
        "k": k,
        "similarity": f"cosine, features as they are, to {DECIMALS} decimals; of equal ones the first images count",
        "votes": f"exp(similarity / {TEMPERATURE:g})",
    }
