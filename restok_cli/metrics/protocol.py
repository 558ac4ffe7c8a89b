"""What a number needs beside it before anyone can compare it: how many pictures, against what, measured how."""

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version

from restok_cli.metrics.features import FeatureNetwork
from restok_cli.metrics.inception_score import SPLIT_SIZE
from restok_cli.metrics.pictures import Pictures, size_text
from restok_cli.metrics.pixels import MAX_PSNR
from restok_cli.metrics.reference import Statistics

FEWEST_COMPARABLE = 10_000  # pictures; below, FID is biased by more than papers differ
PACKAGES = ("restok", "torch", "torch-fidelity", "numpy", "pillow")

_FRECHET = "Frechet distance of Gaussians fitted to pool features, unbiased covariance, float64"
DEFINITIONS = {
    "fid": _FRECHET,
    "gfid": _FRECHET,
    "rfid": _FRECHET + ", between pictures and their reconstructions",
    "is": f"exp of the mean KL divergence, logits without bias, splits of {SPLIT_SIZE} in file order",
    "mse": "mean over pictures, values in [0, 1]",
    "psnr": f"mean over pictures of the PSNR in dB, at most {MAX_PSNR:g}",
    "ssim": "mean over pictures and channels, Gaussian window 11x11 with sigma 1.5, no padding",
    "codebook_usage": "percent of the codebook that occurs",
    "codebook_entropy": "H_C = -sum p log2 p of code use",
    "codebook_perplexity": "2^H_C",
}


@dataclass(frozen=True)
class Measurement:
    name: str  # as papers write it, with its n: gFID-50k
    value: float
    n: int  # pictures
    unit: str = ""
    levels: tuple[float, ...] = ()  # the same for each level of the hierarchy, where that makes sense
    caveat: str = ""  # why published numbers are not comparable with it


def name_with_count(label: str, n: int) -> str:
    """("gFID", 50000) -> "gFID-50k", ("rFID", 190) -> "rFID-190"."""
    return f"{label}-{n // 1000}k" if n and n % 1000 == 0 else f"{label}-{n}"


def caveat(fewest_pictures: int, network: FeatureNetwork | None = None) -> str:
    """Why a number measured so cannot stand beside published ones, or ""."""
    reasons = []
    if fewest_pictures < FEWEST_COMPARABLE:
        reasons.append(f"fewer than {FEWEST_COMPARABLE:,} pictures")
    if network is not None and not network.published:
        reasons.append(f"the {network.name} features do not have the published weights")
    return ", ".join(reasons)


def describe_source(pictures: Pictures | Statistics) -> dict:
    """Where pictures or statistics come from and what was done to them, after they have been measured."""
    origin = {"source": pictures.source, "fingerprint": pictures.fingerprint}
    if isinstance(pictures, Statistics):
        return origin | {"form": "statistics"}
    crop = f"ADM centre crop to {size_text(pictures.size)} (box halving, then bicubic)" if pictures.cropped else "none"
    return origin | {
        "form": "pictures",
        "n": pictures.count - len(pictures.unreadable),
        "unreadable": len(pictures.unreadable),
        "size": size_text(pictures.size),
        "crop": crop,
        "rounding": "none: 8-bit pictures are taken as stored",
    }


def describe_features(network: FeatureNetwork) -> dict:
    return {
        "network": network.name,
        "dimensions": network.dimensions,
        "weights_sha256": network.weights_sha256,
        "resize": network.resize,
    }


def versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES} | {"python": platform.python_version()}


def report(measurements: dict[str, Measurement], protocol: dict) -> dict:
    """The result as one JSON-ready object: {"metrics": {metric: ...}, "protocol": {...}}."""
    metrics = {
        metric: asdict(measurement) | {"comparable": not measurement.caveat, "definition": DEFINITIONS[metric]}
        for metric, measurement in measurements.items()
    }
    return {"metrics": metrics, "protocol": protocol | {"versions": versions()}}


def table(measurements: dict[str, Measurement]) -> str:
    """The result for people: a line per metric, and below it one per level where there are levels."""
    rows = []
    for measurement in measurements.values():
        rows.append((measurement.name, measurement.value, measurement.unit))
        rows += [(f"  level {i}", value, measurement.unit) for i, value in enumerate(measurement.levels, start=1)]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:<{width}}  {value:>12.6g} {unit}".rstrip() for name, value, unit in rows)
