"""A linear probe: multinomial logistic regression on frozen features, all of them at once, in float64.

    minimise  mean over images of −log softmax(x·W + b)[class] + l2/2 · ‖W‖²

which has one minimum, so that no seed, batch or learning rate is part of it. scikit-learn's LogisticRegression finds
the same with C = 1 / (n · l2), or 2 / (n · l2) of two classes, which are two columns of W here and one there.
Letters: n images, D features, C classes.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from restok_cli.console import note
from restok_cli.errors import UsageError

L2_CHOICES = (1.0, 0.1, 0.01, 0.001, 0.0001)  # strongest first: each starts from the minimum of the one before
HOLD_BACK = 5  # every fifth image of a class chooses among them
TOLERANCE = 1e-6  # of the gradient's largest entry
SEARCH_TOLERANCE = 1e-4  # where only losses are compared, which is settled by then
MAX_ITERATIONS = 5000
ROWS = 8192  # images whose logits are in memory at the same time


class Fit(NamedTuple):
    weights: Tensor  # (D + 1, C), the last row is b
    l2: float
    iterations: int


class Standardised(NamedTuple):
    """Features in float64 with mean 0 and deviation 1 over the training images; those that never differ are 0."""

    mean: Tensor  # (D,)
    deviation: Tensor  # (D,)

    @classmethod
    def of(cls, features: Tensor) -> "Standardised":
        deviation, mean = torch.std_mean(features.double(), 0, correction=0)
        # of equal numbers the mean may be rounded to another one
        constant = (features == features[0]).all(0)
        return cls(mean, deviation.masked_fill(constant, torch.inf))

    def __call__(self, features: Tensor) -> Tensor:
        return (features.double() - self.mean) / self.deviation


def linear_scores(
    train: Tensor, class_ids: Tensor, test: Tensor, num_classes: int, l2: float | None
) -> tuple[Tensor, Fit]:
    """Logits (m, C) of test features (m, D) by a fit on training features (n, D), and the fit.

    Where `l2` is None it is chosen. Classes without training images are never predicted.
    """
    standardise = Standardised.of(train)
    features = standardise(train)
    present, targets = class_ids.unique(return_inverse=True)
    start = None
    if l2 is None:
        l2, start = choose_l2(features, targets)
    found = fit(features, targets, len(present), l2, start)
    scores = torch.full((len(test), num_classes), -torch.inf, dtype=torch.float64, device=test.device)
    scores[:, present] = logits(standardise(test), found.weights)
    return scores, found


def choose_l2(features: Tensor, targets: Tensor) -> tuple[float, Tensor | None]:
    """The one of L2_CHOICES that predicts images held back with the least loss, and its fit to the others.

    From the strongest on, the first that is no better than the one before ends the search. Raises UsageError where no
    class has so many images that one can be held back.
    """
    num_classes = int(targets.max()) + 1
    held_back = is_held_back(targets)
    if not held_back.any():
        raise UsageError(
            f"no class has {HOLD_BACK} training images, of which one could choose the strength of the regularisation;"
            " give --l2 0.01, or more images"
        )
    kept, kept_targets = features[~held_back], targets[~held_back]
    best, weights, least = 0.0, None, math.inf
    for l2 in L2_CHOICES:
        found = fit(kept, kept_targets, num_classes, l2, weights, SEARCH_TOLERANCE).weights
        loss = float(loss_and_gradient(found, features[held_back], targets[held_back], 0.0)[0])
        if loss >= least:
            break
        best, weights, least = l2, found, loss
    return best, weights


def is_held_back(targets: Tensor) -> Tensor:
    """Of each image, whether it is a fifth, tenth, … one of its class: bool (n,)."""
    order = targets.argsort(stable=True)  # by class, and in each class as they come
    counts = targets.bincount()
    starts = counts.cumsum(0) - counts
    places = torch.arange(len(targets), device=targets.device) - starts[targets[order]]
    return torch.empty_like(order, dtype=torch.bool).scatter_(0, order, places % HOLD_BACK == HOLD_BACK - 1)


def fit(
    features: Tensor,
    targets: Tensor,
    num_classes: int,
    l2: float,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
) -> Fit:
    """The minimum for features (n, D) and targets (n,), each class of which occurs.

    It is sought from `start`, or from where no weight could be used: biases that give each class its share.
    """
    shape = features.shape[1] + 1, num_classes
    if start is None:
        start = features.new_zeros(shape)
        start[-1] = targets.bincount().double().log()
        start[-1] -= start[-1].mean()

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.from_numpy(flat.reshape(shape)).to(features.device)
        loss, gradient = loss_and_gradient(weights, features, targets, l2)
        return float(loss), gradient.cpu().numpy().ravel()

    options = {"gtol": tolerance, "ftol": np.finfo(float).eps, "maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS}
    found = minimize(objective, start.cpu().numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
    if found.status == 1:  # the limit of iterations
        note(f"l2 {l2:g}: not at the minimum after {MAX_ITERATIONS} iterations; a larger --l2 gets there sooner")
    return Fit(torch.from_numpy(found.x.reshape(shape)).to(features.device), l2, found.nit)


def logits(features: Tensor, weights: Tensor) -> Tensor:
    """features (n, D) -> (n, C)."""
    return torch.addmm(weights[-1], features, weights[:-1])


def loss_and_gradient(weights: Tensor, features: Tensor, targets: Tensor, l2: float) -> tuple[Tensor, Tensor]:
    """The sum that `fit` minimises, and its gradient (D + 1, C)."""
    loss, gradient = features.new_zeros(()), torch.zeros_like(weights)
    for part, part_targets in zip(features.split(ROWS), targets.split(ROWS), strict=True):
        log_p = logits(part, weights).log_softmax(1)
        loss -= log_p.gather(1, part_targets[:, None]).sum()
        errors = log_p.exp_()
        errors[torch.arange(len(part), device=part.device), part_targets] -= 1
        gradient[:-1].addmm_(part.T, errors)
        gradient[-1] += errors.sum(0)
    gradient /= len(features)
    gradient[:-1] += l2 * weights[:-1]
    return loss / len(features) + l2 / 2 * weights[:-1].square().sum(), gradient


def describe(l2: float | None) -> dict:
    """For the protocol."""
    held_back = f"by the loss on every {HOLD_BACK}th training image of a class, fitted on the others, strongest first"
    return {
        "classifier": "multinomial logistic regression, mean loss + l2/2 of the squared weights, biases free",
        "features": "standardised by the training images",
        "solver": f"L-BFGS of all images in float64, to a gradient of {TOLERANCE:g}",
        "l2": l2 or f"chosen from {', '.join(f'{choice:g}' for choice in L2_CHOICES)}, {held_back}",
    }
