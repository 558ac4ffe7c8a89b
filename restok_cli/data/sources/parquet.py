"""ImageNet as the hub hands it out: parquet files whose rows are images. They are read by pyarrow, an extra."""

import filecmp
import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from restok_cli.console import readable
from restok_cli.data.image_files import check_size
from restok_cli.data.sources.listing import Source, unused_key
from restok_cli.data.sources.splits import SPLITS, split_of
from restok_cli.data.sources.walk import entries_below
from restok_cli.errors import RestokError, UsageError
from restok_cli.schema import check

MAX_GROUP_BYTES = 256 << 20  # of the images in a row group, which is read as a whole
MAX_NAME_BYTES = 4096
# columns that stay as they are packed: each value once, however many rows it has
PACKED = ["image.bytes", "image.path"]

# pyarrow's errors are of the first kinds; the others come of columns that are not what their names say
PARQUET_ERRORS = (OSError, ValueError, NotImplementedError, AttributeError, LookupError, TypeError)
SYNSET = re.compile(r"_(n\d{8})\.")  # at the end of the names that the hub's images have


class ImageRow(NamedTuple):
    """The image in a row."""

    path: str
    row_group: int
    row: int  # within its group

    def read(self, name: str, max_bytes: int) -> bytes:
        try:
            data = _images(self.path, self.row_group)[self.row].as_py()
        except PARQUET_ERRORS as error:
            raise RestokError(f"{self.path} cannot be read; copy or download it again ({error})") from error
        if not isinstance(data, bytes):
            raise RestokError(f"{self.path} holds names of images instead of the images themselves")
        check_size(len(data), name, max_bytes)
        return data


def find_parquet(folder: Path) -> dict[str, list[Path]]:
    """Split -> its parquet files below `folder`, in order. `split_of` tells it; where no path tells any, it is train.

    Raises UsageError where only some paths tell a split, or where rows would be there twice.
    """
    paths = sorted(Path(entry.path) for entry in entries_below(folder) if entry.name.endswith(".parquet"))
    _check_copies(folder, paths)
    splits = {path: split_of(path.relative_to(folder).as_posix()) for path in paths}
    unknown = [path for path, split in splits.items() if split is None]
    if unknown and len(unknown) < len(paths):
        raise UsageError(f"{unknown[0]}: nothing in its path says train, validation or test; rename it or move it away")
    found = {split: [path for path in paths if (splits[path] or "train") == split] for split in SPLITS}
    return {split: files for split, files in found.items() if files}


