"""The passes over pictures that turn metrics into numbers, by one process or several."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from restok_cli.console import Progress, note
from restok_cli.data.images import to_float
from restok_cli.errors import RestokError, UsageError
from restok_cli.metrics import pixels
from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.features import FeatureNetwork, Features
from restok_cli.metrics.frechet import GaussianStatistics, frechet_distance
from restok_cli.metrics.inception_score import InceptionScore
from restok_cli.metrics.kid import kernel_inception_distance
from restok_cli.metrics.lpips import SMALLEST_SIDE, Lpips, open_lpips
from restok_cli.metrics.neighbours import NEIGHBOURS, precision_recall
from restok_cli.metrics.pairs import have_partners
from restok_cli.metrics.pictures import GROUP_SIZE, Group, Pictures
from restok_cli.metrics.protocol import METRICS, Measurement, caveat
from restok_cli.metrics.reference import Reference, check_statistics
from restok_cli.processes import gather, rank, world_size
from restok_cli.room import check_memory

DISTANCES = ("fid", "gfid", "rfid")  # one formula; what is compared with what differs
BY_NEIGHBOURS = ("precision", "recall", "kid")  # need the features of all pictures at once
PIXEL_METRICS = {"mse": pixels.mse, "psnr": pixels.psnr, "ssim": pixels.ssim, "ms-ssim": pixels.ms_ssim}


@dataclass
class Instruments:
    """What measuring needs beside pictures; networks may be None where no metric asks for them."""

    network: FeatureNetwork | None
    cache: FeatureCache | None
    device: torch.device
    batch_size: int  # pictures held at a time: speed and memory, not numbers
    lpips: Lpips | None = None


class Seen(NamedTuple):
    """What a group of pictures gave, small enough to be sent to process 0."""

    indices: list[int]
    digests: list[bytes]
    broken: dict[int, str]
    num_cropped: int
    features: Features | None
    values: dict[str, list[float]]  # of each pixel metric, for each picture that has a readable partner
    partner: "Seen | None"  # the originals of the same group


class Sums:
    """All that the metrics need of the features of a set."""

    def __init__(self, network: FeatureNetwork, metrics: list[str]):
        self.network = network
        self.pool = GaussianStatistics(network.dimensions)
        self.spatial = GaussianStatistics(network.spatial_dimensions) if "sfid" in metrics else None
        self.score = InceptionScore() if "is" in metrics else None
        self.kept: list[Tensor] | None = [] if set(metrics) & set(BY_NEIGHBOURS) else None

    def add(self, features: Features) -> None:
        self.pool.add(features.pool)
        if self.spatial is not None:
            self.spatial.add(features.spatial)
        if self.score is not None:
            self.score.add(self.network.logits(features.pool))
        if self.kept is not None:
            self.kept.append(features.pool)


def measure(
    samples: list[Pictures], reference: Reference | None, metrics: list[str], instruments: Instruments
) -> list[dict[str, Measurement]]:
    """Measure each set of `samples` by each of `metrics`, names in METRICS that are not of codes.

    Where a metric compares picture by picture, the reference must be aligned with every set. Of several processes,
    which share the work, only number 0 knows the numbers; the others return empty ones.
    Raises UsageError for metrics that the network or the reference does not allow, RestokError where the pictures do
    not: too few, of several sizes, too small.
    """
    network, pictures = instruments.network, reference.pictures if reference else None
    _check(metrics, reference, network)
    for one in samples:
        height, width = one.find_size()
        check_memory("--batch-size", min(instruments.batch_size, one.count), 3 * height * width)
    if pictures is not None:
        pictures.crop_to(samples[0].size)
    theirs = None
    compared = [metric for metric in metrics if METRICS[metric].basis == "features" and METRICS[metric].against]
    if compared and (reference.statistics is None or set(compared) & set(BY_NEIGHBOURS)):
        theirs = Sums(network, compared)
        for seen in _in_all_processes(pictures, None, [], instruments, f"reference {pictures.source}"):
            theirs.add(seen.features)
    results = []
    for one in samples:
        paired = [metric for metric in metrics if METRICS[metric].basis == "pixels"]
        ours = Sums(network, metrics) if len(paired) < len(metrics) else None
        values = {metric: [] for metric in paired}
        originals = pictures if paired else None
        for seen in _in_all_processes(one, originals, paired, instruments, f"samples {one.source}", ours is not None):
            if ours is not None:
                ours.add(seen.features)
            for metric in paired:
                values[metric] += seen.values[metric]
        results.append(_numbers(metrics, ours, theirs, reference, values, one) if rank() == 0 else {})
    return results


def choose_metrics(
    metrics: list[str],
    samples: Pictures,
    reference: Reference | None,
    instruments: Instruments,
    vgg_weights: Path | None,
) -> list[str]:
    """The metrics that are meant, where they may be just "all"; where LPIPS is one, its network is opened.

    Of all metrics, LPIPS is left out where its weights cannot be had. Raises UsageError where nothing is possible.
    """
    chosen = _possible_metrics(samples, reference, instruments.network) if metrics == ["all"] else metrics
    if "lpips" in chosen:
        try:
            instruments.lpips = open_lpips(vgg_weights, instruments.device)
        except RestokError as error:
            if metrics != ["all"]:
                raise
            note(f"without lpips: {error}")
            chosen.remove("lpips")
    return chosen


def _possible_metrics(samples: Pictures, reference: Reference | None, network: FeatureNetwork) -> list[str]:
    """All metrics of pictures that these inputs allow. `samples` may be read for its size."""
    possible = ["is"] if network.num_classes else []
    if reference is None:
        if not possible:
            raise UsageError(f"without --reference, {network.name} can measure nothing; give one")
        return possible
    statistics, pictures = reference.statistics, reference.pictures
    paired = statistics is None and have_partners(samples, pictures)
    possible.append("rfid" if paired else "gfid")
    if network.spatial_dimensions and (statistics is None or statistics.spatial is not None):
        possible.append("sfid")
    if pictures is not None:
        possible.append("kid")
        if min(samples.count, pictures.count) > NEIGHBOURS:
            possible += ["precision", "recall"]
    if paired:
        smallest = {"ssim": pixels.SSIM_WINDOW, "ms-ssim": pixels.MS_SSIM_SMALLEST, "lpips": SMALLEST_SIDE}
        possible += [
            metric
            for metric in ("psnr", "ssim", "ms-ssim", "lpips", "mse")
            if min(samples.find_size()) >= smallest.get(metric, 1)
        ]
    return [metric for metric in METRICS if metric in possible]


def feature_sums(pictures: Pictures, metrics: list[str], instruments: Instruments) -> Sums:
    """The sums of one set, such as a reference is made of; in process 0, the others get empty ones."""
    sums = Sums(instruments.network, metrics)
    pictures.find_size()
    for seen in _in_all_processes(pictures, None, [], instruments, f"pictures of {pictures.source}"):
        sums.add(seen.features)
    return sums


def _check(metrics: list[str], reference: Reference | None, network: FeatureNetwork | None) -> None:
    if "is" in metrics and not network.num_classes:
        raise UsageError(f"is needs a network with classes, which {network.name} is not; use --features inception")
    if "sfid" in metrics and not network.spatial_dimensions:
        raise UsageError(f"sfid is defined by Inception alone, not by {network.name}; use --features inception")
    if reference is None or network is None:
        return
    check_statistics(reference, network)
    if reference.statistics is None:
        return
    if "sfid" in metrics and reference.statistics.spatial is None:
        raise UsageError(f"{reference.source} holds no statistics for sfid (mu_s, sigma_s); leave sfid out")
    needy = next((metric for metric in metrics if metric in BY_NEIGHBOURS), None)
    if needy and reference.pictures is None:
        raise UsageError(f"{reference.source} holds only statistics, and {needy} needs pictures (arr_0); leave it out")


def _in_all_processes(
    pictures: Pictures,
    originals: Pictures | None,
    paired: list[str],
    instruments: Instruments,
    description: str,
    with_features: bool = True,
) -> Iterator[Seen]:
    """What each group of pictures gave, in order, in process 0. The groups are dealt to all processes in turn."""
    numbers = range(rank(), pictures.num_groups, world_size())
    ahead = max(1, instruments.batch_size // GROUP_SIZE)
    groups = pictures.groups(numbers, ahead)
    partners = originals.groups(numbers, ahead) if originals else (None for _ in numbers)
    progress = Progress(description, pictures.count, "pictures") if rank() == 0 else nullcontext()
    with progress:
        for _ in range(0, pictures.num_groups, world_size()):
            group = next(groups, None)
            mine = _see(group, next(partners), paired, instruments, with_features) if group else None
            for seen in gather(mine):
                if rank() > 0 or seen is None:
                    continue
                pictures.saw(*seen[:4])
                if seen.partner is not None:
                    originals.saw(*seen.partner[:4])
                progress.advance(len(seen.indices) + len(seen.broken))
                if seen.indices:
                    yield seen


def _see(group: Group, partner: Group | None, paired: list[str], instruments: Instruments, with_features: bool) -> Seen:
    """Everything that is to be known of a group of pictures, here and now."""
    features = _features(group, instruments) if with_features and group.indices else None
    values, originals = {metric: [] for metric in paired}, None
    if partner is not None:
        both = sorted(set(group.indices) & set(partner.indices))
        images, others = (
            side.images[[side.indices.index(index) for index in both]].to(instruments.device)
            for side in (group, partner)
        )
        values = {metric: _compare(metric, images, others, instruments.lpips) for metric in paired} if both else values
        originals = Seen(partner.indices, partner.digests, partner.broken, partner.num_cropped, None, {}, None)
    return Seen(group.indices, group.digests, group.broken, group.num_cropped, features, values, originals)


@torch.inference_mode()
def _compare(metric: str, images: Tensor, others: Tensor, lpips: Lpips | None) -> list[float]:
    if metric == "lpips":
        return lpips(to_float(images), to_float(others)).tolist()
    if images.device.type == "mps":  # has no float64
        images, others = images.cpu(), others.cpu()
    return PIXEL_METRICS[metric](images, others).tolist()


def _features(group: Group, instruments: Instruments) -> Features:
    features = instruments.cache.find(group)
    if features is not None:
        return features
    count = len(group.images)
    # always as many at a time: for another number, libraries may sum in another order
    padded = F.pad(group.images, (0, 0, 0, 0, 0, 0, 0, GROUP_SIZE - count))
    features = instruments.network(padded)
    features = Features(features.pool[:count], features.spatial[:count] if features.spatial is not None else None)
    instruments.cache.keep(group, features)
    return features


def _numbers(
    metrics: list[str],
    ours: Sums | None,
    theirs: Sums | None,
    reference: Reference | None,
    values: dict[str, list[float]],
    samples: Pictures,
) -> dict[str, Measurement]:
    measurements = {}
    if ours is not None:
        measurements |= _feature_numbers(metrics, ours, theirs, reference)
    for metric, of_pictures in values.items():
        n = len(of_pictures)
        if n == 0:
            raise RestokError(
                f"no pair of {samples.source} and {reference.source} could be read; there is nothing to measure"
            )
        # fsum rounds once: the mean does not depend on the order
        measurements[metric] = Measurement(metric, math.fsum(of_pictures) / n, n, n, caveat=caveat(n))
    return {metric: measurements[metric] for metric in metrics}


def _feature_numbers(
    metrics: list[str], ours: Sums, theirs: Sums | None, reference: Reference | None
) -> dict[str, Measurement]:
    values: dict[str, tuple[float, int | None]] = {}  # with the number of reference pictures
    if ours.score is not None:
        values["is"] = ours.score.score(), None
    statistics = reference.statistics if reference else None
    distances = [metric for metric in metrics if metric in DISTANCES]
    if distances or "sfid" in metrics:
        count = statistics.count if statistics else theirs.pool.total
    if distances:
        distance = frechet_distance(ours.pool.gaussian(), statistics.gaussian if statistics else theirs.pool.gaussian())
        values |= dict.fromkeys(distances, (distance, count))
    if "sfid" in metrics:
        spatial = statistics.spatial if statistics else theirs.spatial.gaussian()
        values["sfid"] = frechet_distance(ours.spatial.gaussian(), spatial), count
    if ours.kept is not None:
        a, b = torch.cat(ours.kept), torch.cat(theirs.kept)
        if "kid" in metrics:
            values["kid"] = kernel_inception_distance(a, b), len(b)
        if {"precision", "recall"} & set(metrics):
            values |= {name: (value, len(b)) for name, value in precision_recall(a, b)._asdict().items()}
    n, network = ours.pool.total, ours.network
    features = "" if network.published else network.name
    return {
        metric: Measurement(metric, value, n, count, caveat=caveat(min(n, count or n), network), features=features)
        for metric, (value, count) in values.items()
    }
