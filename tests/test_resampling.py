"""Resampling by matrices, against torch's own functions, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from restok_cli.training.resampling import (
    area_weights,
    bicubic_weights,
    max_of_areas,
    resample,
    stretching_weights,
)

CPU = torch.device("cpu")


def values_and_gradients(function, images):
    images = images.clone().requires_grad_()
    values = function(images)
    values.square().sum().backward()
    return values.detach(), images.grad


@pytest.mark.parametrize("size, lengths", [(224, (32, 200)), (7, (7, 5)), (8, (19, 24)), (6, (1, 2))])
@pytest.mark.parametrize("mode, weights", [("bicubic", stretching_weights), ("area", area_weights)])
def test_other_sizes_are_those_of_interpolate(size, lengths, mode, weights):
    images = torch.rand(2, 3, *lengths, generator=torch.Generator().manual_seed(1))
    ours = values_and_gradients(lambda x: resample(x, *(weights(size, n, CPU) for n in lengths)), images)
    theirs = values_and_gradients(lambda x: F.interpolate(x, (size, size), mode=mode), images)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_each_image_may_have_its_own_places():
    rng = torch.Generator().manual_seed(2)
    images, rows, columns = (torch.rand(shape, generator=rng) for shape in ((2, 3, 9, 6), (2, 5), (2, 7)))
    rows, columns = 12 * rows - 2, 9 * columns - 2  # some of them outside

    def sampled(images):
        grid = torch.stack(
            [(2 * columns[:, None, :] + 1).expand(2, 5, 7) / 6, (2 * rows[..., None] + 1).expand(2, 5, 7) / 9], -1
        )
        return F.grid_sample(images, grid - 1, mode="bicubic", padding_mode="border", align_corners=False)

    ours = values_and_gradients(lambda x: resample(x, bicubic_weights(rows, 9), bicubic_weights(columns, 6)), images)
    torch.testing.assert_close(ours, values_and_gradients(sampled, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", [(16, 32), (40, 17), (8, 3)])
def test_the_highest_of_areas_are_those_of_adaptive_max_pool(lengths):
    features = torch.rand(2, 3, *lengths, generator=torch.Generator().manual_seed(3))
    ours = values_and_gradients(lambda x: max_of_areas(x, (16, 12)), features)
    torch.testing.assert_close(ours, values_and_gradients(lambda x: F.adaptive_max_pool2d(x, (16, 12)), features))
