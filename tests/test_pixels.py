import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from restok_cli.errors import RestokError
from restok_cli.metrics.formulas.pixels import ms_ssim, mse, psnr, ssim


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


def test_psnr_and_ssim_equal_those_of_scikit_image(pair):
    for i, (a, b) in enumerate(zip(*(images.permute(0, 2, 3, 1).numpy() for images in pair), strict=True)):
        expected = structural_similarity(
            *(a, b), channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert ssim(*pair)[i].item() == pytest.approx(expected, rel=1e-6)
        assert psnr(*pair)[i].item() == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), rel=1e-6)


def naive_ms_ssim(a, b):
    """Wang et al. 2003 for channels (3, H, W) in [0, 1], with SciPy's filter."""
    result, powers = 1.0, (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for scale, power in enumerate(powers):
        if scale:
            a, b = (
                (x[:, :h:2, :w:2] + x[:, 1:h:2, :w:2] + x[:, :h:2, 1:w:2] + x[:, 1:h:2, 1:w:2]) / 4
                for x in (a, b)
                for h, w in [(x.shape[1] // 2 * 2, x.shape[2] // 2 * 2)]
            )

        def smooth(x):
            return gaussian_filter(x, (0, 1.5, 1.5), truncate=3.4)[:, 5:-5, 5:-5]

        mean_a, mean_b = smooth(a), smooth(b)
        covariance = smooth(a * b) - mean_a * mean_b
        spread = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
        value = (2 * covariance + 0.03**2) / (spread + 0.03**2)
        if scale == 4:
            value = value * (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        result *= max(value.mean(), 0) ** power
    return result


def test_ms_ssim_equals_a_naive_one_by_scipy():
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 20, 20, generator=rng)
    images = torch.nn.functional.interpolate(coarse, size=(176, 181), mode="bilinear")
    noisy = images + 0.15 * torch.randn(images.shape, generator=rng)
    images, noisy = ((x.clamp(0, 1) * 255).to(torch.uint8) for x in (images, noisy))
    found = ms_ssim(images, noisy)
    for i in range(2):
        expected = naive_ms_ssim(*(x[i].numpy() / 255 for x in (images, noisy)))
        assert 0.5 < expected < 0.95
        assert found[i].item() == pytest.approx(expected, rel=1e-6)


def test_ms_ssim_refuses_pictures_whose_coarsest_scale_is_smaller_than_its_window():
    images = torch.zeros(1, 3, 175, 200, dtype=torch.uint8)
    with pytest.raises(RestokError, match="ms-ssim needs images of at least 176 pixels a side, not 200x175"):
        ms_ssim(images, images)


def test_pictures_with_nothing_in_common_have_an_ms_ssim_of_zero_or_more():
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 3, 176, 176), dtype=torch.uint8, generator=rng)
    assert 0 <= ms_ssim(images, 255 - images).item() < 0.1
    assert ms_ssim(images, images).item() == pytest.approx(1)


def test_identical_pictures_are_as_good_as_can_be(pair):
    images, _ = pair
    assert mse(images, images).tolist() == [0, 0, 0]
    assert psnr(images, images).tolist() == [100, 100, 100]
    torch.testing.assert_close(ssim(images, images), torch.ones(3).double())


def test_ssim_refuses_pictures_smaller_than_its_window():
    images = torch.zeros(1, 3, 8, 20, dtype=torch.uint8)
    with pytest.raises(RestokError, match="at least 11 pixels a side, not 20x8"):
        ssim(images, images)
