"""A folder of somebody's pictures as samples: which class, which split, in which order, under which key."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

from restok_cli.console import note
from restok_cli.data.images import find_images, read_image
from restok_cli.data.shards import NO_CLASS, Sample
from restok_cli.errors import PictureError, UsageError

VALIDATION_FOLDERS = ("validation", "val", "valid")
KEY_LENGTH, HASH_LENGTH = 80, 16


class Source(NamedTuple):
    """A picture file, still unread."""

    key: str
    path: Path
    file: str  # its name for people: relative to the folder, with slashes
    class_id: int


class Sources(NamedTuple):
    """What a folder holds."""

    class_names: list[str]
    splits: dict[str, list[Source]]


class BadPicture(NamedTuple):
    """A file that is not in the data set, and why."""

    file: str
    reason: str


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
    found = [(split, path, path.relative_to(root)) for split, root in roots.items() for path in find_images([root])]
    flat = [path for _, path, below in found if len(below.parts) == 1]
    if 0 < len(flat) < len(found):
        raise UsageError(
            f"{flat[0]} is in no class folder, but {len(found) - len(flat)} other pictures are;"
            " put every picture into a class folder, or none"
        )
    class_folders = [] if flat else sorted({below.parts[0] for _, _, below in found})
    class_ids = {name: i for i, name in enumerate(class_folders)}

    splits: dict[str, list[Source]] = {split: [] for split in roots}
    keys: set[str] = set()
    for split, path, below in found:
        file = path.relative_to(folder).as_posix()
        key = _unused_key(file, keys)
        keys.add(key)
        class_id = NO_CLASS if flat else class_ids[below.parts[0]]
        splits[split].append(Source(key, path, readable(file), class_id))
    if own_splits:
        splits = {split: sorted(sources, key=_rank) for split, sources in splits.items()}
    else:
        splits = split_by_hash(splits["all"], validation_fraction)
    return Sources([readable(name) for name in class_folders], splits)


def split_by_hash(samples: Sequence[Keyed], validation_fraction: float) -> dict[str, list[Keyed]]:
    """Divide samples into train and validation, each shuffled, both by a hash of the keys and by nothing else.

    A class with two samples or more has at least one in each split, unless the fraction is 0.
    Shuffled, so that the first n samples of a split are a fair choice, also for readers that cannot seek.
    """
    classes: dict[int, list[Keyed]] = defaultdict(list)
    for sample in sorted(samples, key=_rank):
        classes[sample.class_id].append(sample)
    splits: dict[str, list[Keyed]] = {"train": [], "validation": []}
    for members in classes.values():
        held_out = min(max(round(validation_fraction * len(members)), 1), len(members) - 1)
        if validation_fraction == 0:
            held_out = 0
        splits["validation"] += members[:held_out]
        splits["train"] += members[held_out:]
    return {split: sorted(members, key=_rank) for split, members in splits.items()}


def read_samples(sources: Iterable[Source], bad: list[BadPicture]) -> Iterator[Sample]:
    """Read the files and check that they decode; those that do not are noted, added to `bad` and passed over."""
    for source in sources:
        try:
            picture = source.path.read_bytes()
            width, height = read_image(picture, source.file).size
        except (PictureError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error).removeprefix(f"{source.file}: ")
            note(f"left out: {source.file}: {reason}")
            bad.append(BadPicture(source.file, reason))
            continue
        suffix = source.path.suffix[1:].lower()
        yield Sample(source.key, suffix, picture, (height, width), source.class_id, {"file": source.file})


def _own_splits(folder: Path) -> dict[str, Path]:
    validation = [folder / name for name in VALIDATION_FOLDERS if (folder / name).is_dir()]
    if validation and (folder / "train").is_dir():
        return {"train": folder / "train", "validation": validation[0]}
    return {}


def _unused_key(file: str, taken: set[str]) -> str:
    """A key for the file that no tar reader can misread: WebDataset ends a key at its first dot."""
    key = re.sub(r"[^A-Za-z0-9_-]", "_", file.rpartition(".")[0])
    if len(key) <= KEY_LENGTH and key not in taken:
        return key
    return f"{key[: KEY_LENGTH - HASH_LENGTH - 1]}-{_hash(file)[:HASH_LENGTH]}"


def _rank(sample: Keyed) -> str:
    return _hash(sample.key)


def _hash(text: str) -> str:
    return sha256(os.fsencode(text)).hexdigest()


def readable(name: str) -> str:
    """The name of a file as text that JSON can hold: the bytes of file names need not be UTF-8."""
    return os.fsencode(name).decode(errors="replace")
