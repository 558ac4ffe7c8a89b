"""Where what `restok generate` draws goes: folders, archives, data sets, files of codes, pipes, sheets.

Also what of it is there already, and was drawn by the same request.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restok_cli.commands.options import (
    PICTURE_MANIFEST,
    PICTURE_REQUEST,
    STDOUT,
    check_output_file,
    check_picture_folder,
)
from restok_cli.console import note
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import check_output_folder, publish_folder, whole_file, whole_folder
from restok_cli.processes import barrier, rank

if TYPE_CHECKING:
    import numpy as np

    from restok_cli.commands.drawing import Job
    from restok_cli.data.code_files import Codes

GRID_COLUMNS = 8
LADDER_ROWS = 8


def check_output(output: Path, codes: bool, shards: bool, overwrite: bool, *models: Path) -> None:
    """Raises UsageError where the output is not one for what is asked, or is there and may not be replaced."""
    if codes:
        if shards:
            raise UsageError("--shards are of pictures and --codes draws none; give one of them")
        if output != STDOUT:
            from restok_cli.data.code_files import check_code_file

            check_code_file(output)
            check_output_file("-o", output, output.suffix, overwrite, *models)
    elif shards:
        if output == STDOUT:
            raise UsageError("--shards need a folder, and - is a tar stream already; leave --shards out")
        from restok_cli.data.shards import own_files

        check_output_folder(output, overwrite, own_files(output).__contains__)
    elif output.suffix == ".npz":
        check_output_file("-o", output, ".npz", overwrite, *models)
    elif output != STDOUT:
        check_picture_folder(output, overwrite)


def to_stdout(job: "Job", request: dict[str, Any], codes: bool, grid: Path | None) -> None:
    """Codes as JSON lines, or pictures as a tar stream."""
    from restok_cli.commands.drawing import in_order, stream_pictures
    from restok_cli.data.code_files import write_code_lines

    if codes:
        for drawn in in_order(job, lambda drawn: drawn):
            write_code_lines(_as_codes(job, request, drawn.block, drawn.codes.numpy()), sys.stdout)
        return
    shown = []
    for files in stream_pictures(job, sys.stdout.buffer if rank() == 0 else None):
        if grid is not None:
            shown += files
    if grid is not None and rank() == 0:
        write_grid(job, shown, grid)


def to_files(
    job: "Job",
    request: dict[str, Any],
    output: Path,
    shards: bool,
    codes: bool,
    grid: Path | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """A folder of pictures, or what is made of one: an .npz, a data set. Or a file of codes."""
    from restok_cli.commands.drawing import fill_folder
    from restok_cli.data.unfinished import unfinished

    if resume:
        if codes and output.exists():
            raise UsageError(f"-o {output} is there, and does not say what it was drawn with; leave --resume out")
        same = request_of(output, shards) == ({k: str(v) for k, v in request.items()} if shards else request)
        if same and is_whole(output, shards, len(job.class_ids)):
            note(f"{output} is complete: nothing is left to do")
            if grid is not None and rank() == 0:
                write_grid(job, read_pictures(output, shards, len(job.class_ids)), grid)
            return
        check_output(output, codes, shards, overwrite or same)  # what has lost some of its files is made anew
    with unfinished(output, request, resume, rank() == 0) as folder:
        barrier()  # process 0 has made the folder
        fill_folder(job, folder, code_names if codes else picture_names)
        barrier()  # the others have filled it
        if rank() > 0:
            return
        if codes:
            write_block_codes(job, request, folder, output)
            return
        files = [folder / name for name in picture_names(range(len(job.class_ids)))]
        if grid is not None:
            write_grid(job, [file.read_bytes() for file in files], grid)
        if shards:
            from restok_cli.data.packing import write_shards

            records = [job.record(i) for i in range(len(files))]
            with whole_folder(output) as temporary:
                write_shards(temporary, files, records, job.class_names, {k: str(v) for k, v in request.items()})
        elif output.suffix == ".npz":
            from restok_cli.data.packing import write_npz

            with whole_file(output) as temporary:
                write_npz(temporary, files, job.class_ids, json.dumps(request))
        else:
            lines = [json.dumps({"file": file.name, **job.record(i)}) + "\n" for i, file in enumerate(files)]
            (folder / PICTURE_MANIFEST).write_text("".join(lines), encoding="utf-8")
            publish_folder(folder, output.resolve())


def picture_names(block: range) -> list[str]:
    return [f"{index:06d}.png" for index in block]


def code_names(block: range) -> list[str]:
    return [f"{block.start:06d}-{block.stop:06d}.npy"]


def is_begun(output: Path) -> bool:
    """Whether --resume finds something at `output`: of the same request, or it is refused before anything is drawn."""
    from restok_cli.data.unfinished import unfinished_folder

    return unfinished_folder(output).is_dir() or output.is_file() or (output.is_dir() and any(output.iterdir()))


def request_of(output: Path, shards: bool) -> dict[str, Any] | None:
    """What the pictures at `output` were drawn with; None where that cannot be told."""
    import zipfile

    from restok_cli.data.shards import read_manifest

    with suppress(OSError, ValueError, zipfile.BadZipFile, RestokError):
        if shards:
            return read_manifest(output).provenance
        if output.suffix == ".npz":
            with zipfile.ZipFile(output) as archive:
                return json.loads(archive.comment)
        return json.loads((output / PICTURE_REQUEST).read_text(encoding="utf-8"))
    return None


def is_whole(output: Path, shards: bool, count: int) -> bool:
    """Whether no file is missing from the pictures at `output`."""
    from restok_cli.data.shards import open_dataset
    from restok_cli.data.unfinished import is_finished

    if output.suffix == ".npz" and not shards:
        return True
    if not shards:
        return all(is_finished(output / name) for name in (*picture_names(range(count)), PICTURE_MANIFEST))
    try:
        return bool(open_dataset(output.resolve()))
    except RestokError:
        return False


def read_pictures(output: Path, shards: bool, count: int) -> list[bytes]:
    """The PNG files of the pictures at `output`, which is whole."""
    import numpy as np
    import torch

    from restok_cli.data.images import png_bytes
    from restok_cli.data.shards import open_dataset

    if shards:
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
    return Codes(rows.astype(np.int32), keys, class_ids, job.har.config.codebook_size, request["tokenizer"])


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