def _check_copies(folder: Path, paths: list[Path]) -> None:
    """Raises UsageError where two files are of two snapshots of one repository of the hub, or have the same bytes."""
    snapshots: dict[Path, Path] = {}  # folder of the snapshots -> one of them
    same_size: dict[int, list[Path]] = {}
    for path in paths:
        for below in path.relative_to(folder).parents:
            snapshot = (folder / below).absolute()
            if snapshot.parent.name == "snapshots" and snapshots.setdefault(snapshot.parent, snapshot) != snapshot:
                raise UsageError(
                    f"{snapshots[snapshot.parent]} and {snapshot} are two states of one repository, whose rows would be"
                    " there twice; give one of these folders"
                )
        for other in (others := same_size.setdefault(_size(path), [])):
            if filecmp.cmp(path, other, shallow=False):
                raise UsageError(f"{other} and {path} hold the same rows, which would be there twice; move one away")
        others.append(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise RestokError(f"{path} cannot be read ({error.strerror}); copy or download it again") from error


def read_parquet(folder: Path, paths: list[Path], synsets: list[str], keys: set[str]) -> list[Source]:
    """The rows of the files below `folder`, in their order: it is shuffled already, and rows are read in groups.

    The label is the class id; `synsets` names the classes, to be compared with what file names tell;
    `keys` are taken.
    Raises UsageError without pyarrow, RestokError where a file is damaged or of another kind.
    """
    sources = []
    for path in paths:
        file = _open(str(path))
        _check_classes(path, _stated_classes(file), synsets)
        for group in range(file.num_row_groups):
            for row, (told, label) in enumerate(_names_and_labels(file, path, group)):
                name = Path(told or "").name or f"{path.stem}-{group}-{row}"
                if label is None or not 0 <= label < len(synsets):
                    raise RestokError(f"{path}: {name} has the label {label}; ImageNet's are 0 to {len(synsets) - 1}")
                synset = SYNSET.search(name)
                if synset and synset[1] != synsets[label]:
                    is_of = f"which is {synsets[label]}; its name says {synset[1]}"
                    raise RestokError(f"{path}: {name} has the label {label}, {is_of}")
                unique = f"{path.relative_to(folder).as_posix()}/{group}/{row}/{told}"
                sources.append(
                    Source(unused_key(name, keys, unique), readable(name), label, ImageRow(str(path), group, row))
                )
    return sources


def _stated_classes(file) -> list[str]:
    """The names of the classes of labels in the order of their numbers, as the hub's files state them, or none."""
    try:
        stated = json.loads(file.schema_arrow.metadata[b"huggingface"])
        return list(map(str, stated["info"]["features"]["label"]["names"]))
    except (ValueError, RecursionError, LookupError, TypeError):
        return []


def _check_classes(path: Path, names: list[str], synsets: list[str]) -> None:
    """Raises RestokError where the file itself says that its labels are not ImageNet's class ids."""
    if names and len(names) != len(synsets):
        raise RestokError(
            f"{path} has labels of {len(names)} classes, not of ImageNet's {len(synsets)}, so that each would mean"
            " another class; save its images as files in a folder per class, for `restok prepare folder`"
        )
    for label, (name, synset) in enumerate(zip(names, synsets, strict=False)):
        if re.fullmatch(r"n\d{8}", name) and name != synset:
            raise RestokError(f"{path}: label {label} is {name} there, but {synset} in ImageNet")


def are_unlabelled(paths: list[Path]) -> bool:
    """Whether no row of the files has a label, as in the test split of ImageNet."""
    files = ((path, _open(str(path))) for path in paths)
    return all(
        label in (None, -1)
        for path, file in files
        for group in range(file.num_row_groups)
        for _, label in _names_and_labels(file, path, group)
    )


def _names_and_labels(file, path: Path, group: int) -> list[tuple[str | None, int | None]]:
    try:
        table = file.read_row_group(group, columns=["image.path", "label"])
        names = table["image"].combine_chunks().field("path").dictionary.to_pylist()
        if any(len(name or "") > MAX_NAME_BYTES for name in names):
            raise ValueError("names that no file can have")
        rows = [(row["image"]["path"], row["label"]) for row in table.to_pylist()]
    except PARQUET_ERRORS as error:
        raise RestokError(f"{path} is damaged, or has no columns image and label") from error
    return check(list[tuple[str | None, int | None]], rows, str(path), "copy or download it again")


def _open(path: str):
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UsageError("parquet files are read by pyarrow: install it with pip install 'restok[parquet]'") from error
    try:
        file = ParquetFile(path, read_dictionary=PACKED)
        if file.metadata.num_rows > os.path.getsize(path):
            raise ValueError("more rows than bytes")
    except KeyError as error:
        raise RestokError(f"{path} is damaged, or has no columns image and label") from error
    except PARQUET_ERRORS as error:
        raise RestokError(f"{path} is a damaged parquet file, or none: copy or download it again") from error
    for group in map(file.metadata.row_group, range(file.num_row_groups)):
        size = max(group.column(column).total_uncompressed_size for column in range(group.num_columns))
        if size > MAX_GROUP_BYTES:
            raise RestokError(
                f"{path} has a row group of {size:,} bytes, more than the {MAX_GROUP_BYTES:,} that are read at a time;"
                " write it again with fewer rows in a group (row_group_size=100 of pyarrow.parquet.write_table)"
            )
    return file


@lru_cache(maxsize=1)  # the rows of a group follow each other in a shard
def _images(path: str, row_group: int):
    table = _open(path).read_row_group(row_group, columns=["image.bytes"])
    return table.column("image").combine_chunks().field("bytes")
