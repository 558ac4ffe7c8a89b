"""Where `restok generate` puts images, or codes, and whether they may go there. No torch here."""

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from restok_cli.console import counted
from restok_cli.data.arrays import NPZ_ERRORS
from restok_cli.data.code_files import check_code_file, read_codes
from restok_cli.data.image_folders import IMAGE_REQUEST, check_image_folder
from restok_cli.data.shards.layout import own_files, read_manifest
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import STDOUT, check_apart, check_output_file, check_output_folder
from restok_cli.inference import unfinished
from restok_cli.inference.destination import check_sheets
from restok_cli.inference.parts import listed
from restok_cli.processes import rank
from restok_cli.room import check_disk, check_memory
from restok_cli.schema import Fields, parse_json, read_json

MAX_GRID = 1024  # images
# Bytes that an image takes at least: what is known of it in memory; on the disk its codes, its file, its pixels.
LEAST_MEMORY, LEAST_CODES, LEAST_FILE, LEAST_PIXELS = 100, 16, 4096, 3 * 8 * 8
LEAST_COMPRESSION = 4  # of PNG files of images that are not all but empty


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


def check_destination(to: Destination, count: int, models: Sequence[Path]) -> None:
    """Raises UsageError where not all of it can be had together, or is there and may not be replaced."""
    check_room(to, count)
    if to.is_png and count > 1:
        raise UsageError(f"-o {to.output} is one image, but --count is {count}; give --count 1, or a folder")
    if to.resume and (to.output == STDOUT or to.is_png):
        raise UsageError("--resume needs an output of many images that stays; give a folder, an .npz or codes by -o")
    if to.output != STDOUT and rank() == 0:
        remove_leftover(to)
        if not (to.resume or to.overwrite):
            check_not_stopped(to)
    if not to.resume:
        check_output(to, to.overwrite, *models)
    check_apart(to.output, *models)
    replaces = to.overwrite or (to.resume and is_begun(to.output))
    check_sheets(to.output, to.grid, to.ladder, replaces, *models)
    if to.codes and (to.grid or to.ladder):
        raise UsageError("--codes draws no images; leave --grid and --ladder out, or --codes")
    if to.grid and count > MAX_GRID:
        raise UsageError(f"--grid shows at most {MAX_GRID} images, not {count}; leave it out or give a lower --count")


def check_room(to: Destination, count: int, size: tuple[int, int] | None = None) -> None:
    """Raises UsageError where so many images, of (height, width) where that is known, have no room."""
    check_memory("--count", count, LEAST_MEMORY)
    if to.output == STDOUT or to.resume:  # then nobody knows how much, or much of it is there
        return
    pixels = 3 * size[0] * size[1] if size else 0
    if to.codes:
        each = LEAST_CODES
    elif to.is_npz:
        each = pixels or LEAST_PIXELS
    else:
        each = max(LEAST_FILE, pixels // LEAST_COMPRESSION)
        each *= 2 if to.shards else 1  # those are made of files that are there until then
    check_disk("--count", count, each, to.output)


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


# --- which request made what is there -------------------------------------------------------------------------------


def as_provenance(request: dict[str, Any]) -> dict[str, str]:
    """A request as the manifest of a data set keeps it."""
    return {key: str(value) for key, value in request.items()}


def as_kept(request: dict[str, Any], to: Destination) -> dict[str, Any]:
    """A request as `request_of` finds it again."""
    return as_provenance(request) | {"count": request["count"]} if to.shards else request


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
