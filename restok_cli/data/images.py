"""Images as tensors: the only place that knows value ranges.

At the edges images are uint8 in 0..255, inside they are float32 in [0, 1].
"""

import unicodedata
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from restok_cli.errors import RestokError
from restok_cli.files import whole_file

GRID_IMAGE_WIDTH = 96  # pixels; in grids, smaller images are enlarged to at least this
PADDING, CAPTION_HEIGHT = 2, 14  # pixels, in grids


def to_tensor(image: Image.Image) -> torch.Tensor:
    """An RGB image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 of any shape as float32 in [0, 1]."""
    return images.float() / 255


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Float images in [0, 1] of any shape as uint8, rounded half up; values outside are cut to the range."""
    return (images.float().clamp(0, 1) * 255 + 0.5).to(torch.uint8)


class Pixels(NamedTuple):
    """Images that a network made, on its device, and which of them may be shown: to look would be to wait for it."""

    images: torch.Tensor  # uint8 (B, 3, H, W)
    finite: torch.Tensor  # bool (B,): whether all numbers that they were made of are

    def checked(self, names: Sequence[str], dtype: torch.dtype) -> torch.Tensor:
        """The images on the CPU, of a network in `dtype`. Raises RestokError that names the first one not finite.

        `names` are those of the first images; the others are padding.
        """
        images = self.images.cpu()
        for name, is_finite in zip(names, self.finite.tolist(), strict=False):
            if not is_finite:
                remedy = "its weights are damaged, or its training diverged: give another copy or an earlier checkpoint"
                if dtype != torch.float32:
                    remedy = "16 bits may not hold what its pixel decoder computes: give --dtype float32"
                raise RestokError(f"{name}: the tokenizer makes pixels of it that are not finite numbers; {remedy}")
        return images


def decode_pixels(decode: Callable[[torch.Tensor], torch.Tensor], codes: torch.Tensor) -> Pixels:
    """Images by a tokenizer's `decode` of codes (B, n), in which -1 stands for one that could not be drawn.

    An infinity would become white and NaN black, as if the network meant that.
    """
    images = decode(codes.clamp(min=0))
    largest = images.flatten(1).abs().amax(1)  # isfinite of all numbers takes ten times as long
    return Pixels(to_uint8(images), largest.isfinite() & (codes >= 0).all(1))


def save_image(image: torch.Tensor, path: Path) -> None:
    """Write uint8 (3, H, W) as a PNG file, making its folder. Raises OSError where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(image))


def png_bytes(image: torch.Tensor) -> bytes:
    """uint8 (3, H, W) as a PNG file."""
    file = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(file, format="PNG")
    return file.getvalue()


def write_sheet(path: Path, images: torch.Tensor, columns: int, captions: Sequence[str] | None) -> None:
    """Write uint8 images (n, 3, H, W) in rows of `columns` as one PNG file, whole or not at all."""
    with whole_file(path) as temporary:
        save_image(make_grid(images, columns, captions), temporary)


def make_grid(images: torch.Tensor, columns: int, captions: Sequence[str] | None = None) -> torch.Tensor:
    """Lay uint8 images (n, 3, H, W) out on white in rows of `columns`, each above its caption if there are any.

    Small images are enlarged by a whole factor, each pixel to a square; a caption wider than its image is cut, and
    loses its accents, since Pillow's own font has the letters of ASCII only.
    Returns uint8 (3, H', W').
    """
    scale = -(-GRID_IMAGE_WIDTH // images.shape[3])
    images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    count, _, height, width = images.shape
    cell_height = height + PADDING + (CAPTION_HEIGHT if captions else 0)
    cell_width = width + PADDING
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * cell_width + PADDING, rows * cell_height + PADDING), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for i, image in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
        left, top = PADDING + i % columns * cell_width, PADDING + i // columns * cell_height
        sheet.paste(Image.fromarray(image), (left, top))
        if captions:
            draw.text((left, top + height), _cut(_ascii(captions[i]), width, font), fill="black", font=font)
    return to_tensor(sheet)


def _ascii(caption: str) -> str:
    """The caption with plain letters for accented ones, and a question mark for what has none."""
    letters = (c for c in unicodedata.normalize("NFKD", caption) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in letters)


def _cut(caption: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The caption, or where it is wider than `width` pixels as much of its beginning as fits, and two dots."""
    if font.getlength(caption) <= width:
        return caption
    while caption and font.getlength(caption + "..") > width:
        caption = caption[:-1]
    return caption + ".."
