"""Arrays in files: .npy, read where they lie on the disk, and .npz, of which nothing is unpacked unless it fits."""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from restok_cli.console import no_warnings

# what zipfile and NumPy raise for a damaged .npz, or one that they cannot read, such as an encrypted one
NPZ_ERRORS = (
    *(ArithmeticError, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)

MAX_UNPACKED = 512 << 20  # bytes that an .npz file may unpack to, if that is not about what it has itself
USUAL_RATIO = 4  # between the two, at most, of numbers that are none of zeros alone
ROW_BYTES = 64  # what is made of a row beside its numbers, such as the name of an image


class ArrayHeader(NamedTuple):
    """The beginning of a .npy file."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def num_bytes_used(self) -> int:
        """Bytes that work with the numbers takes, as 64-bit ones."""
        return math.prod(self.shape) * max(self.dtype.itemsize, 8) + ROW_BYTES * math.prod(self.shape[:1])


def read_header(file: IO[bytes]) -> ArrayHeader:
    """Read the header of a .npy file. Raises ValueError where it is none of plain numbers or texts."""
    if np.lib.format.read_magic(file) != (1, 0):  # of others the header may have gigabytes
        raise ValueError("not version 1.0 of the format")
    try:
        with no_warnings:  # of Python 2, in which NumPy's headers were others
            header = ArrayHeader(*np.lib.format.read_array_header_1_0(file))
    except (SyntaxError, TypeError, IndexError, RecursionError, MemoryError, tokenize.TokenError) as error:
        # it parses Python
        raise ValueError("its header is damaged") from error
    if header.dtype.hasobject or min(header.shape, default=0) < 0:
        raise ValueError("not an array of plain numbers")
    return header


def open_member(archive: zipfile.ZipFile, name: str) -> tuple[ArrayHeader, IO[bytes]]:
    """The array called `name` in an .npz file, still packed: its header, and the file where its numbers begin.

    Raises one of NPZ_ERRORS where it is not there, or where its header and its size do not fit.
    """
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others cannot be unpacked piece by piece
        raise ValueError(f"{name} is packed in a way that NumPy does not use")
    file = archive.open(info)
    header = read_header(file)
    if info.file_size != file.tell() + header.num_bytes:
        raise ValueError(f"{name} is not the {header.num_bytes} bytes that its header speaks of")
    return header, file


def read_npz(path: Path, names: Iterable[str], max_bytes: int | None = None) -> dict[str, np.ndarray]:
    """Those arrays of `names` that an .npz file holds.

    Raises one of NPZ_ERRORS, also for pickled objects and, before anything is unpacked, where `check_room` does.
    """
    with zipfile.ZipFile(path) as archive:
        present = set(archive.namelist())
        opened = {name: open_member(archive, name) for name in names if f"{name}.npy" in present}
        check_room((header for header, _ in opened.values()), path, max_bytes)
        return {name: read_member(archive, name) for name in opened}


def read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array called `name` in an .npz file that `open_member` and `check_room` have found good."""
    with archive.open(f"{name}.npy") as file, no_warnings:
        return np.lib.format.read_array(file, allow_pickle=False)


def check_room(headers: Iterable[ArrayHeader], path: Path, max_bytes: int | None = None) -> None:
    """Raises ValueError where work with the arrays of a file would take more memory than `max_bytes`.

    By default that is MAX_UNPACKED, or more where the file itself is large.
    """
    limit = max_bytes or max(MAX_UNPACKED, USUAL_RATIO * path.stat().st_size)
    if (needed := sum(header.num_bytes_used for header in headers)) > limit:
        raise ValueError(f"its arrays would take {needed:,} bytes of memory, more than {limit:,}")


def _map_bytes(path: Path, num_bytes: int) -> np.ndarray:
    return np.memmap(path, np.uint8, "r", shape=(num_bytes,)).view(np.ndarray)


def map_array(path: Path, map_bytes: Callable[[Path, int], np.ndarray] = _map_bytes) -> np.ndarray:
    """The array in a .npy file, read-only, mapped from the disk: it takes no memory, but keeps the file open.

    `map_bytes` may map the file, of so many bytes, otherwise. Raises OSError where there is no such file, ValueError
    where it is none of ours or is cut short.
    """
    with open(path, "rb") as file:
        header = read_header(file)
        start = file.tell()
    num_bytes = start + header.num_bytes
    if path.stat().st_size != num_bytes:
        raise ValueError(f"not {num_bytes} bytes of plain numbers")
    numbers = map_bytes(path, num_bytes)[start:].view(header.dtype)
    array = numbers.reshape(header.shape, order="F" if header.fortran_order else "C")
    array.flags.writeable = False
    return array
