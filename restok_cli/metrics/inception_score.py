"""The Inception Score as the ADM evaluator computes it: splits of 5,000 images in file order, then their mean."""

import torch
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics.table import SPLIT_SIZE


class InceptionScore:
    """Sums over class probabilities that come in batches, in file order; memory does not grow with their number."""

    def __init__(self):
        self.count = 0
        self.scores: list[float] = []  # of the splits that are full
        self._start_split()

    def add(self, logits: Tensor) -> None:
        """Take in class logits (B, C) of any float type and device."""
        for piece in torch.tensor_split(logits.cpu().double(), self._split_ends(len(logits))):
            if len(piece):
                log_p = piece.log_softmax(1)
                self.probabilities = self.probabilities + log_p.exp().sum(0)
                self.negative_entropy += (log_p.exp() * log_p).sum().item()
                self.split_count += len(piece)
                self.count += len(piece)
            if self.split_count == SPLIT_SIZE:
                self.scores.append(self._split_score())
                self._start_split()

    def score(self) -> float:
        """Mean over the splits of exp(mean KL(p(class | image) || p(class))); the last split may be shorter.

        Raises RestokError where nothing was added.
        """
        if self.count == 0:
            raise RestokError("an Inception Score needs at least one image")
        scores = [*self.scores, self._split_score()] if self.split_count else self.scores
        return sum(scores) / len(scores)

    def _split_ends(self, length: int) -> list[int]:
        return list(range(SPLIT_SIZE - self.split_count, length, SPLIT_SIZE))

    def _split_score(self) -> float:
        mean = self.probabilities / self.split_count
        return torch.exp(self.negative_entropy / self.split_count - mean.xlogy(mean).sum()).item()

    def _start_split(self) -> None:
        self.probabilities: Tensor = torch.zeros((), dtype=torch.float64)
        self.negative_entropy = 0.0
        self.split_count = 0
