"""`restok encode`: pictures to codes."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands.options import (
    AnyBatchSize,
    AsJson,
    Device,
    Dtype,
    MaxDecodedPixels,
    MaxMemberBytes,
    NoCrop,
    OverwriteFile,
    PicturesArgument,
    Split,
    TokenizerOption,
    chosen_dtype,
    open_device,
    torch_dtype,
)
from restok_cli.console import Progress, counted, note
from restok_cli.errors import RestokError
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, SAMPLE_MODEL, STDOUT, check_output_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from restok_cli.data.code_files import Codes
    from restok_cli.data.inputs import Inputs
    from restok_cli.model.tokenizer import Tokenizer


def encode(
    pictures: PicturesArgument,
    model: TokenizerOption = SAMPLE_MODEL,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="An .npz, .safetensors or .jsonl file, or - (lines)."),
    ] = STDOUT,
    split: Split = "validation",
    no_crop: NoCrop = False,
    max_decoded_pixels: MaxDecodedPixels = MAX_DECODED_PIXELS,
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES,
    batch_size: AnyBatchSize = 16,
    overwrite: OverwriteFile = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: AsJson = False,
) -> None:
    """Turn pictures into codes: 128 numbers each, or as many as the tokenizer makes.

    A file has codes (n, L), the keys and class ids of the pictures, and which
    tokenizer they belong to; on stdout there is a line of JSON for each picture.
    A picture of any size gets the centre crop of evaluation first.

    Examples: the codes of a picture, of the held-out emoji, and back again:

      restok encode photo.jpg --model runs/tokenizer
      restok encode sample --model runs/tokenizer -o codes.npz
      restok encode photo.jpg --model M | restok decode - --model M -o same.png
    """
    from restok_cli.data.code_files import check_code_file, join, write_code_lines, write_codes

    if output != STDOUT:
        check_code_file(output)
        check_output_file("-o", output, output.suffix.lower(), overwrite, model, *map(Path, pictures))
    from restok_cli.data.inputs import find_inputs

    inputs = find_inputs(pictures, split, sys.stdin.buffer, max_decoded_pixels, max_member_bytes)

    from restok_cli.inference.coding import choose_batch_size
    from restok_cli.pretrained.folder import fingerprint, load_for_use, open_tokenizer

    torch_device = open_device(device)
    dtype = chosen_dtype(dtype, torch_device)
    folder = open_tokenizer(model)
    tokenizer = load_for_use(folder, torch_device, torch_dtype(dtype))
    size = choose_batch_size(batch_size, tokenizer, torch_device)
    parts = encode_all(inputs, tokenizer, fingerprint(folder), no_crop, size)
    if output == STDOUT:
        for part in parts:
            write_code_lines(part, sys.stdout)
        return
    codes = join(list(parts))
    write_codes(codes, output)
    result = {"path": str(output), "pictures": len(codes.keys), "unreadable": inputs.unreadable}
    print(json.dumps(result) if as_json else output)


def encode_all(
    inputs: "Inputs", tokenizer: "Tokenizer", fingerprint: str, no_crop: bool, batch_size: int
) -> "Iterator[Codes]":
    """The codes of all inputs, a batch at a time. Raises RestokError where none can be decoded."""
    import numpy as np

    from restok_cli.data.code_files import Codes
    from restok_cli.inference.coding import encode_images, sized

    count = 0
    with Progress("encode", inputs.count, "pictures") as progress:
        for batch in inputs.batches(None if no_crop else tokenizer.config.image_size, batch_size):
            codes = encode_images(sized(tokenizer, batch.images), batch.images).cpu().numpy().astype(np.int32)
            yield Codes(codes, batch.keys, np.array(batch.class_ids), tokenizer.config.codebook_size, fingerprint)
            count += len(codes)
            progress.advance(len(codes))
    if count == 0:
        raise RestokError(f"of {counted(inputs.unreadable, 'picture')}, none could be decoded; nothing was written")
    if inputs.unreadable:
        note(f"{counted(count, 'picture')}, {inputs.unreadable} left out")
