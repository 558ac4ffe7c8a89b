"""The metrics of codes: how a codebook is used, and how well a generator predicts."""

import math
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from restok_cli.console import Progress
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import SAMPLE_MODEL
from restok_cli.processes import gather, rank, world_size

if TYPE_CHECKING:
    import numpy as np
    import torch

    from restok_cli.metrics.protocol import Measurement


class CodeSource(NamedTuple):
    """Codes of pictures, read in groups of metrics.pictures.GROUP_SIZE."""

    origin: Callable[[], dict]  # for the protocol, once all have been read
    num_groups: int
    num_codes: int  # L, of a picture
    codebook_size: int
    tokenizer_fingerprint: str  # empty where nobody wrote it down
    # number of a group -> codes (B, L), class ids (B,), and what `saw` wants to know in process 0
    read: "Callable[[int], tuple[np.ndarray, np.ndarray, tuple]]"
    saw: Callable[..., None] = lambda *_: None


def holds_codes(samples: str) -> bool:
    """Whether SAMPLES are codes: a code cache, or a file that `encode` or `generate --codes` wrote."""
    path = Path(samples)
    if path.suffix.lower() == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "codes.npy" in archive.namelist()
    from restok_cli.data.shards.code_layout import is_codes

    return path.suffix.lower() in (".safetensors", ".jsonl") or is_codes(path)


def evaluate_codes(
    samples: str, split: str, metrics: list[str], model: Path | None, device: "torch.device", admitted: dict[str, int]
) -> "tuple[dict[str, Measurement], dict]":
    """The measurements of codes that are read or, for codebook where SAMPLES are pictures, made by the tokenizer.

    Of several processes only number 0 gets them.
    """
    from restok_cli.model.levels import is_power_of_two, level_sizes

    stored = holds_codes(samples)
    if stored and model is not None and "nll" not in metrics:
        raise UsageError(f"{samples} holds codes already, which --model would make of pictures; leave it out")
    if not stored and "nll" in metrics:
        raise UsageError(
            f"{samples} holds no codes, and nll is of codes; give a folder of `restok prepare codes` or a file of"
            " `restok encode`"
        )
    model = model or SAMPLE_MODEL
    source = _stored(samples, split) if stored else _encoded(samples, split, model, device, admitted)
    length = source.num_codes
    sizes = level_sizes(length) if is_power_of_two(length) else (length,)  # other tokenizers' codes are one level
    score, har_fingerprint = _open_har(model, source, device) if "nll" in metrics else (None, None)
    counts, scores = _go_through(source, sizes, score)
    if rank() > 0:
        return {}, {}
    circumstances = {"samples": source.origin(), "codebook_size": source.codebook_size, "level_sizes": sizes}
    circumstances["tokenizer_fingerprint"] = source.tokenizer_fingerprint
    circumstances["model_fingerprint"] = har_fingerprint
    measurements = _codebook_numbers(counts) if "codebook" in metrics else {}
    if "nll" in metrics:
        measurements |= _nll_numbers(scores, sizes)
    return measurements, circumstances


def _go_through(
    source: CodeSource, sizes: tuple[int, ...], score: "Callable[[np.ndarray, np.ndarray], np.ndarray] | None"
) -> "tuple[np.ndarray, list[np.ndarray]]":
    """How often each code occurs in each level (K, V), and for each picture the sum of `score` over each level (K,)."""
    import numpy as np

    from restok_cli.metrics.codebook import count_codes

    counts = np.zeros((len(sizes), source.codebook_size), np.int64)
    starts = [0, *accumulate(sizes)][:-1]
    scores: list[np.ndarray] = []

    def work(number: int) -> tuple[np.ndarray, np.ndarray | None, tuple]:
        codes, class_ids, seen = source.read(number)
        scored = np.add.reduceat(score(codes, class_ids), starts, axis=1) if score and len(codes) else None
        return codes, scored, seen

    for codes, scored, seen in _in_all_processes(source.num_groups, work):
        counts += count_codes(codes, source.codebook_size, sizes)
        source.saw(*seen)
        if scored is not None:
            scores += list(scored)
    return counts, scores


def _in_all_processes(num_groups: int, work: Callable[[int], tuple]) -> Iterator[tuple]:
    """What `work` makes of each group, in order, in process 0; the groups are dealt to all processes in turn."""
    with Progress("codes", num_groups, "groups") if rank() == 0 else nullcontext() as progress:
        for first in range(0, num_groups, world_size()):
            number = first + rank()
            for result in gather(work(number) if number < num_groups else None):
                if rank() == 0 and result is not None:
                    yield result
                    progress.advance()


def _codebook_numbers(counts: "np.ndarray") -> "dict[str, Measurement]":
    from restok_cli.metrics.codebook import use_of_counts
    from restok_cli.metrics.protocol import Measurement, caveat

    n = int(counts[0].sum())  # the first level is one code a picture
    if n == 0:
        raise RestokError("there are no codes to measure; expected at least one picture's")
    total, levels = use_of_counts(counts.sum(0)), [use_of_counts(level) for level in counts]
    measurements = {}
    for field in total._fields:
        name = f"codebook_{field}"
        of_levels = tuple(getattr(level, field) for level in levels)
        measurements[name] = Measurement(name, getattr(total, field), n, levels=of_levels, caveat=caveat(n))
    return measurements


