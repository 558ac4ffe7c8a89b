"""The formulas of the metrics: from what was seen of two sets of images to numbers."""

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics.formulas import pixels
from restok_cli.metrics.formulas.cmmd import clip_mmd
from restok_cli.metrics.formulas.density import DensityCoverage, density_coverage
from restok_cli.metrics.formulas.frechet import GaussianStatistics
from restok_cli.metrics.formulas.frechet_intervals import Cloud, FrechetDistance
from restok_cli.metrics.formulas.inception_score import inception_score
from restok_cli.metrics.formulas.kid import kernel_inception_distance
from restok_cli.metrics.formulas.mind import monge_inception_distance
from restok_cli.metrics.formulas.neighbours import PrecisionRecall, precision_recall
from restok_cli.metrics.intervals import Estimate, mean_interval
from restok_cli.metrics.kept import KeptRows
from restok_cli.metrics.networks.features import FeatureNetwork, Features
from restok_cli.metrics.protocol import Measurement, caveat
from restok_cli.metrics.reference import Statistics
from restok_cli.metrics.table import FEWEST, METRICS, Metric, key_of, metric_of


def measurable(metrics: list[str], network: FeatureNetwork) -> list[str]:
    """The metrics without those of features that this network's do not allow; random ones stand for any network's."""

    def is_allowed(metric: Metric) -> bool:
        if metric.network and network.name not in (metric.network, "random"):
            return False
        return {"classes": network.num_classes > 0, "places": network.spatial_dimensions > 0}.get(metric.needs, True)

    return [name for name in metrics if is_allowed(METRICS[name])]


