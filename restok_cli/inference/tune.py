"""The work of `restok tune`: a generator's options of sampling, searched by the features of what they draw.

DIR/request.json     all that the features below depend on
DIR/features/*.npy   those of a block of images, by its options, its seed and its place: none of it is drawn again
DIR/result.json      the result of the last search
DIR/preset.yaml      the options that it chose, for `restok generate --preset`

Nothing of the search itself is kept: from kept features it takes the same turns again, as far as it came. So the same
folder serves another space, metric or reference, and more images.
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from restok_cli.console import Progress, note
from restok_cli.data.classes import choose_classes
from restok_cli.data.image_folders import IMAGE_REQUEST
from restok_cli.errors import UsageError
from restok_cli.files import remove_leftovers, whole_file
from restok_cli.inference.blocks import Job, generate_blocks
from restok_cli.inference.generate import GenerateOptions, describe, find_files, open_job
from restok_cli.inference.sampling_options import default_preset, sampling_options
from restok_cli.inference.tune_result import FEATURES, PRESET_FILE, RESULT_FILE, Measured, Tuning, write_result
from restok_cli.inference.tune_search import (
    Grid,
    Space,
    conclude,
    guidance_strength,
    options_text,
    rung_counts,
    search,
)
from restok_cli.inference.unfinished import alone, check_same
from restok_cli.metrics.cache import FeatureCache, keep_features, kept_features
from restok_cli.metrics.formulas.frechet_intervals import Cloud, influences
from restok_cli.metrics.formulas.inception_score import score_influences
from restok_cli.metrics.image_sets import GROUP_SIZE, groups_at_once
from restok_cli.metrics.intervals import Influences, around, variance
from restok_cli.metrics.measure import Instruments, check_metrics, feature_sums
from restok_cli.metrics.networks.backbones import open_network
from restok_cli.metrics.networks.features import FeatureNetwork, Features
from restok_cli.metrics.numbers import Compared, Sums, numbers
from restok_cli.metrics.protocol import describe_features, describe_reference
from restok_cli.metrics.reference import Reference, open_reference
from restok_cli.metrics.table import METRICS
from restok_cli.model.guidance import SamplingOptions
from restok_cli.processes import barrier, gather, rank, run_in_processes, world_size
from restok_cli.room import check_disk
from restok_cli.schema import Fields, read_json


class TuneRequest(NamedTuple):
    """A search, as the options of the command name it."""

    model: Path
    tokenizer: Path | None  # where the generator does not come with its own
    metric: str
    reference: str | None
    split: str
    space: Space
    first: int  # images of each candidate in the first rung; those of `drawing` are of the last one, and on fresh seeds
    plotted: bool  # whether the Inception Score is needed, too
    features: str
    weights: dict[str, Path | None]  # of the feature network, as `open_network` takes them
    cache: Path | None  # of the features of the reference
    drawing: GenerateOptions  # without classes they are random, so that the first images are of all

    @property
    def fresh_seed(self) -> int:
        """That of the images by which found options are judged."""
        return (self.drawing.seed + 1) % 2**32


def search_options(request: TuneRequest, output: Path, resume: bool, overwrite: bool) -> Tuning | None:
    """Search in all processes, keep everything in `output`, and return the result, in process 0.

    Raises UsageError where that cannot be had, RestokError for damaged models and references.
    """
    grid = Grid(request.space, sampling_options({}, default_preset(request.model)))
    if len(grid.candidates) == 1:
        raise UsageError(f"there is only one way to draw, {options_text(grid.base)}; give more values to try")
    run_in_processes(request.drawing.num_processes)
    device, dtype = request.drawing.computation.open()
    reference = None
    if request.reference is not None:
        reference = open_reference(request.reference, request.split, request.cache)
    drawn, made_of = open_drawn(request, output / FEATURES, grid.base, device, dtype)
    network = drawn.network
    metrics = [request.metric]
    if request.metric != "is" and (network.num_classes or request.plotted):
        metrics.append("is")
    check_metrics(metrics, reference, [network])
    metric = METRICS[request.metric]
    fewest = max(metric.fewest_images, metric.fewest_per_dimension * network.dimensions)
    if request.first < fewest:
        raise UsageError(f"--first {request.first}: {request.metric} by {network.name} needs {fewest} images or more")
    check_disk("--images", request.drawing.count, 4 * sum(drawn.widths), output)
    with alone(output) if rank() == 0 else nullcontext():
        if rank() == 0:
            _begin(output, made_of, resume)
        barrier()
        instruments = Instruments([FeatureCache(request.cache, network)], device, batch_size=64)
        theirs = reference_sums(reference, metrics, instruments, drawn.image_size)
        try:
            tuning = _search(request, grid, drawn, metrics, theirs)
        except BaseException:
            note("the features of what is drawn are kept; the same command with --resume goes on")
            raise
        if rank() > 0:
            return None
        seen = {"reference": describe_reference(reference) if reference else None, "fresh_seed": request.fresh_seed}
        tuning = tuning._replace(protocol=made_of | seen | {"features": describe_features(network)})
        write_result(tuning, output)
    return tuning


def _begin(output: Path, made_of: dict[str, Any], resume: bool) -> None:
    """Write what the features will depend on; with `resume`, raise UsageError where what is there depends on other."""
    path = output / IMAGE_REQUEST
    remove_leftovers(output)
    remove_leftovers(output / FEATURES)
    if resume and path.is_file():
        check_same(read_json(Fields, path), made_of, f"{output} was begun")
    else:
        shutil.rmtree(output / FEATURES, ignore_errors=True)
        for name in (RESULT_FILE, PRESET_FILE):
            (output / name).unlink(missing_ok=True)
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(made_of, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def reference_sums(
    reference: Reference | None, metrics: list[str], instruments: Instruments, size: tuple[int, int]
) -> Sums:
    """The sums that samples of that (height, width) are compared with, in process 0.

    The reference counts as exact where that can be: it is one for all, so that differences do not vary with it.
    """
    (network,), compared = instruments.networks, [metric for metric in metrics if METRICS[metric].against]
    if reference is None:
        return Sums(network, compared)
    if reference.images is None or (
        reference.statistics is not None and not any(METRICS[metric].needs == "all features" for metric in compared)
    ):
        return Sums(network, compared, reference.statistics)
    reference.images.crop_to(size)
    sums = feature_sums(reference.images, compared, instruments, with_intervals="fid-inf" in compared)
    sums.statistics = reference.statistics
    return sums


class Drawn:
    """Images that options of sampling draw, block by block, each once: their features are kept in a folder."""

    def __init__(self, folder: Path, job: Job, classes: list[str] | None, network: FeatureNetwork):
        self.folder, self.job, self.classes, self.network = folder, job, classes, network
        self.widths = [network.dimensions, network.spatial_dimensions]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)."""
        assert self.job.tokenizer is not None, "images are drawn"
        return self.job.tokenizer.config.image_size

    def draw(self, candidates: Sequence[SamplingOptions], count: int, seed: int) -> None:
        """Draw what is missing of the first `count` images of all candidates, all processes together."""
        missing, blocks = [], self.blocks(count)
        if rank() == 0:
            missing = [
                (options, block)
                for options in candidates
                for block in blocks
                if self.find(options, seed, block) is None
            ]
        missing = gather(missing)[0][rank() :: world_size()]
        class_ids = choose_classes(self.classes, self.job.class_names, count, seed)
        job = self.job._replace(seed=seed, class_ids=class_ids)
        description = f"seed {seed}: {count:,} images for each of {len(candidates)}"
        with Progress(description, sum(len(block) for _, block in missing), "images") as progress:
            for options, group in groupby(missing, key=itemgetter(0)):
                for block in generate_blocks(job._replace(sampling=options), [block for _, block in group]):
                    assert block.images is not None, "the job has a tokenizer"
                    path = self._path(options, seed, block.indices)
                    keep_features(path, features_of(block.images, self.network))
                    progress.advance(len(block.indices))
        barrier()

    def sums(self, options: SamplingOptions, count: int, seed: int, metrics: list[str], with_intervals: bool) -> Sums:
        """The sums of the first `count` images, which have been drawn."""
        sums = Sums(self.network, metrics, folder=self.folder, with_intervals=with_intervals)
        for block in self.blocks(count):
            if features := self.find(options, seed, block):
                sums.add(features, list(block))
        return sums

    def blocks(self, count: int) -> list[range]:
        """The first `count` images, which are whole blocks."""
        return [range(i, i + self.job.batch_size) for i in range(0, count, self.job.batch_size)]

    def find(self, options: SamplingOptions, seed: int, block: range) -> Features | None:
        """The features of a block; None where it has not been drawn, or its file was damaged."""
        features = kept_features(self._path(options, seed, block), self.widths)
        return features if features is not None and len(features.pool) == len(block) else None

    def _path(self, options: SamplingOptions, seed: int, block: range) -> Path:
        name = options_text(options).replace(" ", ",")
        return self.folder / f"{name}-seed{seed}-{block.start:06d}-{block.stop:06d}.npy"


