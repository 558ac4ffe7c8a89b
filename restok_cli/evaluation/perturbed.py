"""`restok evaluate --perturb`: the FID of images decoded from codes of which some are replaced (arXiv 2503.08354)."""

import hashlib
from dataclasses import replace
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from restok_cli.errors import UsageError
from restok_cli.evaluation.decoded import Change, Redecoding
from restok_cli.evaluation.request import Perturbation, Request
from restok_cli.evaluation.result import Evaluation
from restok_cli.metrics.measure import Instruments
from restok_cli.metrics.protocol import Measurement
from restok_cli.metrics.table import key_of

ROWS = 512  # codewords compared at once with all: 64 MB of distances for a codebook of 16,384


def evaluate_perturbed(request: Request, instruments: Instruments) -> Evaluation:
    """pFID for each perturbation and, first, the mean of all."""
    redecoding, perturbations = Redecoding(request, instruments.device), request.perturbations
    config = redecoding.tokenizer.config
    _check(perturbations, config.num_latent_tokens, config.codebook_size)
    neighbours = nearest_codewords(redecoding.tokenizer.quantizer.codewords(), max(p.nearest for p in perturbations))
    changes = {str(perturbation): _changing(perturbation, neighbours) for perturbation in perturbations}
    results, protocol = redecoding.measure(changes, ["pfid"], instruments)
    measurements: dict[str, Measurement] = {}
    for key in results[0]:  # of each network
        found = [replace(result[key], setting=setting) for setting, result in zip(changes, results, strict=True)]
        if len(found) == 1:
            measurements[key] = found[0]
            continue
        measurements[key] = _mean(found, perturbations)
        network = key.removeprefix("pfid")
        measurements |= {
            key_of("pfid", p.key) + network: number for p, number in zip(perturbations, found, strict=True)
        }
    return Evaluation(measurements, protocol | {"perturbations": [p._asdict() for p in perturbations]})


def nearest_codewords(codewords: Tensor, count: int) -> Tensor:
    """The `count` codewords nearest to each of (V, D), itself first: (V, count) int32. On a CPU, for one result."""
    codewords = codewords.detach().double().cpu()
    found = []
    for start in range(0, len(codewords), ROWS):
        rows = codewords[start : start + ROWS]
        distances = rows.square().sum(1)[:, None] + codewords.square().sum(1) - 2 * rows @ codewords.T
        distances[range(len(rows)), range(start, start + len(rows))] = -1  # also where another is equal to it
        found.append(distances.topk(count, largest=False).indices.to(torch.int32))
    return torch.cat(found)


def perturb(codes: Tensor, digest: bytes, perturbation: Perturbation, neighbours: Tensor) -> Tensor:
    """The codes (L,) of an image, of which perturbation.share is replaced.

    Each by one of the perturbation.nearest codewords nearest to it, all equally likely. By the digest of the image's
    pixels, so that neither batch nor process nor order matters; a greater share replaces the same codes and more.
    """
    rng = np.random.RandomState(np.frombuffer(digest, "<u4"))
    order, places = rng.permutation(len(codes)), rng.random_sample(len(codes))
    replaced = torch.from_numpy(order[: round(perturbation.share * len(codes))])
    ranks = torch.from_numpy((places * perturbation.nearest).astype(np.int64))[replaced]
    return codes.index_put((replaced,), neighbours[codes[replaced], ranks].long())


def _changing(perturbation: Perturbation, neighbours: Tensor) -> Change:
    def change(codes: Tensor, images: Tensor) -> Tensor:
        digests = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
        changed = [perturb(row, digest, perturbation, neighbours) for row, digest in zip(codes, digests, strict=False)]
        return torch.stack([*changed, *codes[len(changed) :]])  # and what fills the group

    return change


def _check(perturbations: tuple[Perturbation, ...], num_codes: int, codebook_size: int) -> None:
    """Raises UsageError where the tokenizer has too few codes or codewords."""
    for share, nearest in perturbations:
        if nearest > codebook_size:
            raise UsageError(f"--nearest {nearest}: this tokenizer's codebook has {codebook_size}; give 2 to as many")
        if round(share * num_codes) == 0:
            raise UsageError(f"--perturb {share:g} is none of an image's {num_codes} codes; give a greater share")


def _mean(numbers: list[Measurement], perturbations: tuple[Perturbation, ...]) -> Measurement:
    """The mean of all; its interval is that of numbers which move together, as those of the same images nearly do."""
    shares = ",".join(dict.fromkeys(f"{perturbation.share:g}" for perturbation in perturbations))
    counts = ",".join(dict.fromkeys(str(perturbation.nearest) for perturbation in perturbations))
    intervals = [number.interval for number in numbers if number.interval]
    interval = None
    if len(intervals) == len(numbers):
        low, high = (fmean(ends) for ends in zip(*intervals, strict=True))
        interval = low, high
    value = fmean(number.value for number in numbers)
    return replace(numbers[0], value=value, interval=interval, setting=f"α={shares}, δ={counts}")
