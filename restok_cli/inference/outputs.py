"""Where the images and codes of `restok generate` go: folders, archives, data sets, files of codes, pipes, sheets."""

import json
import os
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import nullcontext
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from restok_cli.console import Progress, note
from restok_cli.data.code_files import Codes, write_code_lines, write_codes
from restok_cli.data.image_files import read_image
from restok_cli.data.image_folders import IMAGE_MANIFEST, manifest_line
from restok_cli.data.images import to_tensor
from restok_cli.data.shards.layout import NO_CLASS
from restok_cli.data.shards.packing import ImagesNpz, write_shards
from restok_cli.data.streams import StreamWriter
from restok_cli.files import STDOUT, naming, publish_folder, sync, whole_file, whole_folder
from restok_cli.inference.background import in_background
from restok_cli.inference.blocks import GeneratedBlock, Job, generate_blocks
from restok_cli.inference.coding import png_files
from restok_cli.inference.existing_output import images_there, read_parts, take_over
from restok_cli.inference.generate_destination import Destination, as_provenance
from restok_cli.inference.mixing import draw_kept_ladder
from restok_cli.inference.parts import ROWS_FILE, Parts, PngFiles, Rows, listed, png_name, remove_digests, write_whole
from restok_cli.inference.sheets import draw_ladder, write_grid
from restok_cli.inference.unfinished import unfinished, unfinished_folder
from restok_cli.processes import gather, rank, world_size

Result = TypeVar("Result")


def write_outputs(job: Job, request: dict[str, Any], to: Destination) -> None:
    """Generate what is asked for, in all processes, and put it where it is to go."""
    if to.is_png:
        to_png(job, to)
    elif to.output != STDOUT:
        to_files(job, request, to)
    elif to.codes:
        for block in in_order(job, lambda block: block):
            write_code_lines(_as_codes(job, request, block.indices, block.codes.numpy()), sys.stdout)
    else:
        to_stream(job, to)
    if to.ladder is not None and rank() == 0:
        (draw_kept_ladder if job.kept else draw_ladder)(job, to.ladder)


# --- in order: into a pipe, or the file of one image ---------------------------------------------------------------


def to_stream(job: Job, to: Destination) -> None:
    """Write all images as a tar stream to the stdout of process 0."""
    with StreamWriter(sys.stdout.buffer) if rank() == 0 else nullcontext() as writer:
        for index, png in enumerate(all_pngs(job, to.grid)):
            if writer is not None:
                writer.write(f"{index:06d}", png, job.record(index))


def to_png(job: Job, to: Destination) -> None:
    """Write the only image to its file."""
    for png in all_pngs(job, to.grid):
        if rank() == 0:
            with whole_file(to.output) as temporary:
                temporary.write_bytes(png)


def all_pngs(job: Job, grid: Path | None) -> Iterator[bytes]:
    """The files of all images, in order, in every process; after them the first writes the grid."""

    def finish(block: GeneratedBlock) -> tuple[list[bytes], torch.Tensor | None]:
        assert block.images is not None, "only codes are wanted"
        return png_files(block.images), block.images if grid else None

    shown = []
    for files, images in in_order(job, finish):
        yield from files
        shown.append(images)
    if grid is not None and rank() == 0:
        write_grid(job, torch.cat(shown), grid)


def in_order(job: Job, finish: Callable[[GeneratedBlock], Result]) -> Iterator[Result]:
    """Results of `finish` for all blocks, in order, in every process: each draws its share, then they exchange it."""
    finished = in_background(finish, generate_blocks(job, job.blocks[rank() :: world_size()]), job.device)
    with Progress("generate", len(job.class_ids), "images") as progress:
        for first in range(0, len(job.blocks), world_size()):
            for result in gather(next(finished, None)):
                if result is not None:
                    yield result
            progress.advance(sum(map(len, job.blocks[first : first + world_size()])))


# --- into files ----------------------------------------------------------------------------------------------------


def to_files(job: Job, request: dict[str, Any], to: Destination) -> None:
    """Write a folder of images, or what is made of one: an .npz, a data set. Or a file of codes."""
    count, there = len(job.class_ids), []
    if to.resume:
        there = gather(images_there(to, request, job) if rank() == 0 else [])[0]
        if len(there) == count:
            note(f"{to.output} is complete: nothing is left to do")
            if to.grid is not None and rank() == 0:
                _write_grid(job, {}, to)
            return
    parts = open_parts(job, to)
    with naming(to.output), unfinished(to.output, request, parts, to.resume):
        if there and rank() == 0:
            take_over(to, there, parts)
        done = gather(listed(parts.folder)[0] if rank() == 0 else {})[0]  # and process 0 has made the folder
        drawn = gather(draw_missing(job, parts, done, to))  # when all have written theirs
        if rank() > 0:
            return
        if to.codes:
            rows = np.fromfile(parts.folder / ROWS_FILE, np.int32).reshape(count, job.num_drawn)
            write_codes(_as_codes(job, request, range(count), rows), to.output)
        elif to.is_npz:
            publish_npz(job, request, parts.folder, to.output)
        elif to.shards:
            publish_shards(job, request, parts.folder, to.output)
        else:
            publish_images(job, parts.folder, to.output)
    if to.grid is not None:
        _write_grid(job, reduce(or_, drawn), to)


