"""The Inception Score as the ADM evaluator computes it: splits of 5,000 images in file order, then their mean."""

import math
from collections.abc import Callable
from statistics import fmean

import numpy as np
from torch import Tensor

from restok_cli.metrics.intervals import Estimate, Influences, around, variance
from restok_cli.metrics.table import SPLIT_SIZE


def inception_score(features: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Estimate:
    """Mean over the splits of exp(mean KL(p(class | image) || p(class))); the last split may be shorter.

    From features (n, D) in file order, and what makes class logits (B, C) of some of them. The interval is of its
    expectation over redraws of as many images.
    """
    score, parts = _of_splits(features, logits_of)
    spread = sum(variance(Influences(part, np.arange(len(part)))) for part in parts if len(part) > 1)
    return around(score, spread, len(features))


def score_influences(features: Tensor, logits_of: Callable[[Tensor], Tensor]) -> np.ndarray:
    """The influence of each image on the score (n,)."""
    _, parts = _of_splits(features, logits_of)
    return np.concatenate([(part - part.mean()) * (len(features) / len(part)) for part in parts])


def _of_splits(features: Tensor, logits_of: Callable[[Tensor], Tensor]) -> tuple[float, list[np.ndarray]]:
    """The score, and for each split the influence on it of an image (m,), as one of that split."""
    scores, found, splits = [], [], features.split(SPLIT_SIZE)
    for split in splits:
        log_p = logits_of(split).double().log_softmax(1)
        log_mean = log_p.logsumexp(0) - math.log(len(log_p))
        divergences = (log_p.exp() * (log_p - log_mean)).sum(1)  # (m,)
        score = divergences.mean().exp().item()
        scores.append(score)
        # the derivative for an image's weight is score times its divergence: p(class) is where the score has none
        found.append((divergences * (score / len(splits))).cpu().numpy())
    return fmean(scores), found
