"""The passes over pictures and codes that turn metrics into numbers."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from restok_cli.console import Progress
from restok_cli.errors import RestokError, UsageError
from restok_cli.metrics import pixels
from restok_cli.metrics.codebook import codebook_use, codebook_use_by_level
from restok_cli.metrics.features import FeatureNetwork
from restok_cli.metrics.frechet import GaussianStatistics, frechet_distance
from restok_cli.metrics.inception_score import InceptionScore
from restok_cli.metrics.pictures import Pictures, match_pairs
from restok_cli.metrics.protocol import Measurement, caveat, name_with_count
from restok_cli.metrics.reference import Statistics

DISTANCES = {"fid": "FID", "gfid": "gFID", "rfid": "rFID"}  # one formula; what is compared with what differs
PIXEL_METRICS = {"mse": (pixels.mse, "MSE", ""), "psnr": (pixels.psnr, "PSNR", "dB"), "ssim": (pixels.ssim, "SSIM", "")}
PAIRED = ("rfid", *PIXEL_METRICS)


def measure_pictures(
    samples: Pictures,
    reference: Pictures | Statistics | None,
    metrics: list[str],
    network: FeatureNetwork | None,
    batch_size: int,
) -> dict[str, Measurement]:
    """Measure `samples` by each of `metrics`: names in DISTANCES or PIXEL_METRICS, or "is".

    The network may be None where only pixel metrics are asked for, the reference where only "is" is.
    Raises RestokError where the pictures do not allow it: too few, of several sizes, no pairs where pairs are needed.
    """
    measurements: dict[str, Measurement] = {}
    pairs = _pairs(samples, reference, metrics)
    if any(metric == "is" or metric in DISTANCES for metric in metrics):
        measurements |= _measure_features(samples, reference, metrics, network, batch_size)
    if any(metric in PIXEL_METRICS for metric in metrics):
        measurements |= _measure_pixels(samples, reference, pairs, metrics, batch_size)
    return {metric: measurements[metric] for metric in metrics}


def measure_codes(codes: np.ndarray, codebook_size: int, level_sizes: tuple[int, ...]) -> dict[str, Measurement]:
    """Codebook usage, entropy and perplexity of integer codes (n, L), in all and by level.

    Raises RestokError where codes, codebook and levels do not fit one another.
    """
    levels = codebook_use_by_level(codes, codebook_size, level_sizes)
    total = codebook_use(codes, codebook_size)
    units = {"usage": "%", "entropy": "bits", "perplexity": "codes"}
    return {
        f"codebook_{field}": Measurement(
            name=name_with_count(f"codebook {field}", len(codes)),
            value=getattr(total, field),
            n=len(codes),
            unit=unit,
            levels=tuple(getattr(level, field) for level in levels),
            caveat=caveat(len(codes)),
        )
        for field, unit in units.items()
    }


def _pairs(samples: Pictures, reference: Pictures | Statistics | None, metrics: list[str]) -> list[tuple[int, int]]:
    paired = [metric for metric in metrics if metric in PAIRED]
    if not paired:
        return []
    if isinstance(reference, Statistics):
        raise UsageError(
            f"{paired[0]} compares pictures with their originals, but {reference.source} holds only statistics;"
            " give the original pictures, or use --metric gfid"
        )
    return match_pairs(samples, reference)


def _measure_features(
    samples: Pictures,
    reference: Pictures | Statistics | None,
    metrics: list[str],
    network: FeatureNetwork,
    batch_size: int,
) -> dict[str, Measurement]:
    measurements = {}
    distances = [metric for metric in metrics if metric in DISTANCES]
    if distances and isinstance(reference, Statistics) and len(reference.gaussian.mu) != network.dimensions:
        raise RestokError(
            f"{reference.source} holds statistics of {len(reference.gaussian.mu)} features, {network.name} gives"
            f" {network.dimensions}; give statistics made with {network.name} features, or the pictures themselves"
        )
    statistics, score = _feature_pass(samples, network, batch_size, "samples")
    n = statistics.count
    if "is" in metrics:
        measurements["is"] = Measurement(name_with_count("IS", n), score.score(), n, caveat=caveat(n, network))
    if distances:
        ours = statistics.gaussian()
        if isinstance(reference, Statistics):
            theirs, fewest = reference.gaussian, n
        else:
            reference.crop_to(samples.size)
            reference_statistics, _ = _feature_pass(reference, network, batch_size, "reference")
            theirs, fewest = reference_statistics.gaussian(), min(n, reference_statistics.count)
        value = frechet_distance(ours, theirs)
        for metric in distances:
            name = name_with_count(DISTANCES[metric], n)
            measurements[metric] = Measurement(name, value, n, caveat=caveat(fewest, network))
    return measurements


def _feature_pass(
    pictures: Pictures, network: FeatureNetwork, batch_size: int, description: str
) -> tuple[GaussianStatistics, InceptionScore]:
    statistics, score = GaussianStatistics(network.dimensions), InceptionScore()
    with Progress(description, pictures.count, "pictures") as progress:
        for images in pictures.batches(batch_size):
            features = network(images)
            statistics.add(features.pool)
            score.add(features.logits)
            progress.advance(len(images))
    return statistics, score


def _measure_pixels(
    samples: Pictures, reference: Pictures, pairs: list[tuple[int, int]], metrics: list[str], batch_size: int
) -> dict[str, Measurement]:
    sums = {metric: 0.0 for metric in metrics if metric in PIXEL_METRICS}
    n = 0
    with Progress("pairs", len(pairs), "pairs") as progress:
        for images, originals in _pair_batches(samples, reference, pairs, batch_size):
            for metric in sums:
                sums[metric] += PIXEL_METRICS[metric][0](images, originals).sum().item()
            n += len(images)
            progress.advance(len(images))
    if n == 0:
        raise RestokError(
            f"no pair of {samples.source} and {reference.source} could be read; there is nothing to measure"
        )
    return {
        metric: Measurement(
            name_with_count(PIXEL_METRICS[metric][1], n), total / n, n, PIXEL_METRICS[metric][2], caveat=caveat(n)
        )
        for metric, total in sums.items()
    }


def _pair_batches(
    samples: Pictures, reference: Pictures, pairs: list[tuple[int, int]], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    batch = []
    for place, (index, reference_index) in enumerate(pairs, start=1):
        image = samples.read(index)
        if image is not None:
            reference.crop_to(samples.size)
            original = reference.read(reference_index)
            if original is not None:
                batch.append((image, original))
        if batch and (len(batch) == batch_size or place == len(pairs)):
            images, originals = zip(*batch, strict=True)
            yield torch.stack(images), torch.stack(originals)
            batch = []
