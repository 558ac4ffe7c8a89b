"""`restok decode`: codes to images."""

import json
from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands import options
from restok_cli.commands.groups import grouped
from restok_cli.errors import UsageError
from restok_cli.files import SAMPLE_MODEL, STDOUT

DECODED_FOLDER = Path("decoded")


CodesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CODES",
        help="What encode or generate --codes wrote: .npz, .safetensors or .jsonl files, or - (lines on stdin).",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="OUT", help="A folder, a .png for one image, or - (a tar stream on stdout)."
    ),
]
NumCodes = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Decode the first N codes only: coarser. Default: all.")
]
Mix = Annotated[
    tuple[str, str] | None,
    typer.Option(
        metavar="A B",
        help="In place of CODES: the first --keep codes of A with the rest of B's. Each is an image, or codes of one in"
        " a file.",
    ),
]
Keep = Annotated[int | None, typer.Option(min=1, metavar="N", help="How many codes of A --mix takes.")]
Grid = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a PNG of the first 64.")]
Ladder = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write a PNG of the first 8 growing level by level; of --mix, with ever more codes of A.",
    ),
]


@grouped
def decode(
    *,
    codes: CodesArgument = None,
    model: options.TokenizerOption = SAMPLE_MODEL,
    output: Output = DECODED_FOLDER,
    num_codes: NumCodes = None,
    mix: Mix = None,
    keep: Keep = None,
    grid: Grid = None,
    ladder: Ladder = None,
    overwrite: options.Overwrite = False,
    computing: options.Computing,
    as_json: options.AsJson = False,
) -> None:
    """Turn codes into images: all codes of each, or a prefix of them, which gives a coarser image.

    A folder gets a PNG of each image's key, and manifest.jsonl. Codes that name
    another tokenizer are refused, as are files with codes of one key. Prints OUT.

    Examples: images from codes, from the first 16 of each, one from a pipe, and
    the layout of one with the details of another:

      restok decode codes.npz --model runs/tokenizer -o pictures
      restok decode codes.npz --model runs/tokenizer --num-codes 16 -o coarse
      restok encode photo.jpg --model M | restok decode - --model M -o same.png
      restok decode --mix a.jpg b.jpg --keep 16 --model M -o mixed.png
    """
    if bool(codes) == bool(mix):
        raise UsageError("give CODES or --mix A B, and not both")
    if (mix is None) != (keep is None):
        raise UsageError("--mix A B and --keep N belong together; give both or none")
    options.check_json(as_json, output)
    if "-" in (codes or []) and codes != ["-"]:
        raise UsageError("- stands for the codes on stdin; give it alone")
    options.check_models("tokenizer", model)
    options.check_there("a file of codes, or - for lines on stdin", *(codes or []))
    options.check_there("an image, or a file with the codes of one", *(mix or []), option="--mix ")
    from restok_cli.inference.destination import ImageDestination

    to = ImageDestination(output, grid, ladder, overwrite)
    to.check(model, *map(Path, mix or codes or []))

    from restok_cli.inference.coding import Computation
    from restok_cli.inference.decode import decode_source
    from restok_cli.inference.mixing import Mixture

    source = Mixture(*mix, keep) if mix and keep else codes
    assert source
    count = decode_source(source, model, to, num_codes, Computation(**vars(computing)))
    if output != STDOUT:
        print(json.dumps({"path": str(output), "images": count}) if as_json else output)
