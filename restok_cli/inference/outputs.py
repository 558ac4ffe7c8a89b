"""Where what `restok generate` draws goes: folders, archives, data sets, files of codes, pipes, sheets."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restok_cli.commands.options import check_resume, check_sheets
from restok_cli.console import note
from restok_cli.errors import UsageError
from restok_cli.files import STDOUT, check_apart, publish_folder, whole_file, whole_folder
from restok_cli.inference.existing_output import (
    Destination,
    as_provenance,
    check_not_stopped,
    check_output,
    code_names,
    is_begun,
    picture_names,
    pictures_there,
    read_pictures,
    remove_leftover,
    take_over,
)
from restok_cli.processes import barrier, gather, rank
from restok_cli.room import check_disk, check_memory

if TYPE_CHECKING:
    import numpy as np

    from restok_cli.data.code_files import Codes
    from restok_cli.inference.generating import Job

GRID_COLUMNS = 8
MAX_GRID = 1024  # pictures
LADDER_ROWS = 8
# Bytes that a picture takes at least: what is known of it in memory; its codes on the disk; its file, a block.
LEAST_MEMORY, LEAST_CODES, LEAST_FILE = 100, 16, 4096
LEAST_COMPRESSION = 4  # of PNG files of pictures that are not all but empty


def check_destination(to: Destination, count: int, models: Sequence[Path]) -> None:
    """Raises UsageError where not all of it can be had together, or is there and may not be replaced."""
    check_resume(to.resume, to.overwrite)
    check_room(to, count)
    if to.resume and to.output == STDOUT:
        raise UsageError("--resume needs an output that stays; give a folder or a file by -o")
    if to.output != STDOUT and rank() == 0:
        remove_leftover(to)
        if not (to.resume or to.overwrite):
            check_not_stopped(to)
    if not to.resume:
        check_output(to, to.overwrite, *models)
    check_apart(to.output, *models)
    check_sheets(to.grid, to.ladder, to.overwrite or (to.resume and is_begun(to.output)), *models)
    if to.codes and (to.grid or to.ladder):
        raise UsageError("--codes draws no pictures; leave --grid and --ladder out, or --codes")
    if to.grid and count > MAX_GRID:
        raise UsageError(f"--grid shows at most {MAX_GRID} pictures, not {count}; leave it out or give a lower --count")


def check_room(to: Destination, count: int, size: tuple[int, int] | None = None) -> None:
    """Raises UsageError where so many pictures, of (height, width) where that is known, have no room."""
    check_memory("--count", count, LEAST_MEMORY)
    if to.output == STDOUT or to.resume:  # then nobody knows how much, or much of it is there
        return
    pixels = 3 * size[0] * size[1] if size else 0
    each = max(LEAST_CODES if to.codes else LEAST_FILE, pixels // LEAST_COMPRESSION)
    check_disk("--count", count, each + (pixels if to.output.suffix.lower() == ".npz" else 0), to.output)


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
    from restok_cli.data.code_files import write_code_lines
    from restok_cli.inference.generating import in_order, stream_pictures

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
    from restok_cli.inference.generating import fill_folder
    from restok_cli.inference.unfinished import unfinished

    count, there = len(job.class_ids), []
    if to.resume:
        there = gather(pictures_there(to, request, job) if rank() == 0 else [])[0]
        if len(there) == count:
            note(f"{to.output} is complete: nothing is left to do")
            if to.grid is not None and rank() == 0:
                write_grid(job, list(read_pictures(to, there)), to.grid)
            return
    with unfinished(to.output, request, to.resume, rank() == 0) as folder:
        if there and rank() == 0:
            take_over(job, to, there, folder)
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
    from restok_cli.data.image_folders import PICTURE_MANIFEST, manifest_line
    from restok_cli.inference.unfinished import remove_digests, written_digests

    files = [folder / name for name in picture_names(range(len(job.class_ids)))]
    records = [job.record(i) for i in range(len(files))]
    if to.shards:
        from restok_cli.data.shards.packing import write_shards

        with whole_folder(to.output) as temporary:
            write_shards(temporary, files, records, job.class_names, as_provenance(request))
    elif to.output.suffix.lower() == ".npz":
        from restok_cli.data.shards.packing import write_npz

        with whole_file(to.output) as temporary:
            write_npz(temporary, files, job.class_ids, json.dumps(request))
    else:
        digests = written_digests(folder)
        lines = [
            manifest_line(file.name, digests[file.name], facts) for file, facts in zip(files, records, strict=True)
        ]
        remove_digests(folder)
        (folder / PICTURE_MANIFEST).write_text("".join(lines), encoding="utf-8")
        publish_folder(folder, to.output.resolve())


def write_block_codes(job: "Job", request: dict[str, Any], folder: Path, output: Path) -> None:
    """Put the codes of all blocks into one file."""
    import numpy as np

    from restok_cli.data.code_files import write_codes

    rows = np.concatenate([np.load(folder / name) for block in job.blocks for name in code_names(block)])
    write_codes(_as_codes(job, request, range(len(rows)), rows), output)


def _as_codes(job: "Job", request: dict[str, Any], block: range, rows: "np.ndarray") -> "Codes":
    import numpy as np

    from restok_cli.data.code_files import Codes
    from restok_cli.data.shards.layout import NO_CLASS

    class_ids = np.array([job.class_ids[i] if job.class_names else NO_CLASS for i in block])
    keys = [f"{i:06d}" for i in block]
    codebook_size, tokenizer = job.har.config.codebook_size, request["tokenizer"]
    first = None if block.start else request  # said once in a pipe, too
    return Codes(rows.astype(np.int32), keys, class_ids, codebook_size, tokenizer, first)


def write_grid(job: "Job", files: list[bytes], path: Path) -> None:
    """Write the pictures as one, each over the name of its class."""
    import torch

    from restok_cli.data.image_files import read_image
    from restok_cli.data.images import make_grid, save_image, to_tensor

    images = torch.stack([to_tensor(read_image(file, f"picture {i}")) for i, file in enumerate(files)])
    captions = [job.class_names[i] for i in job.class_ids] if job.class_names else None
    with whole_file(path) as temporary:
        save_image(make_grid(images, GRID_COLUMNS, captions), temporary)


def write_ladder(job: "Job", path: Path) -> None:
    """Write the first pictures growing level by level."""
    from restok_cli.data.images import save_image
    from restok_cli.inference.generating import ladder

    with whole_file(path) as temporary:
        save_image(ladder(job, LADDER_ROWS), temporary)
