"""The formulas of the metrics: from what was seen of two sets of images to numbers."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from restok_cli.errors import RestokError
from restok_cli.metrics import pixels
from restok_cli.metrics.cmmd import clip_mmd
from restok_cli.metrics.frechet import Gaussian, GaussianStatistics, frechet_distance
from restok_cli.metrics.inception_score import InceptionScore
from restok_cli.metrics.kid import kernel_inception_distance
from restok_cli.metrics.mind import monge_inception_distance
from restok_cli.metrics.neighbours import density_coverage, precision_recall
from restok_cli.metrics.networks.features import FeatureNetwork, Features
from restok_cli.metrics.protocol import Measurement, caveat
from restok_cli.metrics.reference import Statistics
from restok_cli.metrics.table import METRICS, Metric, key_of, metric_of


def measurable(metrics: list[str], network: FeatureNetwork) -> list[str]:
    """Those of the metrics that this network's features allow; random ones stand for those of any network."""

    def is_allowed(metric: Metric) -> bool:
        if metric.basis != "features" or (metric.network and network.name not in (metric.network, "random")):
            return False
        return {"classes": network.num_classes > 0, "places": network.spatial_dimensions > 0}.get(metric.needs, True)

    return [name for name in metrics if is_allowed(METRICS[name])]


class Sums:
    """The features of a set, as the metrics need them; where there are `statistics`, those count as the sums."""

    def __init__(self, network: FeatureNetwork, metrics: list[str], statistics: Statistics | None = None):
        self.network, self.statistics = network, statistics
        needs = {METRICS[metric].needs for metric in metrics}
        self.device = network.device if network.device.type == "cuda" else None  # where they are added up
        self.pool = GaussianStatistics(network.dimensions, self.device)
        places = network.spatial_dimensions if "places" in needs else 0
        self.spatial = GaussianStatistics(places, self.device) if places else None
        self.score = InceptionScore() if "classes" in needs else None
        self.keeps, self.kept = "all features" in needs, list[Tensor]()

    @property
    def count(self) -> int | None:
        """How many images the set has; None where its statistics do not tell."""
        return self.statistics.count if self.statistics else self.pool.total

    def gaussian(self) -> Gaussian:
        """The Gaussian of the pool features."""
        return self.statistics.gaussian if self.statistics else self.pool.gaussian()

    def spatial_gaussian(self) -> Gaussian | None:
        """The Gaussian of the features with places."""
        if self.statistics:
            return self.statistics.spatial
        return self.spatial.gaussian() if self.spatial else None

    def features(self) -> Tensor:
        """The pool features (n, D) of all images that were read, which may be fewer than the statistics are of.

        On a GPU where there is one: distances between all of them are much arithmetic.
        """
        self.kept = [torch.cat(self.kept).to(self.device or "cpu")]
        return self.kept[0]

    def add(self, features: Features) -> None:
        self.pool.add(features.pool)
        if self.spatial is not None and features.spatial is not None:
            self.spatial.add(features.spatial)
        if self.score is not None:
            self.score.add(self.network.logits(features.pool))
        if self.keeps:
            self.kept.append(features.pool)


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
        mean = math.fsum(of_images) / n
        measurements[metric] = Measurement(metric, mean, n, n, caveat=caveat(n), per_image=tuple(of_images))
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
    for ours, theirs in compared:
        network = ours.network.name
        for metric, number in numbers(measurable(metrics, ours.network), ours, theirs, {}, sources).items():
            found[key_of(metric, network)] = replace(number, features=network)
    return {key: found[key] for metric in metrics for key in found if metric_of(key) == metric}


def _feature_numbers(metrics: list[str], ours: Sums, theirs: Sums) -> dict[str, Measurement]:
    of_features = [metric for metric in metrics if METRICS[metric].basis == "features"]
    values: dict[str, float] = {}
    for formula in dict.fromkeys(FEATURE_FORMULAS[metric] for metric in of_features):
        values |= formula(ours, theirs)
    n, network = ours.pool.total, ours.network
    features = "" if network.published else network.name
    measurements = {}
    for name in of_features:
        metric, count = METRICS[name], None
        if metric.against:
            count = len(theirs.features()) if metric.needs == "all features" else theirs.count
        unusual = caveat(min(n, count or n), network)
        measurements[name] = Measurement(name, values[name], n, count, caveat=unusual, features=features)
    return measurements


def _frechet(ours: Sums, theirs: Sums) -> dict[str, float]:
    # one formula: only the sets that are compared differ
    return dict.fromkeys(("gfid", "rfid", "fid", "pfid"), frechet_distance(ours.gaussian(), theirs.gaussian()))


def _spatial_frechet(ours: Sums, theirs: Sums) -> dict[str, float]:
    a, b = ours.spatial_gaussian(), theirs.spatial_gaussian()
    return {"sfid": frechet_distance(a, b)} if a and b else {}


def _inception_score(ours: Sums, _theirs: Sums) -> dict[str, float]:
    return {"is": ours.score.score()} if ours.score else {}


def _precision_recall(ours: Sums, theirs: Sums) -> dict[str, float]:
    return precision_recall(ours.features(), theirs.features())._asdict()


def _density_coverage(ours: Sums, theirs: Sums) -> dict[str, float]:
    return density_coverage(ours.features(), theirs.features())._asdict()


def _monge_distance(ours: Sums, theirs: Sums) -> dict[str, float]:
    return {"mind": monge_inception_distance(ours.features(), theirs.features())}


def _clip_distance(ours: Sums, theirs: Sums) -> dict[str, float]:
    return {"cmmd": clip_mmd(ours.features(), theirs.features())}


def _kernel_distance(ours: Sums, theirs: Sums) -> dict[str, float]:
    return {"kid": kernel_inception_distance(ours.features(), theirs.features())}


# From the features of a set, and of the one that it is compared with, to values by the names of METRICS.
FEATURE_FORMULAS = {
    "gfid": _frechet,
    "rfid": _frechet,
    "fid": _frechet,
    "pfid": _frechet,
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
