"""The only list of metrics: how each is written, what it needs, which way is better. No torch is imported.

Adding one is a row here and a function that `metrics/numbers.py` finds under the same name.
"""

from functools import partial
from typing import Literal, NamedTuple

# Numbers that belong to a definition stand here, and the functions take them from here.
SPATIAL_CHANNELS = 7  # of the convolution that sFID is taken of, as ADM does
SPLIT_SIZE = 5000  # images of a split of the Inception Score
SUBSETS, SUBSET_SIZE = 100, 1000  # of the Kernel Inception Distance
NEIGHBOURS = 3  # k: an image's ball reaches to its third nearest neighbour, as in the ADM evaluator
DENSITY_NEIGHBOURS = 5  # k of density and coverage
PROJECTIONS, PROJECTIONS_SEED = 1000, 2020  # of the Monge Inception Distance, as torch-fidelity has them
CMMD_SIGMA, CMMD_SCALE = 10, 1000
LEVEL, FEWEST = 0.95, 30  # of intervals; images: of fewer, a variance says too little
GROUPS, GROUPS_SEED = 20, 2020  # of images that are left out together in the jackknife, chosen by chance
MAX_PSNR = 100.0  # dB; identical images would be infinitely good, which no mean and no JSON can hold
SSIM_WINDOW, MS_SSIM_SCALES = 11, 5

_FRECHET = "Frechet distance of Gaussians fitted to pool features, unbiased covariance, float64"
_BALLS = f"in the ball of an image of the other set that reaches to its {NEIGHBOURS}rd neighbour, pool features"
_OPEN_BALLS = f"the open ball of a reference image that reaches to its {DENSITY_NEIGHBOURS}th neighbour, pool features"

# Of intervals: what each covers, and how it is made. None covers another training of the model.
_COVERS = f"{LEVEL * 100:g} % for the"
_REDRAWS = f"{_COVERS} expectation over redraws of as many images (statistics count as exact)"
_SMOOTH = f"{_REDRAWS}, pairs together: by the influence of each image (infinitesimal jackknife), normal"
_GROUPS = f"{_REDRAWS}, of independent sets: by the jackknife over {GROUPS} groups of images, Student's t"
_BALLS_LEFT_OUT = (
    f"{_REDRAWS}, of independent sets: by the jackknife over {GROUPS} groups of balls, less the points' part"
)
_INFINITE = (
    f"{_COVERS} distance of endlessly many images (statistics count as exact): by the influence of each image"
    " (infinitesimal jackknife) and the next term of the bias, normal"
)
_KERNEL = (
    f"{_COVERS} distance of what two independent sets are drawn from: by both orders of the variance of a U-statistic"
    " and the choice of subsets, normal"
)
_MEAN = f"{_COVERS} mean over endlessly many such images: Student's t"


class Metric(NamedTuple):
    label: str  # as papers write it
    definition: str  # results are compared only where their definitions are equal: a change of words is a new metric
    basis: Literal["features", "pixels", "codes"]
    # of features: logits of classes, features with places, the features of all images at once, codes to be changed
    needs: Literal["", "classes", "places", "all features", "codes"] = ""
    network: Literal["", "clip"] = ""  # the only one whose features it is defined by
    against: Literal["", "set", "pairs"] = ""  # nothing, a set of images, or the original of each image
    higher_is_better: bool = True
    unit: str = ""
    smallest_side: int = 1  # pixels
    fewest_images: int = 1
    fewest_per_dimension: int = 0  # images of each set for each feature
    interval: str = ""  # what it covers, and how it is made; "" where there is none


# Rows that have more in common than their names.
_frechet = partial(Metric, basis="features", against="set", higher_is_better=False, interval=_SMOOTH)
_of_all_features = partial(Metric, basis="features", needs="all features", against="set")
_of_pairs = partial(Metric, basis="pixels", against="pairs", interval=_MEAN)

