"""The Inception Score as the ADM evaluator computes it: splits of 5,000 images in file order, then their mean."""

import math

import torch
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics.intervals import Estimate, around
from restok_cli.metrics.table import SPLIT_SIZE


class InceptionScore:
    """Of class probabilities that come in batches, in file order; those of one split are kept at a time."""

    def __init__(self):
        self.count = 0
        self.scores: list[float] = []  # of the splits that are full
        self.variances: list[float] = []  # of those
        self.split: list[Tensor] = []  # log-probabilities
        self.split_count = 0

    def add(self, logits: Tensor) -> None:
        """Take in class logits (B, C) of any float type and device."""
        for piece in torch.tensor_split(logits.cpu().double(), self._split_ends(len(logits))):
            self.split.append(piece.log_softmax(1))
            self.split_count += len(piece)
            self.count += len(piece)
            if self.split_count == SPLIT_SIZE:
                self._close_split()

    def estimate(self) -> Estimate:
        """Mean over the splits of exp(mean KL(p(class | image) || p(class))); the last split may be shorter.

        The interval is of its expectation over redraws of as many images. Raises RestokError where nothing was added.
        """
        if self.count == 0:
            raise RestokError("an Inception Score needs at least one image")
        if self.split_count:
            self._close_split()
        splits = len(self.scores)
        return around(sum(self.scores) / splits, sum(self.variances) / splits**2, self.count)

    def _split_ends(self, length: int) -> list[int]:
        return list(range(SPLIT_SIZE - self.split_count, length, SPLIT_SIZE))

    def _close_split(self) -> None:
        log_p = torch.cat(self.split)
        log_mean = log_p.logsumexp(0) - math.log(len(log_p))
        divergences = (log_p.exp() * (log_p - log_mean)).sum(1)  # (n,)
        score = divergences.mean().exp().item()
        # the derivative for an image's weight is score times its divergence: p(class) is where the score has none
        self.scores.append(score)
        self.variances.append(score**2 * divergences.var().item() / len(log_p) if len(log_p) > 1 else 0.0)
        self.split, self.split_count = [], 0
