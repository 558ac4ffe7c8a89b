"""`restok reconstruct`: images to codes and back to images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands import options
from restok_cli.commands.groups import grouped
from restok_cli.console import counted, note
from restok_cli.errors import UsageError
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, SAMPLE_MODEL, STDOUT

if TYPE_CHECKING:
    from restok_cli.inference.reconstruct import ReconstructSummary

RECONSTRUCTED_FOLDER = Path("reconstructed")

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="A folder, a .png for one image, or - (a tar stream).")
]
NumCodes = Annotated[
    str | None, typer.Option(metavar="N,…", help="Decode the first N codes only: coarser; several: each. Default: all.")
]
Grid = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write a PNG: images beside what is made of them.")
]
Ladder = Annotated[Path | None, typer.Option(metavar="FILE", help="The same with every level, and what each adds.")]


@grouped
def reconstruct(
    *,
    context: typer.Context,
    images: options.ImagesArgument,
    model: options.TokenizerOption = SAMPLE_MODEL,
    output: Output = RECONSTRUCTED_FOLDER,
    num_codes: NumCodes = None,
    split: options.Split = "validation",
    no_crop: Annotated[
        bool, typer.Option("--no-crop", help="Take images at their own size, which the model was not trained on.")
    ] = False,
    max_decoded_pixels: options.MaxDecodedPixels = MAX_DECODED_PIXELS,
    max_member_bytes: options.MaxMemberBytes = MAX_MEMBER_BYTES,
    grid: Grid = None,
    ladder: Ladder = None,
    overwrite: options.Overwrite = False,
    num_processes: options.NumProcesses = 1,
    computing: options.Computing,
    as_json: options.AsJson = False,
) -> None:
    """Encode images to codes, decode them, and say how near they come (PSNR).

    An image of any size gets the centre crop of evaluation first. A folder gets
    a PNG of each image's name, in a sub-folder for each N where --num-codes
    names several; those that cannot be decoded are named and left out.
    manifest.jsonl holds the PSNR of each. Prints OUT.

    Examples: an image from all its codes, and growing; the held-out emoji, to be
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
            f"--num-codes {num_codes}: a tar stream has one image of each; give one number, or a folder by -o"
        )
    options.check_json(as_json, output)
    options.check_models("tokenizer", model)
    options.check_split(context, *images)
    options.start_processes(num_processes, images)

    from restok_cli.inference.destination import ImageDestination

    to = ImageDestination(output, grid, ladder, overwrite)
    to.check(model, *map(Path, images))

    from restok_cli.inference.coding import Computation, ImageSource
    from restok_cli.inference.reconstruct import reconstruct_source

    source = ImageSource(images, split, not no_crop, max_decoded_pixels, max_member_bytes)
    summary = reconstruct_source(source, model, lengths, to, Computation(**vars(computing)))
    report(summary, output, as_json)


def parse_num_codes(text: str | None) -> list[int]:
    """The numbers of codes that --num-codes gives, from few to many; none where it is not given. Raises UsageError."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"--num-codes {text}: give numbers of codes such as 16, or 1,4,16,128")
    return sorted({int(word) for word in words})


def report(summary: "ReconstructSummary", output: Path, as_json: bool) -> None:
    """Say on stderr how near the images come; print where they are."""
    left_out = f", {summary.unreadable} left out" if summary.unreadable else ""
    images = counted(summary.count, "image")
    for n, value in summary.psnr.items():
        note(f"{images} from {n} of {summary.num_codes} codes: mean PSNR {value:.2f} dB{left_out}")
    note(f"codebook: {summary.usage:.1f} % in use, perplexity {summary.perplexity:.1f}")
    if output == STDOUT:
        return
    most = max(summary.psnr)
    result = {"path": str(output), "images": summary.count, "unreadable": summary.unreadable, "num_codes": most}
    result |= {"psnr": summary.psnr[most], "psnr_by_num_codes": summary.psnr}
    result |= {"codebook_usage": summary.usage, "codebook_perplexity": summary.perplexity}
    print(json.dumps(result) if as_json else output)
