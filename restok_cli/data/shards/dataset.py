"""Reading data sets on disk (see `layout`): samples by their number."""

import gzip
import math
import os
import zlib
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from zlib_ng import zlib_ng

from restok_cli.console import note
from restok_cli.data.image_files import check_size, open_image, read_image
from restok_cli.data.shards import layout
from restok_cli.data.shards.manifests import InSplits, locate
from restok_cli.data.shards.mapping import map_shard
from restok_cli.data.shards.tars import key_in, name_in
from restok_cli.errors import ImageError, RestokError, UsageError
from restok_cli.files import MAX_MEMBER_BYTES

MAX_UNPACKED = 256 << 20  # bytes, of all gzipped shards of a data set
MOST_LOOKED_AT = 500  # images, spread evenly over the split, whose sizes stand for those of all
MOST_CHECKED = 2**20  # bytes of a sample before its image that are read to check both; others' shards may have more


class Shard:
    """One tar and its index. No file stays open between two reads, however many shards there are."""

    def __init__(self, path: Path, info: layout.ShardInfo, num_classes: int, max_member_bytes: int = MAX_MEMBER_BYTES):
        self.path, self.info, self.num_classes, self.max_member_bytes = path, info, num_classes, max_member_bytes
        self.num_samples = info.num_samples

    def __reduce__(self):
        return Shard, (self.path, self.info, self.num_classes, self.max_member_bytes)

    @cached_property
    def index(self) -> np.ndarray:
        """One entry (offset, length, class_id, checksum) per sample; mapped from the disk, not loaded."""
        path = layout.index_path(self.path)
        try:
            index = layout.read_index(path, self.info, map_shard)
        except (OSError, ValueError) as error:
            raise layout.MADE.damaged(path, f"is missing or no index ({error})") from error
        if self.info.index_crc32 not in (None, zlib_ng.crc32(index.view(np.uint8))):
            raise layout.MADE.damaged(path, "is not as it was prepared")
        lowest, highest = (0, self.num_classes - 1) if self.num_classes else (layout.NO_CLASS, layout.NO_CLASS)
        if index["class_id"].min() < lowest or index["class_id"].max() > highest:
            raise layout.MADE.damaged(
                path, f"holds class ids outside the {self.num_classes} classes of {layout.MANIFEST}"
            )
        return index

    def key(self, i: int) -> str:
        """The key, from the tar header just before the image."""
        return key_in(self._read_at(int(self.index["offset"][i]) - layout.TAR_BLOCK, layout.TAR_BLOCK))

    def file(self, i: int) -> tuple[bytes, str]:
        """The image's file as it was given to `prepare`, and its name in the tar.

        Raises ImageError where the sample was damaged since, or the image has too many bytes.
        """
        offset, length, _, checksum = self.index[i].item()
        if length > self.max_member_bytes:
            check_size(length, f"sample {self.key(i)} of {self.path}", self.max_member_bytes)
        start, end = self._end(i - 1) if i else 0, self._end(i)
        is_checked = offset - start <= MOST_CHECKED
        if not is_checked:
            start, end = offset - layout.TAR_BLOCK, offset + length
        span = self._read_at(start, end - start)
        if is_checked and zlib_ng.crc32(span) != checksum:
            raise ImageError(
                f"sample {self.key(i)} of {self.path} is not as it was prepared; `restok prepare verify` says what else"
                " is damaged"
            )
        place = offset - start
        return span[place : place + length], name_in(span[max(place - layout.TAR_BLOCK, 0) : place])

    def _end(self, i: int) -> int:
        """Where sample `i` ends, and the next one begins."""
        offset, length, *_ = self.index[i].item()
        return offset + layout.padded(length)

    def _read_at(self, offset: int, length: int) -> bytes:
        if self.path.suffix == ".gz":
            data = self._unpacked[offset : offset + length]
        else:
            try:
                with open(self.path, "rb", buffering=0) as file:
                    data = os.pread(file.fileno(), length, offset)
            except OSError as error:
                raise layout.MADE.damaged(self.path, f"cannot be read ({error.strerror})") from error
        if len(data) != length:
            raise layout.MADE.damaged(self.path, f"ends before byte {offset + length}")
        return data

    @cached_property
    def _unpacked(self) -> bytes:
        try:
            with gzip.open(self.path) as file:
                data = file.read(self.info.bytes + 1)  # to its end, where its checksum is
        except (OSError, EOFError, zlib.error) as error:
            raise layout.MADE.damaged(self.path, f"is no whole gzip file ({error})") from error
        if len(data) != self.info.bytes:
            raise layout.MADE.damaged(self.path, f"does not unpack to {self.info.bytes} bytes")
        return data


class Split:
    """The samples of one split, numbered from 0 in the order of the shards."""

    def __init__(self, name: str, shards: list[Shard]):
        self.name, self._shards = name, shards
        self.ends = list(accumulate(shard.num_samples for shard in shards))

    @property
    def shards(self) -> list[Shard]:
        return self._shards

    def __len__(self) -> int:
        return self.ends[-1]

    @property
    def known_length(self) -> float:
        """`len`, or infinite where nobody has counted."""
        return len(self)

    def _locate(self, i: int) -> tuple[Shard, int]:
        shards = self.shards  # first, since a streamed split refuses
        number, position = locate(self.ends, i)
        return shards[number], position

    @cached_property
    def class_ids(self) -> np.ndarray:
        """int32 (len,): the class of every sample, -1 where the data set has no classes."""
        return np.concatenate([shard.index["class_id"] for shard in self.shards])

    def class_id(self, i: int) -> int:
        """The class of sample `i`, -1 where the data set has no classes."""
        shard, position = self._locate(i)
        return int(shard.index["class_id"][position])

    def key(self, i: int) -> str:
        """The name of sample `i`, unique in its split."""
        shard, position = self._locate(i)
        return shard.key(position)

    def read(self, i: int) -> bytes:
        """The image file of sample `i`, byte for byte. Raises RestokError where the shard is damaged."""
        return self.file(i)[0]

    def file(self, i: int) -> tuple[bytes, str]:
        """The image file of sample `i`, and what to call it in messages and for what a suffix may tell: shard and name.

        Raises RestokError where the shard is damaged.
        """
        shard, position = self._locate(i)
        data, name = shard.file(position)
        return data, f"{shard.path}: {name}"

    def image(self, i: int) -> Image.Image:
        """Sample `i` as an RGB image, of any size: `prepare` is what refuses those that are too large.

        Raises ImageError naming shard and file where it cannot be decoded.
        """
        return read_image(*self.file(i), max_pixels=None)


