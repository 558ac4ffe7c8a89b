"""manifest.jsonl: a line for each picture of a folder that restok wrote, with the digests of its file and of itself."""

import json
from pathlib import Path
from unicodedata import normalize

from restok_cli.errors import PictureError, RestokError
from restok_cli.files import FIELDS_CRC, FILE_CRC, crc32_of, is_sealed, sealed, text_lines

PICTURE_MANIFEST = "manifest.jsonl"


def manifest_line(file: str, crc32: str, facts: dict) -> str:
    """The line of a picture whose file, by its relative path, has that digest."""
    return json.dumps(sealed({"file": file, **facts, FILE_CRC: crc32}), ensure_ascii=False) + "\n"


def whole_lines(folder: Path) -> dict[str, dict]:
    """The lines of the manifest in `folder` that are as they were written, by the file's name in Unicode's form NFC.

    None where there is no manifest, or none of restok's: of others nothing is known.
    """
    lines = {}
    try:
        texts = text_lines(folder / PICTURE_MANIFEST)
    except (OSError, RestokError):
        return {}
    for text in texts:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and is_sealed(line) and isinstance(line.get("file"), str):
            lines[normalize("NFC", line["file"])] = line
    return lines


def known_digests(folder: Path) -> dict[str, str]:
    """The digests of the pictures of `folder` that are known, by the file's name in Unicode's form NFC."""
    lines = whole_lines(folder)
    return {file: line[FILE_CRC] for file, line in lines.items() if FIELDS_CRC in line and FILE_CRC in line}


def check_picture(data: bytes, crc32: str | None, name: str) -> bytes:
    """The bytes of a picture file. Raises PictureError where its digest is known, and is another one."""
    if crc32 not in (None, crc32_of(data)):
        raise PictureError(f"{name}: is not as restok wrote it; make it again, or delete {PICTURE_MANIFEST} beside it")
    return data
