"""DiffAugment (Zhao et al. 2020): what a discriminator sees is changed at random, and gradients pass through."""

from typing import Literal

import torch
from torch import Tensor

AUGMENT_NOISE = 10  # random numbers for one image
MAX_SHIFT = 1 / 8  # of height and width
CUTOUT = 0.2  # of height and width


def diff_augment(images: Tensor, probability: float, noise: Tensor, pixel_range: Literal["unit", "signed"]) -> Tensor:
    """images (B, 3, H, W) about [0, 1] -> the same with other colours, shifted, and with a hole.

    Each of the three happens to an image with `probability`. Brightness adds up to half, and a shift or a hole uncovers
    0, of images in [0, 1] ("unit") or in [-1, 1] ("signed"). All chance is in `noise` (B, AUGMENT_NOISE), uniform in
    [0, 1): an image's change depends on its row alone.
    """
    height, width = images.shape[-2:]
    happens = noise[:, :3] < probability
    brightness, saturation, contrast, row, column, hole_row, hole_column = noise[:, 3:].unbind(1)
    images = change_colour(
        images if pixel_range == "unit" else 2 * images - 1,
        torch.where(happens[:, 0], brightness - 0.5, 0.0),
        torch.where(happens[:, 0], 2 * saturation, 1.0),
        torch.where(happens[:, 0], contrast + 0.5, 1.0),
    )
    top = torch.where(happens[:, 1], shift(row, height), 0)
    left = torch.where(happens[:, 1], shift(column, width), 0)
    images = window(images, top, left, (height, width))
    hole = cutout_mask((height, width), hole_row, hole_column) & happens[:, 2, None, None]  # (B, H, W)
    images = images.masked_fill(hole[:, None], 0.0)
    return images if pixel_range == "unit" else (images + 1) / 2


def change_colour(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Add to every value, then scale the distance from each pixel's grey, then that from the image's mean; (B,)."""
    images = images + brightness.view(-1, 1, 1, 1)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation.view(-1, 1, 1, 1)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * contrast.view(-1, 1, 1, 1)


def shift(share: Tensor, length: int) -> Tensor:
    """Whole pixels up to MAX_SHIFT of `length` in either direction, all equally likely for shares (B,) in [0, 1)."""
    most = round(MAX_SHIFT * length)
    return (share * (2 * most + 1)).long() - most


def cutout_mask(size: tuple[int, int], row: Tensor, column: Tensor) -> Tensor:
    """(B, H, W), true in a rectangle around a point anywhere in the image, given as shares (B,) of its sides."""
    inside = []
    for length, share in zip(size, (row, column), strict=True):
        cut, places = round(CUTOUT * length), torch.arange(length, device=row.device)
        middle = (share * (length + 1 - cut % 2)).long()  # of an even number of pixels: one of the lines between pixels
        start = middle - cut // 2
        inside.append((places >= start[:, None]) & (places < start[:, None] + cut))
    return inside[0][:, :, None] & inside[1][:, None, :]


def window(images: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """The part of each image (B, 3, H, W) of `size` pixels that starts at its `top`, `left` (B,); 0 outside."""
    rows = top[:, None] + torch.arange(size[0], device=top.device)  # (B, height)
    columns = left[:, None] + torch.arange(size[1], device=left.device)  # (B, width)
    for dim, places in ((2, rows[:, None, :, None]), (3, columns[:, None, None, :])):
        length, shape = images.shape[dim], list(images.shape)
        shape[dim] = places.shape[dim]
        inside = (places >= 0) & (places < length)
        images = images.gather(dim, places.clamp(0, length - 1).expand(shape)) * inside
    return images