class Sums:
    """The features of a set, as the metrics need them; where there are `statistics`, those count as the sums.

    All features are kept, in `folder` where they are many, for metrics of all at once and for the intervals of
    distances; without `with_intervals` not for those.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        metrics: list[str],
        statistics: Statistics | None = None,
        folder: Path | None = None,
        with_intervals: bool = True,
    ):
        self.network, self.metrics, self.statistics = network, metrics, statistics
        needs = {METRICS[metric].needs for metric in metrics}
        self.device = network.device if network.device.type == "cuda" else None  # where they are added up
        places = network.spatial_dimensions if "places" in needs else 0
        self.pool = GaussianStatistics(network.dimensions, self.device)
        self.spatial = GaussianStatistics(places, self.device) if places else None
        is_sample = with_intervals and statistics is None and any(METRICS[metric].against for metric in metrics)
        self.keeps = is_sample or not needs.isdisjoint(("all features", "classes"))
        self.kept = KeptRows(network.dimensions, folder) if self.keeps else None
        self.kept_spatial = KeptRows(places, folder) if places and is_sample else None
        self.on_device: Tensor | None = None
        self.indices: list[int] = []  # of the images, in their set

    @property
    def count(self) -> int | None:
        """How many images the set has; None where its statistics do not tell."""
        return self.statistics.count if self.statistics else self.pool.total

    def cloud(self) -> Cloud:
        """The pool features, for distances."""
        if self.statistics:
            return Cloud(self.statistics.gaussian)
        return Cloud(self.pool.gaussian(), self.kept and self.kept.rows(), np.array(self.indices))

    def spatial_cloud(self) -> Cloud:
        """The features with places."""
        if self.statistics and self.statistics.spatial:
            return Cloud(self.statistics.spatial)
        if self.spatial is None:
            raise ValueError("features with places are added up only for metrics of them")
        rows = self.kept_spatial and self.kept_spatial.rows()
        return Cloud(self.spatial.gaussian(), rows, np.array(self.indices))

    def features(self) -> Tensor:
        """The pool features (n, D) of all images that were read, in order; the statistics may be of more.

        On a GPU where there is one: distances between all of them are much arithmetic.
        """
        if self.kept is None:
            raise ValueError("features are kept only for metrics of all of them")
        if self.on_device is None:
            self.on_device = self.kept.rows().to(self.device or "cpu")
        return self.on_device

    def add(self, features: Features, indices: list[int]) -> None:
        """Take in the features of images with those `indices` in their set."""
        self.indices += indices
        self.pool.add(features.pool)
        if self.kept is not None:
            self.kept.add(features.pool)
        if self.spatial is not None and features.spatial is not None:
            self.spatial.add(features.spatial)
            if self.kept_spatial is not None:
                self.kept_spatial.add(features.spatial)


class Compared:
    """A set of images and the one that it is compared with, as one network sees them."""

    def __init__(self, ours: Sums, theirs: Sums):
        self.ours, self.theirs = ours, theirs

    @property
    def features(self) -> tuple[Tensor, Tensor]:
        """Those of all images, (n, D) and (m, D)."""
        return self.ours.features(), self.theirs.features()

    @cached_property
    def distance(self) -> FrechetDistance:
        return self._distance(self.ours.cloud(), self.theirs.cloud())

    @cached_property
    def spatial_distance(self) -> FrechetDistance:
        return self._distance(self.ours.spatial_cloud(), self.theirs.spatial_cloud())

    def _distance(self, ours: Cloud, theirs: Cloud) -> FrechetDistance:
        paired = any(METRICS[metric].against == "pairs" for metric in self.ours.metrics)
        return FrechetDistance(ours, theirs, paired, self.ours.device)

    @cached_property
    def neighbours(self) -> PrecisionRecall:
        return precision_recall(*self.features)

    @cached_property
    def balls(self) -> DensityCoverage:
        return density_coverage(*self.features)

    def measure(self, metric: str, is_named: bool) -> Measurement:
        """The number by a metric of features, which says whose they are where papers would not know it or it is asked.

        Raises RestokError where there are too few images.
        """
        row, network, n, count = METRICS[metric], self.ours.network, self.ours.pool.total, None
        if row.against:
            count = len(self.theirs.features()) if row.needs == "all features" else self.theirs.count
        value, interval, given_reference = FEATURE_FORMULAS[metric](self)
        return Measurement(
            *(metric, value, n, count),
            interval=interval,
            interval_given_reference=given_reference,
            caveat=caveat(min(n, count or n), network),
            features=network.name if is_named or not network.published else "",
        )


def numbers(
    metrics: list[str], compared: list[Compared], values: dict[str, list[float]], sources: str
) -> dict[str, Measurement]:
    """The measurements by `metrics`, in their order; `values` has those of each image, by metric.

    Of several networks each measures what it allows, and the keys name it. Raises RestokError where a number cannot
    be had of these images.
    """
    several = len(compared) > 1
    found = {metric: _mean(metric, of_images, sources) for metric, of_images in values.items()}
    for sets in compared:
        for metric in (name for name in sets.ours.metrics if METRICS[name].basis == "features"):
            key = key_of(metric, sets.ours.network.name) if several else metric
            found[key] = sets.measure(metric, several)
    return {key: found[key] for metric in metrics for key in found if metric_of(key) == metric}


def _mean(metric: str, values: list[float], sources: str) -> Measurement:
    """Of the values of each image."""
    n = len(values)
    if n == 0:
        raise RestokError(f"no pair of {sources} could be read; there is nothing to measure")
    # fsum rounds once: the mean does not depend on the order
    mean, interval = math.fsum(values) / n, mean_interval(values) if n >= FEWEST else None
    return Measurement(metric, mean, n, n, interval=interval, caveat=caveat(n), per_image=tuple(values))


# From a set of images and the one that it is compared with, as a network sees them.
FEATURE_FORMULAS: dict[str, Callable[[Compared], Estimate]] = {
    # one formula: only the sets that are compared differ
    **dict.fromkeys(("gfid", "rfid", "fid", "pfid"), lambda sets: sets.distance.estimate()),
    "fid-inf": lambda sets: sets.distance.infinite(),
    "sfid": lambda sets: sets.spatial_distance.estimate(),
    "is": lambda sets: inception_score(sets.ours.features(), sets.ours.network.logits),
    "precision": lambda sets: sets.neighbours.precision,
    "recall": lambda sets: sets.neighbours.recall,
    "density": lambda sets: sets.balls.density,
    "coverage": lambda sets: sets.balls.coverage,
    "kid": lambda sets: kernel_inception_distance(*sets.features),
    "mind": lambda sets: monge_inception_distance(*sets.features),
    "cmmd": lambda sets: clip_mmd(*sets.features),
}
# From images and their originals (B, 3, H, W), uint8, to a value for each (B,).
PIXEL_FORMULAS = {"psnr": pixels.psnr, "ssim": pixels.ssim, "ms-ssim": pixels.ms_ssim, "mse": pixels.mse}
