"""The code cache: what a tokenizer makes of every picture of a data set, so that generators train without either.

    codes.json          what there is: tokenizer, data set, views, class names, shards and their hashes
    train-000000.npy    a record per sample: codes (views, L), class_id, key, checksum; mapped from the disk, not loaded
    unfinished.json     in the place of codes.json until all shards are there: what they are made of

A shard is an array that `numpy.load` reads. The code room knows no tokenizer: `restok prepare codes` encodes.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from zlib_ng import zlib_ng

from restok_cli.console import counted
from restok_cli.data.arrays import map_array
from restok_cli.data.loading.batching import check_division, micro_batches
from restok_cli.data.loading.transforms import NUM_VIEWS, Views
from restok_cli.data.shards.dataset import NO_CLASS
from restok_cli.data.shards.manifests import Made, locate
from restok_cli.errors import UsageError, did_you_mean
from restok_cli.schema import Count, PositiveCount, Schema

MADE = Made("the codes", "restok prepare codes")
CODES_FILE, UNFINISHED_FILE = "codes.json", "unfinished.json"
SAMPLES_PER_SHARD = 256  # what is lost of the work at most when it is stopped

# Every file of a code cache: what --overwrite may delete.
CODE_FILES = re.compile(r"codes\.json|unfinished\.json|[A-Za-z0-9_-]+-\d{6,}\.npy|\..*\.tmp")


class CodePlan(Schema):
    """What decides every code of a cache."""

    format_version: Literal[1] = 1
    data_name: str
    data_fingerprint: str
    tokenizer_fingerprint: str
    dtype: str  # that the tokenizer computed in
    image_size: tuple[PositiveCount, PositiveCount]  # (height, width) of the views
    views: dict[str, Views]  # how they are made of a picture, by split
    codebook_size: int = Field(gt=0, le=2**31)
    num_codes: int = Field(gt=0, le=2**20)  # L, of one view
    class_names: list[str]  # the class id is the place in this list; empty where there are no classes
    samples_per_shard: PositiveCount  # of the data set, before broken ones are left out

    def num_shards(self, num_samples: int) -> int:
        """Of a split with so many samples."""
        return -(-num_samples // self.samples_per_shard)

    def samples_of(self, shard: int, num_samples: int) -> range:
        """The samples of a split with so many that are in its shard of that number, unless they are broken."""
        first = shard * self.samples_per_shard
        return range(first, min(first + self.samples_per_shard, num_samples))


class CodeShardInfo(Schema):
    file: str = Field(pattern=r"^[A-Za-z0-9_-]+\.npy$")
    num_samples: Count
    bytes: Count
    sha256: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_samples > self.bytes:
            raise ValueError(f"{self.file} of {self.bytes} bytes has no room for {counted(self.num_samples, 'sample')}")
        return self


class CodeManifest(CodePlan):
    """What codes.json says."""

    splits: dict[str, Annotated[list[CodeShardInfo], Field(min_length=1)]] = Field(min_length=1)
    fingerprint: str  # two caches with the same one hold the same codes of the same samples in the same order

    @model_validator(mode="after")
    def _check(self) -> Self:
        if unknown := self.splits.keys() - self.views.keys():
            raise ValueError(f"nothing is said of the views of {min(unknown)}")
        return self


class CodeBatch(NamedTuple):
    """Codes, and what their pictures show."""

    codes: torch.Tensor  # int64 (B, L)
    class_ids: torch.Tensor  # int64 (B,), -1 where the data set has no classes


def record_dtype(plan: CodePlan, num_views: int, key_bytes: int) -> np.dtype:
    """A record of a shard; the checksum is a CRC-32 of all before it, so that damage can be traced to a sample."""
    code = "<u2" if plan.codebook_size <= 2**16 else "<i4"
    codes = ("codes", code, (num_views, plan.num_codes))
    return np.dtype([codes, ("class_id", "<i4"), ("key", f"S{key_bytes}"), ("checksum", "<u4")])


def impossible(records: np.ndarray, plan: CodePlan) -> np.ndarray:
    """Of each record, whether it holds a code or a class that does not exist: bool (n,)."""
    lowest, highest = (0, len(plan.class_names) - 1) if plan.class_names else (NO_CLASS, NO_CLASS)
    wrong_class = (records["class_id"] < lowest) | (records["class_id"] > highest)
    return wrong_class | ((records["codes"] >= plan.codebook_size) | (records["codes"] < 0)).any((1, 2))


def checksum(record: np.void) -> int:
    """What the last field of a record must be."""
    return zlib_ng.crc32(memoryview(record.tobytes())[:-4])


def fingerprint(plan: CodePlan, splits: dict[str, list[CodeShardInfo]]) -> str:
    """Of a whole cache."""
    contents = {split: [shard.sha256 for shard in shards] for split, shards in splits.items()}
    text = json.dumps([plan.tokenizer_fingerprint, contents, plan.class_names], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class CodeSplit:
    """The samples of one split, numbered from 0 in the order of the shards."""

    def __init__(self, name: str, folder: Path, manifest: CodeManifest):
        self.name, self.num_views = name, NUM_VIEWS[manifest.views[name]]
        self.shards = [CodeShard(folder / info.file, info, manifest, self.num_views) for info in manifest.splits[name]]
        self.ends = list(accumulate(shard.info.num_samples for shard in self.shards))

    def __len__(self) -> int:
        return self.ends[-1]

    def _record(self, i: int) -> np.void:
        number, position = locate(self.ends, i)
        return self.shards[number].records[position]

    def codes(self, i: int, view: int) -> np.ndarray:
        """The codes (L,) of one view of sample `i`. Raises RestokError where the shard is damaged."""
        return self._record(i)["codes"][view]

    def class_id(self, i: int) -> int:
        """The class of sample `i`, -1 where the data set has no classes."""
        return int(self._record(i)["class_id"])

    def key(self, i: int) -> str:
        """The key of sample `i` in its data set."""
        return self._record(i)["key"].decode(errors="replace")


class CodeShard:
    """One file of records, opened when first read."""

    def __init__(self, path: Path, info: CodeShardInfo, plan: CodePlan, num_views: int):
        self.path, self.info, self.plan, self.num_views = path, info, plan, num_views

    @cached_property
    def records(self) -> np.ndarray:
        """All samples. Raises RestokError where the file is damaged, or holds codes or classes that do not exist."""
        records = self.mapped
        if impossible(records, self.plan).any():
            what = f"holds codes or classes outside the {self.plan.codebook_size} and {len(self.plan.class_names)}"
            raise MADE.damaged(self.path, f"{what} that {CODES_FILE} speaks of")
        return records

    @cached_property
    def mapped(self) -> np.ndarray:
        """All samples, as they are in the file. Raises RestokError where it holds none, or others than it should."""
        try:
            records = map_array(self.path)
        except (OSError, ValueError) as error:
            raise MADE.damaged(self.path, "is missing or no shard of codes") from error
        key_bytes = records.dtype["key"].itemsize if "key" in (records.dtype.names or ()) else 0
        expected = record_dtype(self.plan, self.num_views, key_bytes)
        if records.dtype != expected or records.shape != (self.info.num_samples,):
            what = f"does not hold the {counted(self.info.num_samples, 'sample')} that {CODES_FILE} speaks of"
            raise MADE.damaged(self.path, what)
        return records


class CodeCache:
    """The codes of a data set: splits, classes, and what they were made with."""

    def __init__(self, folder: Path, manifest: CodeManifest):
        self.folder, self.manifest = folder, manifest
        self.name, self.fingerprint = manifest.data_name, manifest.fingerprint
        self.tokenizer_fingerprint = manifest.tokenizer_fingerprint
        self.codebook_size, self.num_codes = manifest.codebook_size, manifest.num_codes
        self.class_names = manifest.class_names
        self.splits = list(manifest.splits)

    @property
    def num_classes(self) -> int:
        """0 where the pictures have no classes."""
        return len(self.class_names)

    @property
    def held_out(self) -> CodeSplit:
        """The validation split, or the training split of a data set that has no other."""
        return self.split("validation" if "validation" in self.splits else "train")

    def split(self, name: str) -> CodeSplit:
        """The split of that name, usually train or validation. Raises UsageError where there is none."""
        if name not in self.splits:
            raise UsageError(
                f"the codes in {self.folder} have no split {name}{did_you_mean(name, self.splits)};"
                f" they have {' and '.join(self.splits)}"
            )
        return CodeSplit(name, self.folder, self.manifest)


def is_codes(path: str | Path) -> bool:
    """Whether `path` means a code cache: a folder that `restok prepare codes` made, or has begun to make."""
    return any((Path(path) / name).is_file() for name in (CODES_FILE, UNFINISHED_FILE))


def open_codes(path: str | Path) -> CodeCache:
    """Open a folder that `restok prepare codes` made.

    Raises UsageError where `path` is none or is unfinished, RestokError where a part of it is missing or damaged.
    """
    folder = Path(path)
    check_finished(folder)
    manifest = MADE.read(CodeManifest, folder / CODES_FILE)
    if manifest.fingerprint != fingerprint(manifest, manifest.splits):
        raise MADE.damaged(folder / CODES_FILE, "does not fit its fingerprint")
    shards = [shard for shards in manifest.splits.values() for shard in shards]
    with ThreadPoolExecutor() as pool:  # SHA-256 lets other threads run
        list(pool.map(lambda shard: MADE.check_file(folder / shard.file, shard.bytes, shard.sha256), shards))
    return CodeCache(folder, manifest)


def check_finished(folder: Path) -> None:
    """Raises UsageError where `folder` holds no codes, or not all."""
    if (folder / CODES_FILE).is_file():
        return
    if (folder / UNFINISHED_FILE).is_file():
        raise UsageError(f"{folder} is unfinished; the same `restok prepare codes` again goes on with it")
    raise UsageError(f"{folder} holds no codes; `restok prepare codes DATA {folder} --tokenizer M` makes them")


def code_batches(
    split: CodeSplit,
    *,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    micro_batch_size: int | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[CodeBatch]:
    """Training batches from step `first_step` on, without end, in the order and the shares of `loader.batches`.

    Of each sample comes one view an epoch, drawn by seed, epoch and sample alone.

    Raises UsageError where the batch cannot be divided so, RestokError, at the step that needs it, for a damaged shard.
    """
    size = check_division(batch_size, micro_batch_size, world_size)
    visits = micro_batches(
        len(split),
        batch_size=batch_size,
        seed=seed,
        first_step=first_step,
        micro_batch_size=size,
        rank=rank,
        world_size=world_size,
    )
    return _read_batches(split, visits, seed)


def _read_batches(split: CodeSplit, batches: Iterator[list[tuple[int, int]]], seed: int) -> Iterator[CodeBatch]:
    drawn_epoch, views = -1, np.zeros(0)
    for visits in batches:
        codes = []
        for epoch, sample in visits:
            if epoch != drawn_epoch:
                drawn_epoch, views = epoch, draw_views(len(split), split.num_views, seed, epoch)
            codes.append(split.codes(sample, views[sample]))
        yield _batch(codes, [split.class_id(sample) for _, sample in visits])


def draw_views(num_samples: int, num_views: int, seed: int, epoch: int) -> np.ndarray:
    """The view of each sample that an epoch shows: uint8 (num_samples,)."""
    # the counter sets these numbers apart from the ones that shuffle the epoch
    numbers = np.random.Philox(key=[seed, epoch], counter=[0, 0, 1, 0]).random_raw(num_samples)
    return (numbers % num_views).astype(np.uint8)


def evaluation_code_batches(
    split: CodeSplit, batch_size: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[CodeBatch]:
    """View 0 of every sample once, in order; the last batch may be shorter.

    Of several processes, each gets every `world_size`-th batch, from number `rank` on. Raises RestokError as above.
    """
    for start in range(rank * batch_size, len(split), world_size * batch_size):
        samples = range(start, min(start + batch_size, len(split)))
        yield _batch([split.codes(i, 0) for i in samples], [split.class_id(i) for i in samples])


def _batch(codes: list[np.ndarray], class_ids: list[int]) -> CodeBatch:
    return CodeBatch(torch.from_numpy(np.stack(codes).astype(np.int64)), torch.tensor(class_ids))
