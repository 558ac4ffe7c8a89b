"""The metrics of codes: how a codebook is used, and how well a generator predicts."""

import math
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from restok_cli.console import track
from restok_cli.data.shards.code_cache import open_codes
from restok_cli.data.shards.code_layout import is_codes
from restok_cli.errors import RestokError, UsageError
from restok_cli.evaluation.image_metrics import encode_group, open_samples
from restok_cli.evaluation.request import Request, holds_codes
from restok_cli.evaluation.result import Evaluation
from restok_cli.files import SAMPLE_MODEL
from restok_cli.metrics.code_sets import CodeSet, codes_in_cache, codes_in_file
from restok_cli.metrics.formulas.codebook import count_codes, use_of_counts
from restok_cli.metrics.image_sets import GROUP_SIZE, Group, from_all_processes
from restok_cli.metrics.protocol import Measurement, caveat
from restok_cli.model.levels import is_power_of_two, level_sizes
from restok_cli.pretrained.folder import fingerprint, open_har, open_tokenizer
from restok_cli.pretrained.modules import load_for_use
from restok_cli.processes import rank, world_size

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # codes (B, L), class ids (B,) -> -log p in nats (B, L)


def evaluate_codes(request: Request, device: torch.device) -> Evaluation:
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
        source = codes_in_cache(open_codes(samples), request.split)
    else:
        source = codes_in_file(Path(samples))
    length = source.num_codes
    sizes = level_sizes(length) if is_power_of_two(length) else (length,)  # other tokenizers' codes are one level
    score, har_fingerprint = _open_har(model, source, device) if "nll" in metrics else (None, None)
    counts, scores = _go_through(source, sizes, score)
    if rank() > 0:
        return Evaluation({}, {})
    measurements = codebook_numbers(counts, sizes) if "codebook" in metrics else {}
    if "nll" in metrics:
        measurements |= _nll_numbers(scores, sizes)
    protocol = {
        "samples": source.describe(),
        "codebook_size": source.codebook_size,
        "level_sizes": sizes,
        "tokenizer_fingerprint": source.tokenizer_fingerprint,
        "model_fingerprint": har_fingerprint,
    }
    return Evaluation(measurements, protocol)


def _go_through(source: CodeSet, sizes: tuple[int, ...], score: Score | None) -> tuple[np.ndarray, list[np.ndarray]]:
    """How often each code occurs in each level (K, V), and for each image the sum of `score` over each level (K,)."""
    counts = np.zeros((len(sizes), source.codebook_size), np.int64)
    starts = [0, *accumulate(sizes)][:-1]
    scores: list[np.ndarray] = []

    def work(group: Group) -> tuple[Group, np.ndarray]:
        codes, class_ids = group.images.numpy().astype(np.int64), source.class_ids[group.indices]
        if score is None or not len(codes):
            return group, np.empty((0, len(sizes)))
        return group, np.add.reduceat(score(codes, class_ids), starts, axis=1)

    rounds = ([work(source.group(number))] for number in range(rank(), source.num_groups, world_size()))
    results = from_all_processes(rounds, source.num_groups)
    for group, scored in track(results, "codes", source.num_groups, "groups"):
        counts += count_codes(group.images.numpy(), source.codebook_size, sizes)
        source.saw(group)
        scores += list(scored)
    return counts, scores


def codebook_numbers(counts: np.ndarray, sizes: tuple[int, ...]) -> dict[str, Measurement]:
    """From how often each code occurs in each level (K, V), of so many columns. Raises RestokError where none does."""
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


def _encoded(request: Request, model: Path, device: torch.device) -> CodeSet:
    """The codes that a tokenizer makes of images."""
    folder = open_tokenizer(model)
    tokenizer, config = load_for_use(folder, device), folder.config
    images = open_samples(request)
    images.crop_to(config.image_size)

    @torch.inference_mode()
    def encode(number: int) -> Group:
        group = images.group(number)
        codes = encode_group(tokenizer, group.images, device)[: len(group.images)].cpu()
        return group._replace(images=codes)

    shape = images.count, config.num_latent_tokens, config.codebook_size
    return CodeSet(*shape, fingerprint(folder), np.full(images.count, -1), encode, images.describe, images.saw)


def _open_har(path: Path, source: CodeSet, device: torch.device) -> tuple[Score, str]:
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
