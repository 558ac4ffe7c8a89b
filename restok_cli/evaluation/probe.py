"""The work of `restok probe`: how well simple classifiers tell classes apart by the frozen features of a model."""

import math
import time
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from restok_cli.console import columns, counted, note, track
from restok_cli.data.shards.code_cache import CodeCache
from restok_cli.data.shards.dataset import Dataset
from restok_cli.errors import RestokError
from restok_cli.evaluation import linear_probe, neighbour_probe
from restok_cli.evaluation.probe_data import TEST, TRAIN
from restok_cli.evaluation.probe_features import Labelled, collect, open_source
from restok_cli.evaluation.probe_points import Point, Probed, Which, open_probed
from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.measure import Instruments
from restok_cli.metrics.protocol import versions
from restok_cli.processes import rank

NORMAL_95 = 1.959963984540054  # standard deviations on either side that hold 95 % of a normal distribution
FEWEST_FOR_TOP5 = 6  # classes


class ProbeRequest(NamedTuple):
    model: Path
    data: str
    which: Which
    l2: float | None  # None: chosen
    num_neighbours: int
    cache: Path | None
    batch_size: int  # images held at a time: speed and memory, not results


class Accuracy(NamedTuple):
    """A share of the test images, and its 95 % interval (Wilson 1927)."""

    value: float
    interval: tuple[float, float]


class Result(NamedTuple):
    """Accuracies at one point, by top1 and, where there are enough classes, top5."""

    point: Point
    linear: dict[str, Accuracy]
    neighbours: dict[str, Accuracy]
    l2: float
    iterations: int


class Probing(NamedTuple):
    """All results, and the protocol that made them. Of several processes, only number 0 has results."""

    results: list[Result]
    baselines: dict[str, float]  # accuracies without any features
    protocol: dict


def probe(request: ProbeRequest, data: Dataset | CodeCache, device: torch.device) -> Probing:
    """Fit on the training split and test on the other, at each point of the model.

    Raises UsageError where model and data do not go together, RestokError where one is damaged.
    """
    started = time.monotonic()
    probed = open_probed(request.model, request.which, data if isinstance(data, CodeCache) else None, device)
    instruments = Instruments([FeatureCache(request.cache, probed)], device, request.batch_size)
    sources = [open_source(data, request.data, split, probed, request.batch_size) for split in (TRAIN, TEST)]
    train, test = (collect(source, instruments) for source in sources)
    if rank() > 0:
        return Probing([], {}, {})
    _check(train, test, data)
    results = [
        _probe_point(point, train, test, data.num_classes, request, device)
        for point in track(probed.points, "probes", len(probed.points), "points")
    ]
    described = {source.name: source.images.describe() for source in sources}
    circumstances = _describe(request, probed, data) | described
    circumstances |= {"device": str(device), "seconds": round(time.monotonic() - started, 3)}
    return Probing(results, _baselines(train, test, data.num_classes), circumstances)


def _baselines(train: Labelled, test: Labelled, num_classes: int) -> dict[str, float]:
    most_frequent = train.class_ids.bincount().argmax()
    return {"chance": 1 / num_classes, "most_frequent": float((test.class_ids == most_frequent).double().mean())}


def _check(train: Labelled, test: Labelled, data: Dataset | CodeCache) -> None:
    """Raises RestokError where nothing can be fitted or tested; says it where some can never be right."""
    for split, name in ((train, TRAIN), (test, TEST)):
        if not len(split.rows):
            raise RestokError(f"{data.title}: no image of its {name} split can be decoded; see `restok prepare verify`")
        if not split.rows.isfinite().all():
            raise RestokError("the model's features are not finite numbers; it may have been damaged in training")
    unknown = int((~torch.isin(test.class_ids, train.class_ids)).sum())
    if unknown:
        note(f"{counted(unknown, 'test image')} of classes without training images: counted as wrong")


def _probe_point(
    point: Point, train: Labelled, test: Labelled, num_classes: int, request: ProbeRequest, device: torch.device
) -> Result:
    if device.type == "mps":  # has no float64
        device = torch.device("cpu")
    fitted, tested = (split.rows[:, point.columns].to(device) for split in (train, test))
    class_ids, answers = train.class_ids.to(device), test.class_ids.to(device)
    scores, fit = linear_probe.linear_scores(fitted, class_ids, tested, num_classes, request.l2)
    votes = neighbour_probe.neighbour_scores(fitted, class_ids, tested, num_classes, request.num_neighbours)
    return Result(point, accuracies(scores, answers), accuracies(votes, answers), fit.l2, fit.iterations)


