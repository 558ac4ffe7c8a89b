"""Packed layers and 8-bit linear layers against the layers that they are made of."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restok_cli.model.packing import PackedConv, PackedLinear, PackedRMSNorm, can_pack, linear, pack, quantize_linears
from restok_cli.model.pixel_codec import UpsampledConv


@pytest.mark.parametrize(("width", "out"), [(64, 96), (1024, 24), (2816, 1024)])
@pytest.mark.parametrize("bias", [False, True])
def test_packed_products_are_those_of_the_layer_and_round_alike_for_any_number_of_rows(width, out, bias):
    layer, inputs = nn.Linear(width, out, bias=bias), torch.randn(700, width)
    packed = PackedLinear(layer)
    whole = packed(inputs)
    assert torch.allclose(whole, layer(inputs), atol=1e-5)
    for rows in (1, 2, 3, 8, 64, 129, 255, 256, 257, 600):
        assert torch.equal(packed(inputs[:rows]), whole[:rows]), rows
        assert torch.equal(packed(inputs[None, None, :rows]), whole[None, None, :rows]), rows


@pytest.mark.parametrize("intel", [False, True])
def test_the_library_of_another_makers_cpu_computes_the_same(intel, monkeypatch):
    monkeypatch.setattr("restok_cli.model.packing.is_intel", lambda: intel)  # its rounding is promised there alone
    layer, inputs = nn.Linear(64, 96), torch.randn(9, 64)
    packed = PackedLinear(layer)
    for rows in (1, 2, 9):
        assert torch.allclose(packed(inputs[:rows]), layer(inputs[:rows]), atol=1e-5), rows


@torch.inference_mode()
def test_packed_rms_norms_are_those_of_the_layer_and_round_alike():
    norm = nn.RMSNorm(96, eps=1e-5)
    nn.init.normal_(norm.weight)
    inputs = torch.randn(5, 7, 96)
    inputs[0, 0] = 0
    inputs[0, 1] *= 1e-4  # where the epsilon counts
    packed = PackedRMSNorm(norm)
    assert torch.allclose(packed(inputs), norm(inputs), atol=1e-5)
    assert torch.equal(packed(inputs[:1, 1:2]), packed(inputs)[:1, 1:2])


def test_another_bias_takes_the_place_of_the_layers_own():
    layer, inputs, bias = nn.Linear(8, 6), torch.randn(3, 8), torch.randn(6)
    expected = inputs @ layer.weight.T + bias
    assert torch.allclose(linear(layer, inputs, bias), expected, atol=1e-6)
    assert torch.allclose(linear(PackedLinear(layer), inputs, bias), expected, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("bias", [False, True])
def test_packed_convolutions_are_those_of_the_layer_for_maps_of_any_size(bias):
    conv = nn.Conv2d(16, 40, 3, padding=1, bias=bias)
    for shape in ((1, 16, 1, 1), (2, 16, 5, 3), (1, 16, 70, 64)):
        features = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        assert torch.allclose(PackedConv(conv)(features), conv(features), atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (8, 5, 3), (32, 4, 6)])
def test_a_convolution_of_a_doubled_map_equals_its_transposed_form(channels, height, width):
    conv, features = UpsampledConv(channels), torch.randn(2, channels, height, width)
    doubled = features.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = F.conv2d(doubled, conv.weight, conv.bias, padding=1)
    assert torch.allclose(conv(features), expected, atol=1e-5)
    assert torch.allclose(conv.as_transposed()(features), expected, atol=1e-5)


@torch.inference_mode()
def test_a_packed_generator_and_a_packed_tokenizer_compute_the_same(tiny_har, tiny_tokenizer):
    images = torch.rand(2, 3, *tiny_tokenizer.config.image_size)
    class_ids, codes = torch.tensor([0, 3]), tiny_tokenizer.encode(images)
    har, tokenizer = deepcopy(tiny_har), deepcopy(tiny_tokenizer)
    pack(har)
    pack(tokenizer)
    left = [part for model in (har, tokenizer) for part in model.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    assert all(isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) for part in left)  # used as products
    assert torch.allclose(har(class_ids, codes), tiny_har(class_ids, codes), atol=1e-4)
    latents = tokenizer.encode_latents(images).latents
    assert torch.allclose(latents, tiny_tokenizer.encode_latents(images).latents, atol=1e-4)
    assert torch.allclose(tokenizer.decode(codes), tiny_tokenizer.decode(codes), atol=1e-4)


@torch.inference_mode()
def test_a_packed_tokenizer_takes_other_sizes(tiny_tokenizer):
    packed = deepcopy(tiny_tokenizer)
    pack(packed)
    images = torch.rand(1, 3, 16, 64)
    codes = tiny_tokenizer.for_size(16, 64).encode(images)
    assert torch.equal(packed.for_size(16, 64).encode(images), codes)


def test_only_float32_on_a_cpu_is_packed():
    assert can_pack(torch.device("cpu"), torch.float32)
    assert not can_pack(torch.device("cpu"), torch.bfloat16)
    assert not can_pack(torch.device("cuda"), torch.float32)


@torch.inference_mode()
def test_8_bit_products_stay_near(tiny_har):
    class_ids, codes = (
        torch.tensor([0, 3]),
        torch.randint(tiny_har.config.codebook_size, (2, tiny_har.config.num_codes)),
    )
    har = deepcopy(tiny_har)
    quantize_linears(har)
    exact, rough = tiny_har(class_ids, codes), har(class_ids, codes)
    assert 0 < (exact - rough).norm() / exact.norm() < 0.05
