"""Distances between a picture and its reconstruction, each picture on its own: (B, 3, H, W) in, (B,) out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from restok_cli.data.images import to_float
from restok_cli.errors import RestokError

MAX_PSNR = 100.0  # dB; identical pictures would be infinitely good, which no mean and no JSON can hold

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # (K1 L)², (K2 L)² with L = 1


def mse(images: Tensor, references: Tensor) -> Tensor:
    """Mean squared error over pixels and channels of uint8 images, taken to [0, 1]: (B,) float64."""
    return (_unit(images) - _unit(references)).square().flatten(1).mean(1)


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of uint8 images in dB, at most MAX_PSNR: (B,) float64."""
    return (-10 * mse(images, references).log10()).clamp(max=MAX_PSNR)


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of uint8 images, mean of the three channels: (B,) float64 in [-1, 1].

    Gaussian window of 11×11 pixels with sigma 1.5, only where it lies wholly inside the picture.
    Raises RestokError for pictures smaller than the window.
    """
    height, width = images.shape[2:]
    if min(height, width) < SSIM_WINDOW:
        raise RestokError(
            f"SSIM needs pictures of at least {SSIM_WINDOW} pixels a side, not {width}x{height}; leave it out"
        )
    a, b = _unit(images), _unit(references)
    mean_a, mean_b = _smooth(a), _smooth(b)
    variance_a = _smooth(a * a) - mean_a**2
    variance_b = _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a**2 + mean_b**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variance_a + variance_b + SSIM_C2)
    return (luminance * structure).flatten(1).mean(1)


def _unit(images: Tensor) -> Tensor:
    return to_float(images).double()  # float64: the variances in SSIM are small differences of large numbers


def _smooth(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 3, H - 10, W - 10)."""
    # the window is separable; as two matrix products it takes a sixth of the time of a float64 convolution on a CPU
    return _window_matrix(images.shape[2]) @ images @ _window_matrix(images.shape[3]).T


def _window_matrix(length: int) -> Tensor:
    """(length - 10, length) float64: row i holds the window's weights from column i on."""
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    places = range(length - SSIM_WINDOW + 1)
    return torch.stack([F.pad(weights, (i, length - SSIM_WINDOW - i)) for i in places])
