"""`restok reconstruct`: pictures to codes and back to pictures."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from restok_cli.commands.options import (
    AnyBatchSize,
    AsJson,
    Device,
    Dtype,
    MaxDecodedPixels,
    MaxMemberBytes,
    NoCrop,
    Overwrite,
    PicturesArgument,
    Split,
    TokenizerOption,
    check_sheets,
    open_device,
    torch_dtype,
)
from restok_cli.console import Progress, counted, note
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import (
    MAX_DECODED_PIXELS,
    MAX_MEMBER_BYTES,
    SAMPLE_MODEL,
    STDOUT,
    check_apart,
    crc32_of,
    whole_file,
    whole_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import torch

    from restok_cli.data.inputs import Inputs
    from restok_cli.model.tokenizer import Tokenizer

RECONSTRUCTED_FOLDER = Path("reconstructed")
SHEET_ROWS = 8  # pictures that --grid and --ladder show

Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="OUT", help="A folder for PNG files, or - (a tar stream on stdout)."),
]
NumCodes = Annotated[
    str | None,
    typer.Option(metavar="N,…", help="Decode the first N codes only: coarser; several: each. Default: all."),
]
Grid = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write a PNG: pictures beside what is made of them.")
]
Ladder = Annotated[Path | None, typer.Option(metavar="FILE", help="The same with every level, and what each adds.")]


def reconstruct(
    pictures: PicturesArgument,
    model: TokenizerOption = SAMPLE_MODEL,
    output: Output = RECONSTRUCTED_FOLDER,
    num_codes: NumCodes = None,
    split: Split = "validation",
    no_crop: NoCrop = False,
    max_decoded_pixels: MaxDecodedPixels = MAX_DECODED_PIXELS,
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES,
    grid: Grid = None,
    ladder: Ladder = None,
    batch_size: AnyBatchSize = 16,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Encode pictures to codes, decode them, and say how near they come (PSNR).

    A picture of any size gets the centre crop of evaluation first. A folder gets
    a PNG of each picture's name, in a sub-folder for each N where --num-codes
    names several; those that cannot be decoded are named and left out.
    manifest.jsonl holds the PSNR of each. Prints OUT.

    Examples: a picture from all its codes, and growing; the held-out emoji, to be
    measured; the same in a pipe:

      restok reconstruct photo.jpg --model runs/tokenizer
      restok reconstruct photo.jpg --model M --num-codes 1,4,16 --grid photo.png
      restok reconstruct sample --model runs/tokenizer -o reconstructed
      restok evaluate reconstructed --metric psnr --reference sample
      restok reconstruct sample --model runs/tokenizer -o - | tar tf -
    """
    lengths = parse_num_codes(num_codes)
    if output == STDOUT and len(lengths) > 1:
        raise UsageError(
            f"--num-codes {num_codes}: a tar stream has one picture of each; give one number, or a folder by -o"
        )
    if output != STDOUT:
        from restok_cli.data.image_folders import check_picture_folder

        check_picture_folder(output, overwrite)
        check_apart(output, model, *map(Path, pictures))
    check_sheets(grid, ladder, overwrite, model, *map(Path, pictures))
    from restok_cli.data.inputs import find_inputs

    inputs = find_inputs(pictures, split, sys.stdin.buffer, max_decoded_pixels, max_member_bytes)

    from restok_cli.inference.coding import choose_batch_size
    from restok_cli.model.levels import prefix_lengths
    from restok_cli.pretrained.folder import load_for_use, open_tokenizer

    torch_device = open_device(device)
    tokenizer = load_for_use(open_tokenizer(model), torch_device, torch_dtype(dtype))
    length = tokenizer.config.num_latent_tokens
    if lengths and max(lengths) > length:
        most = max(lengths)
        raise UsageError(f"--num-codes {most}: this tokenizer makes {length} codes a picture; give 1 to {length}")
    lengths = lengths or [length]
    work = Reconstruction(tokenizer, lengths, no_crop, choose_batch_size(batch_size, tokenizer, torch_device))
    sheets = [Sheet(path, counts) for path, counts in ((grid, lengths), (ladder, prefix_lengths(length))) if path]
    summary = write_stream(work, inputs, sheets) if output == STDOUT else write_folder(work, inputs, sheets, output)
    for sheet in sheets:
        sheet.write()
    report(summary, length, output, as_json)


