"""JPEG files to tensors, by the fastest decoder there is."""

import warnings
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import cast

import torch
from PIL import Image

from restok_cli.console import note
from restok_cli.data.image_files import read_image
from restok_cli.data.images import to_tensor
from restok_cli.errors import ImageError

JPEG_START = b"\xff\xd8\xff"


def decode_jpeg(data: bytes) -> torch.Tensor | None:
    """An RGB or gray JPEG file as uint8 (3, H, W), the pixels that `read_image` gives, in two thirds of the time.

    None for all else that a file can be, also for a damaged one: `read_image` reads it, or says what is wrong.
    """
    if not data.startswith(JPEG_START):
        return None
    try:
        pixels = find_jpeg_decoder()(data)
    except (RuntimeError, ImageError):
        return None
    return None if len(pixels) == 4 else pixels.expand(3, -1, -1)  # four channels are CMYK


@cache
def find_jpeg_decoder() -> Callable[[bytes], torch.Tensor]:
    """torchvision's, of JPEG files to uint8 (1, 3 or 4, H, W); where it has none, which is noted, Pillow's.

    The first call brings all of torchvision along: two seconds. Its successor, torchcodec, is no substitute: it turns
    images as their EXIF says, which the field's numbers are computed without.
    """
    smallest = BytesIO()
    Image.new("L", (1, 1)).save(smallest, "JPEG")
    try:
        from torchvision.io import decode_jpeg as decoder

        def decode(data: bytes) -> torch.Tensor:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The image decoding", DeprecationWarning)
                return cast(torch.Tensor, decoder(torch.frombuffer(bytearray(data), dtype=torch.uint8)))  # of one file

        decode(smallest.getvalue())  # fails where torchvision was built without
    except (ImportError, RuntimeError):
        note("this torchvision decodes no JPEG files; Pillow does, to the same pixels, in half as much time again")
        return lambda data: to_tensor(read_image(data, "JPEG file"))
    return decode
