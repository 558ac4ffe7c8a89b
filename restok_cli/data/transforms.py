"""How pictures become inputs: the crops of training, and the views that a code cache holds."""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from restok_cli.data.images import center_crop, decode_jpeg, read_image, resize_box, to_tensor

Crop = Literal["random-resized", "random", "centre"]
Views = Literal["ten-crop", "flip", "centre"]
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

CROP_ASPECTS = (3 / 4, 4 / 3)  # of a random-resized crop, relative to the picture that is made of it
NUM_VIEWS: dict[Views, int] = {"ten-crop": 10, "flip": 2, "centre": 1}


class Transform(NamedTuple):
    """How a training picture becomes an input; what is random in it depends on seed, epoch and sample alone."""

    seed: int
    image_size: tuple[int, int]  # (height, width)
    crop: Crop
    random_crop_area: tuple[float, float]  # of random-resized: the share of the picture's area, from and to
    random_flip: bool

    def __call__(self, picture: bytes, name: str, epoch: int, sample: int) -> torch.Tensor:
        """A picture file of any size as uint8 (3, H, W). Raises PictureError naming `name` where it is damaged.

        The centre crop is that of evaluation, by Pillow. The random ones are torchvision's for JPEG files, which takes
        a third of the time, and Pillow's for all others.
        """
        # The counter's highest word sets these numbers apart from the ones that shuffle the epoch.
        rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch], counter=[0, 0, 0, sample + 1]))
        if self.crop == "centre":
            pixels = to_tensor(center_crop(read_image(picture, name, max_pixels=None), self.image_size))
        elif (decoded := decode_jpeg(picture)) is not None:
            pixels = resize_box(decoded, self.box(decoded.shape[2], decoded.shape[1], rng), self.image_size)
        else:
            image = read_image(picture, name, max_pixels=None)
            height, width = self.image_size
            box = self.box(image.width, image.height, rng)
            pixels = to_tensor(image.resize((width, height), Image.Resampling.BICUBIC, box=box))
        return pixels.flip(2) if self.random_flip and rng.random() < 0.5 else pixels

    def box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """What to cut out of a picture of that size."""
        if self.crop == "random":
            return random_box(width, height, self.image_size, rng)
        return random_resized_box(width, height, self.image_size, self.random_crop_area, rng)


def random_resized_box(
    width: int, height: int, image_size: tuple[int, int], area: tuple[float, float], rng: np.random.Generator
) -> Box:
    """A random piece of a picture, to be resized to (height, width).

    It has a share of the area between the two of `area`, less only where the picture is too long for it, and an aspect
    between 3/4 and 4/3 of the output's: of these, one that lets the piece fit.
    """
    pixels = rng.uniform(*area) * width * height
    # the narrowest and the widest piece of so many pixels that fits, as log aspects
    narrowest, widest = math.log(pixels / height**2), math.log(width**2 / pixels)
    lowest, highest = (math.log(aspect * image_size[1] / image_size[0]) for aspect in CROP_ASPECTS)
    narrowest, widest = (min(max(bound, lowest), highest) for bound in (narrowest, widest))
    aspect = math.exp(rng.uniform(narrowest, widest))
    side = min(math.sqrt(pixels), width / math.sqrt(aspect), height * math.sqrt(aspect))
    return _place(width, height, side * math.sqrt(aspect), side / math.sqrt(aspect), rng)


def random_box(width: int, height: int, image_size: tuple[int, int], rng: np.random.Generator) -> Box:
    """A random piece that has the size `image_size` once the picture is resized to just hold 1.1 times that."""
    side = min(width / image_size[1], height / image_size[0]) / 1.1
    return _place(width, height, side * image_size[1], side * image_size[0], rng)


def _place(width: int, height: int, box_width: float, box_height: float, rng: np.random.Generator) -> Box:
    """A box of about that size, at a random place in the picture."""
    box_width, box_height = min(max(round(box_width), 1), width), min(max(round(box_height), 1), height)
    left = int(rng.integers(width - box_width, endpoint=True))
    top = int(rng.integers(height - box_height, endpoint=True))
    return left, top, left + box_width, top + box_height


def make_views(image: Image.Image, image_size: tuple[int, int], views: Views) -> torch.Tensor:
    """The inputs that are made of one RGB picture: uint8 (NUM_VIEWS[views], 3, H, W).

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
