import math

import numpy as np
import pytest
import torch

from restok_cli.errors import RestokError
from restok_cli.metrics.pixels import mse, psnr, ssim


@pytest.fixture
def pair():
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 14, 17), dtype=torch.uint8, generator=rng)
    noise = torch.randint(-40, 40, images.shape, generator=rng)
    return images, (images.int() + noise).clamp(0, 255).to(torch.uint8)


def naive_ssim(a, b):
    """Wang et al. 2004 for one channel in [0, 1], window by window."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            x, y = (channel[top : top + 11, left : left + 11] for channel in (a, b))
            mean_x, mean_y = (window * x).sum(), (window * y).sum()
            variance_x, variance_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
            covariance = (window * (x - mean_x) * (y - mean_y)).sum()
            values.append(
                (2 * mean_x * mean_y + 0.01**2)
                * (2 * covariance + 0.03**2)
                / ((mean_x**2 + mean_y**2 + 0.01**2) * (variance_x + variance_y + 0.03**2))
            )
    return np.mean(values)


def test_mse_and_psnr_equal_the_naive_ones(pair):
    errors, ratios = mse(*pair), psnr(*pair)
    for i, (a, b) in enumerate(zip(*(images.numpy() / 255 for images in pair), strict=True)):
        expected = np.mean((a - b) ** 2)
        assert errors[i].item() == pytest.approx(expected, rel=1e-6)
        assert ratios[i].item() == pytest.approx(10 * math.log10(1 / expected), rel=1e-6)


def test_ssim_equals_a_loop_over_windows(pair):
    found = ssim(*pair)
    for i, (a, b) in enumerate(zip(*(images.numpy() / 255 for images in pair), strict=True)):
        expected = np.mean([naive_ssim(a[channel], b[channel]) for channel in range(3)])
        assert found[i].item() == pytest.approx(expected, rel=1e-5)


def test_identical_pictures_are_as_good_as_can_be(pair):
    images, _ = pair
    assert mse(images, images).tolist() == [0, 0, 0]
    assert psnr(images, images).tolist() == [100, 100, 100]
    torch.testing.assert_close(ssim(images, images), torch.ones(3).double())


def test_ssim_refuses_pictures_smaller_than_its_window():
    images = torch.zeros(1, 3, 8, 20, dtype=torch.uint8)
    with pytest.raises(RestokError, match="at least 11 pixels a side, not 20x8"):
        ssim(images, images)
