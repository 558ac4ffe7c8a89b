"""A request to measure, checked before anything heavy is loaded: no torch is imported."""

import math
import zipfile
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from restok_cli.data.shards.code_layout import is_codes
from restok_cli.errors import Unmet, UsageError, did_you_mean
from restok_cli.metrics.protocol import Measurement
from restok_cli.metrics.table import CHOICES, FEWEST, METRICS, choice_of, interval_text, key_of, metric_of


class Perturbation(NamedTuple):
    """Replacement of codes by others close to them, as pFID has it."""

    share: float  # α: of an image's codes that are replaced
    nearest: int  # δ: codewords of which one replaces a code, itself the nearest of them

    def __str__(self) -> str:
        return f"α={self.share:g}, δ={self.nearest}"

    @property
    def key(self) -> str:
        return f"{self.share:g},{self.nearest}"


class Request(NamedTuple):
    """Images or codes, and the metrics to measure them by."""

    samples: str
    metrics: list[str]  # values of --metric, each once; "all" is left to be resolved by what the inputs allow
    split: str  # of a data set, or "all"
    crop: int | None
    reference: str | None
    model: Path | None  # the tokenizer that makes codes of images, or for nll the generator
    num_codes: str | None  # numbers of codes, "1,4,16" or "all", to measure what the first ones of each image give
    max_pixels: int  # of an image
    max_bytes: int  # of its file
    per_image: bool = False  # whether the values of each image are asked for, too
    perturbations: tuple[Perturbation, ...] = ()  # of the codes, for pfid

    @property
    def decodes(self) -> bool:
        """Whether SAMPLES are compared with what the model decodes from codes of them."""
        return self.num_codes is not None or bool(self.perturbations)


class Networks(NamedTuple):
    """The networks behind the metrics: which, where their weights lie, and where their features are kept."""

    features: tuple[str, ...]  # each once
    inception_weights: Path | None
    vgg_weights: Path | None
    timm_weights: tuple[Path, ...]  # of those networks that are timm's, in their order, or none
    cache: Path | None
    batch_size: int  # images held at a time: speed and memory, not numbers


class Limit(NamedTuple):
    """How bad a metric may be: itself, or an edge of its 95 % interval."""

    metric: str
    value: float
    edge: str = ""  # lower or upper


def parse_limits(texts: list[str]) -> list[Limit]:
    """Limits from texts like "gfid=3.5" and "gfid=3.5:upper". Raises UsageError."""
    limits = []
    for text in texts:
        name, _, rest = text.partition("=")
        number, colon, edge = rest.partition(":")
        if metric_of(name) not in METRICS:
            meant = did_you_mean(name, METRICS)
            raise UsageError(f"--fail-under {text}: unknown metric {name}{meant}; give NAME=VALUE")
        if colon and edge not in ("lower", "upper"):
            raise UsageError(
                f"--fail-under {text}: {edge or 'nothing'} is no edge; give {name}={number}:lower or :upper"
            )
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"--fail-under {text}: {number or 'nothing'} is no number; give for example {name}=3.5")
        limits.append(Limit(name, value, edge))
    return limits


def check_limits(limits: list[Limit], measurements: Mapping[str, Measurement]) -> None:
    """Raises Unmet where a measurement is worse than its limit, UsageError where there is none, or no interval."""
    worse = []
    for name, limit, edge in limits:
        if name not in measurements:
            raise UsageError(f"--fail-under {name}: these inputs do not allow it, so that it was not measured")
        measurement, higher = measurements[name], METRICS[metric_of(name)].higher_is_better
        value, where = measurement.value, ""
        if edge:
            if measurement.interval is None:
                raise UsageError(
                    f"--fail-under {name}={limit:g}:{edge}: no interval of {measurement.label} is known"
                    f"{_why_unknown(measurement)}; leave :{edge} out"
                )
            value = measurement.interval[edge == "upper"]
            where = f" at the {edge} edge of its 95 % interval {interval_text(measurement.interval)}"
        if value < limit if higher else value > limit:
            worse.append(f"{measurement.label} is {value:.6g}{where}, {'below' if higher else 'above'} {limit:g}")
    if worse:
        raise Unmet("; ".join(worse))


