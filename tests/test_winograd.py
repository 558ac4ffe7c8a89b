"""Winograd's convolutions against the direct ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restok_cli.cpu.winograd import WinogradConv, suits


@torch.inference_mode()
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 8, 12, 20), (1, 5, 28, 160), (1, 4, 8, 1024)])
def test_it_is_the_convolution_of_the_layer_for_maps_of_any_number_of_tiles(shape, bias):
    conv, features = nn.Conv2d(shape[1], 6, 3, padding=1, bias=bias), torch.randn(shape)
    expected = conv(features)
    assert torch.allclose(WinogradConv(conv).convolve(features), expected, atol=1e-5)
    features = features.to(memory_format=torch.channels_last)
    assert torch.allclose(WinogradConv(conv).convolve(features), expected, atol=1e-5)


@torch.inference_mode()
def test_it_rounds_little_worse_than_the_direct_convolution():
    conv = nn.Conv2d(128, 128, 3, padding=1, bias=False)
    features = F.silu(torch.randn(1, 128, 64, 64)).to(memory_format=torch.channels_last)
    exact = F.conv2d(features.double(), conv.weight.double(), padding=1)
    errors = [(form(features) - exact).square().mean().sqrt() for form in (conv, WinogradConv(conv))]
    assert errors[1] < 3 * errors[0]


@torch.inference_mode()
def test_an_image_depends_neither_on_others_nor_on_threads():
    conv, features = WinogradConv(nn.Conv2d(128, 128, 3, padding=1)), torch.randn(3, 128, 48, 80)
    threads, results = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(conv(features))
    torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert torch.equal(conv(features[2:]), results[0][2:])


@torch.inference_mode()
@pytest.mark.parametrize(("size", "pays"), [((32, 36), True), ((32, 33), False), ((28, 32), False)])
def test_it_is_used_for_large_maps(size, pays, monkeypatch):
    conv, features, used = nn.Conv2d(128, 128, 3, padding=1), torch.randn(1, 128, *size), []
    winograd = WinogradConv(conv)
    convolve = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda features: used.append(True) or convolve(features))
    assert torch.allclose(winograd(features), conv(features), atol=1e-5)
    assert bool(used) == pays


def test_it_suits_many_channels_and_not_too_many_weights():
    assert suits(nn.Conv2d(128, 128, 3, padding=1))
    assert suits(nn.Conv2d(512, 256, 3, padding=1))
    assert not suits(nn.Conv2d(512, 512, 3, padding=1))
    assert not suits(nn.Conv2d(64, 128, 3, padding=1))


@pytest.mark.parametrize("options", [{"padding": 0}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}])
def test_convolutions_of_other_kinds_do_without_it(options):
    assert not suits(nn.Conv2d(128, 128, 3, **({"padding": 1} | options)))
