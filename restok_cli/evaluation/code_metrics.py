"""The metrics of codes: how a codebook is used, and how well a generator predicts."""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from restok_cli.console import Progress
from restok_cli.data.code_files import read_codes
from restok_cli.data.shards.code_cache import open_codes
from restok_cli.data.shards.code_layout import is_codes
from restok_cli.data.shards.manifests import locate
from restok_cli.errors import RestokError, UsageError
from restok_cli.evaluation.image_metrics import encode_group, open_samples
from restok_cli.evaluation.request import Request, holds_codes
from restok_cli.files import SAMPLE_MODEL, file_sha256
from restok_cli.metrics.formulas.codebook import count_codes, use_of_counts
from restok_cli.metrics.image_sets import GROUP_SIZE
from restok_cli.metrics.protocol import Measurement, caveat, describe_images
from restok_cli.model.levels import is_power_of_two, level_sizes
from restok_cli.pretrained.folder import fingerprint, load_for_use, open_har, open_tokenizer
from restok_cli.processes import gather, rank, world_size

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # codes (B, L), class ids (B,) -> -log p in nats (B, L)


class MeasuredCodes(NamedTuple):
    """Codes of images, read in groups of metrics.image_sets.GROUP_SIZE."""

    origin: Callable[[], dict]  # for the protocol, once all have been read
    num_groups: int
    num_codes: int  # L, of an image
    codebook_size: int
    tokenizer_fingerprint: str  # empty where nobody wrote it down
    # number of a group -> codes (B, L), class ids (B,), and what `saw` wants to know in process 0
    read: Callable[[int], tuple[np.ndarray, np.ndarray, tuple]]
    saw: Callable[..., None] = lambda *_: None


def evaluate_codes(request: Request, device: torch.device) -> tuple[dict[str, Measurement], dict]:
    """The measurements of codes that are read or, for codebook where SAMPLES are images, made by the tokenizer.

    Of several processes only number 0 gets them.
    """
    samples, metrics, model = request.samples, request.metrics, request.model or SAMPLE_MODEL
    stored = holds_codes(samples)
    if stored and request.model is not None and "nll" not in metrics:
        raise UsageError(f"{samples} holds codes already, which --model would make of images; leave it out")
    if not stored and "nll" in metrics:
        raise UsageError(
            f"{samples} holds no codes, and nll is of codes; give a folder of `restok prepare codes` or a file of"
            " `restok encode`"
        )
    if not stored:
        source = _encoded(request, model, device)
    elif is_codes(samples):
        source = _from_cache(samples, request.split)
    else:
        source = _from_file(Path(samples))
    length = source.num_codes
    sizes = level_sizes(length) if is_power_of_two(length) else (length,)  # other tokenizers' codes are one level
    score, har_fingerprint = _open_har(model, source, device) if "nll" in metrics else (None, None)
    counts, scores = _go_through(source, sizes, score)
    if rank() > 0:
        return {}, {}
    circumstances = {"samples": source.origin(), "codebook_size": source.codebook_size, "level_sizes": sizes}
    circumstances["tokenizer_fingerprint"] = source.tokenizer_fingerprint
    circumstances["model_fingerprint"] = har_fingerprint
    measurements = _codebook_numbers(counts, sizes) if "codebook" in metrics else {}
    if "nll" in metrics:
        measurements |= _nll_numbers(scores, sizes)
    return measurements, circumstances