class StreamedSplit(Split):
    """A split in shards that are elsewhere, or have no index: they can be read from front to back only."""

    def __init__(
        self,
        name: str,
        urls: list[str],
        num_samples: int,
        class_names: list[str],
        max_member_bytes: int = MAX_MEMBER_BYTES,
    ):
        super().__init__(name, [])
        self.urls, self.num_samples, self.class_names = urls, num_samples, class_names  # 0 samples: nobody has counted
        self.max_member_bytes = max_member_bytes

    def __len__(self) -> int:
        if not self.num_samples:
            raise self.refusal()
        return self.num_samples

    @property
    def known_length(self) -> float:
        return self.num_samples or math.inf

    @property
    def shards(self) -> list[Shard]:
        raise self.refusal()

    def refusal(self) -> UsageError:
        """The error where shards are asked for, of which a sample could be read by its number."""
        return UsageError(
            f"the {self.name} shards of this data set are elsewhere ({self.urls[0]}) and can only be streamed in"
            " training; for all else download them and give the folder to `restok prepare shards`"
        )


class Dataset(InSplits[Split]):
    """A prepared data set: names, classes and splits. Images of more than `max_member_bytes` are not read."""

    def __init__(self, folder: Path, manifest: layout.Manifest, max_member_bytes: int = MAX_MEMBER_BYTES):
        self.folder, self.manifest, self.max_member_bytes = folder, manifest, max_member_bytes
        self.name, self.fingerprint = manifest.name, manifest.fingerprint
        self.title = f"data set {self.name}"
        self.class_names = manifest.class_names
        self.splits = list(manifest.splits)

    def open_split(self, name: str) -> Split:
        info = self.manifest.splits[name]
        if info.urls:
            return StreamedSplit(name, info.urls, info.num_samples, self.class_names, self.max_member_bytes)
        limits = self.num_classes, self.max_member_bytes
        return Split(name, [Shard(self.folder / shard.file, shard, *limits) for shard in info.shards])

    def image_sizes(self) -> list[tuple[int, int]]:
        """(height, width) of some images to train on, as their files say; of shards that can only be streamed, none.

        Of a data set without a training split they are those of its first one.
        """
        split = self.split("train" if "train" in self.splits else self.splits[0])
        if isinstance(split, StreamedSplit):
            return []
        count, sizes = len(split), []
        looked_at = min(count, MOST_LOOKED_AT)
        for number in range(looked_at):
            i = number * count // looked_at
            try:
                with open_image(*split.file(i), max_pixels=None) as image:
                    sizes.append((image.height, image.width))
            except ImageError:  # of which whoever trains on it will be told
                continue
        return sizes


def open_dataset(path: str | Path, allow_pipe: bool = False, max_member_bytes: int = MAX_MEMBER_BYTES) -> Dataset:
    """Open a folder that `restok prepare` made, or by the word `sample` the data set that comes with restok.

    Of its images those of more than `max_member_bytes` are not read, but raise ImageError.

    Shards behind a URL that starts with `pipe:` are what a shell command prints: reading them runs it, so the person
    must have allowed that.

    Says it where its description was changed since. Raises UsageError where `path` is no data set or needs that,
    RestokError where a shard of it is missing or cut.
    """
    folder = layout.SAMPLE_FOLDER if str(path) == "sample" else Path(path)
    manifest = layout.read_manifest(folder)
    if layout.fingerprint(manifest.splits, manifest.class_names) != manifest.fingerprint:
        note(
            f"{folder / layout.MANIFEST}: class names or shards are not those that were prepared; somebody changed them"
        )
    shards = list(chain.from_iterable(split.shards for split in manifest.splits.values()))
    for shard in shards:
        # of a gzipped tar the size is not known without unpacking it, and pip has checked its hash
        layout.MADE.check_file(folder / shard.file, None if shard.file.endswith(".gz") else shard.bytes)
    if sum(shard.bytes for shard in shards if shard.file.endswith(".gz")) > MAX_UNPACKED:
        raise RestokError(
            f"{folder} has gzipped shards, which are held in memory, of more than {MAX_UNPACKED:,} bytes; unpack them"
            " with `gunzip`, and name them without .gz in dataset.json"
        )
    commands = filter(None, (shell_command(url) for split in manifest.splits.values() for url in split.urls))
    if not allow_pipe and (command := next(commands, None)):
        raise UsageError(f"{folder} would run the shell command {command!r}; if it may, give --allow-pipe")
    return Dataset(folder, manifest, max_member_bytes)


def shell_command(url: str) -> str | None:
    """The command behind a URL that webdataset would have a shell run, however that is written; None of all others."""
    try:
        return url.partition(":")[2] or " " if urlsplit(url).scheme == "pipe" else None
    except ValueError:  # no URL at all
        return None
