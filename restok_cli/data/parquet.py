"""ImageNet as the hub hands it out: parquet files whose rows are pictures. They are read by pyarrow, an extra."""

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from restok_cli.data.sources import Source, readable, unused_key
from restok_cli.errors import RestokError, UsageError

SPLITS = {"train": "train", "val": "validation"}  # how the names of files or folders begin -> what the split is called
SYNSET = re.compile(r"_(n\d{8})\.")  # at the end of the names that the hub's pictures have


class Row(NamedTuple):
    """The picture in a row."""

    path: str
    row_group: int
    row: int  # within its group

    def read(self) -> bytes:
        try:
            data = _pictures(self.path, self.row_group)[self.row].as_py()
        except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
            raise RestokError(f"{self.path} cannot be read; copy or download it again ({error})") from error
        if data is None:
            raise RestokError(f"{self.path} holds names of pictures instead of the pictures themselves")
        return data


def find_parquet(folder: Path) -> dict[str, list[Path]]:
    """Split -> its parquet files below `folder`, in order. Others, such as those of the test split, are passed over."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        for part in path.relative_to(folder).parts:
            for beginning, split in SPLITS.items():
                if part.startswith(beginning):
                    found.setdefault(split, []).append(path)
    return found


def read_parquet(paths: list[Path], synsets: list[str]) -> list[Source]:
    """The rows of the files, in their order: it is shuffled already, and rows can only be read in groups.

    The label is the class id; `synsets` names the classes, to be compared with what file names tell.
    Raises UsageError without pyarrow, RestokError where a file is damaged or of another kind.
    """
    taken: set[str] = set()
    sources = []
    for path in paths:
        file = _open(str(path))
        for group in range(file.num_row_groups):
            try:
                rows = file.read_row_group(group, columns=["image.path", "label"]).to_pylist()
                pictures = [(row["image"]["path"], row["label"]) for row in rows]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise RestokError(f"{path} is damaged, or has no columns image and label") from error
            for row, (name, label) in enumerate(pictures):
                name = Path(name or f"{path.stem}-{group}-{row}").name
                _check_label(path, name, label, synsets)
                place = Row(str(path), group, row)
                sources.append(Source(unused_key(name, taken), readable(name), label, place))
    return sources


def _check_label(path: Path, name: str, label: int | None, synsets: list[str]) -> None:
    if label is None or not 0 <= label < len(synsets):
        raise RestokError(f"{path}: {name} has the label {label}; ImageNet's are 0 to {len(synsets) - 1}")
    told = SYNSET.search(name)
    if told and told[1] != synsets[label]:
        raise RestokError(f"{path}: {name} has the label {label}, which is {synsets[label]}; its name says {told[1]}")


def _open(path: str):
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UsageError("parquet files are read by pyarrow: install it with pip install 'restok[parquet]'") from error
    try:
        return ParquetFile(path)
    except (OSError, ValueError) as error:
        raise RestokError(f"{path} is a damaged parquet file, or none: copy or download it again") from error


@lru_cache(maxsize=1)  # the rows of a group follow each other in a shard
def _pictures(path: str, row_group: int):
    table = _open(path).read_row_group(row_group, columns=["image.bytes"])
    return table.column("image").combine_chunks().field("bytes")
