"""Winograd's convolutions against the direct ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restok_cli.model.packing import PackedConv
from restok_cli.model.winograd import WinogradConv


@torch.inference_mode()
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 8, 12, 20), (1, 5, 28, 160), (1, 4, 8, 1024)])
def test_it_is_the_convolution_of_the_layer_for_maps_of_any_number_of_tiles(shape, bias):
    conv, features = nn.Conv2d(shape[1], 6, 3, padding=1, bias=bias), torch.randn(shape)
    expected = conv(features)
    assert torch.allclose(WinogradConv(conv)(features), expected, atol=1e-5)
    assert torch.allclose(WinogradConv(conv)(features.to(memory_format=torch.channels_last)), expected, atol=1e-5)


@torch.inference_mode()
def test_it_rounds_little_worse_than_the_direct_convolution():
    conv = nn.Conv2d(128, 128, 3, padding=1, bias=False)
    features = F.silu(torch.randn(1, 128, 64, 64)).to(memory_format=torch.channels_last)
    exact = F.conv2d(features.double(), conv.weight.double(), padding=1)
    direct = PackedConv(conv)
    direct.winograd = None
    errors = [(form(features) - exact).square().mean().sqrt() for form in (direct, WinogradConv(conv))]
    assert errors[1] < 3 * errors[0]


@torch.inference_mode()
def test_a_picture_depends_neither_on_others_nor_on_threads():
    conv, features = WinogradConv(nn.Conv2d(128, 128, 3, padding=1)), torch.randn(3, 128, 48, 80)
    threads, results = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(conv(features))
    torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert torch.equal(conv(features[2:]), results[0][2:])


@torch.inference_mode()
@pytest.mark.parametrize(
    ("channels", "out_channels", "size", "pays"),
    [(128, 128, (32, 36), True), (128, 128, (32, 33), False), (128, 128, (28, 32), False), (64, 128, (32, 32), False)],
)
def test_packed_layers_use_it_for_large_maps_of_many_channels(channels, out_channels, size, pays):
    conv, features = nn.Conv2d(channels, out_channels, 3, padding=1), torch.randn(1, channels, *size)
    packed, used = PackedConv(conv), []
    if packed.winograd:
        packed.winograd.register_forward_hook(lambda *_: used.append(True))
    assert torch.allclose(packed(features), conv(features), atol=1e-5)
    assert bool(used) == pays


def test_layers_whose_transformed_weights_would_be_large_do_without_it():
    assert PackedConv(nn.Conv2d(512, 256, 3, padding=1)).winograd
    assert not PackedConv(nn.Conv2d(512, 512, 3, padding=1)).winograd


@torch.inference_mode()
@pytest.mark.parametrize("options", [{"padding": 0}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}])
def test_convolutions_of_other_kinds_do_without_it(options):
    conv, features = nn.Conv2d(128, 128, 3, **({"padding": 1} | options)), torch.randn(1, 128, 32, 32)
    assert torch.allclose(PackedConv(conv)(features), conv(features), atol=1e-5)