def accuracies(scores: Tensor, class_ids: Tensor) -> dict[str, Accuracy]:
    """How often the right class has the highest score of all (m, C), or one of the five highest.

    Of equal scores the first class counts as the higher; one of minus infinity is never among the highest.
    """
    n, num_classes = scores.shape
    right = scores.gather(1, class_ids[:, None])
    is_before = torch.arange(num_classes, device=scores.device) < class_ids[:, None]
    places = ((scores > right) | ((scores == right) & is_before)).sum(1)
    places[right[:, 0].isneginf()] = num_classes
    tops = {"top1": 1} | ({"top5": 5} if num_classes >= FEWEST_FOR_TOP5 else {})
    correct = {name: int((places < top).sum()) for name, top in tops.items()}
    return {name: Accuracy(count / n, wilson(count, n)) for name, count in correct.items()}


def wilson(count: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `count` of n were seen, by Wilson's score: never outside 0 to 1."""
    share, square = count / n, NORMAL_95**2
    centre = share + square / (2 * n)
    reach = NORMAL_95 * math.sqrt(share * (1 - share) / n + square / (4 * n**2))
    low, high = ((centre + sign * reach) / (1 + square / n) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def _describe(request: ProbeRequest, probed: Probed, data: Dataset | CodeCache) -> dict:
    """The protocol, but for the images that were seen and the machine."""
    condition = "the null class, since the class would be the answer" if probed.part == "generator" else None
    return {
        "model": str(request.model),
        "part": probed.part,
        "model_fingerprint": probed.model_fingerprint,
        "tokenizer_fingerprint": probed.tokenizer_fingerprint,
        "condition": condition,
        "data": data.name,
        "data_fingerprint": data.fingerprint,
        "num_classes": data.num_classes,
        "linear": linear_probe.describe(request.l2),
        "neighbours": neighbour_probe.describe(request.num_neighbours),
        "interval": "95 %, Wilson: of the test images, not of the training of the model",
        "versions": versions() | {"scipy": version("scipy")},
    }


def report(probing: Probing) -> dict:
    """The result as one JSON-ready object: {"probes": [...], "baselines": {...}, "protocol": {...}}."""
    probes = [
        {
            "point": result.point.name,
            "features": result.point.meaning,
            "dimensions": result.point.dimensions,
            "linear": _shares(result.linear) | {"l2": result.l2, "iterations": result.iterations},
            "neighbours": _shares(result.neighbours),
        }
        for result in probing.results
    ]
    return {"probes": probes, "baselines": probing.baselines, "protocol": probing.protocol}


def _shares(found: dict[str, Accuracy]) -> dict[str, dict]:
    return {name: accuracy._asdict() for name, accuracy in found.items()}


def table(probing: Probing) -> list[str]:
    """The result for people, in lines: what would be had without features, and one for each point."""
    circumstances, baselines = probing.protocol, probing.baselines
    fitted, tested = (counted(circumstances[split]["n"], "image") for split in (TRAIN, TEST))
    nearest = f"{circumstances['neighbours']['k']}-NN"
    tops = [f" {name.replace('top', 'top-')}" for name in probing.results[0].linear]
    rows = [("point", "numbers", *(f"linear{top}" for top in tops), "l2", *(f"{nearest}{top}" for top in tops))]
    for point, linear, neighbours, l2, _ in probing.results:
        rows.append((point.name, f"{point.dimensions}", *_cells(linear), f"{l2:g}", *_cells(neighbours)))
    return [
        f"fitted on {fitted}, tested on {tested} of {circumstances['num_classes']} classes: by chance"
        f" {100 * baselines['chance']:.1f} %, by always the most frequent {100 * baselines['most_frequent']:.1f} %",
        *columns(rows, "<"),
    ]


def _cells(found: dict[str, Accuracy]) -> list[str]:
    shares = ((one.value, *one.interval) for one in found.values())
    return ["{:.1f} % [{:.1f}, {:.1f}]".format(*(100 * share for share in three)) for three in shares]