def parse_num_codes(text: str | None) -> list[int]:
    """The numbers of codes that --num-codes gives, from few to many; none where it is not given. Raises UsageError."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"--num-codes {text}: give numbers of codes such as 16, or 1,4,16,128")
    return sorted({int(word) for word in words})


class Reconstruction(NamedTuple):
    """What to make of every picture, and with what."""

    tokenizer: "Tokenizer"
    lengths: list[int]  # how many of its codes to decode, from few to many
    no_crop: bool
    batch_size: int


class Made(NamedTuple):
    """What became of one picture."""

    key: str
    class_id: int
    files: list[bytes]  # a PNG for each length
    psnr: list[float]  # in dB
    codes: "np.ndarray"


class Summary(NamedTuple):
    """Of all pictures."""

    count: int
    unreadable: int
    psnr: dict[int, float]  # mean, by length
    usage: float  # percent of the codebook
    perplexity: float


def reconstructed(work: Reconstruction, inputs: "Inputs", sheets: "list[Sheet]") -> "Iterator[Made]":
    """Encode and decode all inputs, and show the first of them on the sheets.

    Raises RestokError where none can be decoded.
    """
    from restok_cli.inference.coding import decode_codes, encode_images, png_files, sized
    from restok_cli.metrics.pixels import psnr

    count = 0
    with Progress("reconstruct", inputs.count, "pictures") as progress:
        for batch in inputs.batches(None if work.no_crop else work.tokenizer.config.image_size, work.batch_size):
            tokenizer = sized(work.tokenizer, batch.images)
            codes = encode_images(tokenizer, batch.images)
            decoded = [decode_codes(tokenizer, codes[:, :n]).cpu() for n in work.lengths]
            files = [png_files(images) for images in decoded]
            values = [psnr(images, batch.images).tolist() for images in decoded]
            for i, key in enumerate(batch.keys):
                row = codes[i].cpu().numpy()
                yield Made(key, batch.class_ids[i], [part[i] for part in files], [part[i] for part in values], row)
            for sheet in sheets:
                shown = slice(0, sheet.room)
                parts = [decode_codes(tokenizer, codes[shown, :n]).cpu() for n in sheet.lengths] if sheet.room else []
                sheet.add(batch.keys[shown], batch.images[shown], parts)
            count += len(batch.keys)
            progress.advance(len(batch.keys))
    if count == 0:
        raise RestokError(f"of {counted(inputs.unreadable, 'picture')}, none could be decoded; nothing was written")


def write_stream(work: Reconstruction, inputs: "Inputs", sheets: "list[Sheet]") -> Summary:
    """Write the pictures as a tar stream to stdout."""
    from restok_cli.data.streams import StreamWriter

    total = Total(work)
    with StreamWriter(sys.stdout.buffer) as writer:
        for made in reconstructed(work, inputs, sheets):
            writer.write(made.key, made.files[0], {"class_id": made.class_id, "psnr": made.psnr[0]})
            total.add(made)
    return total.summary(inputs)


def write_folder(work: Reconstruction, inputs: "Inputs", sheets: "list[Sheet]", output: Path) -> Summary:
    """Write the pictures to a folder, in a sub-folder for each length where there are several."""
    from restok_cli.data.image_folders import PICTURE_MANIFEST, manifest_line

    total, lines = Total(work), []
    with whole_folder(output) as folder:
        for made in reconstructed(work, inputs, sheets):
            for n, png, value in zip(work.lengths, made.files, made.psnr, strict=True):
                file = f"{made.key}.png" if len(work.lengths) == 1 else f"{n}/{made.key}.png"
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(png)
                lines.append(manifest_line(file, crc32_of(png), {"tokens": n, "psnr": value}))
            total.add(made)
        (folder / PICTURE_MANIFEST).write_text("".join(lines), encoding="utf-8")
    return total.summary(inputs)


class Total:
    """Adds up what the summary says."""

    def __init__(self, work: Reconstruction):
        import numpy as np

        self.lengths, self.values = work.lengths, []
        self.uses = np.zeros(work.tokenizer.config.codebook_size, np.int64)  # how often each code occurs

    def add(self, made: Made) -> None:
        import numpy as np

        self.values.append(made.psnr)
        np.add.at(self.uses, made.codes, 1)

    def summary(self, inputs: "Inputs") -> Summary:
        from restok_cli.metrics.codebook import use_of_counts

        means = [sum(column) / len(column) for column in zip(*self.values, strict=True)]
        use = use_of_counts(self.uses)
        psnr = dict(zip(self.lengths, means, strict=True))
        return Summary(len(self.values), inputs.unreadable, psnr, use.usage, use.perplexity)


class Sheet:
    """A PNG of the first pictures: under each what it became, with PSNR, and under that what each step adds."""

    def __init__(self, path: Path, lengths: "list[int] | tuple[int, ...]"):
        self.path, self.lengths = path, list(lengths)
        self.cells: list[torch.Tensor] = []  # uint8 (3, H, W), row by row
        self.captions: list[str] = []

    @property
    def room(self) -> int:
        """How many more pictures it shows."""
        return SHEET_ROWS - len(self.cells) // (2 * (1 + len(self.lengths)))

    def add(self, keys: list[str], originals: "torch.Tensor", decoded: "list[torch.Tensor]") -> None:
        """Show originals (B, 3, H, W) and what became of them with each number of codes.

        Pictures of another size than the first one's, which only --no-crop has, are passed over.
        """
        from restok_cli.metrics.pixels import psnr

        if self.cells and self.cells[0].shape != originals.shape[1:]:
            return
        for i, key in enumerate(keys):
            original, made = originals[i], [part[i] for part in decoded]
            values = [psnr(image[None], original[None]).item() for image in made]
            self.cells += [original, *made]
            self.captions += [key.rpartition("/")[2]]
            self.captions += [f"{n}: {value:.1f} dB" for n, value in zip(self.lengths, values, strict=True)]
            steps = [made[0], *(_difference(*pair) for pair in zip(made[1:], made[:-1], strict=True))]
            self.cells += [_difference(original, made[-1]), *steps]
            self.captions += ["still missing", "first", *(["added"] * (len(made) - 1))]

    def write(self) -> None:
        import torch

        from restok_cli.data.images import make_grid, save_image

        with whole_file(self.path) as temporary:
            save_image(make_grid(torch.stack(self.cells), 1 + len(self.lengths), self.captions), temporary)


def _difference(image: "torch.Tensor", other: "torch.Tensor") -> "torch.Tensor":
    """Two uint8 pictures' difference, with gray where they are alike."""
    return ((image.int() - other.int()) // 2 + 128).clamp(0, 255).byte()


def report(summary: Summary, length: int, output: Path, as_json: bool) -> None:
    """Say on stderr how near the pictures come; print where they are."""
    left_out = f", {summary.unreadable} left out" if summary.unreadable else ""
    for n, value in summary.psnr.items():
        note(f"{counted(summary.count, 'picture')} from {n} of {length} codes: mean PSNR {value:.2f} dB{left_out}")
    note(f"codebook: {summary.usage:.1f} % in use, perplexity {summary.perplexity:.1f}")
    if output == STDOUT:
        return
    most = max(summary.psnr)
    result = {"path": str(output), "pictures": summary.count, "unreadable": summary.unreadable, "tokens": most}
    result |= {"psnr": summary.psnr[most], "psnr_by_tokens": summary.psnr}
    result |= {"codebook_usage": summary.usage, "codebook_perplexity": summary.perplexity}
    print(json.dumps(result) if as_json else output)
