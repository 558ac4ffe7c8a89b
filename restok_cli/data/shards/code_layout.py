"""The code cache: what a tokenizer makes of every image of a data set, so that generators train without either.

    codes.json          what there is: tokenizer, data set, views, class names, shards and their hashes
    train-000000.npy    a record per sample: codes (views, L), class_id, key, checksum; mapped from the disk, not loaded
    unfinished.json     in the place of codes.json until all shards are there: what they are made of

A shard is an array that `numpy.load` reads. The code room knows no tokenizer: `restok prepare codes` encodes.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from zlib_ng import zlib_ng

from restok_cli.console import counted
from restok_cli.data.arrays import map_array
from restok_cli.data.shards.layout import NO_CLASS
from restok_cli.data.shards.manifests import Made
from restok_cli.errors import UsageError
from restok_cli.schema import Count, PositiveCount, Schema

MADE = Made("the codes", "restok prepare codes")
CODES_FILE, UNFINISHED_FILE = "codes.json", "unfinished.json"
Views = Literal["ten-crop", "flip", "centre"]  # made of each image by `transforms.make_views`
NUM_VIEWS: dict[Views, int] = {"ten-crop": 10, "flip": 2, "centre": 1}
Read = Callable[[Path], np.ndarray]  # of arrays in files: `map_array`, or what keeps none of them open

# Every file of a code cache: what --overwrite may delete.
CODE_FILES = re.compile(r"codes\.json|unfinished\.json|[A-Za-z0-9_-]+-\d{6,}\.npy|\..*\.tmp")


class CodePlan(Schema):
    """Settings that decide every code of a cache."""

    format_version: Literal[1] = 1
    data_name: str
    data_fingerprint: str
    tokenizer_fingerprint: str
    dtype: str  # that the tokenizer computed in
    # what may decide between two codes that are all but equally near; a cache of an older restok does not tell
    device: str = ""  # its type
    batch_size: Count = 0  # views that were encoded at a time
    deterministic: bool = False  # on a GPU
    image_size: tuple[PositiveCount, PositiveCount]  # (height, width) of the views
    views: dict[str, Views]  # how they are made of an image, by split
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
    """Contents of codes.json."""

    splits: dict[str, Annotated[list[CodeShardInfo], Field(min_length=1)]] = Field(min_length=1)
    fingerprint: str  # two caches with the same one hold the same codes of the same samples in the same order

    @model_validator(mode="after")
    def _check(self) -> Self:
        if unknown := self.splits.keys() - self.views.keys():
            raise ValueError(f"nothing is said of the views of {min(unknown)}")
        return self


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
    """Checksum that the last field of a record must be."""
    return zlib_ng.crc32(memoryview(record.tobytes())[:-4])


def fingerprint(plan: CodePlan, splits: dict[str, list[CodeShardInfo]]) -> str:
    """Of a whole cache."""
    contents = {split: [shard.sha256 for shard in shards] for split, shards in splits.items()}
    text = json.dumps([plan.tokenizer_fingerprint, contents, plan.class_names], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_records(path: Path, plan: CodePlan, split: str, read: Read = map_array) -> np.ndarray:
    """The samples in a shard, read-only. Raises OSError where there is none, ValueError where it is of another plan."""
    records = read(path)
    key_bytes = records.dtype["key"].itemsize if "key" in (records.dtype.names or ()) else 0
    if records.ndim != 1 or records.dtype != record_dtype(plan, NUM_VIEWS[plan.views[split]], key_bytes):
        raise ValueError("not of this data set and tokenizer")
    return records


def open_records(path: Path, info: CodeShardInfo, plan: CodePlan, split: str, read: Read = map_array) -> np.ndarray:
    """The samples in a shard, read-only. Raises RestokError where it is missing, or holds others than it should."""
    try:
        records = read_records(path, plan, split, read)
        if len(records) != info.num_samples:
            raise ValueError(f"not {counted(info.num_samples, 'sample')}")
    except (OSError, ValueError) as error:
        raise MADE.damaged(path, f"is missing, or not the shard that {CODES_FILE} speaks of") from error
    return records


def is_codes(path: str | Path) -> bool:
    """Whether `path` means a code cache: a folder that `restok prepare codes` made, or has begun to make."""
    return any((Path(path) / name).is_file() for name in (CODES_FILE, UNFINISHED_FILE))


def read_code_manifest(folder: Path) -> CodeManifest:
    """Read codes.json. Raises UsageError where `folder` holds no codes, or not all, RestokError where it is damaged."""
    if (folder / CODES_FILE).is_file():
        return MADE.read(CodeManifest, folder / CODES_FILE)
    if (folder / UNFINISHED_FILE).is_file():
        raise UsageError(f"{folder} is unfinished; the same `restok prepare codes` again goes on with it")
    raise UsageError(f"{folder} holds no codes; `restok prepare codes DATA {folder} --tokenizer M` makes them")
