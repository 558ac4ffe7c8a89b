"""The work of `restok encode`: images to codes, in a file or a pipe."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from restok_cli.console import Progress, counted, note
from restok_cli.data.code_files import Codes, join, write_code_lines, write_codes
from restok_cli.data.inputs import InputBatch, Inputs
from restok_cli.devices import chosen_dtype
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import STDOUT
from restok_cli.inference.coding import Computation, ImageSource, encode_images
from restok_cli.inference.sharing import in_turns
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import fingerprint, open_tokenizer
from restok_cli.processes import rank


def encode_source(source: ImageSource, model: Path, output: Path, computation: Computation) -> tuple[int, int]:
    """Write the codes of all images of the source; return how many there were, and how many more are unreadable.

    Raises UsageError where that cannot be had, RestokError where none of them can be decoded.
    """
    inputs = source.open()
    folder = open_tokenizer(model)
    tokenizer, batch_size = computation.load(folder)
    dtype = chosen_dtype(computation.dtype, tokenizer.device)
    parts = encode_inputs(inputs, tokenizer, fingerprint(folder), dtype, source.crop, batch_size)
    if rank() > 0:
        count = sum(len(part.keys) for part in parts)
    elif output == STDOUT:
        count = 0
        for part in parts:
            write_code_lines(part, sys.stdout)
            count += len(part.keys)
    else:
        codes = join(list(parts))
        write_codes(codes, output)
        count = len(codes.keys)
    return count, inputs.unreadable


def encode_inputs(
    inputs: Inputs, tokenizer: Tokenizer, own_fingerprint: str, dtype: str, crop: bool, batch_size: int
) -> Iterator[Codes]:
    """The codes of all inputs, a batch at a time. Without `crop`, all must have the tokenizer's size.

    Raises UsageError for one of another size, RestokError where none can be decoded.
    """

    def encode(some: Inputs) -> Iterator[tuple[InputBatch, Tensor]]:
        for batch in some.batches(tokenizer.config.image_size if crop else None, batch_size):
            size, own = (f"{width}x{height}" for height, width in (batch.images.shape[2:], tokenizer.config.image_size))
            if size != own:
                raise UsageError(
                    f"images of {size} with --no-crop: their codes do not tell that size, and `restok decode` makes"
                    f" images of {own} of them; leave it out, or use `restok reconstruct --no-crop`"
                )
            yield batch, encode_images(tokenizer, batch.images)

    def finish(encoded: tuple[InputBatch, Tensor]) -> list[Codes]:
        batch, codes = encoded
        rest = tokenizer.config.codebook_size, own_fingerprint
        rows = codes.cpu().numpy().astype(np.int32)
        return [Codes(rows, batch.keys, np.array(batch.class_ids), *rest, dtype=dtype)]

    count = 0
    with Progress("encode", inputs.count, "images") as progress:
        for part in in_turns(inputs, batch_size, tokenizer.device, encode, finish):
            yield part
            count += len(part.keys)
            progress.advance(len(part.keys))
    if count == 0:
        raise RestokError(f"of {counted(inputs.unreadable, 'image')}, none could be decoded; nothing was written")
    if inputs.unreadable:
        note(f"{counted(count, 'image')}, {inputs.unreadable} left out")
