"""What is in a tar, and that it is whole: tarfile alone takes some that are cut short for complete."""

import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import BinaryIO

from restok_cli.data.shards import NO_CLASS, split_name
from restok_cli.errors import RestokError

CLASS_DIGITS = 6  # of a class id, at most


def list_files(tar: BinaryIO, name: str, start: int = 0, end: int | None = None) -> list[tarfile.TarInfo]:
    """The files in the tar that begins at byte `start` and, where it lies within another, must not go beyond `end`.

    Raises RestokError, calling the tar `name`, where it is damaged or cut short.
    """
    try:
        tar.seek(start)
        with tarfile.open(fileobj=tar, mode="r:") as archive:
            files = [member for member in archive if member.isfile()]
            tar.seek(archive.offset)
            whole = tar.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE  # what a tar ends with
    except tarfile.TarError as error:
        raise RestokError(f"{name} is a damaged tar, or none ({error}): copy or download it again") from error
    if not whole or (end is not None and files and files[-1].offset_data + files[-1].size > end):
        raise RestokError(f"{name} is cut short, or damaged: copy or download it again")
    return files


def group_samples(files: Iterable[tarfile.TarInfo]) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """(key, extension -> file) of the samples: files that follow each other and share their names up to a dot."""
    named = [(*split_name(file.name), file) for file in files]
    for key, group in groupby((entry for entry in named if entry[0]), key=lambda entry: entry[0]):
        yield key, {extension: file for _, extension, file in group}


def read_class_id(tar: BinaryIO, files: dict[str, tarfile.TarInfo]) -> int | None:
    """What the .cls of a sample says: NO_CLASS where it has none, None where that is no class id."""
    if "cls" not in files:
        return NO_CLASS
    tar.seek(files["cls"].offset_data)
    text = tar.read(min(files["cls"].size, 100)).strip()
    return int(text) if text.isdigit() and len(text) <= CLASS_DIGITS else None
