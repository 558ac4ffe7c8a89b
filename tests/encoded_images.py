"""Images as the bytes of files, also of forms that Pillow reads and does not write."""

import struct
from io import BytesIO

import numpy as np
from PIL import Image

from restok_cli.data.image_files import read_image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(width: int, bits: int, row: bytes, white: int = 1, sample_format: int = 1, more: dict | None = None) -> bytes:
    """A gray TIFF file of one row. `white` is 0 where 0 is white."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: white, 273: 0, 277: 1, 278: 1, 279: len(row)}
    tags |= {339: sample_format} | (more or {})
    tags[273] = 14 + 12 * len(tags)  # where the pixels begin
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + row


def gray(data: bytes) -> list[int]:
    """The one row of a gray image."""
    pixels = np.asarray(read_image(data, "a"))
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()
