"""Data sets on disk: tar shards that any WebDataset reader takes, with an index beside each so that ours can seek.

    dataset.json           what there is: splits, shards and their hashes, class names, where it came from
    train-000000.tar       samples one after the other: <key>.cls  <key>.json  <key>.<image suffix>
    train-000000.npy       where each image lies in the tar, its class, a checksum of the sample
    _info.json             the same shards for timm
    bad.jsonl              the images that were left out, and why

The set that comes with restok has its shards gzipped; everything else about it is the same.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from restok_cli.console import counted
from restok_cli.data.arrays import map_array
from restok_cli.data.shards.manifests import Made
from restok_cli.errors import RestokError, UsageError
from restok_cli.schema import Count, PositiveCount, Schema

MADE = Made("the data set", "restok prepare")
MANIFEST = "dataset.json"
SAMPLE_FOLDER = Path(__file__).parents[2] / "assets" / "sample"
SAMPLES_PER_SHARD = 4000
TAR_BLOCK = 512
NO_CLASS = -1
MAX_CLASS_ID = 2**31 - 1

SHARD_FILE = re.compile(r"[A-Za-z0-9_-]+\.tar(\.gz)?")

TIMM_MANIFEST = "_info.json"
BAD_LIST = "bad.jsonl"
SAMPLE_TEXTS = ("NOTICE", "LICENSE")
WORK_FOLDER = ".partial"  # where a data set is being made
REPLACED = "replaced.json"  # in it, the dataset.json of the data set that is being replaced
IN_PLACE = {"shards": "described where they lay"}  # of the provenance, where `prepare` has not made the tars

# The checksum is a CRC-32 of all from the end of the image before this one to its own: of its sample, in our tars.
INDEX_DTYPE = np.dtype([("offset", "<u8"), ("length", "<u4"), ("class_id", "<i4"), ("checksum", "<u4")])


class ShardInfo(Schema):
    """One shard; size and hash are those of the plain tar, so that gzip changes neither them nor the fingerprint."""

    file: str = Field(pattern=f"^{SHARD_FILE.pattern}$")
    num_samples: PositiveCount
    bytes: Count
    sha256: str
    index_crc32: Count | None = None  # of the entries beside it, with the classes; older data sets have none

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_samples * 2 * TAR_BLOCK > self.bytes:  # a header and an image each
            raise ValueError(f"{self.file} of {self.bytes} bytes has no room for {counted(self.num_samples, 'sample')}")
        return self


class SplitInfo(Schema):
    num_samples: Count  # 0 where the shards are elsewhere and nobody has counted
    shards: list[ShardInfo] = Field(default=[])
    urls: list[str] = Field(default=[])  # of shards that are streamed from elsewhere; then there are no others

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.shards) == bool(self.urls) or (self.shards and not self.num_samples):
            raise ValueError("a split is either shards with samples in them, or urls")
        return self


class Manifest(Schema):
    """Contents of dataset.json."""

    format_version: Literal[1] = 1
    name: str
    splits: dict[str, SplitInfo] = Field(min_length=1)
    class_names: list[str]  # the class id is the place in this list; empty where there are no classes
    image_size: tuple[PositiveCount, PositiveCount] | None  # (height, width) where all images share one
    provenance: dict[str, str]
    fingerprint: str  # two data sets with the same one hold the same samples in the same order


def fingerprint(splits: dict[str, SplitInfo], class_names: list[str]) -> str:
    """Fingerprint that is equal for the same samples in the same order under the same class names."""
    contents = {split: [shard.sha256 for shard in info.shards] or info.urls for split, info in splits.items()}
    return hashlib.sha256(json.dumps([contents, class_names], sort_keys=True).encode()).hexdigest()


def timm_manifest(manifest: Manifest) -> str:
    """Contents of _info.json."""
    splits = {
        name: {
            "name": name,
            "num_samples": split.num_samples,
            "filenames": [shard.file for shard in split.shards],
            "shard_lengths": [shard.num_samples for shard in split.shards],
        }
        for name, split in manifest.splits.items()
    }
    return json.dumps({"splits": splits}, indent=1) + "\n"


class Sample(NamedTuple):
    """One image on its way into a shard."""

    key: str  # at most 80 bytes, no dots, no slashes
    suffix: str  # of the image's file, without the dot
    data: bytes
    size: tuple[int, int]  # (height, width)
    class_id: int  # NO_CLASS where there are no classes
    info: dict[str, str | int]  # goes into <key>.json


def padded(length: int) -> int:
    """The bytes that a member of so many bytes takes in a tar."""
    return -(-length // TAR_BLOCK) * TAR_BLOCK


def read_index(path: Path, info: ShardInfo, read: Callable[[Path], np.ndarray] = map_array) -> np.ndarray:
    """The index of a shard, read-only. Raises OSError where there is none, ValueError where it could be no shard's."""
    index = read(path)
    if index.dtype != INDEX_DTYPE or index.shape != (info.num_samples,):
        raise ValueError(f"does not index the {counted(info.num_samples, 'sample')} that {MANIFEST} speaks of")
    if not _is_in_order(index, info.bytes):
        raise ValueError("its samples overlap, or lie outside the shard")
    return index


