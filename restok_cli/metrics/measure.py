"""The passes over images that turn metrics into numbers, by one process or several."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from restok_cli.console import Progress, note
from restok_cli.data.images import to_float
from restok_cli.errors import RestokError, UsageError
from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.image_sets import GROUP_SIZE, Group, ImageSet, groups_at_once
from restok_cli.metrics.networks.features import FeatureNetwork, Features
from restok_cli.metrics.networks.lpips import Lpips, open_lpips
from restok_cli.metrics.numbers import PIXEL_FORMULAS, Sums, numbers
from restok_cli.metrics.pairs import have_partners
from restok_cli.metrics.protocol import Measurement
from restok_cli.metrics.reference import Reference, check_statistics
from restok_cli.metrics.table import METRICS, Metric
from restok_cli.processes import gather, rank, world_size
from restok_cli.room import check_memory


@dataclass
class Instruments:
    """Networks, cache and device for measuring; networks may be None where no metric asks for them."""

    network: FeatureNetwork | None
    cache: FeatureCache | None
    device: torch.device
    batch_size: int  # images held at a time: speed and memory, not numbers
    lpips: Lpips | None = None


class Seen(NamedTuple):
    """Findings of a group of images, small enough to be sent to process 0."""

    indices: list[int]
    digests: list[bytes]
    broken: dict[int, str]
    num_cropped: int
    features: Features | None
    values: dict[str, list[float]]  # of each pixel metric, for each image that has a readable partner
    partner: "Seen | None"  # the originals of the same group


def measure(
    samples: list[ImageSet], reference: Reference | None, metrics: list[str], instruments: Instruments
) -> list[dict[str, Measurement]]:
    """Measure each set of `samples` by each of `metrics`, names in METRICS that are not of codes.

    Where a metric compares image by image, the reference must be aligned with every set. Of several processes,
    which share the work, only number 0 knows the numbers; the others return empty ones.
    Raises UsageError for metrics that the network or the reference does not allow, RestokError where the images do
    not: too few, of several sizes, too small.
    """
    source, statistics, images = (
        (reference.source, reference.statistics, reference.images) if reference else ("", None, None)
    )
    check_metrics(metrics, reference, instruments.network)
    for one in samples:
        height, width = one.find_size()
        check_memory("--batch-size", min(instruments.batch_size, one.count), 3 * height * width)
    if images is not None:
        images.crop_to(samples[0].find_size())
    paired = [metric for metric in metrics if METRICS[metric].basis == "pixels"]
    compared = [metric for metric in metrics if METRICS[metric].basis == "features" and METRICS[metric].against]
    network = instruments.network if len(paired) < len(metrics) else None
    folder = instruments.cache.folder if instruments.cache else None
    theirs = Sums(network, compared, statistics, folder) if network else None
    if compared and theirs and images and (statistics is None or theirs.keeps):
        for seen in _in_all_processes(images, None, [], instruments, f"reference {images.source}"):
            theirs.add(seen.features, seen.indices)
    results = []
    for one in samples:
        ours = Sums(network, metrics, folder=folder) if network else None
        values = {metric: [] for metric in paired}
        originals = images if paired else None
        for seen in _in_all_processes(one, originals, paired, instruments, f"samples {one.source}", ours is not None):
            if ours:
                ours.add(seen.features, seen.indices)
            for metric in paired:
                values[metric] += seen.values[metric]
        results.append(numbers(metrics, ours, theirs, values, f"{one.source} and {source}") if rank() == 0 else {})
    return results


def choose_metrics(
    metrics: list[str],
    samples: ImageSet,
    reference: Reference | None,
    instruments: Instruments,
    vgg_weights: Path | None,
) -> list[str]:
    """The metrics that are meant, where they may be just "all"; where LPIPS is one, its network is opened.

    Of all metrics, LPIPS is left out where its weights cannot be had. Raises UsageError where nothing is possible.
    """
    network, chosen = instruments.network, metrics
    if metrics == ["all"] and network:
        chosen = _possible_metrics(samples, reference, network)
    if "lpips" in chosen:
        try:
            instruments.lpips = open_lpips(vgg_weights, instruments.device)
        except RestokError as error:
            if metrics != ["all"]:
                raise
            note(f"without lpips: {error}")
            chosen.remove("lpips")
    return chosen


def _possible_metrics(samples: ImageSet, reference: Reference | None, network: FeatureNetwork) -> list[str]:
    """All metrics of images that these inputs allow. `samples` may be read for its size."""
    if reference is None and not network.num_classes:
        raise UsageError(f"without --reference, {network.name} can measure nothing; give one")
    statistics, images = (reference.statistics, reference.images) if reference else (None, None)
    paired = images is not None and statistics is None and have_partners(samples, images)
    has_places = network.spatial_dimensions and (statistics is None or statistics.spatial is not None)
    fewest = min(samples.count, images.count) if images is not None else 0
    drawn = samples.count if statistics else fewest  # of the sets that do not count as exact

    def is_possible(metric: Metric) -> bool:
        if metric.basis == "codes" or (metric.against and reference is None):
            return False
        if metric.against == "pairs" and not paired:
            return False
        if network.dimensions * metric.fewest_per_dimension > drawn:
            return False
        if metric.needs == "all features":
            return fewest >= metric.fewest_images
        allowed = {"": True, "classes": network.num_classes > 0, "places": has_places}[metric.needs]
        return allowed and (metric.smallest_side == 1 or min(samples.find_size()) >= metric.smallest_side)

    one_of_three = {"fid", "gfid" if paired else "rfid"}  # names of one distance, of which the best is taken
    return [name for name, metric in METRICS.items() if name not in one_of_three and is_possible(metric)]


def feature_sums(images: ImageSet, metrics: list[str], instruments: Instruments) -> Sums:
    """The sums of one set, such as a reference is made of; in process 0, the others get empty ones."""
    if instruments.network is None:
        raise ValueError("sums of features need a network")
    sums = Sums(instruments.network, metrics, with_intervals=False)
    images.find_size()
    for seen in _in_all_processes(images, None, [], instruments, f"images of {images.source}"):
        sums.add(seen.features, seen.indices)
    return sums


def check_metrics(metrics: list[str], reference: Reference | None, network: FeatureNetwork | None) -> None:
    """Raises UsageError or RestokError where a metric of features cannot be had by this network and reference."""
    if network is None:  # no metric is of features
        return
    first = {METRICS[metric].needs: metric for metric in reversed(metrics)}  # by what it needs
    if "classes" in first and not network.num_classes:
        raise UsageError(
            f"{first['classes']} needs a network with classes, which {network.name} is not; use --features inception"
        )
    if "places" in first and not network.spatial_dimensions:
        raise UsageError(
            f"{first['places']} is defined by Inception alone, not by {network.name}; use --features inception"
        )
    if reference is None:
        return
    check_statistics(reference, network)
    if reference.statistics is None:
        return
    if "places" in first and reference.statistics.spatial is None:
        name = first["places"]
        raise UsageError(f"{reference.source} holds no statistics for {name} (mu_s, sigma_s); leave {name} out")
    if "all features" in first and reference.images is None:
        name = first["all features"]
        raise UsageError(f"{reference.source} holds only statistics, and {name} needs images (arr_0); leave it out")


def _in_all_processes(
    images: ImageSet,
    originals: ImageSet | None,
    paired: list[str],
    instruments: Instruments,
    description: str,
    with_features: bool = True,
) -> Iterator[Seen]:
    """Findings of each group of images, in order, in process 0. The groups are dealt to all processes in turn."""
    numbers, at_once = range(rank(), images.num_groups, world_size()), groups_at_once(instruments.device)
    ahead = max(at_once, instruments.batch_size // GROUP_SIZE)
    groups = images.groups(numbers, ahead)
    partners = originals.groups(numbers, ahead) if originals else (None for _ in numbers)
    with Progress(description, images.count, "images") if rank() == 0 else nullcontext() as progress:
        for _ in range(0, images.num_groups, world_size() * at_once):
            mine = _see(list(islice(groups, at_once)), partners, paired, instruments, with_features)
            for seen in (seen for turn in zip_longest(*gather(mine)) for seen in turn):
                if progress is None or seen is None:
                    continue
                images.saw(*seen[:4])
                if originals is not None and seen.partner is not None:
                    originals.saw(*seen.partner[:4])
                progress.advance(len(seen.indices) + len(seen.broken))
                if seen.indices:
                    yield seen


def _see(
    groups: list[Group],
    partners: Iterator[Group | None],
    paired: list[str],
    instruments: Instruments,
    with_features: bool,
) -> list[Seen]:
    """Everything that is to be known of some groups of images, here and now."""
    features = _features(groups, instruments) if with_features else [None for _ in groups]
    return [
        _seen(group, next(partners), paired, instruments, known) for group, known in zip(groups, features, strict=True)
    ]


def _seen(
    group: Group, partner: Group | None, paired: list[str], instruments: Instruments, features: Features | None
) -> Seen:
    """Everything that is to be known of a group whose features are known."""
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
    if metric == "lpips" and lpips is not None:
        return lpips(to_float(images), to_float(others)).tolist()
    if images.device.type == "mps":  # has no float64
        images, others = images.cpu(), others.cpu()
    return PIXEL_FORMULAS[metric](images, others).tolist()


def _features(groups: list[Group], instruments: Instruments) -> list[Features | None]:
    """The features of each group; None of one without images."""
    network, cache = instruments.network, instruments.cache
    if network is None or cache is None:
        return [None for _ in groups]
    found = [cache.find(group) if group.indices else None for group in groups]
    missing = [i for i, group in enumerate(groups) if group.indices and found[i] is None]
    if not missing:
        return found
    images = torch.cat([groups[i].images for i in missing])
    # always as many at a time: for another number, libraries may sum in another order
    padding = groups_at_once(instruments.device) * GROUP_SIZE - len(images)
    pool, spatial = network(F.pad(images, (0, 0, 0, 0, 0, 0, 0, padding)))
    start = 0
    for i in missing:
        rows = slice(start, start + len(groups[i].images))
        found[i] = features = Features(pool[rows], spatial[rows] if spatial is not None else None)
        cache.keep(groups[i], features)
        start = rows.stop
    return found
