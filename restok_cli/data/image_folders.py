"""manifest.jsonl: a line for each image of a folder that restok wrote, with the digests of its file and of itself."""

import json
from contextlib import suppress
from pathlib import Path
from unicodedata import normalize

from restok_cli.errors import ImageError, RestokError
from restok_cli.files import FILE_CRC, check_output_folder, crc32_of, sealed, text_lines
from restok_cli.schema import read_json_lines

IMAGE_MANIFEST = "manifest.jsonl"
IMAGE_REQUEST = "request.json"  # what was asked for, beside it: model, options, rounding


def manifest_line(file: str, crc32: str, facts: dict) -> str:
    """The line of an image whose file, by its relative path, has that digest."""
    return json.dumps(sealed({"file": file, **facts, FILE_CRC: crc32}), ensure_ascii=False) + "\n"


def manifest_lines(folder: Path) -> dict[str, dict]:
    """The lines of the manifest in `folder` that can be read, by the file's name in Unicode's form NFC.

    None where there is no manifest. Whether lines are as they were written is not looked at here.
    """
    lines = {}
    try:
        texts = text_lines(folder / IMAGE_MANIFEST)
    except (OSError, RestokError):
        return {}
    for text in texts:
        try:
            line = json.loads(text)
            lines[normalize("NFC", line["file"])] = line
        except (ValueError, RecursionError, TypeError, KeyError):  # of somebody else's manifest, or damaged
            continue
    return lines


def known_digests(folder: Path) -> dict[str, str]:
    """The digests of the images of `folder` that are known, by the file's name in Unicode's form NFC."""
    return {file: line[FILE_CRC] for file, line in manifest_lines(folder).items() if FILE_CRC in line}


def check_image(data: bytes, crc32: str | None, name: str) -> bytes:
    """The bytes of an image file. Raises ImageError where its digest is known, and is another one."""
    if crc32 is not None and crc32_of(data) != crc32:
        raise ImageError(f"{name}: is not as restok wrote it; make it again, or delete {IMAGE_MANIFEST} beside it")
    return data


def check_image_folder(output: Path, overwrite: bool) -> None:
    """Check that images may go to `output`; to be overwritten, it must hold nothing but what its manifest lists.

    Raises UsageError otherwise.
    """
    listed = {IMAGE_MANIFEST, IMAGE_REQUEST}
    with suppress(OSError, RestokError, TypeError, KeyError):
        listed |= {normalize("NFC", line["file"]) for line in read_json_lines(output / IMAGE_MANIFEST)}
    check_output_folder(output, overwrite, lambda name: normalize("NFC", name) in listed, whole=True)
