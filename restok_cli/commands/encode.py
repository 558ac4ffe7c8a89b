"""`restok encode`: images to codes."""

import json
from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands import options
from restok_cli.commands.groups import grouped
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, SAMPLE_MODEL, STDOUT, check_output_file


@grouped
def encode(
    *,
    context: typer.Context,
    images: options.ImagesArgument,
    model: options.TokenizerOption = SAMPLE_MODEL,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="An .npz, .safetensors or .jsonl file, or - (lines).")
    ] = STDOUT,
    split: options.Split = "validation",
    no_crop: Annotated[
        bool, typer.Option("--no-crop", help="Take images as they are; another size than the model's is refused.")
    ] = False,
    max_decoded_pixels: options.MaxDecodedPixels = MAX_DECODED_PIXELS,
    max_member_bytes: options.MaxMemberBytes = MAX_MEMBER_BYTES,
    overwrite: options.Overwrite = False,
    num_processes: options.NumProcesses = 1,
    computing: options.Computing,
    as_json: options.AsJson = False,
) -> None:
    """Turn images into codes: 128 numbers each, or as many as the tokenizer makes.

    A file has codes (n, L), the keys and class ids of the images, and which
    tokenizer they belong to; on stdout there is a line of JSON for each image.
    An image of any size gets the centre crop of evaluation first.

    Examples: the codes of an image, of the held-out emoji, and back again:

      restok encode photo.jpg --model runs/tokenizer
      restok encode sample --model runs/tokenizer -o codes.npz
      restok encode photo.jpg --model M | restok decode - --model M -o same.png
    """
    options.check_json(as_json, output)
    options.check_models("tokenizer", model)
    options.check_split(context, *images)
    options.start_processes(num_processes, images)

    from restok_cli.data.code_files import check_code_file

    if output != STDOUT:
        check_code_file(output)
        check_output_file("-o", output, output.suffix.lower(), overwrite, model, *map(Path, images))

    from restok_cli.inference.coding import Computation, ImageSource
    from restok_cli.inference.encode import encode_source

    source = ImageSource(images, split, not no_crop, max_decoded_pixels, max_member_bytes)
    computation = Computation(**vars(computing))
    count, unreadable = encode_source(source, model, output, computation)
    if output != STDOUT:
        result = {"path": str(output), "images": count, "unreadable": unreadable}
        print(json.dumps(result) if as_json else output)