def open_parts(job: Job, to: Destination) -> Parts:
    """The parts that the output is made of, in the folder of unfinished work, which may not be there yet."""
    folder = unfinished_folder(to.output)
    if to.codes:
        return Rows(folder, 0, job.num_drawn * np.dtype(np.int32).itemsize, len(job.class_ids))
    if to.is_npz:
        form = npz_form(job)
        return Rows(folder, form.start, form.image_bytes, form.count)
    return PngFiles(folder)


def draw_missing(job: Job, parts: Parts, done: Container[int], to: Destination) -> dict[int, torch.Tensor]:
    """Make all parts that are not yet done, this process its share of the blocks.

    Returns the images that it drew, uint8 (3, H, W), where a grid is to show them.
    """
    shown: dict[int, torch.Tensor] = {}

    def write(block: GeneratedBlock) -> int:
        parts.write(block.indices.start, _as_parts(block, to))
        if to.grid is not None and block.images is not None:
            shown.update(zip(block.indices, block.images, strict=True))
        return len(block.indices)

    missing = [block for block in job.blocks if not all(index in done for index in block)]
    mine = missing[rank() :: world_size()]
    there = len(job.class_ids) - sum(map(len, missing))
    total = there + sum(map(len, mine))
    with Progress("generate", total, "images", there) as progress:
        for number in in_background(write, generate_blocks(job, mine), job.device):
            progress.advance(number)
    return shown


def _as_parts(block: GeneratedBlock, to: Destination) -> Sequence[bytes | memoryview]:
    if to.codes:
        return [row.data for row in block.codes.numpy().astype(np.int32)]
    assert block.images is not None, "only codes are wanted"
    if to.is_npz:
        return [image.data for image in block.images.permute(0, 2, 3, 1).contiguous().numpy()]
    return png_files(block.images)


def _write_grid(job: Job, shown: dict[int, torch.Tensor], to: Destination) -> None:
    """Write the grid of the images that were drawn, by their index, and of those in the output that an earlier run
    made.
    """
    assert job.tokenizer is not None and to.grid is not None, "only codes are wanted"
    height, width = job.tokenizer.config.image_size
    images, count = [], len(job.class_ids)
    parts = read_parts(to, [index for index in range(count) if index not in shown])
    for index in range(count):
        if (image := shown.get(index)) is None:
            data = next(parts)
            if to.is_npz:
                image = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)
            else:
                image = to_tensor(read_image(data, f"image {index}"))
        images.append(image)
    write_grid(job, torch.stack(images), to.grid)


def npz_form(job: Job) -> ImagesNpz:
    assert job.tokenizer is not None, "only codes are wanted"
    return ImagesNpz(len(job.class_ids), *job.tokenizer.config.image_size)


def publish_npz(job: Job, request: dict[str, Any], folder: Path, output: Path) -> None:
    """Let the file of all images become the output."""
    rows, (digests, _) = folder / ROWS_FILE, listed(folder)
    crc32s = (digests[index] for index in range(len(job.class_ids)))
    npz_form(job).finish(rows, crc32s, job.class_ids, json.dumps(request))
    sync(rows)
    os.replace(rows, output)
    sync(output.parent)


def publish_shards(job: Job, request: dict[str, Any], folder: Path, output: Path) -> None:
    """Make a data set of the images."""
    indices = range(len(job.class_ids))
    files, records = [folder / png_name(index) for index in indices], [job.record(index) for index in indices]
    with whole_folder(output) as temporary:
        write_shards(temporary, files, records, job.class_names, as_provenance(request))


def publish_images(job: Job, folder: Path, output: Path) -> None:
    """Let the folder of images become the output, with a manifest."""
    digests, _ = listed(folder)
    lines = [manifest_line(png_name(i), digests[i], job.record(i)) for i in range(len(job.class_ids))]
    # before the lists go, which say the same: who is stopped here goes on with all images
    write_whole(folder / IMAGE_MANIFEST, "".join(lines).encode())
    remove_digests(folder)
    publish_folder(folder, output.resolve())


def _as_codes(job: Job, request: dict[str, Any], indices: range, rows: np.ndarray) -> Codes:
    class_ids = np.array([job.class_ids[i] if job.class_names else NO_CLASS for i in indices])
    keys = [f"{i:06d}" for i in indices]
    codebook_size, tokenizer = job.har.config.codebook_size, request["tokenizer"]
    first = None if indices.start else request  # said once in a pipe, too
    return Codes(rows.astype(np.int32), keys, class_ids, codebook_size, tokenizer, first)
