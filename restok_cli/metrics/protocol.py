"""The protocol of a number, without which nobody can compare it: how many images, against what, measured how."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from restok_cli.metrics.table import METRICS, interval_text, labelled, name_with_count

if TYPE_CHECKING:  # results of runs are joined without torch
    from restok_cli.metrics.networks.features import FeatureNetwork
    from restok_cli.metrics.reference import Reference

FEWEST_COMPARABLE = 10_000  # images; below, FID is biased by more than papers differ
USUAL = 50_000  # images in papers
PACKAGES = ("restok", "torch", "torch-fidelity", "numpy", "pillow")


@dataclass(frozen=True)
class Measurement:
    metric: str  # its place in METRICS
    value: float
    n: int  # images
    n_reference: int | None = None  # of the reference; None where there is none, or it does not tell
    levels: tuple[float, ...] = ()  # the same for each level of the hierarchy, where that makes sense
    interval: tuple[float, float] | None = None  # 95 %; None where none is known
    interval_given_reference: tuple[float, float] | None = None  # likewise, for comparisons: see `Estimate`
    caveat: str = ""  # why published numbers are not comparable with it
    features: str = ""  # the network behind it, where that is not the one of published numbers, or one of several
    setting: str = ""  # what else belongs to its name: the perturbation of pFID
    per_image: tuple[float, ...] = ()  # of which the value is the mean, where it compares image by image

    @property
    def name(self) -> str:
        """As papers write it, with its n: gFID-50k."""
        return name_with_count(METRICS[self.metric].label, self.n, self.setting)

    @property
    def interval_method(self) -> str:
        """How the interval was made, and of what it is."""
        return METRICS[self.metric].interval if self.interval else ""

    @property
    def label(self) -> str:
        """For tables: the name, and whose features these are where papers would not think of them."""
        return labelled(self.name, self.features)


def caveat(fewest_images: int, network: "FeatureNetwork | None" = None) -> str:
    """Why a number measured so cannot stand beside published ones, or ""."""
    reasons = []
    if fewest_images < FEWEST_COMPARABLE:
        reasons.append(f"fewer than {FEWEST_COMPARABLE:,} images")
    if network is not None and not network.published:
        reasons.append(f"the {network.name} features do not have the published weights")
    return ", ".join(reasons)


def remarks(measurements: list[Measurement]) -> list[str]:
    """Remarks that a reader needs before comparing these numbers with others: a line each."""
    lines = []
    for problem in sorted({measurement.caveat for measurement in measurements} - {""}):
        names = ", ".join(dict.fromkeys(m.label for m in measurements if m.caveat == problem))
        lines.append(f"not comparable with published numbers ({problem}): {names}")
    unusual = dict.fromkeys(m.name for m in measurements if not m.caveat and m.n != USUAL)
    if unusual:
        lines.append(f"papers mostly measure {USUAL:,} images, which matters for FID: {', '.join(unusual)}")
    return lines


def describe_reference(reference: "Reference") -> dict:
    """Describe the reference; images beside statistics are for precision, recall and KID."""
    statistics, images = reference.statistics, reference.images
    seen = images.describe() if images and (images.digests or statistics is None) else {}
    if statistics is None:
        return seen | {"source": reference.source}
    description = {"source": reference.source, "fingerprint": statistics.fingerprint, "form": "statistics"}
    return description | {"n": statistics.count} | ({"images": seen} if seen else {})


def describe_features(network: "FeatureNetwork") -> dict:
    return {
        "network": network.name,
        "dimensions": network.dimensions,
        "weights_sha256": network.weights_sha256,
        "resize": network.resize,
        "published": network.published,
    }


def versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES} | {"python": platform.python_version()}


def metrics_report(measurements: Mapping[str, Measurement]) -> dict:
    """Measurements as a JSON-ready object, without the values of each image."""
    report = {
        key: {"name": measurement.name, **asdict(measurement)}
        | {
            "unit": METRICS[measurement.metric].unit,
            "comparable": not measurement.caveat,
            "definition": METRICS[measurement.metric].definition,
            "interval_method": measurement.interval_method,
        }
        for key, measurement in measurements.items()
    }
    for facts in report.values():
        del facts["per_image"]
    return report


def report(measurements: dict[str, Measurement], protocol: dict) -> dict:
    """The result as one JSON-ready object: {"metrics": {metric: ...}, "protocol": {...}}."""
    return {"metrics": metrics_report(measurements), "protocol": protocol | {"versions": versions()}}


def table(measurements: dict[str, Measurement], against: str) -> list[str]:
    """The result for people, in lines: one per metric, and below it one per level where there are levels.

    `against` is the reference, which each number that depends on it names, with how many images it has.
    """
    rows = []
    for measurement in measurements.values():
        metric, origin = METRICS[measurement.metric], ""
        if metric.against:
            count = f" ({measurement.n_reference:,})" if measurement.n_reference else ""
            origin = f"against {against}{count}"
        bounds = " " + interval_text(measurement.interval) if measurement.interval else ""
        rows.append((measurement.label, measurement.value, bounds, metric.unit, origin))
        rows += [(f"  level {i}", value, "", metric.unit, "") for i, value in enumerate(measurement.levels, start=1)]
    names, intervals, units = (max(len(row[place]) for row in rows) for place in (0, 2, 3))
    return [
        f"{name:<{names}}  {value:>12.6g}{bounds:<{intervals}} {unit:<{units}}  {origin}".rstrip()
        for name, value, bounds, unit, origin in rows
    ]
