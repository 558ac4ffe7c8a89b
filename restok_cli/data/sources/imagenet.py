"""ImageNet-1k (ILSVRC 2012) in each form in which people have it.

    ILSVRC2012_img_train.tar  ILSVRC2012_img_val.tar  ILSVRC2012_devkit_t12.tar.gz    as image-net.org hands it out
    train/<synset>/*.JPEG     val/<synset>/*.JPEG                                     unpacked, as torchvision wants it
    ILSVRC/Data/CLS-LOC/{train,val}  LOC_val_solution.csv                             as Kaggle hands it out
    **/train-*.parquet        **/validation-*.parquet                                 as the hub hands it out

Folders of splits are known by `split_named`; there may be one of test too. The first three forms may be mixed, and give
the same samples in the same order. Everywhere a class id is the rank of the synset among the 1000; the devkit numbers
them in an order of its own (ILSVRC2012_ID), which nothing else uses.
"""

import csv
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from tarfile import TarError
from typing import NamedTuple

from restok_cli.console import counted, note, readable, track
from restok_cli.data.shards.tars import SYNSET, contents, list_files, read_members, unpacked
from restok_cli.data.sources import walk
from restok_cli.data.sources.listing import File, Place, Source, Sources, place_in_tar, shuffled, unused_key
from restok_cli.data.sources.parquet import are_unlabelled, find_parquet, read_parquet
from restok_cli.data.sources.splits import SPLITS, split_named, test_as_validation
from restok_cli.data.sources.texts import read_text
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import MAX_TEXT_BYTES, check_is_folder, read_whole

CLASSES = Path(__file__).parents[2] / "assets" / "imagenet" / "classes.tsv"
NUM_IMAGES = {"train": 1_281_167, "validation": 50_000}

TARS = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
TEST_TARS = "ILSVRC2012_img_test*.tar"  # there is more than one edition
SPLIT_PLACES = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # where folders of splits may be
DEVKIT = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12")
DEVKIT_LABELS = "data/ILSVRC2012_validation_ground_truth.txt"
DEVKIT_ERRORS = (EOFError, LookupError, OSError, TarError, ValueError, zlib.error)  # where it is damaged
KAGGLE_LABELS, KAGGLE_COLUMNS = "LOC_val_solution.csv", ("ImageId", "PredictionString")


class FoundImage(NamedTuple):
    """An image file, and what its surroundings tell of it."""

    name: str  # without folders
    synset: str | None  # None where it lies among those of other classes
    place: Place


def read_classes() -> dict[str, str]:
    """The name of each synset, in the order of the class ids."""
    return {synset: name for synset, name, _ in _class_table()}


def _class_table() -> list[list[str]]:
    """Synset, name and ILSVRC2012_ID of each class."""
    return [line.split("\t") for line in CLASSES.read_text(encoding="utf-8").splitlines()]


def synset_ids(class_names: list[str]) -> dict[str, int]:
    """The class id of each synset, where the classes are ImageNet's; else there are none."""
    classes = read_classes()
    return {synset: i for i, synset in enumerate(classes)} if class_names == list(classes.values()) else {}


def open_imagenet(folder: Path, validate_on_test: bool = False) -> Sources:
    """Find the images of an ImageNet in `folder`, with their classes, without reading them.

    The split test is left out where it has no labels; where `validate_on_test`, it becomes the validation split.

    Raises UsageError where `folder` has none of the known forms, lacks the labels of the validation images or holds
    classes that are not ImageNet's; RestokError where a file of it is damaged or a folder cannot be read.
    """
    check_is_folder(folder, "the folder that holds ImageNet")
    classes = read_classes()
    passed_over: list[tuple[str, str]] = []
    keys: set[str] = set()
    if parquet := _labelled(folder, find_parquet(folder)):
        splits = {split: read_parquet(folder, files, list(classes), keys) for split, files in parquet.items()}
    else:
        class_ids = {synset: i for i, synset in enumerate(classes)}
        found = _find(folder, passed_over)
        splits = {split: _sources(split, images, class_ids, keys) for split, images in found.items()}
    for split, sources in splits.items():
        if len(sources) != NUM_IMAGES.get(split, len(sources)):
            note(f"{split}: {counted(len(sources), 'image')}, where the whole ImageNet has {NUM_IMAGES[split]}")
    if validate_on_test:
        splits = test_as_validation(splits, str(folder))
    return Sources(list(classes.values()), splits, passed_over)


