"""One evaluation, whatever is measured."""

import json
import time
from typing import NamedTuple

import torch

from restok_cli.console import note, say
from restok_cli.evaluation.code_metrics import evaluate_codes
from restok_cli.evaluation.image_metrics import evaluate_images, open_instruments
from restok_cli.evaluation.perturbed import evaluate_perturbed
from restok_cli.evaluation.prefixes import Curve, curve_report, curve_table, evaluate_prefixes
from restok_cli.evaluation.request import Limit, Networks, Request, check_limits, measures_codes
from restok_cli.metrics.protocol import Measurement, remarks, report, table


class Evaluation(NamedTuple):
    """Measurements, and the protocol that made them. Of several processes, only number 0 has measurements."""

    measurements: dict[str, Measurement]
    protocol: dict
    per_image: dict[str, dict[str, float]] | None = None  # by metric and image, where that was asked for
    curve: Curve | None = None  # where prefixes were asked for

    def report(self) -> dict:
        """The result as one JSON-ready object."""
        if self.curve is not None:
            return curve_report(self.curve, self.protocol)
        found = report(self.measurements, self.protocol)
        return found | {"per_image": self.per_image} if self.per_image else found


def evaluate(requests: list[Request], networks: Networks, device: torch.device) -> list[Evaluation]:
    """Measure what was asked for, once `settle` has checked it; the requests differ only in their samples.

    Raises UsageError where the inputs do not allow it, RestokError where they are damaged.
    """
    started, request = time.monotonic(), requests[0]
    if any(map(measures_codes, request.metrics)):
        found = [Evaluation(*evaluate_codes(each, device)) for each in requests]
    elif request.perturbations:
        found = [Evaluation(*evaluate_perturbed(request, open_instruments(networks, request.metrics, device)))]
    elif request.num_codes is not None:
        instruments = open_instruments(networks, request.metrics, device)
        curve, protocol = evaluate_prefixes(request, instruments, networks.vgg_weights)
        found = [Evaluation(curve[max(curve)], protocol, curve=curve)]
    else:
        found = [Evaluation(*each) for each in evaluate_images(requests, networks, device)]
    for each in found:
        each.protocol.update(device=str(device), seconds=round(time.monotonic() - started, 3))
    return found


def show_evaluation(evaluation: Evaluation, reference: str, limits: list[Limit], as_json: bool) -> None:
    """Print the numbers, and on stderr what is to be known of them. Raises as `check_limits` does."""
    measurements, curve = evaluation.measurements, evaluation.curve
    if as_json:
        print(json.dumps(evaluation.report(), indent=2, allow_nan=False))
    else:
        say(*(curve_table(curve) if curve is not None else table(measurements, reference)))
    for line in remarks(list(measurements.values())):
        note(line)
    check_limits(limits, measurements)
