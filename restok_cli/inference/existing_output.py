"""Output of `restok generate` that is there already, and how it is continued.

Image i is the same however many are drawn. So to go on with work that was stopped, or with an output of fewer images,
is one thing: what is there goes into the folder of unfinished work, and what is missing is drawn.
"""

import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from restok_cli.console import counted, note
from restok_cli.data.arrays import NPZ_ERRORS
from restok_cli.data.code_files import check_code_file, read_codes
from restok_cli.data.image_folders import IMAGE_MANIFEST, IMAGE_REQUEST, check_image_folder, manifest_lines
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.shards.layout import own_files, read_manifest
from restok_cli.data.shards.verify import verify_dataset
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import FILE_CRC, STDOUT, check_output_file, check_output_folder, file_crc32, sealed
from restok_cli.inference import unfinished
from restok_cli.inference.blocks import Job
from restok_cli.inference.parts import Parts, listed, png_name
from restok_cli.machine import available_cores
from restok_cli.metrics.image_sources import open_images
from restok_cli.schema import Fields, parse_json, read_json

PNG_END = b"IEND\xaeB`\x82"  # the last bytes of every PNG file


class Destination(NamedTuple):
    """Where the images go, and what may be there already."""

    output: Path
    shards: bool  # a data set in a folder
    codes: bool  # a file of codes, or lines of them, and no images
    grid: Path | None
    ladder: Path | None
    resume: bool
    overwrite: bool

    @property
    def is_npz(self) -> bool:
        """Whether the images go to an .npz file."""
        return not (self.codes or self.shards) and self.output.suffix.lower() == ".npz"

    @property
    def is_png(self) -> bool:
        """Whether the only image goes to a file."""
        return not (self.codes or self.shards) and self.output.suffix.lower() == ".png"

    @property
    def is_folder(self) -> bool:
        """Whether they go to a folder of PNG files."""
        return not (self.codes or self.shards or self.is_npz or self.is_png)


def check_output(to: Destination, overwrite: bool, *models: Path) -> None:
    """Raises UsageError where the output is not one for what is asked, or is there and may not be replaced."""
    output = to.output
    if to.codes:
        if to.shards:
            raise UsageError("--shards are of images and --codes draws none; give one of them")
        if output != STDOUT:
            check_code_file(output)
            check_output_file("-o", output, output.suffix.lower(), overwrite, *models)
    elif to.shards:
        if output == STDOUT:
            raise UsageError("--shards need a folder, and - is a tar stream already; leave --shards out")
        check_output_folder(output, overwrite, own_files(output).__contains__, whole=True)
    elif to.is_npz or to.is_png:
        check_output_file("-o", output, output.suffix.lower(), overwrite, *models)
    elif output != STDOUT:
        check_image_folder(output, overwrite)


def as_provenance(request: dict[str, Any]) -> dict[str, str]:
    """A request as the manifest of a data set keeps it."""
    return {key: str(value) for key, value in request.items()}


def as_kept(request: dict[str, Any], to: Destination) -> dict[str, Any]:
    """A request as `request_of` finds it again."""
    return as_provenance(request) | {"count": request["count"]} if to.shards else request


# --- work that was stopped -----------------------------------------------------------------------------------------


def is_begun(output: Path) -> bool:
    """Whether --resume finds something at `output`: of the same request, or it is refused before anything is drawn."""
    return (
        unfinished.unfinished_folder(output).is_dir() or output.is_file() or (output.is_dir() and any(output.iterdir()))
    )


def remove_leftover(to: Destination) -> None:
    """Remove the folder of unfinished work where a command was killed after its output was there."""
    folder = unfinished.unfinished_folder(to.output)
    if folder.is_dir() and to.output.exists():
        request = unfinished.read_request(folder)
        try:
            is_left = request is None or as_kept(request, to) == request_of(to)
        except RestokError:  # of a damaged output, which whoever goes on with it will be told
            return
        if is_left:
            with unfinished.alone(to.output):
                unfinished.clear_unfinished(to.output)


def check_not_stopped(to: Destination) -> None:
    """Raises UsageError where a stopped run waits to be gone on with, whose images would be drawn a second time."""
    folder = unfinished.unfinished_folder(to.output)
    request = unfinished.read_request(folder)
    done, _ = listed(folder)
    if request is None or not done:
        return
    with unfinished.alone(to.output):
        raise UsageError(
            f"{to.output} was begun and stopped: {len(done):,} of {counted(request['count'], 'image')} are there;"
            " the same command with --resume goes on, with --overwrite it begins anew"
        )


# --- what is finished ----------------------------------------------------------------------------------------------


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


def request_of(there: Destination) -> dict[str, Any] | None:
    """The request that made the images or codes that are there; None where that cannot be told.

    Raises RestokError where a file of codes, or the manifest of a data set, is damaged.
    """
    found: object = None
    with suppress(UsageError, *NPZ_ERRORS):
        if there.codes:
            found = read_codes(there.output).request
        elif there.shards:
            provenance = read_manifest(there.output).provenance
            found = provenance | {"count": int(provenance["count"])}
        elif there.is_npz:
            with zipfile.ZipFile(there.output) as archive, suppress(RestokError):
                found = parse_json(Fields, archive.comment, str(there.output))
        else:
            with suppress(RestokError):
                found = read_json(Fields, there.output / IMAGE_REQUEST)
    return unfinished.as_request(found)


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