def open_drawn(
    request: TuneRequest, folder: Path, default: SamplingOptions, device: torch.device, dtype: str
) -> tuple[Drawn, dict[str, Any]]:
    """Models and network, loaded, for what is drawn into `folder`; and all that it depends on but for its options."""
    files = find_files(request.model, request.tokenizer)
    network = open_network(request.features, device, **request.weights)
    classes = request.drawing.classes or (["random"] if files.har.class_names else None)
    options = request.drawing._replace(classes=classes)
    job = open_job(files, options, default, device, dtype)
    made_of = describe(job, files, options, dtype, codes=False) | {"batch_size": job.batch_size}
    made_of |= {"features": network.name, "features_sha256": network.weights_sha256}
    for name in ("count", "codes_only", *SamplingOptions._fields):
        del made_of[name]
    return Drawn(folder, job, classes, network), made_of


def features_of(images: Tensor, network: FeatureNetwork) -> Features:
    """The features of uint8 images (B, 3, H, W), in groups as `restok evaluate` takes them."""
    at_once = groups_at_once(network.device) * GROUP_SIZE
    images = images.contiguous()  # as images that were read: for other strides, libraries may sum in another order
    parts = [network(pad(part, (0, 0, 0, 0, 0, 0, 0, at_once - len(part)))) for part in images.split(at_once)]
    pool = torch.cat([part.pool for part in parts])[: len(images)]
    spatial = [part.spatial for part in parts if part.spatial is not None]
    return Features(pool, torch.cat(spatial)[: len(images)] if spatial else None)


