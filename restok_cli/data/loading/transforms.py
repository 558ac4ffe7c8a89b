"""How images become inputs: the crops of training, and the views that a code cache holds."""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from restok_cli.data.image_files import center_crop, fit, is_long, read_image, resize_and_cut
from restok_cli.data.images import to_tensor
from restok_cli.data.loading.jpeg import decode_jpeg
from restok_cli.data.shards.code_layout import Views

Crop = Literal["random", "random-resized", "centre"]
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels
Decoded = torch.Tensor | Image.Image  # uint8 (3, H, W), or in RGB

CROP_ASPECTS = (3 / 4, 4 / 3)  # of a random-resized crop, relative to the image that is made of it


class Transform(NamedTuple):
    """How a training image becomes an input; what is random in it depends on seed, epoch and sample alone."""

    seed: int
    image_size: tuple[int, int]  # (height, width)
    crop: Crop
    random_zoom: tuple[float, float]  # of random: how much larger than needed the image is made, from and to
    random_crop_area: tuple[float, float]  # of random-resized: the share of the image's area, from and to
    random_flip: bool

    def __call__(self, image: bytes, name: str, epoch: int, sample: int) -> torch.Tensor:
        """An image file of any size as uint8 (3, H, W). Raises ImageError naming `name` where it is damaged.

        The centre crop is that of evaluation, by Pillow. The random ones are made by torchvision of JPEG files, in half
        of the time (Pillow halves large ones), and by Pillow of all others.
        """
        # The counter's highest word sets these numbers apart from the ones that shuffle the epoch.
        rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch], counter=[0, 0, 0, sample + 1]))
        if self.crop == "centre":
            pixels = to_tensor(center_crop(read_image(image, name, max_pixels=None), self.image_size))
        else:
            decoded = decode_jpeg(image)
            if decoded is None:
                decoded = read_image(image, name, max_pixels=None)
            if self.crop == "random":
                pixels = random_crop(decoded, self.image_size, self.random_zoom, rng)
            else:
                pixels = random_resized_crop(decoded, self.image_size, self.random_crop_area, rng)
        return (pixels.flip(2) if self.random_flip and rng.random() < 0.5 else pixels).contiguous()


def random_crop(
    image: Decoded, image_size: tuple[int, int], zoom: tuple[float, float], rng: np.random.Generator
) -> torch.Tensor:
    """A random piece of an image, never squeezed: uint8 (3, H, W). The crop of ADM's training, and of the paper's.

    The image is resized as for the centre crop, but so that the side which just fits there (the shorter one, for a
    square) has a random whole number of pixels, between the two of `zoom` times as many as there.
    """
    height, width = image_size
    size = size_of(image)
    side = width if size[0] * height <= size[1] * width else height
    shortest, longest = (math.ceil(side * factor) for factor in zoom)
    length = rng.integers(shortest, longest, endpoint=True)
    halvings, whole = fit(size, (width * length / side, height * length / side))
    left, top = (int(rng.integers(room, endpoint=True)) for room in (whole[0] - width, whole[1] - height))
    if isinstance(image, torch.Tensor):
        if not halvings and not is_long(whole, (width, height)):
            resized = resize_box(image, (0, 0, *size), (whole[1], whole[0]))
            return resized[:, top : top + height, left : left + width]
        image = Image.fromarray(image.permute(1, 2, 0).numpy())
    return to_tensor(resize_and_cut(image, halvings, whole, (left, top), (width, height)))


def random_resized_crop(
    image: Decoded, image_size: tuple[int, int], area: tuple[float, float], rng: np.random.Generator
) -> torch.Tensor:
    """A random piece of an image, squeezed into (height, width): uint8 (3, H, W). torchvision's RandomResizedCrop."""
    box, (height, width) = random_resized_box(*size_of(image), image_size, area, rng), image_size
    if isinstance(image, torch.Tensor):
        return resize_box(image, box, image_size)
    return to_tensor(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def size_of(image: Decoded) -> tuple[int, int]:
    """(width, height)."""
    return image.size if isinstance(image, Image.Image) else (image.shape[2], image.shape[1])


def random_resized_box(
    width: int, height: int, image_size: tuple[int, int], area: tuple[float, float], rng: np.random.Generator
) -> Box:
    """A random piece of an image, to be resized to (height, width).

    It has a share of the area between the two of `area`, less only where the image is too long for it, and an aspect
    between 3/4 and 4/3 of the output's: of these, one that lets the piece fit.
    """
    pixels = rng.uniform(*area) * width * height
    # the narrowest and the widest piece of so many pixels that fits, as log aspects
    narrowest, widest = math.log(pixels / height**2), math.log(width**2 / pixels)
    lowest, highest = (math.log(aspect * image_size[1] / image_size[0]) for aspect in CROP_ASPECTS)
    narrowest, widest = (min(max(bound, lowest), highest) for bound in (narrowest, widest))
    aspect = math.exp(rng.uniform(narrowest, widest))
    side = min(math.sqrt(pixels), width / math.sqrt(aspect), height * math.sqrt(aspect))
    box_width = min(max(round(side * math.sqrt(aspect)), 1), width)
    box_height = min(max(round(side / math.sqrt(aspect)), 1), height)
    left = int(rng.integers(width - box_width, endpoint=True))
    top = int(rng.integers(height - box_height, endpoint=True))
    return left, top, left + box_width, top + box_height


def resize_box(pixels: torch.Tensor, box: tuple[int, int, int, int], size: tuple[int, int]) -> torch.Tensor:
    """Resize the piece (left, top, right, bottom) of uint8 (3, H, W) to `size` (height, width): bicubic, antialiased.

    As Pillow resizes, up to a difference of a few values in 255.
    """
    left, top, right, bottom = box
    # twice as fast as planes one after the other, and the decoder lays pixels so anyway
    piece = pixels[None, :, top:bottom, left:right].contiguous(memory_format=torch.channels_last)
    return F.interpolate(piece, size, mode="bicubic", antialias=True)[0].contiguous()


def make_views(image: Image.Image, image_size: tuple[int, int], views: Views) -> torch.Tensor:
    """The inputs that are made of one RGB image: uint8 (NUM_VIEWS[views], 3, H, W).

    ten-crop: the centre and the four corners of the centre crop 1.1 times as large, then the five mirrored.
    flip: the centre crop of evaluation, then it mirrored. centre: that crop alone.
    """
    if views == "ten-crop":
        height, width = image_size
        enlarged = to_tensor(center_crop(image, (height * 11 // 10, width * 11 // 10)))
        bottom, right = enlarged.shape[1] - height, enlarged.shape[2] - width
        corners = (bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right)
        straight = torch.stack([enlarged[:, top : top + height, left : left + width] for top, left in corners])
    else:
        straight = to_tensor(center_crop(image, image_size))[None]
    return straight if views == "centre" else torch.cat([straight, straight.flip(3)])
