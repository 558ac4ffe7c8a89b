"""Sheets: one PNG file that shows several images, as --grid and --ladder ask for it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from restok_cli.data.images import write_sheet
from restok_cli.errors import UsageError
from restok_cli.files import check_output_file
from restok_cli.inference.blocks import Job, generate_blocks
from restok_cli.metrics.formulas.pixels import psnr
from restok_cli.model.levels import prefix_lengths

GRID_COLUMNS = 8
SHEET_ROWS = 8  # images that a ladder shows, and both sheets of reconstruct


def check_sheets(grid: Path | None, ladder: Path | None, overwrite: bool, *inputs: Path) -> None:
    """Raises UsageError where --grid and --ladder cannot be written, or are the same file."""
    for option, path in (("--grid", grid), ("--ladder", ladder)):
        check_output_file(option, path, ".png", overwrite, *inputs)
    if grid and ladder and grid.resolve() == ladder.resolve():
        raise UsageError(f"--grid and --ladder are both {grid}; give two files")


def write_grid(job: Job, images: Tensor, path: Path) -> None:
    """Write the generated images (n, 3, H, W), each over the name of its class."""
    captions = [job.class_names[i] for i in job.class_ids] if job.class_names else None
    write_sheet(path, images, GRID_COLUMNS, captions)


def write_ladder(job: Job, path: Path) -> None:
    """Write the first images, each a row that grows level by level, from one code to all drawn."""
    class_ids = job.class_ids[:SHEET_ROWS]
    first = job._replace(class_ids=class_ids, batch_size=min(SHEET_ROWS, len(class_ids)), tokenizer=None)
    (block,) = generate_blocks(first, first.blocks)
    last = block.codes.shape[1]
    lengths = [*(n for n in prefix_lengths(job.har.config.num_codes) if n < last), last]
    codes = block.codes.to(job.device)
    columns = [job.decode(codes[:, :n]).cpu() for n in lengths]
    captions = []
    for class_id in class_ids:
        name = f" {job.class_names[class_id]}" if job.class_names else ""
        captions += [f"{n}{name if n == lengths[0] else ''}" for n in lengths]
    write_sheet(path, torch.stack(columns, 1).flatten(0, 1), len(lengths), captions)


class ComparisonSheet:
    """The first images, and beside each what it became, with PSNR.

    Under that: what is still missing, and what each step adds. Where there is one step, what is missing ends the row.
    """

    def __init__(self, path: Path, lengths: Sequence[int]):
        self.path, self.lengths = path, list(lengths)
        self.columns, self.rows = (1 + len(lengths), 2) if len(lengths) > 1 else (3, 1)  # of each image
        self.cells: list[Tensor] = []  # uint8 (3, H, W), row by row
        self.captions: list[str] = []

    @property
    def room(self) -> int:
        """How many more images it shows."""
        return SHEET_ROWS - len(self.cells) // (self.columns * self.rows)

    def add(self, key: str, original: Tensor, made: list[Tensor]) -> None:
        """Show an original (3, H, W) and what became of it with each number of codes.

        One of another size than the first one's, which only --no-crop has, is passed over.
        """
        if self.cells and self.cells[0].shape != original.shape:
            return
        values = [psnr(image[None], original[None]).item() for image in made]
        self.cells += [original, *made]
        self.captions += [key.rpartition("/")[2]]
        self.captions += [f"{n}: {value:.1f} dB" for n, value in zip(self.lengths, values, strict=True)]
        self.cells.append(_difference(original, made[-1]))
        self.captions.append("still missing")
        if added := [_difference(*pair) for pair in zip(made[1:], made[:-1], strict=True)]:
            self.cells += [made[0], *added]
            self.captions += ["first", *(["added"] * len(added))]

    def write(self) -> None:
        write_sheet(self.path, torch.stack(self.cells), self.columns, self.captions)


def _difference(image: Tensor, other: Tensor) -> Tensor:
    """The difference of two uint8 images, with gray where they are alike."""
    return ((image.int() - other.int()) // 2 + 128).clamp(0, 255).byte()
