"""Sets of codes in the forms that `evaluate` and `probe` take, read in groups as sets of images are."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from restok_cli.data.code_files import read_codes
from restok_cli.data.shards.code_cache import CodeCache
from restok_cli.data.shards.manifests import locate
from restok_cli.files import file_sha256
from restok_cli.metrics.image_sets import GROUP_SIZE, Group


@dataclass
class CodeSet:
    """Codes of images; those of a group are its `images`."""

    count: int  # images
    num_codes: int  # L, of an image
    codebook_size: int
    tokenizer_fingerprint: str  # empty where nobody wrote it down
    class_ids: np.ndarray  # (count,)
    group: Callable[[int], Group]  # by number
    describe: Callable[[], dict]  # for the protocol, once all have been read
    saw: Callable[[Group], None] = lambda _: None

    @property
    def num_groups(self) -> int:
        return -(-self.count // GROUP_SIZE)

    def groups(self, numbers: Sequence[int], _ahead: int) -> Iterator[Group]:
        return map(self.group, numbers)


def codes_in_file(path: Path) -> CodeSet:
    """Codes that `encode` or `generate` wrote."""
    found = read_codes(path)
    count, length = found.codes.shape
    origin = {"source": str(path), "fingerprint": file_sha256(path), "n": count}
    group = _grouping(lambda rows: found.codes[rows.start : rows.stop], count)
    return CodeSet(count, length, found.codebook_size, found.tokenizer, found.class_ids, group, lambda: origin)


def codes_in_cache(cache: CodeCache, split: str) -> CodeSet:
    """View 0 of the samples in one split, or by the word `all` in every one."""
    splits = cache.chosen(split)
    parts = list(splits.values())
    ends = list(accumulate(len(part) for part in parts))

    def read(rows: range) -> np.ndarray:
        return np.stack([parts[part].codes(position, 0) for part, position in (locate(ends, row) for row in rows)])

    class_ids = np.array([part.class_id(i) for part in parts for i in range(len(part))])
    views = ", ".join(dict.fromkeys(cache.manifest.views[name] for name in splits))
    origin = {
        "source": f"{cache.folder} ({'+'.join(splits)})",
        "fingerprint": cache.fingerprint,
        "form": f"codes, the first view of {views}",
        "n": ends[-1],
    }
    shape = ends[-1], cache.num_codes, cache.codebook_size
    return CodeSet(*shape, cache.tokenizer_fingerprint, class_ids, _grouping(read, ends[-1]), lambda: origin)


def _grouping(read: Callable[[range], np.ndarray], count: int) -> Callable[[int], Group]:
    def group(number: int) -> Group:
        rows = range(number * GROUP_SIZE, min((number + 1) * GROUP_SIZE, count))
        codes = read(rows).astype(np.int32)
        digests = [hashlib.sha256(row.tobytes()).digest() for row in codes]
        return Group(list(rows), torch.from_numpy(codes), digests, {}, 0)

    return group
