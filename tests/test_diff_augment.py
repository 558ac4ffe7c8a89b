"""DiffAugment, against a loop over images and pixels."""

import pytest
import torch

from restok_cli.training.adversarial.diff_augment import AUGMENT_NOISE, diff_augment, window


@pytest.fixture
def images():
    return torch.rand(12, 3, 24, 17, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def noise():
    return torch.rand(12, AUGMENT_NOISE, generator=torch.Generator().manual_seed(1))


def naive(image, probability, noise, pixel_range):
    """One image (3, H, W), pixel by pixel."""
    _, height, width = image.shape
    colour, shift, hole = (draw < probability for draw in noise[:3].tolist())
    brightness, saturation, contrast, row, column, hole_row, hole_column = noise[3:].tolist()
    if pixel_range == "signed":
        image = 2 * image - 1
    if colour:
        image = image + (brightness - 0.5)
        grey = (image[0] + image[1] + image[2]) / 3
        image = torch.stack([grey + 2 * saturation * (channel - grey) for channel in image])
        image = image.mean() + (contrast + 0.5) * (image - image.mean())
    if shift:
        tall, wide = round(height / 8), round(width / 8)
        top, left = int(row * (2 * tall + 1)) - tall, int(column * (2 * wide + 1)) - wide
        shifted = torch.zeros_like(image)
        for y in range(height):
            for x in range(width):
                if 0 <= y + top < height and 0 <= x + left < width:
                    shifted[:, y, x] = image[:, y + top, x + left]
        image = shifted
    if hole:
        tall, wide = round(0.2 * height), round(0.2 * width)
        top = int(hole_row * (height + 1 - tall % 2)) - tall // 2
        left = int(hole_column * (width + 1 - wide % 2)) - wide // 2
        image = image.clone()
        image[:, max(0, top) : max(0, top + tall), max(0, left) : max(0, left + wide)] = 0
    return (image + 1) / 2 if pixel_range == "signed" else image


@pytest.mark.parametrize("probability", [0.5, 1.0])
@pytest.mark.parametrize("pixel_range", ["unit", "signed"])
def test_augmenting_equals_a_loop_over_pictures_and_pixels(images, noise, probability, pixel_range):
    pairs = zip(images, noise, strict=True)
    expected = torch.stack([naive(image, probability, row, pixel_range) for image, row in pairs])
    assert not torch.allclose(expected, images, atol=0.1)
    torch.testing.assert_close(diff_augment(images, probability, noise, pixel_range), expected)


@pytest.mark.parametrize(("pixel_range", "uncovered", "most"), [("unit", 0.0, 0.5), ("signed", 0.5, 0.25)])
def test_the_range_decides_what_is_uncovered_and_how_bright_it_gets(pixel_range, uncovered, most):
    images, noise = torch.full((2, 3, 16, 16), 0.3), torch.full((2, AUGMENT_NOISE), 0.5)
    noise[0, :3], noise[1, :3] = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 1.0])
    noise[0, 6] = 0.0  # as far up as it goes: what comes in above is uncovered
    noise[1, 3] = 0.0  # as dark as it gets
    shifted, dark = diff_augment(images, 0.5, noise, pixel_range)
    assert shifted[:, 0].unique().item() == pytest.approx(uncovered)
    assert dark.unique().item() == pytest.approx(0.3 - most)


@pytest.mark.parametrize("pixel_range", ["unit", "signed"])
def test_probability_0_changes_nothing(images, noise, pixel_range):
    torch.testing.assert_close(diff_augment(images, 0.0, noise, pixel_range), images)


def test_each_change_happens_as_often_as_it_should():
    noise = torch.rand(4000, AUGMENT_NOISE, generator=torch.Generator().manual_seed(2))
    images = torch.rand(1, 3, 16, 16).expand(4000, -1, -1, -1)
    changed = (diff_augment(images, 0.3, noise, "unit") - images).abs().amax((1, 2, 3)) > 1e-6
    # a shift by no pixel is none: 1 of 25
    assert changed.float().mean().item() == pytest.approx(1 - 0.7**3, abs=0.05)


def test_a_picture_is_changed_by_its_own_draws_alone(images, noise):
    together = diff_augment(images, 0.5, noise, "unit")
    alone = [diff_augment(images[i : i + 1], 0.5, noise[i : i + 1], "unit") for i in range(12)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_gradients_pass_through_every_change():
    images = torch.rand(2, 3, 8, 6, dtype=torch.float64, requires_grad=True)
    noise = torch.rand(2, AUGMENT_NOISE, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert torch.autograd.gradcheck(lambda images: diff_augment(images, 1.0, noise, "signed"), images)


def test_a_window_may_lie_partly_outside():
    image = torch.arange(1.0, 10).view(1, 1, 3, 3)
    found = window(image, torch.tensor([-1]), torch.tensor([1]), (3, 4))
    assert found[0, 0].tolist() == [[0, 0, 0, 0], [2, 3, 0, 0], [5, 6, 0, 0]]
