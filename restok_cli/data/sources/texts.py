"""Text files that people and other programs made: tables, lists of names."""

import codecs
from pathlib import Path

from restok_cli.errors import UsageError
from restok_cli.files import read_whole

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 as Windows writes it, without the mark at its beginning.

    Raises UsageError where it cannot be read or is in another encoding, naming the line; RestokError where it is larger
    than any table.
    """
    try:
        data = read_whole(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    encoding = "utf-16" if data.startswith(UTF_16) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}: no text in UTF-8; save the file in that encoding") from error


def read_names(path: Path) -> list[str]:
    """The lines of a text file, each a name; empty ones at its end are dropped.

    Lines end at \\n or \\r\\n alone: a name may hold the other characters that Unicode ends lines at.
    Raises UsageError also where a line is empty: the names after it would be those of other numbers.
    """
    names = [line.strip(" \t\r") for line in read_text(path).rstrip(" \t\r\n").split("\n")]
    if "" in names:
        line = names.index("") + 1
        raise UsageError(f"{path}, line {line}: empty, where the name of class {line - 1} is expected")
    return names
