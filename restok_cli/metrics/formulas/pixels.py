"""Distances between an image and its reconstruction, each image on its own: (B, 3, H, W) in, (B,) out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from restok_cli.data.images import to_float
from restok_cli.errors import RestokError
from restok_cli.metrics.table import MAX_PSNR, METRICS, SSIM_WINDOW

SSIM_SIGMA = 1.5  # pixels
MS_SSIM_POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # from the finest scale to the coarsest
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # (K1 L)², (K2 L)² with L = 1


def mse(images: Tensor, references: Tensor) -> Tensor:
    """Mean squared error over pixels and channels of uint8 images, taken to [0, 1]: (B,) float64."""
    return (_unit(images) - _unit(references)).square().flatten(1).mean(1)


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of uint8 images in dB, at most MAX_PSNR: (B,) float64."""
    return (-10 * mse(images, references).log10()).clamp(max=MAX_PSNR)


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of uint8 images, mean of the three channels: (B,) float64 in [-1, 1].

    Gaussian window of 11×11 pixels with sigma 1.5, only where it lies wholly inside the image.
    Raises RestokError for images smaller than the window.
    """
    _check_size("ssim", images)
    luminance, structure = _similarities(_unit(images), _unit(references))
    return (luminance * structure).flatten(1).mean(1)


def ms_ssim(images: Tensor, references: Tensor) -> Tensor:
    """Multi-scale structural similarity (Wang et al. 2003) of uint8 images: (B,) float64 in [0, 1].

    Five scales, each half the one before by the mean of 2×2 pixels; contrast and structure of the first four and SSIM
    of the last, averaged over channels and places, cut at 0, and multiplied as powers.
    Raises RestokError for images that are smaller than the window on the last scale.
    """
    _check_size("ms-ssim", images)
    a, b = _unit(images), _unit(references)
    product = torch.ones(len(a), dtype=torch.float64, device=a.device)
    for scale, power in enumerate(MS_SSIM_POWERS):
        if scale > 0:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        luminance, structure = _similarities(a, b)
        if scale == len(MS_SSIM_POWERS) - 1:
            structure = luminance * structure
        product *= structure.flatten(1).mean(1).clamp(min=0) ** power
    return product


def _check_size(metric: str, images: Tensor) -> None:
    (height, width), smallest = images.shape[2:], METRICS[metric].smallest_side
    if min(height, width) < smallest:
        raise RestokError(
            f"{metric} needs images of at least {smallest} pixels a side, not {width}x{height}; leave it out"
        )


def _similarities(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast times structure, at every place of the window: (B, 3, H - 10, W - 10) each."""
    mean_a, mean_b = _smooth(a), _smooth(b)
    variance_a = _smooth(a * a) - mean_a**2
    variance_b = _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a**2 + mean_b**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variance_a + variance_b + SSIM_C2)
    return luminance, structure


def _unit(images: Tensor) -> Tensor:
    return to_float(images).double()  # float64: the variances in SSIM are small differences of large numbers


def _smooth(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 3, H - 10, W - 10)."""
    # the window is separable; as two matrix products it takes a sixth of the time of a float64 convolution on a CPU
    rows, columns = (_window_matrix(length).to(images.device) for length in images.shape[2:])
    return rows @ images @ columns.T


def _window_matrix(length: int) -> Tensor:
    """(length - 10, length) float64: row i holds the window's weights from column i on."""
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    places = range(length - SSIM_WINDOW + 1)
    return torch.stack([F.pad(weights, (i, length - SSIM_WINDOW - i)) for i in places])
