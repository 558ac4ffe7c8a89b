"""DiffAugment (Zhao et al. 2020): what a discriminator sees is changed at random, and gradients pass through."""

import torch
from torch import Tensor

AUGMENT_DRAWS = 10  # random numbers for one picture
MAX_SHIFT = 1 / 8  # of height and width
CUTOUT = 0.2  # of height and width


def diff_augment(images: Tensor, probability: float, draws: Tensor) -> Tensor:
    """images (B, 3, H, W) about [0, 1] -> the same with other colours, shifted, and with a hole.

    Each of the three happens to a picture with `probability`. What a shift or a hole uncovers is mid-grey. All chance
    is in `draws` (B, AUGMENT_DRAWS), uniform in [0, 1): a picture's change depends on its row alone.
    """
    height, width = images.shape[-2:]
    happens = draws[:, :3] < probability
    brightness, saturation, contrast, row, column, hole_row, hole_column = draws[:, 3:].unbind(1)
    images = change_colour(
        2 * images - 1,  # mid-grey is 0
        torch.where(happens[:, 0], brightness - 0.5, 0.0),
        torch.where(happens[:, 0], 2 * saturation, 1.0),
        torch.where(happens[:, 0], contrast + 0.5, 1.0),
    )
    top = torch.where(happens[:, 1], whole(2 * row - 1, MAX_SHIFT * height), 0)
    left = torch.where(happens[:, 1], whole(2 * column - 1, MAX_SHIFT * width), 0)
    images = window(images, top, left, (height, width))
    hole = cutout_mask((height, width), hole_row, hole_column) & happens[:, 2, None, None]  # (B, H, W)
    return (images.masked_fill(hole[:, None], 0.0) + 1) / 2


def change_colour(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Add to every value, then scale the distance from each pixel's grey, then that from the picture's mean; (B,)."""
    images = images + brightness.view(-1, 1, 1, 1)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation.view(-1, 1, 1, 1)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * contrast.view(-1, 1, 1, 1)


def cutout_mask(size: tuple[int, int], row: Tensor, column: Tensor) -> Tensor:
    """(B, H, W), true in a rectangle around a point anywhere in the picture, given as shares (B,) of its sides."""
    inside = []
    for length, share in zip(size, (row, column), strict=True):
        places = torch.arange(length, device=row.device)
        start = (share * length).long() - round(CUTOUT * length) // 2
        inside.append((places >= start[:, None]) & (places < start[:, None] + round(CUTOUT * length)))
    return inside[0][:, :, None] & inside[1][:, None, :]


def whole(share: Tensor, most: float) -> Tensor:
    """Shares in [-1, 1) of `most` pixels as a whole number of them."""
    return (share * most).round().long()


def window(images: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """The part of each picture (B, 3, H, W) of `size` pixels that starts at its `top`, `left` (B,); 0 outside."""
    rows = top[:, None] + torch.arange(size[0], device=top.device)  # (B, height)
    columns = left[:, None] + torch.arange(size[1], device=left.device)  # (B, width)
    for dim, places in ((2, rows[:, None, :, None]), (3, columns[:, None, None, :])):
        length, shape = images.shape[dim], list(images.shape)
        shape[dim] = places.shape[dim]
        inside = (places >= 0) & (places < length)
        images = images.gather(dim, places.clamp(0, length - 1).expand(shape)) * inside
    return images
