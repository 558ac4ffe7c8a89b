"""Pictures that are to become a data set: where each lies, its class, its split, its place in the order, its key."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from restok_cli.data.shards import NO_CLASS, Sample
from restok_cli.data.walk import pictures_below
from restok_cli.errors import RestokError, UsageError

VALIDATION_FOLDERS = ("validation", "val", "valid")
KEY_LENGTH, HASH_LENGTH = 80, 16


class Place(Protocol):
    """Where the bytes of a picture file lie."""

    def read(self) -> bytes:
        """The file's bytes. Raises OSError where this one cannot be read, RestokError where none here can."""


class File(NamedTuple):
    """A file of its own."""

    path: str

    def read(self) -> bytes:
        with open(self.path, "rb", buffering=0) as file:
            return file.read()


class Piece(NamedTuple):
    """A piece of a larger file, as a tar is one."""

    path: str
    offset: int
    length: int

    def read(self) -> bytes:
        try:
            with open(self.path, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), self.length, self.offset)
        except OSError as error:
            raise RestokError(f"{self.path} cannot be read ({error.strerror})") from error
        if len(data) != self.length:
            raise RestokError(f"{self.path} ends before byte {self.offset + self.length}; has it changed meanwhile?")
        return data


class Source(NamedTuple):
    """A picture file, still unread."""

    key: str
    file: str  # its name for people: relative to the folder, with slashes
    class_id: int
    place: Place


class Sources(NamedTuple):
    """All the pictures that a data set is made of, in the order in which they will lie there."""

    class_names: list[str]
    splits: dict[str, list[Source]]


Keyed = TypeVar("Keyed", Source, Sample)


def walk_folder(folder: Path, validation_fraction: float) -> Sources:
    """Find the pictures of `folder`. Its sub-folders are the classes; there are none where the pictures lie flat.

    Sub-folders `train` and `val` (or `validation`), where both exist, are the splits. Otherwise `validation_fraction`
    of each class becomes the validation split. Split and order depend on the file names alone.

    Raises UsageError where the folder is missing, holds no pictures, or holds some outside its class folders.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give a folder of pictures")
    own_splits = _own_splits(folder)
    roots = own_splits or {"all": folder}
    found = [  # with the parts of its path below the root
        (split, path, path[len(os.path.join(root, "")) :].split(os.sep))
        for split, root in roots.items()
        for path in pictures_below(root)
    ]
    flat = [path for _, path, parts in found if len(parts) == 1]
    if 0 < len(flat) < len(found):
        raise UsageError(
            f"{flat[0]} is in no class folder, but {len(found) - len(flat)} other pictures are;"
            " put every picture into a class folder, or none"
        )
    class_folders = [] if flat else sorted({parts[0] for _, _, parts in found})
    class_ids = {name: i for i, name in enumerate(class_folders)}

    splits: dict[str, list[Source]] = {split: [] for split in roots}
    keys: set[str] = set()
    for split, path, parts in found:
        file = "/".join((*roots[split].relative_to(folder).parts, *parts))
        class_id = NO_CLASS if flat else class_ids[parts[0]]
        splits[split].append(Source(unused_key(file, keys), readable(file), class_id, File(path)))
    if own_splits:
        splits = {split: shuffled(sources) for split, sources in splits.items()}
    else:
        splits = split_by_hash(splits["all"], validation_fraction)
    return Sources([readable(name) for name in class_folders], splits)


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
    return sorted(samples, key=_rank)


def _own_splits(folder: Path) -> dict[str, Path]:
    validation = [folder / name for name in VALIDATION_FOLDERS if (folder / name).is_dir()]
    if validation and (folder / "train").is_dir():
        return {"train": folder / "train", "validation": validation[0]}
    return {}


def unused_key(file: str, taken: set[str]) -> str:
    """A key for the file that is not among `taken`, and is from now on.

    No tar reader can misread it: WebDataset ends a key at its first dot.
    """
    key = re.sub(r"[^A-Za-z0-9_-]", "_", file.rpartition(".")[0] or file)
    if len(key) > KEY_LENGTH or key in taken:
        key = f"{key[: KEY_LENGTH - HASH_LENGTH - 1]}-{_hash(file)[:HASH_LENGTH]}"
    taken.add(key)
    return key


def _rank(sample: Keyed) -> str:
    return _hash(sample.key)


def _hash(text: str) -> str:
    return sha256(os.fsencode(text)).hexdigest()


def readable(name: str) -> str:
    """The name of a file as text that JSON can hold: the bytes of file names need not be UTF-8."""
    return os.fsencode(name).decode(errors="replace")
