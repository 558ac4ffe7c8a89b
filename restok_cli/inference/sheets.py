"""Sheets: one PNG file that shows several images, as --grid and --ladder ask for it."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from restok_cli.data.images import write_sheet
from restok_cli.errors import UsageError
from restok_cli.files import check_output_file
from restok_cli.inference.blocks import Job, generate_blocks
from restok_cli.inference.coding import decode_codes
from restok_cli.metrics.formulas.pixels import psnr
from restok_cli.model.levels import prefix_lengths
from restok_cli.model.tokenizer import Tokenizer

GRID_COLUMNS = 8
SHEET_ROWS = 8  # images that a ladder shows, and both sheets of reconstruct


def check_sheets(output: Path, grid: Path | None, ladder: Path | None, overwrite: bool, *inputs: Path) -> None:
    """Raises UsageError where --grid and --ladder cannot be written, or of those and the output two are one file."""
    for option, path in (("--grid", grid), ("--ladder", ladder)):
        check_output_file(option, path, ".png", overwrite, *inputs)
    named = [(option, path) for option, path in (("-o", output), ("--grid", grid), ("--ladder", ladder)) if path]
    for (first, path), (second, other) in combinations(named, 2):
        if path.resolve() == other.resolve():
            raise UsageError(f"{first} and {second} are both {path}; give two files")


def write_grid(job: Job, images: Tensor, path: Path) -> None:
    """Write the generated images (n, 3, H, W), each over the name of its class."""
    captions = [job.class_names[i] for i in job.class_ids] if job.class_names else None
    write_sheet(path, images, GRID_COLUMNS, captions)


def growing(num_codes: int, most: int) -> list[int]:
    """The numbers of codes that a row shows: level by level, up to `most`."""
    return [*(n for n in prefix_lengths(num_codes) if n < most), most]


def write_rows(path: Path, columns: Sequence[Tensor], captions: list[str]) -> None:
    """Write a sheet of these columns, uint8 (n, 3, H, W) each, from left to right; the captions are row by row."""
    write_sheet(path, torch.stack([*columns], 1).flatten(0, 1), len(columns), captions)


def write_ladder(path: Path, tokenizer: Tokenizer, codes: Tensor, names: Sequence[str]) -> None:
    """Write the first images of codes (n, L), each a row that grows level by level, from one code to all."""
    lengths = growing(tokenizer.config.num_latent_tokens, codes.shape[1])
    rows, dtype = [f"row {number} of the ladder" for number in range(1, len(codes) + 1)], tokenizer.dtype
    columns = [decode_codes(tokenizer, codes[:SHEET_ROWS, :n]).checked(rows, dtype) for n in lengths]
    captions = [f"{n} {name}".rstrip() if n == 1 else f"{n}" for name in names[:SHEET_ROWS] for n in lengths]
    write_rows(path, columns, captions)


def first_images(job: Job) -> Job:
    """Those of a job that a ladder shows, as one block."""
    class_ids = job.class_ids[:SHEET_ROWS]
    return job._replace(class_ids=class_ids, batch_size=len(class_ids))


def draw_ladder(job: Job, path: Path) -> None:
    """Write the ladder of the first images, over the names of their classes."""
    assert job.tokenizer is not None, "only codes are wanted"
    first = first_images(job)._replace(tokenizer=None)
    (block,) = generate_blocks(first, first.blocks)
    names = [job.class_names[i] if job.class_names else "" for i in first.class_ids]
    write_ladder(path, job.tokenizer, block.codes.to(job.device), names)


def compared(
    key: str, original: Tensor, made: Sequence[Tensor], lengths: Sequence[int]
) -> tuple[list[Tensor], list[str]]:
    """Cells and captions of an image (3, H, W): beside it what became of it with each number of codes, and PSNR.

    Then what is still missing, and what each step adds: one row for one step, two rows for several.
    """
    values = [psnr(image[None], original[None]).item() for image in made]
    captions = [key.rpartition("/")[2], *(f"{n}: {value:.1f} dB" for n, value in zip(lengths, values, strict=True))]
    cells, captions = [original, *made, _difference(original, made[-1])], [*captions, "still missing"]
    if added := [_difference(*pair) for pair in zip(made[1:], made[:-1], strict=True)]:
        cells += [made[0], *added]
        captions += ["first", *(["added"] * len(added))]
    return cells, captions


def _difference(image: Tensor, other: Tensor) -> Tensor:
    """The difference of two uint8 images, with gray where they are alike."""
    return ((image.int() - other.int()) // 2 + 128).clamp(0, 255).byte()