def _search(request: TuneRequest, grid: Grid, drawn: Drawn, metrics: list[str], theirs: Sums) -> Tuning:
    rungs: list[Measured] = []
    known: dict[SamplingOptions, np.ndarray] = {}  # the influence of each image, in process 0

    def measured(candidates: Sequence[SamplingOptions], count: int, seed: int) -> Measured:
        drawn.draw(candidates, count, seed)
        is_fresh, found = seed == request.fresh_seed, []
        for options in candidates if rank() == 0 else ():
            # intervals of distances take as long as the distances: not for all that fall out
            ours = drawn.sums(options, count, seed, metrics, is_fresh or request.metric == "fid-inf")
            found.append(numbers(metrics, [Compared(ours, theirs)], {}, ""))
            if is_fresh and request.metric in IN_PAIRS:
                known[options] = IN_PAIRS[request.metric](ours, theirs)
        return dict(zip(candidates, gather(found)[0], strict=True))

    def scores(candidates: list[SamplingOptions], count: int) -> list[float]:
        rungs.append(measured(candidates, count, request.drawing.seed))
        return list(_scores(rungs[-1], request.metric).values())

    counts = rung_counts(request.first, request.drawing.count, drawn.job.batch_size)
    winner, *others = search(grid.candidates, counts, scores)[-1].best(2)
    finalists = list(dict.fromkeys((winner, *grid.neighbours(winner), *others, grid.base)))
    fresh = measured(finalists, counts[-1], request.fresh_seed)
    reach = reach_in_pairs(known) if known else reach_of_intervals(fresh, request.metric)
    strength = partial(guidance_strength, num_steps=drawn.job.num_steps)
    conclusion = conclude(_scores(fresh, request.metric), reach, strength)
    return Tuning(request.metric, rungs, fresh, winner, grid.base, conclusion, bool(known), {})


def _on_distance(ours: Cloud, theirs: Cloud, device: torch.device | None) -> np.ndarray:
    assert ours.rows is not None, "kept for intervals"
    return influences(ours.rows, ours.gaussian, theirs.gaussian, device)


# Metrics by which candidates are compared in pairs of images: the influence of each image on them.
IN_PAIRS: dict[str, Callable[[Sums, Sums], np.ndarray]] = {
    **dict.fromkeys(("gfid", "fid"), lambda ours, theirs: _on_distance(ours.cloud(), theirs.cloud(), ours.device)),
    "sfid": lambda ours, theirs: _on_distance(ours.spatial_cloud(), theirs.spatial_cloud(), ours.device),
    "is": lambda ours, _: score_influences(ours.features(), ours.network.logits),
}


def _scores(measured: Measured, metric: str) -> dict[SamplingOptions, float]:
    """Of which lower is better."""
    sign = -1 if METRICS[metric].higher_is_better else 1
    return {options: sign * measurements[metric].value for options, measurements in measured.items()}


Reach = Callable[[SamplingOptions, SamplingOptions], float | None]


def reach_of_intervals(measured: Measured, metric: str) -> Reach:
    """For differences of numbers that are taken as independent.

    Those of one seed go up and down together, so that their differences are known better than this says.
    """

    def reach(a: SamplingOptions, b: SamplingOptions) -> float | None:
        of_a, of_b = (measured[options][metric].interval for options in (a, b))
        if of_a is None or of_b is None:
            return None
        return math.hypot(*((high - low) / 2 for low, high in (of_a, of_b)))

    return reach


def reach_in_pairs(known: Mapping[SamplingOptions, np.ndarray]) -> Reach:
    """For differences of numbers on which each image has a known influence: image i of all is of one class and seed."""

    def reach(a: SamplingOptions, b: SamplingOptions) -> float | None:
        difference = known[a] - known[b]
        number = len(difference)
        interval = around(0.0, variance(Influences(difference, np.arange(number))), number).interval
        return interval and interval[1]

    return reach
