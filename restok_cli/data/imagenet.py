"""ImageNet-1k (ILSVRC 2012) in each form in which people have it.

    ILSVRC2012_img_train.tar  ILSVRC2012_img_val.tar  ILSVRC2012_devkit_t12.tar.gz    as image-net.org hands it out
    train/<synset>/*.JPEG     val/<synset>/*.JPEG                                     unpacked, as torchvision wants it
    ILSVRC/Data/CLS-LOC/{train,val}  LOC_val_solution.csv                             as Kaggle hands it out
    **/train-*.parquet        **/validation-*.parquet                                 as the hub hands it out

The first three may be mixed, and give the same samples in the same order. Everywhere a class id is the rank of the
synset among the 1000; the ids of the devkit are others, and nothing else uses them.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from restok_cli.console import counted, note, track
from restok_cli.data.devkit import read_devkit
from restok_cli.data.parquet import find_parquet, read_parquet
from restok_cli.data.sources import File, Piece, Place, Source, Sources, readable, shuffled, unused_key
from restok_cli.data.tars import list_files
from restok_cli.data.walk import find_images
from restok_cli.errors import RestokError, UsageError

CLASSES = Path(__file__).parents[1] / "assets" / "imagenet" / "classes.tsv"
NUM_PICTURES = {"train": 1_281_167, "validation": 50_000}

TRAIN = ("ILSVRC2012_img_train.tar", "train", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train")
VALIDATION = ("ILSVRC2012_img_val.tar", "val", "validation", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val")
DEVKIT = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12")
KAGGLE_LABELS = ("LOC_val_solution.csv",)


class Found(NamedTuple):
    """A picture file, and what its surroundings tell of it."""

    name: str  # without folders
    synset: str | None  # None where it lies among those of other classes
    place: Place


def read_classes() -> dict[str, str]:
    """The name of each synset, in the order of the class ids."""
    return dict(line.split("\t") for line in CLASSES.read_text(encoding="utf-8").splitlines())


def open_imagenet(folder: Path) -> Sources:
    """Find the pictures of an ImageNet in `folder`, with their classes, without reading them.

    Raises UsageError where `folder` has none of the known forms, lacks the labels of the validation pictures or holds
    classes that are not ImageNet's; RestokError where a file of it is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the folder that holds ImageNet")
    classes = read_classes()
    class_ids = {synset: i for i, synset in enumerate(classes)}
    if parquet := find_parquet(folder):
        splits = {split: read_parquet(files, list(classes)) for split, files in parquet.items()}
    else:
        splits = {split: _sources(found, class_ids) for split, found in _find(folder).items()}
    for split, sources in splits.items():
        if len(sources) != NUM_PICTURES[split]:
            note(f"{split}: {counted(len(sources), 'picture')}, where the whole ImageNet has {NUM_PICTURES[split]}")
    return Sources(list(classes.values()), splits)


def _find(folder: Path) -> dict[str, list[Found]]:
    train, validation = _first(folder, TRAIN), _first(folder, VALIDATION)
    if train is None and validation is None:
        raise UsageError(
            f"{folder} holds no ImageNet: expected {TRAIN[0]}, train/, {TRAIN[2]}/ or train-*.parquet in it,"
            " and the same for validation"
        )
    found = {}
    if train is not None:
        found["train"] = list(_pictures(train))
        if flat := [picture.name for picture in found["train"] if picture.synset is None]:
            raise UsageError(f"{train}: {flat[0]} is in no class folder or class tar, which would tell its class")
    if validation is not None:
        pictures = list(_pictures(validation))
        flat = [picture for picture in pictures if picture.synset is None]
        if flat:
            synsets = _validation_labels(folder, flat)
            pictures = [picture._replace(synset=picture.synset or synsets[picture.name]) for picture in pictures]
        found["validation"] = pictures
    return found


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _sources(found: list[Found], class_ids: dict[str, int]) -> list[Source]:
    """What was found, shuffled; key, order and all depend on the names of the files, not on where they lie."""
    taken: set[str] = set()
    sources = []
    for name, synset, place in sorted(found, key=lambda picture: picture.name):
        if synset not in class_ids:
            raise UsageError(
                f"{name} is of class {synset}, which is none of ImageNet's 1000;"
                " `restok prepare folder` takes any classes"
            )
        sources.append(Source(unused_key(name, taken), readable(name), class_ids[synset], place))
    return shuffled(sources)


def _pictures(path: Path) -> Iterator[Found]:
    """The pictures of a split: in a tar, or in a tar of class tars, or in a folder, of class folders or class tars."""
    if path.is_file():
        yield from _pictures_in_tar(path, None)
        return
    class_tars = sorted(path.glob("*.tar"))
    for tar in track(class_tars, f"look into {path.name}", len(class_tars), "class tars"):
        yield from _pictures_in_tar(tar, tar.stem)
    if class_tars:
        return
    for picture in find_images([path]):
        below = picture.relative_to(path).parts
        yield Found(picture.name, below[0] if len(below) > 1 else None, File(str(picture)))


def _pictures_in_tar(path: Path, synset: str | None) -> Iterator[Found]:
    with open(path, "rb") as tar:
        files = list_files(tar, str(path))
        for file in track(files, f"look into {path.name}", len(files), "files") if synset is None else files:
            name = file.name.rpartition("/")[2]
            if name.endswith(".tar"):
                end = file.offset_data + file.size
                for inner in list_files(tar, f"{name} in {path}", file.offset_data, end):
                    picture = inner.name.rpartition("/")[2]
                    yield Found(picture, name.removesuffix(".tar"), Piece(str(path), inner.offset_data, inner.size))
            else:
                yield Found(name, synset, Piece(str(path), file.offset_data, file.size))


def _validation_labels(folder: Path, pictures: list[Found]) -> dict[str, str]:
    """File name -> synset of the validation pictures, from the devkit or from Kaggle's table."""
    if table := _first(folder, KAGGLE_LABELS):
        with open(table, newline="", encoding="utf-8") as file:
            rows = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
        labels = {picture.name: rows.get(picture.name.partition(".")[0]) for picture in pictures}
    elif devkit := _first(folder, DEVKIT):
        table, synsets = devkit, read_devkit(devkit)
        numbers = {picture.name: picture.name.partition(".")[0].rpartition("_")[2] for picture in pictures}
        labels = {name: synsets.get(int(number)) if number.isdigit() else None for name, number in numbers.items()}
    else:
        raise UsageError(
            f"the labels of the validation pictures are missing: put {DEVKIT[0]} (of image-net.org)"
            f" or {KAGGLE_LABELS[0]} (of Kaggle) into {folder}"
        )
    if without := [name for name, synset in labels.items() if synset is None]:
        raise RestokError(f"{table} has no label for {without[0]}; is it of the same ImageNet?")
    return labels
