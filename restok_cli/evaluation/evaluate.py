"""One evaluation, whatever is measured."""

import time

import torch

from restok_cli.evaluation.code_metrics import evaluate_codes
from restok_cli.evaluation.decoded import evaluate_prefixes
from restok_cli.evaluation.image_metrics import evaluate_images, open_instruments
from restok_cli.evaluation.perturbed import evaluate_perturbed
from restok_cli.evaluation.request import Networks, Request, measures_codes
from restok_cli.evaluation.result import Evaluation


def evaluate(requests: list[Request], networks: Networks, device: torch.device) -> list[Evaluation]:
    """Measure what was asked for, once `settle` has checked it; the requests differ only in their samples.

    Raises UsageError where the inputs do not allow it, RestokError where they are damaged.
    """
    started, request = time.monotonic(), requests[0]
    if any(map(measures_codes, request.metrics)):
        found = [evaluate_codes(each, device) for each in requests]
    elif request.perturbations:
        found = [evaluate_perturbed(request, open_instruments(networks, request.metrics, device))]
    elif request.num_codes is not None:
        instruments = open_instruments(networks, request.metrics, device)
        found = [evaluate_prefixes(request, instruments, networks.vgg_weights)]
    else:
        found = evaluate_images(requests, networks, device)
    for each in found:
        each.protocol.update(device=str(device), seconds=round(time.monotonic() - started, 3))
    return found