def _nll_numbers(scores: "list[np.ndarray]", sizes: tuple[int, ...]) -> "dict[str, Measurement]":
    from restok_cli.metrics.protocol import Measurement, caveat

    n = len(scores)
    sums = [math.fsum(picture[level] for picture in scores) for level in range(len(sizes))]
    levels = tuple(total / (n * size) for total, size in zip(sums, sizes, strict=True))
    return {"nll": Measurement("nll", math.fsum(sums) / (n * sum(sizes)), n, levels=levels, caveat=caveat(n))}


# --- codes --------------------------------------------------------------------------------------------------------


def _stored(samples: str, split: str) -> CodeSource:
    """Codes that lie in a cache or a file."""
    import numpy as np

    from restok_cli.data.code_files import read_codes
    from restok_cli.data.shards.code_cache import open_codes
    from restok_cli.data.shards.code_layout import is_codes
    from restok_cli.files import file_sha256
    from restok_cli.metrics.pictures import GROUP_SIZE

    if not is_codes(samples):
        found = read_codes(Path(samples))
        origin = {"source": samples, "fingerprint": file_sha256(Path(samples)), "n": len(found.codes)}

        def read(number: int) -> tuple[np.ndarray, np.ndarray, tuple]:
            rows = slice(number * GROUP_SIZE, (number + 1) * GROUP_SIZE)
            return found.codes[rows].astype(np.int64), found.class_ids[rows], ()

        count, length, size, tokenizer = *found.codes.shape, found.codebook_size, found.tokenizer
    else:
        cache = open_codes(samples)
        names = list(cache.splits) if split == "all" else [split]
        parts = [cache.split(name) for name in names]
        ends = list(accumulate(len(part) for part in parts))
        origin = {"source": f"{samples} ({'+'.join(names)})", "fingerprint": cache.fingerprint, "n": ends[-1]}

        def read(number: int) -> tuple[np.ndarray, np.ndarray, tuple]:
            rows = []
            for index in range(number * GROUP_SIZE, min((number + 1) * GROUP_SIZE, ends[-1])):
                place = bisect_right(ends, index)
                part, position = parts[place], index - ends[place] + len(parts[place])
                rows.append((part.codes(position, 0), part.class_id(position)))
            codes, class_ids = zip(*rows, strict=True)
            return np.stack(codes).astype(np.int64), np.array(class_ids), ()

        count, length = ends[-1], cache.num_codes
        size, tokenizer = cache.codebook_size, cache.tokenizer_fingerprint
    return CodeSource(lambda: origin, -(-count // GROUP_SIZE), length, size, tokenizer, read)


def _encoded(samples: str, split: str, model: Path, device: "torch.device", admitted: dict[str, int]) -> CodeSource:
    """The codes that a tokenizer makes of pictures."""
    import numpy as np
    import torch
    from torch.nn.functional import pad

    from restok_cli.data.images import to_float
    from restok_cli.metrics.pictures import GROUP_SIZE, open_pictures
    from restok_cli.metrics.protocol import describe_pictures
    from restok_cli.pretrained.folder import fingerprint, load_for_use, open_tokenizer

    folder = open_tokenizer(model)
    tokenizer = load_for_use(folder, device)
    pictures = open_pictures(samples, split, **admitted)
    pictures.crop_to(tokenizer.config.image_size)

    @torch.inference_mode()
    def read(number: int) -> tuple[np.ndarray, np.ndarray, tuple]:
        group = pictures.group(number)
        count = len(group.images)
        # always as many at a time: for another number, libraries may sum in another order
        padded = pad(to_float(group.images.to(device)), (0, 0, 0, 0, 0, 0, 0, GROUP_SIZE - count))
        codes = tokenizer.encode(padded)[:count].cpu().numpy()
        return codes, np.full(count, -1), (group.indices, group.digests, group.broken, group.num_cropped)

    config = tokenizer.config
    return CodeSource(
        lambda: describe_pictures(pictures),
        *(pictures.num_groups, config.num_latent_tokens, config.codebook_size, fingerprint(folder)),
        *(read, pictures.saw),
    )


# --- the generator ------------------------------------------------------------------------------------------------


def _open_har(
    path: Path, source: CodeSource, device: "torch.device"
) -> "tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], str]":
    """What gives -log p in nats (B, L) of codes and class ids, by the generator at `path`, and its fingerprint.

    Raises UsageError where it was trained on the codes of another tokenizer, or on other classes.
    """
    import torch

    from restok_cli.metrics.pictures import GROUP_SIZE
    from restok_cli.pretrained.folder import fingerprint, load_for_use, open_har

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
    def score(codes: "np.ndarray", class_ids: "np.ndarray") -> "np.ndarray":
        if config.num_classes == 0:
            class_ids = class_ids * 0
        elif class_ids.min() < 0 or class_ids.max() >= config.num_classes:
            wrong = next(int(i) for i in class_ids if not 0 <= i < config.num_classes)
            raise UsageError(f"a picture has class {wrong}, but {path} knows 0 to {config.num_classes - 1}")
        count = len(codes)
        # always as many at a time: for another number, libraries may sum in another order
        rows = torch.arange(GROUP_SIZE) % count
        codes, class_ids = (torch.from_numpy(array)[rows].to(device) for array in (codes, class_ids))
        log_p = har(class_ids, codes).float().log_softmax(-1)
        return -log_p.gather(-1, codes[..., None])[:count, :, 0].double().cpu().numpy()

    return score, fingerprint(folder)
