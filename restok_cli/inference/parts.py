"""Parts of an output that is not whole yet, one for each image: PNG files, or the rows of one file, of pixels or codes.

A part is there whole or not at all: each process lists the digests of what it has written, and what is not listed, or
is not as it was written, counts as missing. A part depends on the request alone, so that others may make the rest.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from restok_cli import files
from restok_cli.console import counted, note
from restok_cli.data.image_folders import IMAGE_MANIFEST, IMAGE_REQUEST, manifest_line
from restok_cli.processes import rank

DIGESTS = "digests-{}.jsonl"  # of the parts that the process of that number wrote
ROWS_FILE = "rows"


class Parts(ABC):
    """The parts of an output in the folder of unfinished work, by the indices of their images."""

    def __init__(self, folder: Path):
        self.folder = folder

    @abstractmethod
    def name(self, index: int) -> str:
        """By which a part is listed."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """A part; nothing where it is not there."""

    @abstractmethod
    def _put(self, first: int, parts: Sequence[bytes | memoryview]) -> None: ...

    def write(self, first: int, parts: Sequence[bytes | memoryview]) -> None:
        """Write the parts of images from the `first` one on; only then are they listed."""
        self._put(first, parts)
        with open(self.folder / DIGESTS.format(rank()), "ab") as file:
            file.write(self._lines((i, files.crc32_of(part)) for i, part in enumerate(parts, first)))

    def begin(self) -> None:
        """Keep the parts that are as they were written, and nothing else; those that are damaged are counted."""
        digests, unreadable = listed(self.folder)
        whole = {index: crc32 for index, crc32 in digests.items() if files.crc32_of(self.read(index)) == crc32}
        kept = {IMAGE_REQUEST, ROWS_FILE, DIGESTS.format(0), *map(self.name, whole)}
        # the list first, since without it nothing is kept; of those before, last lines may be cut short
        write_whole(self.folder / DIGESTS.format(0), self._lines(whole.items()))
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()
        if damaged := len(digests) - len(whole) + unreadable:
            note(f"{counted(damaged, 'image')} of what was done had been damaged: made anew")

    def _lines(self, digests: Iterable[tuple[int, str]]) -> bytes:
        return b"".join(manifest_line(self.name(index), crc32, {}).encode() for index, crc32 in digests)


class PngFiles(Parts):
    """Image files in the folder, which may itself become the output."""

    def name(self, index: int) -> str:
        return png_name(index)

    def read(self, index: int) -> bytes:
        file = self.folder / self.name(index)
        return file.read_bytes() if file.is_file() else b""

    def _put(self, first: int, parts: Sequence[bytes | memoryview]) -> None:
        for index, data in enumerate(parts, first):
            write_whole(self.folder / self.name(index), data)


class Rows(Parts):
    """Rows of equal size in one file, each at its place, however many are there: it may itself become the output."""

    def __init__(self, folder: Path, start: int, row_bytes: int, count: int):
        super().__init__(folder)
        self.file, self.start, self.row_bytes, self.count = folder / ROWS_FILE, start, row_bytes, count

    def name(self, index: int) -> str:
        return f"{index:06d}"

    def read(self, index: int) -> bytes:
        with open(self.file, "rb") as file:
            file.seek(self.start + index * self.row_bytes)
            return file.read(self.row_bytes)

    def _put(self, first: int, parts: Sequence[bytes | memoryview]) -> None:
        with open(self.file, "r+b") as file:
            file.seek(self.start + first * self.row_bytes)
            file.writelines(parts)

    def begin(self) -> None:
        with open(self.file, "ab") as file:  # all of it: two machines that made it longer might spoil each other's rows
            file.truncate(self.start + self.count * self.row_bytes)
        super().begin()


def png_name(index: int) -> str:
    """The file of an image that is drawn."""
    return f"{index:06d}.png"


def listed(folder: Path) -> tuple[dict[int, str], int]:
    """The digests of the parts in a folder, by the indices of their images, and how many lines of them are damaged.

    Those of images stand in their manifest, too, where a process was killed as the folder was to become the output.
    """
    found, unreadable = {}, 0
    for file in (*folder.glob(DIGESTS.format("*")), *folder.glob(IMAGE_MANIFEST)):
        for text in files.text_lines(file):
            try:
                line = json.loads(text)
                if files.FIELDS_CRC not in line or not files.is_sealed(line):
                    raise ValueError("not as it was written")
                found[int(Path(line["file"]).stem)] = line[files.FILE_CRC]
            except (ValueError, RecursionError, KeyError, TypeError):
                unreadable += 1
    return found, unreadable


def remove_digests(folder: Path) -> None:
    """Remove the lists of digests, where the folder itself becomes the output."""
    for file in folder.glob(DIGESTS.format("*")):
        file.unlink()


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file of the folder, whole or not at all."""
    # not synced to the disk one by one: that is done once, when the folder becomes the output
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
