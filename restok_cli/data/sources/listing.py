"""Images that are to become a data set: where each lies, its class, its split, its place in the order, its key."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tarfile import TarInfo
from typing import NamedTuple, Protocol, TypeVar
from unicodedata import normalize

from restok_cli.data.image_files import check_size, read_file
from restok_cli.data.image_folders import check_image
from restok_cli.data.shards.layout import Sample
from restok_cli.data.shards.tars import SPARSE
from restok_cli.errors import ImageError, RestokError

KEY_LENGTH, HASH_LENGTH = 80, 16


class Place(Protocol):
    """Where the bytes of an image file lie."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """The file's bytes.

        Raises ImageError, calling it `name`, where it cannot be read, has more than `max_bytes` or is damaged,
        RestokError where none here can be read.
        """
        ...


class File(NamedTuple):
    """A file of its own."""

    path: str
    crc32: str | None = None  # that restok wrote it with; None where that is not known

    def read(self, name: str, max_bytes: int) -> bytes:
        return check_image(read_file(self.path, name, max_bytes), self.crc32, name)


class Piece(NamedTuple):
    """A piece of a larger file, as a tar is one."""

    path: str
    offset: int
    length: int

    def read(self, name: str, max_bytes: int) -> bytes:
        check_size(self.length, name, max_bytes)
        try:
            with open(self.path, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), self.length, self.offset)
        except OSError as error:
            raise RestokError(f"{self.path} cannot be read ({error.strerror})") from error
        if len(data) != self.length:
            raise RestokError(f"{self.path} ends before byte {self.offset + self.length}; has it changed meanwhile?")
        return data


class SparseFile(NamedTuple):
    """A file in a tar that lies there without its holes."""

    length: int

    def read(self, name: str, max_bytes: int) -> bytes:
        check_size(self.length, name, max_bytes)
        raise ImageError(f"{name}: {SPARSE}")


def place_in_tar(file: TarInfo, tar: Path) -> Place:
    """Where a file in a tar lies."""
    return SparseFile(file.size) if file.issparse() else Piece(str(tar), file.offset_data, file.size)


class Source(NamedTuple):
    """An image file, still unread."""

    key: str
    file: str  # its name for people: relative to the folder, with slashes
    class_id: int
    place: Place


class Sources(NamedTuple):
    """All the images that a data set is made of, in the order in which they will lie there."""

    class_names: list[str]
    splits: dict[str, list[Source]]
    passed_over: Sequence[tuple[str, str]] = ()  # files that are no images, and why


Keyed = TypeVar("Keyed", Source, Sample)


def split_by_hash(samples: Sequence[Keyed], validation_fraction: float) -> dict[str, list[Keyed]]:
    """Divide samples into train and validation, each shuffled, both by a hash of the keys and by nothing else.

    A class with two samples or more has at least one in each split, unless the fraction is 0.
    Shuffled, so that the first n samples of a split are a fair choice, also for readers that cannot seek.
    """
    to_hold_out = {}
    for class_id, count in Counter(sample.class_id for sample in samples).items():
        to_hold_out[class_id] = min(max(round(validation_fraction * count), 1), count - 1) if validation_fraction else 0
    splits: dict[str, list[Keyed]] = {"train": [], "validation": []}
    for sample in shuffled(samples):
        held_out = to_hold_out[sample.class_id] > 0
        to_hold_out[sample.class_id] -= held_out
        splits["validation" if held_out else "train"].append(sample)
    return splits


def shuffled(samples: Sequence[Keyed]) -> list[Keyed]:
    """The samples in an order that depends on their keys alone."""
    return sorted(samples, key=lambda sample: _hash(sample.key))


def unused_key(file: str, taken: set[str], path: str | None = None) -> str:
    """A key for the file that is not among `taken`, and is from now on.

    It is made of `file`; where that is too long or taken, also of a hash of `path`, which tells the file from others.
    No tar reader can misread it: WebDataset ends a key at its first dot.
    """
    file = normalize("NFC", file)  # the order comes of keys, and macOS writes é as two characters
    name = re.sub(r"[^A-Za-z0-9_-]", "_", file.rpartition(".")[0] or file)
    key, hashed = name, path or file
    while len(key) > KEY_LENGTH or key in taken:
        key = f"{name[: KEY_LENGTH - HASH_LENGTH - 1]}-{_hash(hashed)[:HASH_LENGTH]}"
        hashed = _hash(hashed)
    taken.add(key)
    return key


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