def _go_through(
    source: MeasuredCodes, sizes: tuple[int, ...], score: Score | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """How often each code occurs in each level (K, V), and for each image the sum of `score` over each level (K,)."""
    counts = np.zeros((len(sizes), source.codebook_size), np.int64)
    starts = [0, *accumulate(sizes)][:-1]
    scores: list[np.ndarray] = []

    def work(number: int) -> tuple[np.ndarray, np.ndarray | None, tuple]:
        codes, class_ids, seen = source.read(number)
        scored = np.add.reduceat(score(codes, class_ids), starts, axis=1) if score and len(codes) else None
        return codes, scored, seen

    for codes, scored, seen in in_all_processes("codes", source.num_groups, work):
        counts += count_codes(codes, source.codebook_size, sizes)
        source.saw(*seen)
        if scored is not None:
            scores += list(scored)
    return counts, scores


def in_all_processes(description: str, num_groups: int, work: Callable[[int], tuple]) -> Iterator[tuple]:
    """Results of `work` on each group, in order, in process 0; the groups are dealt to all processes in turn."""
    with Progress(description, num_groups, "groups") if rank() == 0 else nullcontext() as progress:
        for first in range(0, num_groups, world_size()):
            number = first + rank()
            for result in gather(work(number) if number < num_groups else None):
                if progress is not None and result is not None:
                    yield result
                    progress.advance()


def _codebook_numbers(counts: np.ndarray, sizes: tuple[int, ...]) -> dict[str, Measurement]:
    n = int(counts.sum()) // sum(sizes)
    if n == 0:
        raise RestokError("there are no codes to measure; expected at least one image's")
    total, levels = use_of_counts(counts.sum(0)), [use_of_counts(level) for level in counts]
    measurements = {}
    for field in total._fields:
        name = f"codebook_{field}"
        of_levels = tuple(getattr(level, field) for level in levels)
        measurements[name] = Measurement(name, getattr(total, field), n, levels=of_levels, caveat=caveat(n))
    return measurements


def _nll_numbers(scores: list[np.ndarray], sizes: tuple[int, ...]) -> dict[str, Measurement]:
    n = len(scores)
    sums = [math.fsum(image[level] for image in scores) for level in range(len(sizes))]
    levels = tuple(total / (n * size) for total, size in zip(sums, sizes, strict=True))
    return {"nll": Measurement("nll", math.fsum(sums) / (n * sum(sizes)), n, levels=levels, caveat=caveat(n))}


# --- codes --------------------------------------------------------------------------------------------------------


def _from_file(path: Path) -> MeasuredCodes:
    """Codes that `encode` or `generate` wrote."""
    found = read_codes(path)
    count, length = found.codes.shape
    origin = {"source": str(path), "fingerprint": file_sha256(path), "n": count}

    def read(number: int) -> tuple[np.ndarray, np.ndarray, tuple]:
        rows = slice(number * GROUP_SIZE, (number + 1) * GROUP_SIZE)
        return found.codes[rows].astype(np.int64), found.class_ids[rows], ()

    return MeasuredCodes(lambda: origin, -(-count // GROUP_SIZE), length, found.codebook_size, found.tokenizer, read)


def _from_cache(folder: str, split: str) -> MeasuredCodes:
    """View 0 of the samples in a code cache."""
    cache = open_codes(folder)
    splits = cache.chosen(split)
    parts = list(splits.values())
    ends = list(accumulate(len(part) for part in parts))
    origin = {"source": f"{folder} ({'+'.join(splits)})", "fingerprint": cache.fingerprint, "n": ends[-1]}

    def read(number: int) -> tuple[np.ndarray, np.ndarray, tuple]:
        rows = range(number * GROUP_SIZE, min((number + 1) * GROUP_SIZE, ends[-1]))
        places = [(parts[part], position) for part, position in (locate(ends, row) for row in rows)]
        codes = np.stack([part.codes(position, 0) for part, position in places]).astype(np.int64)
        return codes, np.array([part.class_id(position) for part, position in places]), ()

    num_groups = -(-ends[-1] // GROUP_SIZE)
    sizes = cache.num_codes, cache.codebook_size
    return MeasuredCodes(lambda: origin, num_groups, *sizes, cache.tokenizer_fingerprint, read)


def _encoded(request: Request, model: Path, device: torch.device) -> MeasuredCodes:
    """The codes that a tokenizer makes of images."""
    folder = open_tokenizer(model)
    tokenizer = load_for_use(folder, device)
    images = open_samples(request)
    images.crop_to(tokenizer.config.image_size)

    @torch.inference_mode()
    def read(number: int) -> tuple[np.ndarray, np.ndarray, tuple]:
        group = images.group(number)
        codes = encode_group(tokenizer, group.images, device)[: len(group.images)].cpu().numpy()
        seen = group.indices, group.digests, group.broken, group.num_cropped
        return codes, np.full(len(codes), -1), seen

    config = tokenizer.config
    return MeasuredCodes(
        lambda: describe_images(images),
        *(images.num_groups, config.num_latent_tokens, config.codebook_size, fingerprint(folder)),
        *(read, images.saw),
    )


# --- the generator ------------------------------------------------------------------------------------------------


def _open_har(path: Path, source: MeasuredCodes, device: torch.device) -> tuple[Score, str]:
    """A function from codes and class ids to -log p in nats (B, L), by the generator at `path`; and its fingerprint.

    Raises UsageError where it was trained on the codes of another tokenizer, or on other classes.
    """
    folder = open_har(path)
    config, known = folder.config, folder.tokenizer_fingerprint
    if (config.num_codes, config.codebook_size) != (source.num_codes, source.codebook_size):
        raise UsageError(
            f"{path} draws {config.num_codes} of {config.codebook_size} codes, here are {source.num_codes} of"
            f" {source.codebook_size}; give the codes that it was trained on"
        )
    if known and source.tokenizer_fingerprint and known != source.tokenizer_fingerprint:
        raise UsageError(f"{path} was trained on the codes of another tokenizer than these; make codes with its own")
    har = load_for_use(folder, device)

    @torch.inference_mode()
    def score(codes: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        if config.num_classes == 0:
            class_ids = class_ids * 0
        elif class_ids.min() < 0 or class_ids.max() >= config.num_classes:
            wrong = next(int(i) for i in class_ids if not 0 <= i < config.num_classes)
            raise UsageError(f"an image has class {wrong}, but {path} knows 0 to {config.num_classes - 1}")
        count = len(codes)
        # always as many at a time: for another number, libraries may sum in another order
        rows = torch.arange(GROUP_SIZE) % count
        given, classes = (torch.from_numpy(array)[rows].to(device) for array in (codes, class_ids))
        log_p = har(classes, given).float().log_softmax(-1)
        return -log_p.gather(-1, given[..., None])[:count, :, 0].double().cpu().numpy()

    return score, fingerprint(folder)