def _is_in_order(index: np.ndarray, num_bytes: int) -> bool:
    """Whether the samples of an index follow each other in a tar of so many bytes, with room for headers between."""
    if index["offset"].max() > num_bytes:  # first, as sums of larger numbers would begin anew at 0
        return False
    starts = index["offset"].astype(np.int64) - TAR_BLOCK
    ends = index["offset"].astype(np.int64) + index["length"]
    return not ((starts < 0).any() or (starts[1:] < ends[:-1]).any() or ends[-1] > num_bytes)


def is_dataset(path: str | Path) -> bool:
    """Whether `path` means a data set: a folder that `restok prepare` made, or the word `sample`."""
    return str(path) == "sample" or (Path(path) / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Read the dataset.json in `folder`. Raises UsageError where there is none, RestokError for a damaged one."""
    path = folder / MANIFEST
    if not path.is_file():
        if folder.is_dir():
            raise UsageError(
                f"{folder} is not a data set; `restok prepare folder {folder} OUT` makes one of its images"
            )
        raise UsageError(
            f"{folder}: no such data set; give a folder that `restok prepare folder IMAGES OUT` made,"
            " or the word sample"
        )
    return MADE.read(Manifest, path)


def index_path(shard: Path) -> Path:
    """Where the index of a shard lies."""
    return shard.with_name(shard.name.partition(".")[0] + ".npy")


def own_files(folder: Path) -> set[str]:
    """Names that --overwrite may delete of `folder`: the files of the data set that `prepare` made there, or is making.

    A name that looks like one of ours is none: dataset.json must speak of the file. Paths are relative to `folder`.
    """
    work = folder / WORK_FOLDER
    files = {f"{WORK_FOLDER}/{path.name}" for path in work.iterdir()} if work.is_dir() else set()
    for path in (folder / MANIFEST, work / MANIFEST, work / REPLACED):
        if path.is_file():
            files |= _listed_files(path)
    return files


def _listed_files(path: Path) -> set[str]:
    """Names of our files by a data set's dataset.json; of a damaged one nothing is known."""
    try:
        manifest = MADE.read(Manifest, path)
    except RestokError:
        return set()
    shards = [shard.file for split in manifest.splits.values() for shard in split.shards]
    files = {MANIFEST, BAD_LIST, *(index_path(Path(shard)).name for shard in shards)}
    if manifest.provenance.items() >= IN_PLACE.items():  # shards that timm has made may have brought its file along
        timm = path.with_name(TIMM_MANIFEST)
        is_ours = timm.is_file() and timm.read_bytes() == timm_manifest(manifest).encode()
        return files | {TIMM_MANIFEST} if is_ours else files
    if manifest.fingerprint == read_manifest(SAMPLE_FOLDER).fingerprint:
        files.update(SAMPLE_TEXTS)
    return files | {TIMM_MANIFEST, *shards}


def is_index(path: Path) -> bool:
    try:
        return map_array(path).dtype == INDEX_DTYPE
    except (OSError, ValueError):
        return False