def _why_unknown(measurement: Measurement) -> str:
    """The reason that a measurement has no interval, in words to go on with, where one is known."""
    fewest = min(measurement.n, measurement.n_reference or measurement.n)
    if not METRICS[measurement.metric].interval or fewest >= FEWEST:
        return ""
    return f", since of fewer than {FEWEST} images, here {fewest}, a variance says too little"


def parse_perturbations(perturb: str | None, nearest: str | None) -> tuple[Perturbation, ...]:
    """Every share of `perturb` ("0.05,0.1") with every number of `nearest` ("100"). Raises UsageError."""
    if perturb is None and nearest is None:
        return ()
    if perturb is None or nearest is None:
        raise UsageError("--perturb 0.05,0.1 and --nearest 100 go together: how many codes are replaced, and by which")
    shares, counts = [], []
    for text in perturb.split(","):
        try:
            shares.append(float(text))
        except ValueError:
            shares.append(math.nan)
        if not 0 < shares[-1] <= 1:
            raise UsageError(f"--perturb {perturb}: {text or 'nothing'} is no share; give such as 0.05,0.1, up to 1")
    for text in nearest.split(","):
        if not text.isdecimal() or int(text) < 2:
            raise UsageError(
                f"--nearest {nearest}: give numbers of codewords from 2 on, such as 100; a codeword counts among those"
                " nearest to it"
            )
        counts.append(int(text))
    return tuple(dict.fromkeys(Perturbation(share, count) for share in shares for count in counts))


def holds_codes(samples: str) -> bool:
    """Whether SAMPLES are codes: a code cache, or a file that `encode` or `generate --codes` wrote."""
    path = Path(samples)
    if path.suffix.lower() == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "codes.npy" in archive.namelist()
    return path.suffix.lower() in (".safetensors", ".jsonl") or is_codes(path)


def measures_codes(metric: str) -> bool:
    """Whether this value of --metric is of codes and not of images."""
    return metric != "all" and CHOICES[metric].basis == "codes"


def compares_sets(metrics: list[str]) -> bool:
    """Whether one of the metrics, by default gfid, compares two sets of images."""
    sets = {name for name, metric in CHOICES.items() if metric.against == "set"} | {"all"}
    return bool(sets & set(metrics or ["gfid"]))


def settle(request: Request, limits: Collection[str], features: Sequence[str]) -> Request:
    """The request with its metrics chosen. `limits` has the keys that --fail-under speaks of, `features` the networks.

    Raises UsageError where it cannot be what is meant.
    """
    for key in limits:
        keys = keys_of(metric_of(key), request, features)
        if key not in keys:
            raise UsageError(f"--fail-under {key}: give {' or '.join(keys)}")
    metrics = _choose(request, limits)
    of_codes = [name for name in metrics if measures_codes(name)]
    if of_codes and len(of_codes) < len(metrics):
        raise UsageError(f"{of_codes[0]} measures codes, other metrics images; run `restok evaluate` once for each")
    pixels = [name for name in CHOICES if CHOICES[name].basis == "pixels"]
    if request.per_image and (request.decodes or not {*pixels, "all"} & set(metrics)):
        raise UsageError(f"--per-image is for metrics that compare image by image; add one of {', '.join(pixels)}")
    if request.perturbations or "pfid" in metrics:
        _check_perturbations(request, metrics)
        return request._replace(metrics=metrics)
    if request.num_codes is not None:
        _check_prefixes(request.num_codes, of_codes, request.reference)
        return request._replace(metrics=metrics)
    if request.model is not None and not of_codes:
        raise UsageError("--model makes codes, for codebook, nll, --num-codes and --perturb; leave it out otherwise")
    needy = next((name for name in metrics if name != "all" and CHOICES[name].against), None)
    if needy and request.reference is None:
        raise UsageError(
            f"{needy} needs something to compare with; give --reference, for example --reference sample --split train"
        )
    if needy is None and "all" not in metrics and request.reference is not None:
        raise UsageError(f"{metrics[0]} compares with nothing; leave --reference out, or add --metric gfid")
    return request._replace(metrics=metrics)


def keys_of(metric: str, request: Request, features: Sequence[str]) -> list[str]:
    """The keys of the measurements by a metric: several where several networks look, or codes are perturbed."""
    keys, perturbations = [metric], request.perturbations
    if metric == "pfid" and len(perturbations) > 1:
        keys += [key_of(metric, perturbation.key) for perturbation in perturbations]
    several = METRICS[metric].basis == "features" and len(features) > 1
    return [key_of(key, network) for key in keys for network in features] if several else keys


