"""The passes over images that turn metrics into numbers, by one process or several."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from restok_cli.console import Progress, note
from restok_cli.data.images import to_float
from restok_cli.errors import RestokError, UsageError
from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.code_sets import CodeSet
from restok_cli.metrics.image_sets import GROUP_SIZE, Group, ImageSet, from_all_processes, groups_at_once
from restok_cli.metrics.networks.features import FeatureNetwork, Features
from restok_cli.metrics.networks.lpips import Lpips, open_lpips
from restok_cli.metrics.numbers import PIXEL_FORMULAS, Compared, Sums, measurable, numbers
from restok_cli.metrics.pairs import have_partners
from restok_cli.metrics.protocol import Measurement
from restok_cli.metrics.reference import Reference, check_statistics
from restok_cli.metrics.table import METRICS
from restok_cli.processes import rank, world_size
from restok_cli.room import check_memory


@dataclass
class Instruments:
    """Networks and device for measuring."""

    caches: list[FeatureCache]  # of each network, no two of one name; empty where no metric is of features
    device: torch.device
    batch_size: int  # images held at a time: speed and memory, not numbers
    lpips: Lpips | None = None

    @property
    def networks(self) -> list[FeatureNetwork]:
        return [cache.network for cache in self.caches]


class Seen(NamedTuple):
    """Findings of a group of images, small enough to be sent to process 0."""

    group: Group
    features: list[Features]  # of each network
    values: dict[str, list[float]]  # of each pixel metric, for each image that has a readable partner
    originals: Group | None  # of the same group


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
    if not any(METRICS[metric].basis == "features" for metric in metrics):
        instruments = replace(instruments, caches=[])
    check_metrics(metrics, reference, instruments.networks)
    for one in samples:
        height, width = one.find_size()
        check_memory("--batch-size", min(instruments.batch_size, one.count), 3 * height * width)
    if images is not None:
        images.crop_to(samples[0].find_size())
    paired = [metric for metric in metrics if METRICS[metric].basis == "pixels"]
    against = [metric for metric in metrics if METRICS[metric].against]
    theirs = [Sums(one.network, measurable(against, one.network), statistics, one.folder) for one in instruments.caches]
    needed = any(METRICS[metric].basis == "features" for metric in against)
    if needed and images and (statistics is None or any(sums.keeps for sums in theirs)):
        for seen in see_all(images, None, [], instruments, f"reference {images.source}"):
            _add(theirs, seen)
    results = []
    for one in samples:
        ours = [Sums(each.network, measurable(metrics, each.network), None, each.folder) for each in instruments.caches]
        values = {metric: [] for metric in paired}
        originals = images if paired else None
        for seen in see_all(one, originals, paired, instruments, f"samples {one.source}"):
            _add(ours, seen)
            for metric in paired:
                values[metric] += seen.values[metric]
        compared = list(map(Compared, ours, theirs))
        sources = f"{one.source} and {source}"
        results.append(numbers(metrics, compared, values, sources) if rank() == 0 else {})
    return results


def _add(sums: list[Sums], seen: Seen) -> None:
    for of_network, features in zip(sums, seen.features, strict=True):
        of_network.add(features, seen.group.indices)


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
    chosen = metrics
    if metrics == ["all"]:
        chosen = _possible_metrics(samples, reference, instruments.networks)
    if "lpips" in chosen:
        try:
            instruments.lpips = open_lpips(vgg_weights, instruments.device)
        except RestokError as error:
            if metrics != ["all"]:
                raise
            note(f"without lpips: {error}")
            chosen.remove("lpips")
    return chosen


def _possible_metrics(samples: ImageSet, reference: Reference | None, networks: list[FeatureNetwork]) -> list[str]:
    """All metrics of images that these inputs allow. `samples` may be read for its size."""
    if reference is None and not any(network.num_classes for network in networks):
        raise UsageError(f"without --reference, {_names(networks)} can measure nothing; give one")
    statistics, images = (reference.statistics, reference.images) if reference else (None, None)
    paired = images is not None and statistics is None and have_partners(samples, images)
    has_places = statistics is None or statistics.spatial is not None
    fewest = min(samples.count, images.count) if images is not None else 0
    drawn = samples.count if statistics else fewest  # of the sets that do not count as exact
    allowed = {name: [one for one in networks if measurable([name], one)] for name in METRICS}

    def is_possible(name: str) -> bool:
        metric = METRICS[name]
        if "codes" in (metric.basis, metric.needs) or (metric.against and reference is None):
            return False
        if metric.against == "pairs" and not paired:
            return False
        if metric.basis == "pixels":
            return metric.smallest_side == 1 or min(samples.find_size()) >= metric.smallest_side
        if metric.needs == "all features" and fewest < metric.fewest_images:
            return False
        if any(network.dimensions * metric.fewest_per_dimension > drawn for network in allowed[name]):
            return False
        return bool(allowed[name]) and (metric.needs != "places" or has_places)

    one_of_three = {"fid", "gfid" if paired else "rfid"}  # names of one distance, of which the best is taken
    return [name for name in METRICS if name not in one_of_three and is_possible(name)]


def feature_sums(images: ImageSet, metrics: list[str], instruments: Instruments, with_intervals: bool = False) -> Sums:
    """The sums of one set, such as a reference is made of; in process 0, the others get empty ones."""
    (network,) = instruments.networks
    sums = Sums(network, metrics, with_intervals=with_intervals)
    images.find_size()
    for seen in see_all(images, None, [], instruments, f"images of {images.source}"):
        _add([sums], seen)
    return sums


def check_metrics(metrics: list[str], reference: Reference | None, networks: list[FeatureNetwork]) -> None:
    """Raises UsageError or RestokError where a metric of features cannot be had by these networks and reference."""
    of_features = [metric for metric in metrics if METRICS[metric].basis == "features"]
    allowed = [measurable(of_features, network) for network in networks]
    for metric in of_features:
        if not any(metric in of_network for of_network in allowed):
            raise UsageError(_why_not(metric, networks))
    for network, of_network in zip(networks, allowed, strict=True):
        if not of_network:
            raise UsageError(f"--features {network.name}: it measures none of {', '.join(metrics)}; leave it out")
        if reference is not None:
            check_statistics(reference, network)
    if reference is None or reference.statistics is None:
        return
    first = {METRICS[metric].needs: metric for metric in reversed(of_features)}  # by what it needs
    if "places" in first and reference.statistics.spatial is None:
        name = first["places"]
        raise UsageError(f"{reference.source} holds no statistics for {name} (mu_s, sigma_s); leave {name} out")
    if "all features" in first and reference.images is None:
        name = first["all features"]
        raise UsageError(f"{reference.source} holds only statistics, and {name} needs images (arr_0); leave it out")


def _why_not(metric: str, networks: list[FeatureNetwork]) -> str:
    """Why no network measures this."""
    names, row = _names(networks), METRICS[metric]
    if row.needs == "classes":
        return f"{metric} needs a network with classes, which {names} is not; use --features inception"
    network = row.network or "inception"
    owner = {"inception": "Inception", "clip": "CLIP"}[network]
    return f"{metric} is defined by {owner} alone, not by {names}; use --features {network}"


def _names(networks: list[FeatureNetwork]) -> str:
    return " or ".join(network.name for network in networks)


def see_all(
    images: ImageSet | CodeSet,
    originals: ImageSet | None,
    paired: list[str],
    instruments: Instruments,
    description: str,
) -> Iterator[Seen]:
    """Findings of each group of images, in order, in process 0; all processes share the work."""
    numbers, at_once = range(rank(), images.num_groups, world_size()), groups_at_once(instruments.device)
    ahead = max(at_once, instruments.batch_size // GROUP_SIZE)
    groups = images.groups(numbers, ahead)
    partners = originals.groups(numbers, ahead) if originals else (None for _ in numbers)
    rounds = (_see(some, partners, paired, instruments) for some in iter(lambda: list(islice(groups, at_once)), []))
    with Progress(description, images.count, "images") as progress:
        for seen in from_all_processes(rounds, images.num_groups, at_once):
            images.saw(seen.group)
            if originals is not None and seen.originals is not None:
                originals.saw(seen.originals)
            progress.advance(len(seen.group.indices) + len(seen.group.broken))
            if seen.group.indices:
                yield seen


def _see(
    groups: list[Group], partners: Iterator[Group | None], paired: list[str], instruments: Instruments
) -> list[Seen]:
    """Everything that is to be known of some groups of images, here and now."""
    found = []
    by_network = [_features(groups, cache) for cache in instruments.caches]
    for group, *of_networks in zip(groups, *by_network, strict=True):
        originals, values = next(partners), {metric: [] for metric in paired}
        if originals is not None:
            values = _compare_pairs(group, originals, paired, instruments)
            originals = originals.without_images()
        features = [one for one in of_networks if one is not None]
        found.append(Seen(group.without_images(), features, values, originals))
    return found


def _compare_pairs(
    group: Group, originals: Group, metrics: list[str], instruments: Instruments
) -> dict[str, list[float]]:
    """The values of each image of a group that could be read, and so could its original."""
    both = sorted(set(group.indices) & set(originals.indices))
    if not both:
        return {metric: [] for metric in metrics}
    images, others = (
        side.images[[side.indices.index(index) for index in both]].to(instruments.device) for side in (group, originals)
    )
    return {metric: _compare(metric, images, others, instruments.lpips) for metric in metrics}


@torch.inference_mode()
def _compare(metric: str, images: Tensor, others: Tensor, lpips: Lpips | None) -> list[float]:
    if metric == "lpips" and lpips is not None:
        return lpips(to_float(images), to_float(others)).tolist()
    if images.device.type == "mps":  # has no float64
        images, others = images.cpu(), others.cpu()
    return PIXEL_FORMULAS[metric](images, others).tolist()


def _features(groups: list[Group], cache: FeatureCache) -> list[Features | None]:
    """The features of each group by the network of this cache; None of one without images."""
    found = [cache.find(group) if group.indices else None for group in groups]
    missing = [i for i, group in enumerate(groups) if group.indices and found[i] is None]
    if not missing:
        return found
    images = torch.cat([groups[i].images for i in missing])
    # always as many at a time: for another number, libraries may sum in another order
    padding = groups_at_once(cache.network.device) * GROUP_SIZE - len(images)
    pool, spatial = cache.network(torch.cat([images, images.new_zeros(padding, *images.shape[1:])]))
    start = 0
    for i in missing:
        rows = slice(start, start + len(groups[i].images))
        found[i] = features = Features(pool[rows], spatial[rows] if spatial is not None else None)
        cache.keep(groups[i], features)
        start = rows.stop
    return found
