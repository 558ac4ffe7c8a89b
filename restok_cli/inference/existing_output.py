"""What of the output of `restok generate` is there already, and how it is gone on with.

Picture i is the same however many are drawn. So to go on with work that was stopped, or with an output of fewer
pictures, is one thing: what is there goes into the folder of unfinished work, and what is missing is drawn.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from restok_cli.console import counted, note
from restok_cli.data.image_folders import PICTURE_REQUEST, check_picture_folder
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import FILE_CRC, STDOUT, check_output_file, check_output_folder, file_crc32, sealed

if TYPE_CHECKING:
    from restok_cli.inference.generating import Job


class Destination(NamedTuple):
    """Where what is drawn goes, and what may be there already."""

    output: Path
    shards: bool  # a data set in a folder
    codes: bool  # a file of codes, or lines of them, and no pictures
    grid: Path | None
    ladder: Path | None
    resume: bool
    overwrite: bool


def check_output(to: Destination, overwrite: bool, *models: Path) -> None:
    """Raises UsageError where the output is not one for what is asked, or is there and may not be replaced."""
    output = to.output
    if to.codes:
        if to.shards:
            raise UsageError("--shards are of pictures and --codes draws none; give one of them")
        if output != STDOUT:
            from restok_cli.data.code_files import check_code_file

            check_code_file(output)
            check_output_file("-o", output, output.suffix.lower(), overwrite, *models)
    elif to.shards:
        if output == STDOUT:
            raise UsageError("--shards need a folder, and - is a tar stream already; leave --shards out")
        from restok_cli.data.shards.layout import own_files

        check_output_folder(output, overwrite, own_files(output).__contains__)
    elif output.suffix.lower() == ".npz":
        check_output_file("-o", output, ".npz", overwrite, *models)
    elif output != STDOUT:
        check_picture_folder(output, overwrite)


def picture_names(block: Sequence[int]) -> list[str]:
    return [f"{index:06d}.png" for index in block]


def code_names(block: range) -> list[str]:
    return [f"{block.start:06d}-{block.stop:06d}.npy"]


def as_provenance(request: dict[str, Any]) -> dict[str, str]:
    """A request as the manifest of a data set keeps it."""
    return {key: str(value) for key, value in request.items()}


def as_kept(request: dict[str, Any], to: Destination) -> dict[str, Any]:
    """A request as `request_of` finds it again."""
    return as_provenance(request) | {"count": request["count"]} if to.shards else request


# --- work that was stopped -----------------------------------------------------------------------------------------


def is_begun(output: Path) -> bool:
    """Whether --resume finds something at `output`: of the same request, or it is refused before anything is drawn."""
    from restok_cli.inference.unfinished import unfinished_folder

    return unfinished_folder(output).is_dir() or output.is_file() or (output.is_dir() and any(output.iterdir()))


def remove_leftover(to: Destination) -> None:
    """Remove the folder of unfinished work where a command was killed after its output was there."""
    from restok_cli.inference.unfinished import alone, clear_unfinished, read_request, unfinished_folder

    folder = unfinished_folder(to.output)
    if folder.is_dir() and to.output.exists():
        request = read_request(folder)
        try:
            is_left = request is None or as_kept(request, to) == request_of(to)
        except RestokError:  # of a damaged output, which whoever goes on with it will be told
            return
        if is_left:
            with alone(to.output):
                clear_unfinished(to.output)


def check_not_stopped(to: Destination) -> None:
    """Raises UsageError where a stopped run waits to be gone on with, whose pictures would be drawn a second time."""
    from restok_cli.inference.unfinished import alone, read_request, unfinished_folder

    folder = unfinished_folder(to.output)
    request = read_request(folder)
    done = {int(file.stem) for file in folder.glob("*.png") if file.stem.isdecimal()}
    for file in folder.glob("*.npy"):
        if block := re.fullmatch(r"(\d+)-(\d+)", file.stem):
            done |= set(range(int(block[1]), int(block[2])))
    if request is None or not done:
        return
    with alone(to.output):
        raise UsageError(
            f"{to.output} was begun and stopped: {len(done):,} of {counted(request['count'], 'picture')} are there;"
            " the same command with --resume goes on, with --overwrite it begins anew"
        )


# --- what is finished ----------------------------------------------------------------------------------------------


def pictures_there(to: Destination, request: dict[str, Any], job: "Job") -> list[int]:
    """Which pictures, or codes of them, a finished output has of this request, which may ask for more.

    Those that are missing, damaged or swapped are not there; they are counted. Raises UsageError where it was drawn by
    another request, or holds what nobody drew; RestokError where a single file is damaged.
    """
    from restok_cli.data.image_folders import PICTURE_MANIFEST
    from restok_cli.inference.unfinished import check_same

    before = request_of(to)
    if before is None:
        check_output(to, overwrite=False)
        return []
    check_same(before, as_kept(request, to), f"{to.output} was drawn")
    drawn = range(before["count"])
    there = whole_pictures(to.output, drawn, job) if is_folder(to) else [*drawn] if is_whole(to) else []
    if lost := len(drawn) - len(there):
        note(f"{to.output}: {lost:,} of {counted(len(drawn), 'picture')} damaged or missing, to be drawn anew")
    if len(there) == request["count"]:
        return there
    if is_folder(to):
        own = {*picture_names(drawn), PICTURE_MANIFEST, PICTURE_REQUEST}
        check_output_folder(to.output, True, own.__contains__)
    else:
        check_output(to, overwrite=True)
    return there


def request_of(there: Destination) -> dict[str, Any] | None:
    """What the pictures or codes that are there were drawn by; None where that cannot be told.

    Raises RestokError where a file of codes, or the manifest of a data set, is damaged.
    """
    from restok_cli.data.arrays import NPZ_ERRORS
    from restok_cli.inference.unfinished import is_request

    with suppress(UsageError, *NPZ_ERRORS):
        request = _kept_request(there)
        return request if is_request(request) else None
    return None


def _kept_request(there: Destination) -> object:
    """What is kept in the place of the request, if anything is. Raises as `request_of` and NPZ_ERRORS say."""
    from restok_cli.data.code_files import read_codes
    from restok_cli.data.shards.layout import read_manifest
    from restok_cli.schema import Fields, parse_json, read_json

    if there.codes:
        return read_codes(there.output).request
    if there.shards:
        provenance = read_manifest(there.output).provenance
        return provenance | {"count": int(provenance["count"])}
    with suppress(RestokError):
        if there.output.suffix.lower() == ".npz":
            with zipfile.ZipFile(there.output) as archive:
                return parse_json(Fields, archive.comment, str(there.output))
        return read_json(Fields, there.output / PICTURE_REQUEST)
    return None


def is_folder(there: Destination) -> bool:
    """Whether the output is a folder of picture files."""
    return not (there.codes or there.shards or there.output.suffix.lower() == ".npz")


def whole_pictures(folder: Path, drawn: range, job: "Job") -> list[int]:
    """Which of the pictures in `folder` are as they were drawn, by its manifest; without digests, which are there."""
    from restok_cli.data.image_folders import manifest_lines
    from restok_cli.inference.unfinished import is_finished

    lines, there = manifest_lines(folder), []
    for index, name in zip(drawn, picture_names(drawn), strict=True):
        facts = {"file": name, **job.record(index)}  # all that older versions wrote
        if is_finished(folder / name) and (
            lines.get(name) in (facts, sealed(facts | {FILE_CRC: file_crc32(folder / name)}))
        ):
            there.append(index)
    return there


def is_whole(there: Destination) -> bool:
    """Whether a data set, or a single file, that is there is as it was written."""
    from restok_cli.data.shards.verify import verify_dataset
    from restok_cli.machine import available_cores

    if there.shards:
        return not verify_dataset(there.output.resolve(), available_cores()).problems
    if there.codes:
        return True  # they were read
    with zipfile.ZipFile(there.output) as archive:
        try:
            return archive.testzip() is None
        except (OSError, zipfile.BadZipFile, zlib.error):
            return False


def read_pictures(there: Destination, indices: Sequence[int]) -> Iterator[bytes]:
    """The PNG files of those of the pictures that are there."""
    from restok_cli.data.images import png_bytes, to_tensor
    from restok_cli.data.shards.dataset import open_dataset
    from restok_cli.metrics.pictures import open_pictures

    output = there.output
    if there.shards:
        part = open_dataset(output.resolve()).split("validation")
        yield from map(part.read, indices)
    elif output.suffix.lower() == ".npz":
        pictures = open_pictures(str(output), "all")
        yield from (png_bytes(to_tensor(pictures.open(index))) for index in indices)
    else:
        yield from ((output / f"{index:06d}.png").read_bytes() for index in indices)


def take_over(job: "Job", there: Destination, indices: Sequence[int], folder: Path) -> None:
    """Put those pictures, or all codes, that are there into the folder of unfinished work, for more to be drawn."""
    from restok_cli.data.code_files import read_codes
    from restok_cli.inference.generating import npy_bytes
    from restok_cli.inference.unfinished import is_finished, write_finished

    if there.codes:
        rows = read_codes(there.output).codes
        blocks = [block for block in job.blocks if block.stop <= len(rows)]
        files = ((code_names(block)[0], npy_bytes(rows[block.start : block.stop])) for block in blocks)
    else:
        files = zip(picture_names(indices), read_pictures(there, indices), strict=True)
    for name, data in files:
        if not is_finished(folder / name):
            write_finished(folder / name, data)
