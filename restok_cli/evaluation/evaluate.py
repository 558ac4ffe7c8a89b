"""One evaluation, whatever is measured."""

import time
from typing import NamedTuple

import torch

from restok_cli.evaluation.codes import evaluate_codes
from restok_cli.evaluation.images import evaluate_images, open_instruments
from restok_cli.evaluation.prefixes import evaluate_prefixes
from restok_cli.evaluation.request import Networks, Request, measures_codes
from restok_cli.metrics.protocol import Measurement


class Evaluation(NamedTuple):
    """What was measured, and how. Of several processes, those after number 0 have no measurements."""

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
    elif request.tokens is not None:
        instruments = open_instruments(networks, request.metrics, device)
        curve, protocol = evaluate_prefixes(request, instruments, networks.vgg_weights)
        measurements = curve[max(curve)]
    else:
        measurements, protocol = evaluate_images(request, networks, device)
    protocol |= {"device": str(device), "seconds": round(time.monotonic() - started, 3)}
    return Evaluation(measurements, protocol, curve)
