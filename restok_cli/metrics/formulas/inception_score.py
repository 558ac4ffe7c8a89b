"""The Inception Score as the ADM evaluator computes it: splits of 5,000 images in file order, then their mean."""

import math
from collections.abc import Callable
from statistics import fmean

from torch import Tensor

from restok_cli.metrics.intervals import Estimate, around
from restok_cli.metrics.table import SPLIT_SIZE


def inception_score(features: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Estimate:
    """Mean over the splits of exp(mean KL(p(class | image) || p(class))); the last split may be shorter.

    From features (n, D) in file order, and what makes class logits (B, C) of some of them. The interval is of its
    expectation over redraws of as many images.
    """
    scores, variances = [], []
    for split in features.split(SPLIT_SIZE):
        log_p = logits_of(split).double().log_softmax(1)
        log_mean = log_p.logsumexp(0) - math.log(len(log_p))
        divergences = (log_p.exp() * (log_p - log_mean)).sum(1)  # (n,)
        score = divergences.mean().exp().item()
        scores.append(score)
        # the derivative for an image's weight is score times its divergence: p(class) is where the score has none
        variances.append(score**2 * divergences.var().item() / len(log_p) if len(log_p) > 1 else 0.0)
    return around(fmean(scores), sum(variances) / len(scores) ** 2, len(features))