METRICS = {
    "gfid": _frechet("gFID", _FRECHET),
    "rfid": _frechet("rFID", f"{_FRECHET}, between images and their originals", against="pairs"),
    "fid": _frechet("FID", _FRECHET),
    "fid-inf": _frechet(
        "FID∞",
        f"{_FRECHET}, twice that of all images less the mean of two random halves': the line over 1/n, at 0",
        fewest_per_dimension=2 + 1,  # a half has a covariance of full rank
        interval=_INFINITE,
    ),
    "pfid": _frechet(
        "pFID",
        f"{_FRECHET}, between images and those decoded from their codes, of which round(alpha L) were replaced, each by"
        " one of its delta nearest codewords (itself the first), by a seed of the pixels; mean over alpha and delta",
        needs="codes",
        against="pairs",
    ),
    "sfid": _frechet(
        "sFID",
        f"the same of the first {SPATIAL_CHANNELS} channels of a spatial layer, channels last",
        needs="places",
    ),
    "is": Metric(
        "IS",
        f"exp of the mean KL divergence, logits without bias, splits of {SPLIT_SIZE} in file order",
        "features",
        needs="classes",
        interval=_SMOOTH,
    ),
    "precision": _of_all_features(
        "precision",
        f"share of samples {_BALLS}",
        fewest_images=NEIGHBOURS + 1,
        interval=f"{_BALLS_LEFT_OUT}, Student's t of log-odds",
    ),
    "recall": _of_all_features(
        "recall",
        f"share of reference images {_BALLS}",
        fewest_images=NEIGHBOURS + 1,
        interval=f"{_BALLS_LEFT_OUT}, Student's t of log-odds",
    ),
    "kid": _of_all_features(
        "KID",
        f"cubic kernel on pool features, unbiased, {SUBSETS} subsets of up to {SUBSET_SIZE} as torch-fidelity",
        higher_is_better=False,
        interval=_KERNEL,
    ),
    "density": _of_all_features(
        "density",
        f"how often a sample lies in {_OPEN_BALLS}; mean over samples, divided by {DENSITY_NEIGHBOURS}",
        fewest_images=DENSITY_NEIGHBOURS + 1,
        interval=f"{_BALLS_LEFT_OUT}, normal",
    ),
    "coverage": _of_all_features(
        "coverage",
        f"share of reference images that have a sample in {_OPEN_BALLS}",
        fewest_images=DENSITY_NEIGHBOURS + 1,
        interval=f"{_GROUPS} of log-odds",
    ),
    "mind": _of_all_features(
        "MIND",
        f"3 D x mean squared 2-Wasserstein distance of pool features (D) on {PROJECTIONS} directions by seed"
        f" {PROJECTIONS_SEED}, of the larger set as many as the smaller has, as torch-fidelity, float64",
        higher_is_better=False,
        interval=_GROUPS,
    ),
    "cmmd": _of_all_features(
        "CMMD",
        f"{CMMD_SCALE} x squared MMD (biased) of normalised features, Gaussian kernel of sigma {CMMD_SIGMA}, float64",
        network="clip",
        higher_is_better=False,
        interval=_GROUPS,
    ),
    "psnr": _of_pairs("PSNR", f"mean over images, at most {MAX_PSNR:g}", unit="dB"),
    "ssim": _of_pairs(
        "SSIM",
        "mean over images and channels, Gaussian window 11x11 with sigma 1.5, no padding",
        smallest_side=SSIM_WINDOW,
    ),
    "ms-ssim": _of_pairs(
        "MS-SSIM",
        "five scales (Wang et al. 2003), window as of ssim",
        smallest_side=SSIM_WINDOW * 2 ** (MS_SSIM_SCALES - 1),  # the coarsest scale holds a window
    ),
    "lpips": _of_pairs(
        "LPIPS",
        "VGG-16, heads of version 0.1, mean over images",
        higher_is_better=False,
        smallest_side=16,  # below, VGG's last stage has no pixels
    ),
    "mse": _of_pairs("MSE", "mean over images, values in [0, 1]", higher_is_better=False),
    "codebook_usage": Metric("codebook usage", "percent of the codebook that occurs", "codes", unit="%"),
    "codebook_entropy": Metric("codebook entropy", "H_C = -sum p log2 p of code use", "codes", unit="bits"),
    "codebook_perplexity": Metric("codebook perplexity", "2^H_C", "codes", unit="codes"),
    "nll": Metric(
        "NLL",
        "mean of -log p of each code given its class and what is drawn before it, true codes as input",
        "codes",
        higher_is_better=False,
        unit="nats/code",
    ),
}


def key_of(metric: str, *parts: str) -> str:
    """The key of a measurement in results and for --fail-under: ("gfid", "dinov2") -> "gfid[dinov2]"."""
    return metric + "".join(f"[{part}]" for part in parts)


def metric_of(key: str) -> str:
    """The row of METRICS that a key belongs to: "gfid[dinov2]" -> "gfid"."""
    return key.partition("[")[0]


def choice_of(key: str) -> str:
    """The value of --metric that measures it: codebook_usage, codebook_entropy, codebook_perplexity -> codebook."""
    return metric_of(key).partition("_")[0]


# The values of --metric, each with the row of a metric that it measures.
CHOICES = {choice_of(name): metric for name, metric in METRICS.items()}


def name_with_count(label: str, n: int, setting: str = "") -> str:
    """("gFID", 50000) -> "gFID-50k", ("rFID", 190) -> "rFID-190"; with a setting "pFID-190(α=0.05, δ=100)"."""
    name = f"{label}-{n // 1000}k" if n and n % 1000 == 0 else f"{label}-{n}"
    return f"{name}({setting})" if setting else name


def labelled(name: str, features: str) -> str:
    """("rFID-30", "random") -> "rFID-30 (random)"."""
    return f"{name} ({features})" if features else name


def interval_text(interval: tuple[float, float] | None) -> str:
    """(3.1, 3.9) -> "[3.1, 3.9]"; "" where none is known."""
    return "[{:.6g}, {:.6g}]".format(*interval) if interval else ""


def features_of(key: str, protocol: dict) -> dict:
    """Describe the network behind a metric by the protocol; of several, its name is the last part of the key."""
    features = protocol.get("features") or {}
    return features if "network" in features else features.get(key.rpartition("[")[2].removesuffix("]"), {})


def full_key(key: str, protocol: dict) -> str:
    """The key with its network, which it lacks where a single one looked: "gfid" by DINOv2 is "gfid[dinov2]"."""
    features = protocol.get("features") or {}
    lacks_network = METRICS[metric_of(key)].basis == "features" and "network" in features
    return key_of(key, features["network"]) if lacks_network else key


def unusual_features(key: str, protocol: dict) -> str:
    """The network behind this metric of a result, where readers must be told: it is unusual, or one of several."""
    if METRICS[metric_of(key)].basis != "features" or not (features := features_of(key, protocol)):
        return ""
    several = features is not protocol["features"]
    return features["network"] if several or not features.get("published", True) else ""
