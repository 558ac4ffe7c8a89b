"""Images of another size, by products with two matrices: how much of each old row, and column, is in each new one.

The results are those of F.interpolate, F.grid_sample and F.adaptive_max_pool2d. Those have no gradients on a GPU that
are the same each time: they add up in the order in which threads come (`compute.deterministic`).
"""

import torch
from torch import Tensor

SHARPNESS = -0.75  # of the cubic kernel, as torch has it


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """images (B, C, H, W) by rows (h, H) and columns (w, W), or by (B, h, H) and (B, w, W) -> float32 (B, C, h, w)."""
    with torch.autocast(images.device.type, enabled=False):
        return rows.unsqueeze(-3) @ images.float() @ columns.unsqueeze(-3).mT


def bicubic_weights(places: Tensor, length: int) -> Tensor:
    """(…, n, length): of each of `length` pixels in values at `places` (…, n), where pixel i lies at i.

    Outside there is the border, repeated.
    """
    pixels = torch.arange(length, device=places.device)
    nearest = places.floor().long()[..., None] + torch.arange(-1, 3, device=places.device)  # (…, n, 4)
    shares = _cubic((places[..., None] - nearest).abs())
    weights = places.new_zeros(*places.shape, length)
    for pixel, share in zip(nearest.clamp(0, length - 1).split(1, -1), shares.split(1, -1), strict=True):
        weights = weights + (pixel == pixels) * share
    return weights


def _cubic(distance: Tensor) -> Tensor:
    """The kernel of Keys (1981), of distances from 0 to 2."""
    near = ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance.square() + 1
    far = SHARPNESS * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance <= 1, near, far)


def stretching_weights(size: int, length: int, device: torch.device) -> Tensor:
    """(size, length): `length` pixels as `size` ones, bicubic."""
    return bicubic_weights((torch.arange(size, device=device) + 0.5) * (length / size) - 0.5, length)


def area_weights(size: int, length: int, device: torch.device) -> Tensor:
    """(size, length): `length` pixels as the means of `size` areas."""
    start, end = _areas(size, length, device)
    pixels = torch.arange(length, device=device)
    inside = (pixels >= start[:, None]) & (pixels < end[:, None])
    return inside / (end - start)[:, None]


def max_of_areas(features: Tensor, size: tuple[int, int]) -> Tensor:
    """The highest of each of the areas, as many as `size`, of features (B, C, H, W)."""
    for dim in (2, 3):
        number, length = size[dim - 2], features.shape[dim]
        start, end = _areas(number, length, features.device)
        widest = torch.arange(-(-length // number) + (length % number > 0), device=features.device)
        places = (start[:, None] + widest).minimum(end[:, None] - 1)  # the last of an area may come twice
        features = features.index_select(dim, places.flatten()).unflatten(dim, tuple(places.shape)).max(dim + 1).values
    return features


def _areas(size: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """First and last pixel, plus 1, of each of `size` areas that cover `length` pixels, as torch cuts them."""
    numbers = torch.arange(size, device=device)
    return numbers * length // size, -(-(numbers + 1) * length // size)
