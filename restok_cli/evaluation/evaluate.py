"""One evaluation, whatever is measured."""

import time
from typing import NamedTuple

import torch

from restok_cli.errors import Unmet, UsageError
from restok_cli.evaluation.code_metrics import evaluate_codes
from restok_cli.evaluation.image_metrics import evaluate_images, open_instruments
from restok_cli.evaluation.perturbed import evaluate_perturbed
from restok_cli.evaluation.prefixes import evaluate_prefixes
from restok_cli.evaluation.request import Networks, Request, measures_codes
from restok_cli.metrics.protocol import Measurement
from restok_cli.metrics.table import METRICS, metric_of


class Evaluation(NamedTuple):
    """Measurements, and the protocol that made them. Of several processes, only number 0 has measurements."""

    measurements: dict[str, Measurement]
    protocol: dict
    curve: dict[int, dict[str, Measurement]] | None = None  # by the number of codes, where prefixes were asked for


def evaluate(request: Request, networks: Networks, device: torch.device) -> Evaluation:
    """Measure what was asked for, once `settle` has checked it.

    Raises UsageError where the inputs do not allow it, RestokError where they are damaged.
    """
    started, curve = time.monotonic(), None
    if any(map(measures_codes, request.metrics)):
        measurements, protocol = evaluate_codes(request, device)
    elif request.perturbations:
        measurements, protocol = evaluate_perturbed(request, open_instruments(networks, request.metrics, device))
    elif request.num_codes is not None:
        instruments = open_instruments(networks, request.metrics, device)
        curve, protocol = evaluate_prefixes(request, instruments, networks.vgg_weights)
        measurements = curve[max(curve)]
    else:
        measurements, protocol = evaluate_images(request, networks, device)
    protocol |= {"device": str(device), "seconds": round(time.monotonic() - started, 3)}
    return Evaluation(measurements, protocol, curve)


def check_limits(limits: dict[str, float], measurements: dict[str, Measurement]) -> None:
    """Raises Unmet where a measurement is worse than its limit, UsageError where the inputs did not allow one."""
    worse = []
    for name, limit in limits.items():
        if name not in measurements:
            raise UsageError(f"--fail-under {name}: these inputs do not allow it, so that it was not measured")
        measurement, higher = measurements[name], METRICS[metric_of(name)].higher_is_better
        if measurement.value < limit if higher else measurement.value > limit:
            side = "below" if higher else "above"
            worse.append(f"{measurement.label} is {measurement.value:.6g}, {side} {limit:g}")
    if worse:
        raise Unmet("; ".join(worse))
