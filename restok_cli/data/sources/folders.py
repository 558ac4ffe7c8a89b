"""A folder of images as people have it: which of its folders are splits, and which are classes."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from restok_cli.console import counted, note, readable
from restok_cli.data.image_folders import known_digests
from restok_cli.data.shards.layout import NO_CLASS
from restok_cli.data.sources.listing import File, Source, Sources, shuffled, split_by_hash, unused_key
from restok_cli.data.sources.splits import SPLITS, split_named, splits_in, test_as_validation
from restok_cli.data.sources.walk import images_below, note_empty_folders, note_passed_over
from restok_cli.errors import UsageError
from restok_cli.files import check_is_folder


class ImageFile(NamedTuple):
    path: str
    file: str  # its path below the whole folder, with slashes
    folder: str | None  # its class folder; None where it lies in none
    class_name: str | None  # the same as everybody writes it: macOS writes é as two characters


def walk_folder(folder: Path, validation_fraction: float, validate_on_test: bool = False) -> Sources:
    """Find the images of `folder`. Its sub-folders are the classes; there are none where the images lie flat.

    Sub-folders that are called as splits are, in any case, are the splits, with the classes in them. Where none is for
    validation, it is made of `validation_fraction` of each class of train, or of the split test if `validate_on_test`.
    Split and order depend on the file names alone.

    Raises UsageError where the folder is missing, holds no images, holds some that are in no class folder or split, or
    has folders that may be splits where only classes are; RestokError where a folder in it cannot be read.
    """
    tars = "; `restok prepare shards` takes tars" if folder.suffix.lower() == ".tar" else ""
    check_is_folder(folder, f"a folder of images{tars}")
    paths, passed_over = images_below(folder)
    note_passed_over(folder, passed_over, "; bad.jsonl lists all")
    start = len(os.path.join(folder, ""))
    found = [(path, path[start:].split(os.sep)) for path in paths]
    own = _own_splits(folder, [parts for _, parts in found])
    _check_deeper_folders(folder, {tuple(parts[:-1]) for _, parts in found}, 1 if own else 0)
    if own:
        note_empty_folders(folder, set(own.values()))
        splits = {
            split: [_image(path, parts, 1) for path, parts in found if parts[0] == name] for split, name in own.items()
        }
    else:
        splits = {"all": [_image(path, parts, 0) for path, parts in found]}
    for split, members in splits.items():
        _check_classes(folder / own.get(split, ""), members)
    _compare_classes(splits, own)
    if validate_on_test:
        splits = test_as_validation(splits, str(folder))
    if validation_fraction and "train" in splits and "validation" not in splits:
        note(f"{folder}: validation is {validation_fraction:g} of each class of {own['train']}/")
    return _sources(splits, validation_fraction, passed_over, known_digests(folder))


def _image(path: str, parts: list[str], depth: int) -> ImageFile:
    """The image whose class folder is that part of its path."""
    name = parts[depth] if len(parts) > depth + 1 else None
    return ImageFile(path, "/".join(parts), name, name and normalize("NFC", name))


def _sources(
    splits: dict[str, list[ImageFile]], validation_fraction: float, passed_over: dict[str, str], digests: dict[str, str]
) -> Sources:
    members = chain.from_iterable(splits.values())
    names = sorted({image.class_name for image in members if image.class_name is not None})
    class_ids: dict[str | None, int] = {None: NO_CLASS} | {name: i for i, name in enumerate(names)}
    keys: set[str] = set()
    sources = {
        split: [
            Source(
                *(unused_key(file, keys), readable(file), class_ids[class_name]),
                File(path, digests.get(normalize("NFC", file)) if digests else None),
            )
            for path, file, _, class_name in members
        ]
        for split, members in splits.items()
    }
    to_divide = None if "validation" in sources else sources.pop("all", None) or sources.pop("train", None)
    divided = split_by_hash(to_divide, validation_fraction) if to_divide else {}
    divided |= {split: shuffled(members) for split, members in sources.items()}
    unread = [(readable(file), why) for file, why in passed_over.items()]
    return Sources([readable(name) for name in names], divided, unread)


def _own_splits(folder: Path, found: list[list[str]]) -> dict[str, str]:
    """Split -> the folder of it in `folder`, which is noted; none where no folder is called as a split is.

    `found` are the parts of the paths of all images.
    """
    own: dict[str, str] = {}
    for name in sorted({parts[0] for parts in found if len(parts) > 1}):
        split = split_named(name)
        if split in own:
            raise UsageError(f"{folder}: {own[split]} and {name} are both for {split}; rename one, or move it away")
        if split:
            own[split] = name
    if not own:
        return {}
    if other := next((parts for parts in found if parts[0] not in own.values() or len(parts) == 1), None):
        raise UsageError(
            f"{folder}: {_listed(own.values())} may be splits or classes, as {'/'.join(other)} is in none of them;"
            " move it into a split, or if all are classes, move them into a folder train"
        )
    own = {split: own[split] for split in SPLITS if split in own}
    note(f"{folder}: taken as its splits: {_listed(f'{name}/ ({split})' for split, name in own.items())}")
    return own


def _check_deeper_folders(folder: Path, with_images: set[tuple[str, ...]], depth: int) -> None:
    """Say which folders with images lie in class folders, which are that part of their paths.

    Raises UsageError where folders beside each other, from the classes down, are called as splits are: their images
    would be mixed. So in `train2017` and `val2017`, and where splits lie below what is given or below each class.
    """
    first = 2 if depth else 0  # below splits, classes may be called anything
    beside: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in with_images:
        for i in range(first, len(path)):
            beside[path[:i]].add(path[i])
    for parent, names in sorted(beside.items()):
        told = {split: name for name in sorted(names) for split in splits_in(name)}
        if len(splits := sorted(set(told.values()))) > 1:
            place = folder.joinpath(*parent)
            remedy = "give that folder if its folders are splits, with train, validation and test for names"
            if depth:
                remedy = "rename them if they are none, or move out what is not of that split"
            elif not parent:
                remedy = "call them train, validation and test, or if all are classes, move them into a folder train"
            raise UsageError(f"{place}: {_listed(splits)} look like splits, whose images would be mixed; {remedy}")
    if deeper := sorted({"/".join(path[: depth + 2]) for path in with_images if len(path) > depth + 1}):
        note(
            f"{folder}: {counted(len(deeper), 'folder')} in class folders ({deeper[0]} the first): their images are of"
            " the class above"
        )


def _check_classes(root: Path, members: list[ImageFile]) -> None:
    """Say which folders in `root` are no class, or one class with another. Raises UsageError where some are missing."""
    flat = [image for image in members if image.folder is None]
    if 0 < len(flat) < len(members):
        raise UsageError(
            f"{flat[0].path} is in no class folder, unlike {counted(len(members) - len(flat), 'other image')};"
            " put every image into a class folder, or none"
        )
    if flat:
        return
    class_names = {image.folder: image.class_name for image in members if image.folder is not None}
    note_empty_folders(root, set(class_names))
    for class_name, count in Counter(class_names.values()).items():
        if count > 1:
            note(f"{root}: {count} folders are called {class_name}, in different bytes; they are one class")


def _compare_classes(splits: dict[str, list[ImageFile]], own: dict[str, str]) -> None:
    """Compare the classes of the other splits with train's.

    A test split that has none of them is dropped, and this is said: its labels were never handed out.
    Raises UsageError where this is true of the validation split.
    """
    classes = {split: {image.class_name for image in members} for split, members in splits.items()}
    for split in [split for split in ("validation", "test") if split in splits and "train" in splits]:
        foreign, name = classes[split] - classes["train"], own[split]
        if foreign and classes[split] & classes["train"]:
            first = min(filter(None, foreign))
            note(f"{name} has {counted(len(foreign), 'class', 'classes')} that {own['train']} has not: {first}")
        elif foreign and split == "test":
            images = counted(len(splits.pop(split)), "image")
            note(f"{name} is left out: its {images} are not sorted into the classes of {own['train']}")
        elif foreign:
            raise UsageError(f"{splits[split][0].path} is in no class folder of {own['train']}; sort {name} as that is")


def _listed(words: Iterable[str]) -> str:
    *some, last = words
    return f"{', '.join(some)} and {last}" if some else last
