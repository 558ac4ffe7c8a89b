"""checksums.json: size and CRC-32 of a model's config and weights, compared whenever they are read.

Folders without one, of older versions or of others, are read as they are; `restok models verify` says so.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from restok_cli.errors import RestokError
from restok_cli.files import FIELDS_CRC, file_crc32, is_sealed, sealed
from restok_cli.schema import Count, Fields, Schema, check, read_json

CHECKSUMS_FILE = "checksums.json"
REMEDY = "copy or make the model again"


class Checksum(Schema):
    """A file as it was written."""

    bytes: Count
    crc32: str

    def problem(self, path: Path) -> str | None:
        """How `path` differs from it; None where it does not."""
        if not path.is_file():
            return "is missing"
        if (size := path.stat().st_size) != self.bytes:
            return f"has {size} bytes instead of {self.bytes}"
        return None if file_crc32(path) == self.crc32 else "is not as it was written"


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Write the checksums of these files of `folder`, which are there."""
    sums = {name: {"bytes": (folder / name).stat().st_size, "crc32": file_crc32(folder / name)} for name in names}
    (folder / CHECKSUMS_FILE).write_text(json.dumps(sealed(sums), indent=2) + "\n", encoding="utf-8")


def read_checksums(folder: Path) -> dict[str, Checksum]:
    """The checksums of the files of `folder`; none where nobody wrote them.

    Raises RestokError where they are damaged.
    """
    path = folder / CHECKSUMS_FILE
    if not path.exists():
        return {}
    fields = read_json(Fields, path, REMEDY)
    if not is_sealed(fields):
        raise RestokError(f"{path} is not as it was written; {REMEDY}")
    sums = {name: fields[name] for name in fields if name != FIELDS_CRC}
    return check(dict[str, Checksum], sums, str(path), REMEDY)


def check_file(path: Path) -> None:
    """Raises RestokError where the checksums beside `path` say that it was written otherwise."""
    known = read_checksums(path.parent).get(path.name)
    if known is not None and (problem := known.problem(path)):
        raise RestokError(f"{path} {problem}; {REMEDY}, or, if the change was meant, delete {CHECKSUMS_FILE}")