def check_weights(metrics: Collection[str], networks: Collection[str], given: Mapping[str, object]) -> None:
    """Raises UsageError where weights are `given` of a network that none of the metrics looks through."""
    looks = any(name == "all" or CHOICES[name].basis == "features" for name in metrics)
    used = {
        "--inception-weights": looks and "inception" in networks,
        "--vgg-weights": (looks and "vgg16" in networks) or not {"all", "lpips"}.isdisjoint(metrics),
        "--timm-weights": looks and not {"inception", "vgg16", "random"}.issuperset(networks),
    }
    if idle := next((option for option, value in given.items() if value and not used[option]), None):
        raise UsageError(
            f"{idle} is of a network that none of these metrics looks through; leave it out, or ask for it by"
            " --metric or --features"
        )


def of_each(request: Request, samples: list[str]) -> list[Request]:
    """The request for each of SAMPLES, which are runs of one method where there are several.

    Raises UsageError where several cannot be, or it is not clear which they are.
    """
    if len(samples) > 1 and request.decodes:
        option = "--perturb" if request.perturbations else "--num-codes"
        raise UsageError(f"{option} measures what is decoded of one SAMPLES; run `restok evaluate` once for each")
    if len(samples) > 1 and "-" in samples:
        raise UsageError("- is a stream that stands alone; give files or folders where there are several SAMPLES")
    tar = next((one for one in samples if one.lower().endswith(".tar")), None)
    if len(samples) > 1 and tar is not None:
        raise UsageError(
            f"{tar}: of several SAMPLES each is a run, and a tar file may be one or a part of one; give the folder that"
            " holds the tars of a run"
        )
    twice = next((one for one in samples if samples.count(one) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice, where runs differ by their seeds; give each run once")
    return [request._replace(samples=one) for one in samples]


def check_plot(path: Path) -> None:
    """Raises UsageError where no plot can be written there."""
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UsageError(f"--plot {path}: give a file name that ends in .png, .pdf or .svg")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; install it with `pip install 'restok[plots]'`")


def _choose(request: Request, limits: Collection[str]) -> list[str]:
    for name in request.metrics:
        if name not in (*CHOICES, "all"):
            raise UsageError(f"unknown metric {name}{did_you_mean(name, CHOICES)}; choose from {', '.join(CHOICES)}")
    metrics = list(dict.fromkeys(request.metrics)) or list(dict.fromkeys(choice_of(name) for name in limits))
    metrics = metrics or ["pfid" if request.perturbations else "rfid" if request.num_codes else "gfid"]
    if "all" in metrics:
        metrics = ["all"]
        if holds_codes(request.samples):
            metrics = ["codebook", "nll"] if request.model else ["codebook"]
    unmeasured = next((name for name in limits if choice_of(name) not in metrics), None)
    if unmeasured and metrics != ["all"]:
        raise UsageError(f"--fail-under {unmeasured}: it is not measured; add --metric {choice_of(unmeasured)}")
    return metrics


def _check_perturbations(request: Request, metrics: list[str]) -> None:
    if not request.perturbations:
        raise UsageError("pfid perturbs codes; say how, for example --perturb 0.05,0.1 --nearest 100")
    other = next((name for name in metrics if name != "pfid"), None)
    if other:
        raise UsageError(f"--perturb measures pfid, not {other}; run `restok evaluate` once for each")
    if request.reference is not None:
        raise UsageError("--perturb compares with SAMPLES themselves; leave --reference out")
    if request.num_codes is not None:
        raise UsageError("--perturb changes all codes of an image; leave --num-codes out, or run once for each")
    if holds_codes(request.samples):
        raise UsageError(f"{request.samples} holds codes, and pfid compares images; give the images")


def _check_prefixes(num_codes: str, of_codes: list[str], reference: str | None) -> None:
    if reference is not None:
        raise UsageError("--num-codes compares with SAMPLES themselves; leave --reference out")
    if of_codes:
        raise UsageError("codebook and nll measure codes, --num-codes images; run `restok evaluate` once for each")
    if num_codes != "all" and not all(part.isdecimal() and int(part) for part in num_codes.split(",")):
        raise UsageError(f"--num-codes {num_codes}: give numbers such as 1,4,16, or all")
