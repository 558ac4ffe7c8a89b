"""`restok decode`: codes to images."""

import json
from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands.options import AnyBatchSize, AsJson, Device, Dtype, Overwrite, TokenizerOption
from restok_cli.files import SAMPLE_MODEL, STDOUT

DECODED_FOLDER = Path("decoded")


def decode(
    codes: Annotated[
        str,
        typer.Argument(
            metavar="CODES",
            help="What encode or generate --codes wrote: an .npz, .safetensors or .jsonl file, or - (lines on stdin).",
            show_default=False,
        ),
    ],
    model: TokenizerOption = SAMPLE_MODEL,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="OUT", help="A folder, a .png for one image, or - (a tar stream on stdout)."
        ),
    ] = DECODED_FOLDER,
    num_codes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Decode the first N codes only: coarser. Default: all.")
    ] = None,
    batch_size: AnyBatchSize = 16,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Turn codes into images: all codes of each, or a prefix of them, which gives a coarser image.

    A folder gets a PNG of each image's key, and manifest.jsonl. Codes that name
    another tokenizer are refused. Prints OUT.

    Examples: images from codes, from the first 16 of each, and one from a pipe:

      restok decode codes.npz --model runs/tokenizer -o pictures
      restok decode codes.npz --model runs/tokenizer --num-codes 16 -o coarse
      restok encode photo.jpg --model M | restok decode - --model M -o same.png
    """
    from restok_cli.inference.coding import Computation
    from restok_cli.inference.decode import decode_file

    count = decode_file(codes, model, output, num_codes, overwrite, Computation(device, dtype, batch_size))
    if output != STDOUT:
        print(json.dumps({"path": str(output), "pictures": count}) if as_json else output)
