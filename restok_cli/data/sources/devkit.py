"""The development kit of ImageNet: which class each validation image shows.

It numbers the classes in an order of its own (ILSVRC2012_ID); meta.mat tells the synset of each number. That is a
MATLAB file of version 5, of which this reads the little that is needed: arrays of structures of numbers and text.
SciPy's reader is not used, since a damaged file can kill the process in it.
"""

import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from restok_cli.data.shards.tars import contents, read_members, unpacked
from restok_cli.errors import RestokError
from restok_cli.files import MAX_TEXT_BYTES, read_whole

TRUTH, META = "data/ILSVRC2012_validation_ground_truth.txt", "data/meta.mat"
NAMES = [f"ILSVRC2012_devkit_t12/{file}" for file in (TRUTH, META)]  # in the tar

MAT_HEADER = 128  # bytes
COMPRESSED, MATRIX = 15, 14  # types of elements
NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
STRUCTURES, TEXT = 2, 4  # classes of matrices

# what a damaged devkit leads to in tarfile and below
DAMAGE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, TypeError, ValueError),
    *(struct.error, tarfile.TarError, zlib.error),
)


def read_devkit(path: Path) -> dict[int, str]:
    """The synset of each validation image by its number, from 1 on; `path` is the devkit, packed or unpacked.

    Raises RestokError where it is damaged or no devkit.
    """
    try:
        truth, meta = _read_packed(path) if path.is_file() else (read_whole(path / file) for file in (TRUTH, META))
        synsets = {int(entry["ILSVRC2012_ID"]): entry["WNID"] for entry in read_structures(meta, "synsets")}
        return {number: synsets[int(line)] for number, line in enumerate(truth.split(), start=1)}
    except DAMAGE as error:
        raise RestokError(f"{path} is damaged, or no devkit of ImageNet 2012: copy or download it again") from error


def _read_packed(path: Path) -> list[bytes]:
    with open(path, "rb") as file:
        files = {
            member.name: read(f"{member.name} of {path}", MAX_TEXT_BYTES)
            for member, read in read_members(unpacked(file, str(path)))
            if member.name in NAMES
        }
    return [contents(files[name]) for name in NAMES]


def read_structures(data: bytes, variable: str) -> list[dict]:
    """The array of structures called `variable` in a MATLAB file; of fields that are no text or numbers, None.

    A field of one number is that number. Raises KeyError where there is no such variable.
    """
    for kind, content in _elements(data[MAT_HEADER:]):
        kind, content = next(_elements(_decompress(content))) if kind == COMPRESSED else (kind, content)
        if kind == MATRIX:
            matrix_class, name, parts = _open_matrix(content)
            if matrix_class == STRUCTURES and name == variable:
                return _structures(parts)
    raise KeyError(variable)


def _decompress(content: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(content, MAX_TEXT_BYTES)
    if not unpacking.eof:
        raise ValueError("it is cut short, or unpacks to more than any devkit")
    return data


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, content) of the elements that follow each other in `data`."""
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from("<II", data, position)
        if kind >> 16:  # a small element: its size is in the upper half of the type, its content where the size is else
            kind, size = kind & 0xFFFF, kind >> 16
            yield kind, data[position + 4 : position + 4 + size]
            position += 8
        else:
            yield kind, data[position + 8 : position + 8 + size]
            position += 8 + (size if kind == COMPRESSED else -(-size // 8) * 8)


def _open_matrix(content: bytes) -> tuple[int, str, list[tuple[int, bytes]]]:
    """(class, name, remaining elements) of a matrix; an empty one may have no elements at all."""
    elements = list(_elements(content))
    if not elements:
        return 0, "", []
    (_, flags), _, (_, name), *parts = elements
    return flags[0], name.decode("ascii"), parts


def _structures(parts: list[tuple[int, bytes]]) -> list[dict]:
    (_, name_length), (_, joined_names), *values = parts
    (length,) = struct.unpack("<i", name_length)
    names = [
        joined_names[start : start + length].partition(b"\0")[0].decode("ascii")
        for start in range(0, len(joined_names), length)
    ]
    read = iter([_value(content) for _, content in values])
    return [dict(zip(names, row, strict=True)) for row in zip(*[read] * len(names), strict=True)]


def _value(content: bytes) -> str | float | tuple[float, ...] | None:
    matrix_class, _, parts = _open_matrix(content)
    if matrix_class == TEXT:
        return _text(*parts[0]) if parts else ""
    if not parts or parts[0][0] not in NUMBERS:
        return None
    numbers = _numbers(*parts[0])
    return numbers[0] if len(numbers) == 1 else numbers


def _text(kind: int, content: bytes) -> str:
    return "".join(map(chr, _numbers(kind, content))) if kind in NUMBERS else content.decode("utf-8")


def _numbers(kind: int, content: bytes) -> tuple[Any, ...]:
    code = NUMBERS[kind]
    return struct.unpack(f"<{len(content) // struct.calcsize(code)}{code}", content)
