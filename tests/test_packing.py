"""Packed layers and 8-bit linear layers against the layers that they are made of."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restok_cli.machine import is_intel
from restok_cli.model.layers import Attention, Mlp
from restok_cli.model.packing import PackedConv, PackedLinear, can_pack, linear, pack, quantize_linears
from restok_cli.model.pixel_codec import UpsampledConv


@pytest.mark.parametrize(("width", "out"), [(64, 96), (1024, 24), (2816, 1024)])
@pytest.mark.parametrize("bias", [False, True])
def test_packed_products_are_those_of_the_layer(width, out, bias):
    layer = nn.Linear(width, out, bias=bias)
    for shape in ((1, 1), (1, 7), (3, 5), (130,)):
        inputs = torch.randn(*shape, width)
        assert torch.allclose(PackedLinear(layer)(inputs), layer(inputs), atol=1e-5)


@pytest.mark.parametrize(("width", "out"), [(64, 96), (1024, 2816), (2816, 1024)])
def test_packed_rows_round_alike_however_many_there_are(width, out):
    layer, inputs = PackedLinear(nn.Linear(width, out, bias=False)), torch.randn(256, width)
    whole = layer(inputs)
    for rows in (1, 2, 3, 8, 64, 129):
        assert torch.equal(layer(inputs[:rows]), whole[:rows]), rows


@pytest.mark.parametrize("bias", [False, True])
def test_layers_made_for_many_rows_take_any_number_of_them_and_round_alike(bias):
    layer, inputs = nn.Linear(96, 64, bias=bias), torch.randn(2, 650, 96)
    packed = PackedLinear(layer, rows=300)
    assert packed.rows == (300 if is_intel() else None)
    whole = packed(inputs)
    assert torch.allclose(whole, layer(inputs), atol=1e-5)
    for rows in (1, 2, 299, 300, 301, 650):
        assert torch.equal(packed(inputs[:1, :rows]), whole[:1, :rows]), rows


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
def test_layers_know_how_many_tokens_they_get(tiny_tokenizer):
    found = []

    def compare(part: Attention | Mlp, arguments: tuple) -> None:
        found.append((part.num_tokens, arguments[0].shape[1]))

    parts = [part for part in tiny_tokenizer.modules() if isinstance(part, Attention | Mlp)]
    hooks = [part.register_forward_pre_hook(compare) for part in parts]
    tiny_tokenizer.decode(tiny_tokenizer.encode(torch.rand(1, 3, *tiny_tokenizer.config.image_size)))
    for hook in hooks:
        hook.remove()
    assert len(found) == len(parts) > 0
    assert len(set(found)) > 2
    assert all(told == got for told, got in found)


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
