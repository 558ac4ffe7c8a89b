"""The formulas of the metrics: from what was seen of two sets of images to numbers."""

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics.formulas import pixels
from restok_cli.metrics.formulas.cmmd import clip_mmd
from restok_cli.metrics.formulas.density import density_coverage
from restok_cli.metrics.formulas.frechet import GaussianStatistics
from restok_cli.metrics.formulas.frechet_intervals import Cloud, FrechetEstimates, frechet_estimates
from restok_cli.metrics.formulas.inception_score import InceptionScore
from restok_cli.metrics.formulas.kid import kernel_inception_distance
from restok_cli.metrics.formulas.mind import monge_inception_distance
from restok_cli.metrics.formulas.neighbours import precision_recall
from restok_cli.metrics.intervals import FEWEST, Estimate
from restok_cli.metrics.kept import KeptRows
from restok_cli.metrics.networks.features import FeatureNetwork, Features
from restok_cli.metrics.protocol import Measurement, caveat
from restok_cli.metrics.reference import Statistics
from restok_cli.metrics.spread import mean_interval
from restok_cli.metrics.table import METRICS, Metric, key_of, metric_of


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
        self.pool = GaussianStatistics(network.dimensions, self.device)
        places = network.spatial_dimensions if "places" in needs else 0
        self.spatial = GaussianStatistics(places, self.device) if places else None
        self.score = InceptionScore() if "classes" in needs else None
        is_sample = with_intervals and statistics is None and any(METRICS[metric].against for metric in metrics)
        self.keeps = "all features" in needs or is_sample
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
            return Cloud(self.statistics.gaussian, None, np.empty(0, int))
        return Cloud(self.pool.gaussian(), self.kept and self.kept.rows(), np.array(self.indices))

    def spatial_cloud(self) -> Cloud | None:
        """The features with places."""
        if self.statistics:
            spatial = self.statistics.spatial
            return Cloud(spatial, None, np.empty(0, int)) if spatial else None
        rows = self.kept_spatial and self.kept_spatial.rows()
        return Cloud(self.spatial.gaussian(), rows, np.array(self.indices)) if self.spatial else None

    def features(self) -> Tensor:
        """The pool features (n, D) of all images that were read, which may be fewer than the statistics are of.

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
        if self.spatial is not None and features.spatial is not None:
            self.spatial.add(features.spatial)
            if self.kept_spatial is not None:
                self.kept_spatial.add(features.spatial)
        if self.score is not None:
            self.score.add(self.network.logits(features.pool))
        if self.kept is not None:
            self.kept.add(features.pool)


def numbers(
    metrics: list[str],
    ours: Sums | None,
    theirs: Sums | None,
    values: dict[str, list[float]],
    sources: str,
) -> dict[str, Measurement]:
    """The measurement by each of `metrics`; `values` has those of each image. Raises RestokError where there is none.

    `ours` and `theirs` may be None where no metric is of features.
    """
    measurements = {}
    if ours and theirs:
        measurements |= _feature_numbers(metrics, ours, theirs)
    for metric, of_images in values.items():
        n = len(of_images)
        if n == 0:
            raise RestokError(f"no pair of {sources} could be read; there is nothing to measure")
        # fsum rounds once: the mean does not depend on the order
        mean, interval = math.fsum(of_images) / n, mean_interval(of_images) if n >= FEWEST else None
        measurements[metric] = Measurement(
            metric, mean, n, n, interval=interval, caveat=caveat(n), per_image=tuple(of_images)
        )
    return {metric: measurements[metric] for metric in metrics}


class Compared(NamedTuple):
    """A set of images and the one that it is compared with, as one network sees them."""

    ours: Sums
    theirs: Sums


def numbers_of_networks(
    metrics: list[str], compared: list[Compared], values: dict[str, list[float]], sources: str
) -> dict[str, Measurement]:
    """As `numbers`, of any number of networks: of several, each measures what it allows, and the keys name it."""
    if len(compared) < 2:
        ours, theirs = compared[0] if compared else (None, None)
        return numbers(metrics, ours, theirs, values, sources)
    found = numbers(list(values), None, None, values, sources)
    of_features = [metric for metric in metrics if metric not in values]
    for ours, theirs in compared:
        network = ours.network.name
        for metric, number in numbers(measurable(of_features, ours.network), ours, theirs, {}, sources).items():
            found[key_of(metric, network)] = replace(number, features=network)
    return {key: found[key] for metric in metrics for key in found if metric_of(key) == metric}


def _feature_numbers(metrics: list[str], ours: Sums, theirs: Sums) -> dict[str, Measurement]:
    of_features = [metric for metric in metrics if METRICS[metric].basis == "features"]
    estimates: dict[str, Estimate] = {}
    for formula in dict.fromkeys(FEATURE_FORMULAS[metric] for metric in of_features):
        estimates |= formula(ours, theirs)
    n, network = ours.pool.total, ours.network
    features = "" if network.published else network.name
    measurements = {}
    for name in of_features:
        metric, count = METRICS[name], None
        if metric.against:
            count = len(theirs.features()) if metric.needs == "all features" else theirs.count
        (value, interval), unusual = estimates[name], caveat(min(n, count or n), network)
        measurements[name] = Measurement(name, value, n, count, interval=interval, caveat=unusual, features=features)
    return measurements


def _frechet(ours: Sums, theirs: Sums) -> dict[str, Estimate]:
    plain, infinite = _distances(ours, theirs, ours.cloud(), theirs.cloud(), "fid-inf" in ours.metrics)
    # one formula: only the sets that are compared differ
    return dict.fromkeys(("gfid", "rfid", "fid", "pfid"), plain) | ({"fid-inf": infinite} if infinite else {})


def _spatial_frechet(ours: Sums, theirs: Sums) -> dict[str, Estimate]:
    a, b = ours.spatial_cloud(), theirs.spatial_cloud()
    return {"sfid": _distances(ours, theirs, a, b).plain} if a and b else {}


def _distances(ours: Sums, theirs: Sums, a: Cloud, b: Cloud, infinite: bool = False) -> FrechetEstimates:
    paired = any(METRICS[metric].against == "pairs" for metric in ours.metrics)
    return frechet_estimates(a, b, paired, infinite, ours.device)


def _inception_score(ours: Sums, _theirs: Sums) -> dict[str, Estimate]:
    return {"is": ours.score.estimate()} if ours.score else {}


def _precision_recall(ours: Sums, theirs: Sums) -> dict[str, Estimate]:
    return precision_recall(ours.features(), theirs.features())._asdict()


def _density_coverage(ours: Sums, theirs: Sums) -> dict[str, Estimate]:
    return density_coverage(ours.features(), theirs.features())._asdict()


def _monge_distance(ours: Sums, theirs: Sums) -> dict[str, Estimate]:
    return {"mind": monge_inception_distance(ours.features(), theirs.features())}


def _clip_distance(ours: Sums, theirs: Sums) -> dict[str, Estimate]:
    return {"cmmd": clip_mmd(ours.features(), theirs.features())}


def _kernel_distance(ours: Sums, theirs: Sums) -> dict[str, Estimate]:
    return {"kid": kernel_inception_distance(ours.features(), theirs.features())}


# From the features of a set, and of the one that it is compared with, to estimates by the names of METRICS.
FEATURE_FORMULAS = {
    "gfid": _frechet,
    "rfid": _frechet,
    "fid": _frechet,
    "pfid": _frechet,
    "fid-inf": _frechet,
    "sfid": _spatial_frechet,
    "is": _inception_score,
    "precision": _precision_recall,
    "recall": _precision_recall,
    "density": _density_coverage,
    "coverage": _density_coverage,
    "kid": _kernel_distance,
    "mind": _monge_distance,
    "cmmd": _clip_distance,
}
# From images and their originals (B, 3, H, W), uint8, to a value for each (B,).
PIXEL_FORMULAS = {"psnr": pixels.psnr, "ssim": pixels.ssim, "ms-ssim": pixels.ms_ssim, "mse": pixels.mse}