def _labelled(folder: Path, parquet: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """The splits of parquet files whose rows have labels, which are noted."""
    for split, files in parquet.items():
        note(f"{folder}: {counted(len(files), 'parquet file')} taken as {split}, {files[0].name} the first")
    if "test" in parquet and are_unlabelled(parquet["test"]):
        note(f"{folder}: test is left out, as its rows have no labels")
        return {split: files for split, files in parquet.items() if split != "test"}
    return parquet


def _find(folder: Path, passed_over: list[tuple[str, str]]) -> dict[str, list[FoundImage]]:
    """The images of each split; what is no image, or has no label, goes into `passed_over`."""
    places = {split: place for split in SPLITS if (place := _place(folder, split))}
    if not places:
        raise UsageError(
            f"{folder} holds no ImageNet: expected {TARS['train']}, train/, {SPLIT_PLACES[1]}/train/ or"
            " train-*.parquet in it, and the same for validation"
        )
    for tar in sorted(folder.glob(TEST_TARS)):
        note(f"{tar} is left out: nobody has the labels of its images")
        passed_over.append((tar.name, "test images, which have no labels"))
    found, classes = {}, read_classes()
    for split, place in places.items():
        note(f"{place} taken as {split}")
        images = list(_images(folder, place, passed_over))
        flat = [image for image in images if image.synset is None]
        if split == "test" and not any(image.synset in classes for image in images):
            note(f"{place} is left out: no images in folders of ImageNet's classes, which nothing else tells")
            continue
        if not images:
            raise UsageError(f"{place} holds no images; fill it, or move it away")
        if flat and split != "validation":
            raise UsageError(f"{place}: {flat[0].name} is in no class folder or class tar, which would tell its class")
        if flat:
            synsets = _validation_labels(folder, flat)
            images = [image._replace(synset=image.synset or synsets[image.name]) for image in images]
        found[split] = images
    if not found:
        raise UsageError(f"{folder} holds no images of ImageNet whose classes are known")
    return found


def _place(folder: Path, split: str) -> Path | None:
    """The tar or the folder of a split. Raises UsageError where several folders are called so."""
    if split in TARS and (folder / TARS[split]).exists():
        return folder / TARS[split]
    for place in filter(Path.is_dir, (folder / place for place in SPLIT_PLACES)):
        names = [name for name in walk.folders_in(place) if split_named(name) == split]
        if len(names) > 1:
            raise UsageError(f"{place}: {' and '.join(names)} are all for {split}; rename or move away the others")
        if names:
            return place / names[0]
    return None


def _sources(split: str, found: list[FoundImage], class_ids: dict[str, int], keys: set[str]) -> list[Source]:
    """Shuffle what was found; key, order and all depend on the names of the files, not on where they lie.

    Files of several classes or splits may be called alike: then these tell their keys apart, of which `keys` are taken.
    """
    sources = []
    for name, synset, place in sorted(found, key=lambda image: (image.name, image.synset)):
        if synset not in class_ids:
            raise UsageError(
                f"{name} is of class {synset}, which is none of ImageNet's 1000;"
                " `restok prepare folder` takes any classes"
            )
        key = unused_key(name, keys, f"{split}/{synset}/{name}")
        sources.append(Source(key, readable(name), class_ids[synset], place))
    return shuffled(sources)


def _images(folder: Path, path: Path, passed_over: list[tuple[str, str]]) -> Iterator[FoundImage]:
    """The images of a split: in a tar, or in a tar of class tars, or in a folder, of class folders or class tars.

    What is no image goes into `passed_over`, by its path below `folder`.
    """
    if path.is_file():
        yield from _images_in_tar(path, None)
        return
    class_tars = walk.tars_in(path)
    if class_tars:
        known = {name for tar in class_tars for name in (tar.name, tar.stem)}
        others = {}
        for entry in walk.visible_entries(path):
            if entry.name in known:
                continue
            others[entry.name] = "" if entry.is_dir() or ".tar" in entry.name.lower() else walk.why_no_image(entry)
            if not others[entry.name]:
                raise UsageError(
                    f"{path} holds class tars, but {entry.name} beside them, with no tar; unpack all or none, and move"
                    " away what is no class"
                )
        _pass_over(folder, path, others, passed_over)
        for tar in track(class_tars, f"look into {path.name}", len(class_tars), "class tars"):
            yield from _images_in_tar(tar, tar.stem)
        return
    images, others = walk.look_below(path)
    _pass_over(folder, path, others, passed_over)
    start = len(os.path.join(path, ""))
    below = [image[start:].split(os.sep) for image in images]
    filled = {parts[0] for parts in below if len(parts) > 1}
    if filled:
        walk.note_empty_folders(path, filled)
    for image, parts in zip(images, below, strict=True):
        yield FoundImage(parts[-1], parts[0] if len(parts) > 1 else None, File(image))


def _pass_over(folder: Path, path: Path, others: dict[str, str], passed_over: list[tuple[str, str]]) -> None:
    walk.note_passed_over(path, others, "; bad.jsonl lists all")
    passed_over += [(readable((path.relative_to(folder) / file).as_posix()), why) for file, why in others.items()]


def _images_in_tar(path: Path, synset: str | None) -> Iterator[FoundImage]:
    with open(path, "rb") as tar:
        files = list_files(tar, str(path))
        for file in track(files, f"look into {path.name}", len(files), "files") if synset is None else files:
            name = file.name.rpartition("/")[2]
            if walk.is_hidden(file.name):
                continue
            if name.endswith(".tar"):
                end = file.offset_data + file.size
                for inner in list_files(tar, f"{name} in {path}", file.offset_data, end):
                    if not walk.is_hidden(inner.name):
                        image = inner.name.rpartition("/")[2]
                        yield FoundImage(image, name.removesuffix(".tar"), place_in_tar(inner, path))
            else:
                yield FoundImage(name, synset, place_in_tar(file, path))


def _validation_labels(folder: Path, images: list[FoundImage]) -> dict[str, str]:
    """File name -> synset of the validation images, from the devkit or from Kaggle's table."""
    if (table := folder / KAGGLE_LABELS).exists():
        synsets = _read_kaggle_labels(table)
    elif table := next((folder / name for name in DEVKIT if (folder / name).exists()), None):
        synsets = {f"ILSVRC2012_val_{number:08d}": synset for number, synset in read_devkit(table).items()}
    else:
        raise UsageError(
            f"the labels of the validation images are missing: put {DEVKIT[0]} (of image-net.org)"
            f" or {KAGGLE_LABELS} (of Kaggle) into {folder}"
        )
    labels = {image.name: synsets.get(image.name.partition(".")[0]) for image in images}
    known = {name: synset for name, synset in labels.items() if synset is not None}
    if without := [name for name in labels if name not in known]:
        raise RestokError(f"{table} has no label for {without[0]}; is it of the same ImageNet?")
    return known


def read_devkit(path: Path) -> dict[int, str]:
    """The synset of each validation image by its number, from 1 on; `path` is the devkit, packed or unpacked.

    Raises RestokError where it is damaged or no devkit.
    """
    synsets = {int(number): synset for synset, _, number in _class_table()}
    try:
        truth = _read_packed_truth(path) if path.is_file() else read_whole(path / DEVKIT_LABELS)
        return {number: synsets[int(line)] for number, line in enumerate(truth.split(), start=1)}
    except DEVKIT_ERRORS as error:
        raise RestokError(f"{path} is damaged, or no devkit of ImageNet 2012: copy or download it again") from error


def _read_packed_truth(path: Path) -> bytes:
    with open(path, "rb") as file:
        found = {
            member.name: contents(read(f"{member.name} of {path}", MAX_TEXT_BYTES))
            for member, read in read_members(unpacked(file, str(path)), str(path))
            if member.name == f"{DEVKIT[1]}/{DEVKIT_LABELS}"
        }
    return found.popitem()[1]


def _read_kaggle_labels(table: Path) -> dict[str, str]:
    """Image -> synset by Kaggle's table, also as a spreadsheet saves it: in UTF-16, with semicolons or tabs.

    Raises UsageError naming the line and the column where something else is there.
    """
    text = read_text(table)
    heading = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=heading.count))
    labels: dict[str, str] = {}
    try:
        columns = [name.strip() for name in next(rows, [])]
        if missing := [name for name in KAGGLE_COLUMNS if name not in columns]:
            raise UsageError(f"{table}, line 1: no column {missing[0]}, only {', '.join(columns) or 'an empty line'}")
        for row in rows:
            cells = dict(zip(columns, row, strict=False))
            image, boxes = (cells.get(name, "").strip() for name in KAGGLE_COLUMNS)
            if not any(row):
                continue  # an empty line
            synset = boxes.partition(" ")[0]
            where = f"{table}, line {rows.line_num}"
            if not image:
                raise UsageError(f"{where}, column {KAGGLE_COLUMNS[0]}: empty, where the name of an image is expected")
            if not SYNSET.fullmatch(synset):
                found = synset or "empty"
                raise UsageError(
                    f"{where}, column {KAGGLE_COLUMNS[1]}: {found}, where a synset such as n01440764 is expected"
                )
            if labels.setdefault(image, synset) != synset:
                raise UsageError(f"{where}: {image} is {synset} here, but {labels[image]} above")
    except csv.Error as error:
        raise UsageError(f"{table}, line {rows.line_num}: no table with commas ({error})") from error
    return labels
