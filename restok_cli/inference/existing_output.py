"""Output of `restok generate` that is there already, and how it is continued.

Image i is the same however many are drawn. So to go on with work that was stopped, or with an output of fewer images,
is one thing: what is there goes into the folder of unfinished work, and what is missing is drawn.
"""

import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from restok_cli.console import counted, note
from restok_cli.data.code_files import read_codes
from restok_cli.data.image_folders import IMAGE_MANIFEST, IMAGE_REQUEST, manifest_lines
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.shards.verify import verify_dataset
from restok_cli.files import FILE_CRC, check_output_folder, file_crc32, sealed
from restok_cli.inference import unfinished
from restok_cli.inference.blocks import Job
from restok_cli.inference.generate_destination import Destination, as_kept, check_output, request_of
from restok_cli.inference.parts import Parts, listed, png_name
from restok_cli.machine import available_cores
from restok_cli.metrics.image_sources import open_images

PNG_END = b"IEND\xaeB`\x82"  # the last bytes of every PNG file


def images_there(to: Destination, request: dict[str, Any], job: Job) -> list[int]:
    """Which images, or codes of them, a finished output has of this request, which may ask for more.

    Those that are missing, damaged or swapped are not there; they are counted. Raises UsageError where it was drawn by
    another request, or holds what nobody drew; RestokError where a single file is damaged.
    """
    before = request_of(to)
    if before is None:
        check_output(to, overwrite=False)
        return []
    unfinished.check_same(before, as_kept(request, to), f"{to.output} was drawn")
    expected = range(before["count"])
    there = whole_images(to, expected, job) if to.is_folder else [*expected] if is_whole(to) else []
    if lost := len(expected) - len(there):
        note(f"{to.output}: {lost:,} of {counted(len(expected), 'image')} damaged or missing, to be drawn anew")
    if len(there) == request["count"]:
        return there
    if to.is_folder:
        own = {*map(png_name, expected), IMAGE_MANIFEST, IMAGE_REQUEST}
        check_output_folder(to.output, True, own.__contains__, whole=True)
    else:
        check_output(to, overwrite=True)
    return there


def whole_images(there: Destination, expected: range, job: Job) -> list[int]:
    """Which of the images in a folder are as they were drawn, by its manifest; without digests, which are there."""
    lines, whole = manifest_lines(there.output), []
    for index in expected:
        name = png_name(index)
        file = there.output / name
        facts = {"file": name, **job.record(index)}  # all that older versions wrote
        if has_png_end(file) and lines.get(name) in (facts, sealed(facts | {FILE_CRC: file_crc32(file)})):
            whole.append(index)
    return whole


def is_whole(there: Destination) -> bool:
    """Whether a data set, or a single file, that is there is as it was written."""
    if there.shards:
        return not verify_dataset(there.output.resolve(), available_cores()).problems
    if there.codes:
        return True  # they were read
    with zipfile.ZipFile(there.output) as archive:
        try:
            return archive.testzip() is None
        except (OSError, zipfile.BadZipFile, zlib.error):
            return False


def has_png_end(path: Path) -> bool:
    """Whether a PNG file is there, and was not left without its end by a power cut."""
    try:
        with open(path, "rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except OSError:
        return False


def read_parts(there: Destination, indices: Sequence[int]) -> Iterator[bytes]:
    """Those of the images, or codes, that are there, each as the part that it was made of."""
    output = there.output
    if there.codes:
        rows = read_codes(output).codes
        yield from (rows[index].tobytes() for index in indices)
    elif there.shards:
        part = open_dataset(output.resolve()).split("validation")
        yield from map(part.read, indices)
    elif there.is_npz:
        images = open_images(str(output), "all")
        yield from (images.open(index).tobytes() for index in indices)
    else:
        yield from ((output / png_name(index)).read_bytes() for index in indices)


def take_over(there: Destination, indices: Sequence[int], parts: Parts) -> None:
    """Put those images, or codes, that are there to the parts of what is to take its place, for more to be drawn."""
    done, _ = listed(parts.folder)
    missing = [index for index in indices if index not in done]
    for index, data in zip(missing, read_parts(there, missing), strict=True):
        parts.write(index, [data])
