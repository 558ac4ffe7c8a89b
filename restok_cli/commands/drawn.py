"""Where what `restok generate` draws goes: folders, archives, data sets, files of codes, pipes, sheets.

Also what of it is there already, and was drawn by the same request.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from restok_cli.commands.options import (
    PICTURE_MANIFEST,
    PICTURE_REQUEST,
    STDOUT,
    check_output_file,
    check_picture_folder,
    check_resume,
    check_sheets,
)
from restok_cli.console import note
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import check_apart, check_output_folder, publish_folder, whole_file, whole_folder
from restok_cli.processes import barrier, rank

if TYPE_CHECKING:
    import numpy as np

    from restok_cli.commands.drawing import Job
    from restok_cli.data.code_files import Codes

GRID_COLUMNS = 8
MAX_GRID = 1024  # pictures
LADDER_ROWS = 8


class Destination(NamedTuple):
    """Where what is drawn goes, and what may be there already."""

    output: Path
    shards: bool  # a data set in a folder
    codes: bool  # a file of codes, or lines of them, and no pictures
    grid: Path | None
    ladder: Path | None
    resume: bool
    overwrite: bool


def check_destination(to: Destination, count: int, models: Sequence[Path]) -> None:
    """Raises UsageError where not all of it can be had together, or is there and may not be replaced."""
    check_resume(to.resume, to.overwrite)
    if to.resume and to.output == STDOUT:
        raise UsageError("--resume needs an output that stays; give a folder or a file by -o")
    if not to.resume:
        check_output(to, to.overwrite, *models)
    check_apart(to.output, *models)
    check_sheets(to.grid, to.ladder, to.overwrite or (to.resume and is_begun(to.output)), *models)
    if to.codes and (to.grid or to.ladder):
        raise UsageError("--codes draws no pictures; leave --grid and --ladder out, or --codes")
    if to.grid and count > MAX_GRID:
        raise UsageError(f"--grid shows at most {MAX_GRID} pictures, not {count}; leave it out or give a lower --count")


def check_output(to: Destination, overwrite: bool, *models: Path) -> None:
    """Raises UsageError where the output is not one for what is asked, or is there and may not be replaced."""
    output = to.output
    if to.codes:
        if to.shards:
            raise UsageError("--shards are of pictures and --codes draws none; give one of them")
        if output != STDOUT:
            from restok_cli.data.code_files import check_code_file

            check_code_file(output)
            check_output_file("-o", output, output.suffix, overwrite, *models)
    elif to.shards:
        if output == STDOUT:
            raise UsageError("--shards need a folder, and - is a tar stream already; leave --shards out")
        from restok_cli.data.shards import own_files

        check_output_folder(output, overwrite, own_files(output).__contains__)
    elif output.suffix == ".npz":
        check_output_file("-o", output, ".npz", overwrite, *models)
    elif output != STDOUT:
        check_picture_folder(output, overwrite)


def draw(job: "Job", request: dict[str, Any], to: Destination) -> None:
    """Draw what is asked for, in all processes, and put it where it is to go."""
    if to.output == STDOUT:
        to_stdout(job, request, to)
    else:
        to_files(job, request, to)
    if to.ladder is not None and rank() == 0:
        write_ladder(job, to.ladder)


def to_stdout(job: "Job", request: dict[str, Any], to: Destination) -> None:
    """Codes as JSON lines, or pictures as a tar stream."""
    from restok_cli.commands.drawing import in_order, stream_pictures
    from restok_cli.data.code_files import write_code_lines

    if to.codes:
        for drawn in in_order(job, lambda drawn: drawn):
            write_code_lines(_as_codes(job, request, drawn.block, drawn.codes.numpy()), sys.stdout)
        return
    shown = []
    for files in stream_pictures(job, sys.stdout.buffer if rank() == 0 else None):
        if to.grid is not None:
            shown += files
    if to.grid is not None and rank() == 0:
        write_grid(job, shown, to.grid)


def to_files(job: "Job", request: dict[str, Any], to: Destination) -> None:
    """A folder of pictures, or what is made of one: an .npz, a data set. Or a file of codes."""
    from restok_cli.commands.drawing import fill_folder
    from restok_cli.data.unfinished import clear_unfinished, unfinished

    count = len(job.class_ids)
    if to.resume:
        same = request_of(to) == (_as_provenance(request) if to.shards else request)
        if same and is_whole(to, count):
            note(f"{to.output} is complete: nothing is left to do")
            if rank() == 0:
                clear_unfinished(to.output)
            if to.grid is not None and rank() == 0:
                write_grid(job, read_pictures(to, count), to.grid)
            return
        check_output(to, overwrite=same)  # what has lost some of its files is made anew
    with unfinished(to.output, request, to.resume, rank() == 0) as folder:
        barrier()  # process 0 has made the folder
        fill_folder(job, folder, code_names if to.codes else picture_names)
        barrier()  # the others have filled it
        if rank() > 0:
            return
        if to.codes:
            write_block_codes(job, request, folder, to.output)
            return
        if to.grid is not None:
            write_grid(job, [(folder / name).read_bytes() for name in picture_names(range(count))], to.grid)
        write_pictures(job, request, folder, to)


def write_pictures(job: "Job", request: dict[str, Any], folder: Path, to: Destination) -> None:
    """Make the output of the pictures in `folder`, which may become it."""
    files = [folder / name for name in picture_names(range(len(job.class_ids)))]
    records = [job.record(i) for i in range(len(files))]
    if to.shards:
        from restok_cli.data.packing import write_shards

        with whole_folder(to.output) as temporary:
            write_shards(temporary, files, records, job.class_names, _as_provenance(request))
    elif to.output.suffix == ".npz":
        from restok_cli.data.packing import write_npz

        with whole_file(to.output) as temporary:
            write_npz(temporary, files, job.class_ids, json.dumps(request))
    else:
        lines = [json.dumps({"file": file.name, **record}) + "\n" for file, record in zip(files, records, strict=True)]
        (folder / PICTURE_MANIFEST).write_text("".join(lines), encoding="utf-8")
        publish_folder(folder, to.output.resolve())


def _as_provenance(request: dict[str, Any]) -> dict[str, str]:
    """A request as the manifest of a data set keeps it."""
    return {key: str(value) for key, value in request.items()}


def picture_names(block: range) -> list[str]:
    return [f"{index:06d}.png" for index in block]


def code_names(block: range) -> list[str]:
    return [f"{block.start:06d}-{block.stop:06d}.npy"]


def is_begun(output: Path) -> bool:
    """Whether --resume finds something at `output`: of the same request, or it is refused before anything is drawn."""
    from restok_cli.data.unfinished import unfinished_folder

    return unfinished_folder(output).is_dir() or output.is_file() or (output.is_dir() and any(output.iterdir()))


def request_of(there: Destination) -> dict[str, Any] | None:
    """What the pictures or codes that are there were drawn by; None where that cannot be told."""
    import zipfile

    from restok_cli.data.code_files import read_codes
    from restok_cli.data.shards import read_manifest

    output = there.output
    with suppress(OSError, ValueError, zipfile.BadZipFile, RestokError):
        if there.codes:
            return read_codes(output).request
        if there.shards:
            return read_manifest(output).provenance
        if output.suffix == ".npz":
            with zipfile.ZipFile(output) as archive:
                return json.loads(archive.comment)
        return json.loads((output / PICTURE_REQUEST).read_text(encoding="utf-8"))
    return None


def is_whole(there: Destination, count: int) -> bool:
    """Whether no file is missing from the pictures that are there; a single file is never there in part."""
    from restok_cli.data.shards import open_dataset
    from restok_cli.data.unfinished import is_finished

    if there.shards:
        try:
            return bool(open_dataset(there.output.resolve()))
        except RestokError:
            return False
    if there.output.is_file():
        return True
    return all(is_finished(there.output / name) for name in (*picture_names(range(count)), PICTURE_MANIFEST))


def read_pictures(there: Destination, count: int) -> list[bytes]:
    """The PNG files of the pictures that are there, all of them."""
    import numpy as np
    import torch

    from restok_cli.data.images import png_bytes
    from restok_cli.data.shards import open_dataset

    output = there.output
    if there.shards:
        part = open_dataset(output.resolve()).split("validation")
        return [part.read(i) for i in range(count)]
    if output.suffix == ".npz":
        with np.load(output) as npz:
            return [png_bytes(image) for image in torch.from_numpy(npz["arr_0"]).permute(0, 3, 1, 2)]
    return [(output / name).read_bytes() for name in picture_names(range(count))]


def write_block_codes(job: "Job", request: dict[str, Any], folder: Path, output: Path) -> None:
    """Put the codes of all blocks into one file."""
    import numpy as np

    from restok_cli.data.code_files import write_codes

    rows = np.concatenate([np.load(folder / name) for block in job.blocks for name in code_names(block)])
    write_codes(_as_codes(job, request, range(len(rows)), rows), output)


def _as_codes(job: "Job", request: dict[str, Any], block: range, rows: "np.ndarray") -> "Codes":
    import numpy as np

    from restok_cli.data.code_files import Codes
    from restok_cli.data.shards import NO_CLASS

    class_ids = np.array([job.class_ids[i] if job.class_names else NO_CLASS for i in block])
    keys = [f"{i:06d}" for i in block]
    codebook_size, tokenizer = job.har.config.codebook_size, request["tokenizer"]
    first = None if block.start else request  # said once in a pipe, too
    return Codes(rows.astype(np.int32), keys, class_ids, codebook_size, tokenizer, first)


def write_grid(job: "Job", files: list[bytes], path: Path) -> None:
    """Write the pictures as one, each over the name of its class."""
    import torch

    from restok_cli.data.images import make_grid, read_image, save_image, to_tensor

    images = torch.stack([to_tensor(read_image(file, f"picture {i}")) for i, file in enumerate(files)])
    captions = [job.class_names[i] for i in job.class_ids] if job.class_names else None
    with whole_file(path) as temporary:
        save_image(make_grid(images, GRID_COLUMNS, captions), temporary)


def write_ladder(job: "Job", path: Path) -> None:
    """Write the first pictures growing level by level."""
    from restok_cli.commands.drawing import ladder
    from restok_cli.data.images import save_image

    with whole_file(path) as temporary:
        save_image(ladder(job, LADDER_ROWS), temporary)
