"""What takes a part's place on a CPU, against that part."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from restok_cli.cpu import leaves as cpu_layers
from restok_cli.cpu import rewrite as cpu_rewrite
from restok_cli.cpu.leaves import (
    DoublingConv,
    InPlaceResidualBlock,
    PackedConv,
    PackedLinear,
    PointwiseConv,
    ShortRMSNorm,
    SpanAttention,
    StableNormSiLU,
    attention_spans,
    rotate,
)
from restok_cli.cpu.rewrite import can_rewrite, has_fast_bf16, rewrite
from restok_cli.inference.coding import decode_codes, encode_images
from restok_cli.model import layers as model_layers
from restok_cli.model.har import KVCache
from restok_cli.model.layers import Attention, rotary_angles, rotary_table
from restok_cli.model.pixel_codec import NormSiLU, ResidualBlock, UpsampledConv
from restok_cli.model.sampling import SamplingOptions, sample, seeded_uniforms
from restok_cli.model.tokenizer import Tokenizer

# What this machine's library computes at all, and how near it comes to the layers of the model.
NEAR = {torch.float32: 1e-5} | ({torch.bfloat16: 3e-2} if torch.ops.mkldnn._is_mkldnn_bf16_supported() else {})


def on_threads(compute):
    """The results of `compute` on one, two and three threads."""
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(compute())
    finally:
        torch.set_num_threads(threads)
    return results


def randomly(module: nn.Module) -> nn.Module:
    """The module with weights that are all different."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module.requires_grad_(False)


@pytest.mark.parametrize(("width", "out"), [(64, 96), (1024, 24), (2816, 1024)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", NEAR)
def test_packed_products_are_those_of_the_layer_and_round_alike_for_any_number_of_rows(width, out, bias, dtype):
    layer, inputs = nn.Linear(width, out, bias=bias), torch.randn(700, width)
    packed = PackedLinear(layer, dtype)
    whole, activated = packed(inputs), PackedLinear(layer, dtype, gelu=True)(inputs)
    assert whole.dtype == activated.dtype == torch.float32
    assert torch.allclose(whole, layer(inputs), atol=NEAR[dtype])
    assert torch.allclose(activated, F.gelu(layer(inputs)), atol=NEAR[dtype])
    for rows in (1, 2, 3, 8, 64, 129, 255, 256, 257, 600):
        assert torch.equal(packed(inputs[:rows]), whole[:rows]), rows
        assert torch.equal(packed(inputs[None, None, :rows]), whole[None, None, :rows]), rows


@pytest.mark.parametrize("intel", [False, True])
def test_the_library_of_another_makers_cpu_computes_the_same(intel, monkeypatch):
    monkeypatch.setattr(cpu_layers, "is_intel", lambda: intel)  # its rounding is promised there alone
    layer, inputs = nn.Linear(64, 96), torch.randn(9, 64)
    packed, activated = PackedLinear(layer), PackedLinear(layer, gelu=True)
    for rows in (1, 2, 9):
        expected = layer(inputs[:rows])
        assert torch.allclose(packed(inputs[:rows]), expected, atol=1e-5), rows
        assert torch.allclose(activated(inputs[:rows]), F.gelu(expected), atol=1e-5), rows


@torch.inference_mode()
def test_rms_norms_are_those_of_the_layer_and_round_alike():
    norm, inputs = randomly(nn.RMSNorm(96, eps=1e-5)), torch.randn(5, 7, 96)
    inputs[0, 0] = 0
    inputs[0, 1] *= 1e-4  # where the epsilon counts
    short = ShortRMSNorm(norm)
    assert torch.allclose(short(inputs), norm(inputs), atol=1e-5)
    assert torch.equal(short(inputs[:1, 1:2]), short(inputs)[:1, 1:2])


def test_the_rotation_is_that_of_the_model():
    table, tokens = rotary_table(rotary_angles(torch.arange(5), 8)), torch.randn(2, 3, 5, 8)
    assert torch.allclose(rotate(tokens, table), model_layers.rotate(tokens, table), atol=1e-6)


def group_mask(sizes: list[int]) -> torch.Tensor:
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return group[:, None] >= group


def test_spans_of_attention_join_small_groups():
    assert attention_spans(group_mask([64, 256, 1, 1, 2, 4, 8, 16, 32])) == [
        *[(0, 64, False), (64, 320, False)],
        *[(320, 352, True), (352, 384, False)],
    ]
    assert attention_spans(group_mask([4, 8])) == [(0, 12, True)]


@torch.inference_mode()
def test_attention_by_spans_is_that_with_the_mask():
    sizes = [32, 64, 1, 1, 2, 4, 8, 16, 20]
    attention, tokens = randomly(Attention(64, 16)), torch.randn(2, sum(sizes), 64)
    table = rotary_table(rotary_angles(torch.arange(sum(sizes)), 16))
    for mask in (None, group_mask(sizes)):
        assert torch.allclose(SpanAttention(attention)(tokens, table, mask), attention(tokens, table, mask), atol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (8, 5, 3), (32, 4, 6)])
def test_a_convolution_of_a_doubled_map_equals_convolutions_of_the_map(channels, height, width):
    conv, features = UpsampledConv(channels), torch.randn(2, channels, height, width)
    doubled = features.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = F.conv2d(doubled, conv.weight, conv.bias, padding=1)
    assert torch.allclose(conv(features), expected, atol=1e-5)
    assert torch.allclose(DoublingConv(conv)(features), expected, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": 1, "bias": False}, {"stride": 2, "groups": 2}])
def test_packed_convolutions_are_those_of_the_layer_and_round_alike(options, dtype):
    conv, features = nn.Conv2d(8, 24, 3, **options), torch.randn(3, 8, 37, 41).to(memory_format=torch.channels_last)
    packed = PackedConv(conv, dtype)
    results = on_threads(lambda: packed(features))
    assert results[0].dtype == dtype and results[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(results[0].float(), conv(features), atol=NEAR[dtype])
    assert all(torch.equal(result, results[0]) for result in results)
    assert torch.equal(packed(features[2:]), results[0][2:])


@torch.inference_mode()
@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize(("channels", "shortcut"), [(8, "input"), (16, "input"), (16, "output")])
@pytest.mark.parametrize("size", [(4, 4), (40, 36)])
def test_residual_blocks_are_those_of_the_model_and_leave_what_they_get(tiny_config, dtype, channels, shortcut, size):
    config = tiny_config.model_copy(update={"cnn_norm_groups": 4, "cnn_shortcut": shortcut})
    block, features = ResidualBlock(8, channels, config).eval(), torch.randn(2, 8, *size)
    features, kept = features.to(memory_format=torch.channels_last), features.clone()
    fast = InPlaceResidualBlock(block, dtype)
    expected = block(features)
    rewrite(fast, dtype)
    made = fast(features)
    assert made.dtype == torch.float32 and torch.allclose(made, expected, atol=NEAR[dtype])
    assert torch.equal(features, kept)


@torch.inference_mode()
@pytest.mark.parametrize("bias", [False, True])
def test_1x1_convolutions_are_products_that_do_not_depend_on_threads(bias):
    conv, features = nn.Conv2d(96, 40, 1, bias=bias), torch.randn(1, 96, 37, 41).to(memory_format=torch.channels_last)
    product = PointwiseConv(conv)
    rewrite(product)
    results = on_threads(lambda: product(features))
    assert torch.allclose(results[0], conv(features), atol=1e-5)
    assert all(torch.equal(result, results[0]) for result in results)


@torch.inference_mode()
@pytest.mark.parametrize("channels", [8, 96])
@pytest.mark.parametrize("size", [(4, 4), (40, 36), (130, 97)])
def test_norms_are_exact_and_do_not_depend_on_threads(tiny_config, channels, size):
    norm = randomly(NormSiLU(channels, tiny_config.model_copy(update={"cnn_norm_groups": 4})))
    features = 3 + torch.randn(2, channels, *size).to(memory_format=torch.channels_last)
    kept = features.clone()
    exact = F.silu(F.group_norm(features.double(), 4, norm.weight.double(), norm.bias.double(), 1e-6))
    assert torch.allclose(norm(features).double(), exact, atol=1e-3)  # PyTorch's own is this far off
    stable = StableNormSiLU(norm)
    results = on_threads(lambda: stable(features))
    assert torch.allclose(results[0].double(), exact, atol=2e-5)
    assert all(torch.equal(result, results[0]) for result in results) and torch.equal(features, kept)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", NEAR)
def test_a_rewritten_generator_computes_the_same(tiny_har, dtype):
    class_ids, codes = torch.tensor([0, 3]), torch.randint(tiny_har.config.codebook_size, (2, 32))
    har = deepcopy(tiny_har)
    rewrite(har, dtype)
    assert not any(isinstance(part, nn.Linear | nn.RMSNorm) for part in har.modules())
    near = 10 * NEAR[dtype]
    assert torch.allclose(har(class_ids, codes), tiny_har(class_ids, codes), atol=near)
    caches = [KVCache(har.config, 2, torch.device("cpu"), torch.float32) for _ in range(2)]
    for start, stop in ((0, 4), (4, 8), (8, 16)):
        steps = [m.step(class_ids, codes, c, start, stop) for m, c in zip((har, tiny_har), caches, strict=True)]
        assert torch.allclose(*steps, atol=near)


@torch.inference_mode()
@pytest.mark.parametrize("pixel_encoder", ["cnn", "patch"])
@pytest.mark.parametrize("cnn_shortcut", ["input", "output"])
@pytest.mark.parametrize("dtype", NEAR)
def test_a_rewritten_tokenizer_computes_the_same(tiny_config, pixel_encoder, cnn_shortcut, dtype):
    torch.manual_seed(0)
    changes = {"pixel_encoder": pixel_encoder, "cnn_shortcut": cnn_shortcut}
    tokenizer = Tokenizer(tiny_config.model_copy(update=changes)).eval()
    images = torch.rand(2, 3, *tiny_config.image_size)
    codes = tokenizer.encode(images)
    rewritten = deepcopy(tokenizer)
    rewrite(rewritten, dtype)
    left = [type(part) for part in rewritten.modules() if isinstance(part, nn.Linear | Attention | nn.Conv2d)]
    assert not left
    latents, near = rewritten.encode_latents(images).latents, 10 * NEAR[dtype]
    assert torch.allclose(latents, tokenizer.encode_latents(images).latents, atol=near)
    assert torch.allclose(rewritten.decode(codes), tokenizer.decode(codes), atol=near)


@torch.inference_mode()
def test_a_rewritten_tokenizer_takes_other_sizes(tiny_tokenizer):
    rewritten = deepcopy(tiny_tokenizer)
    rewrite(rewritten)
    images = torch.rand(1, 3, 16, 64)
    codes = tiny_tokenizer.for_size(16, 64).encode(images)
    assert torch.equal(rewritten.for_size(16, 64).encode(images), codes)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", NEAR)
def test_codes_and_images_depend_neither_on_threads_nor_on_others_of_the_batch(tiny_tokenizer, tiny_har, dtype):
    rewrite(tiny_tokenizer, dtype)
    rewrite(tiny_har, dtype)
    images, uniforms = torch.rand(3, 3, *tiny_tokenizer.config.image_size), seeded_uniforms(0, 0, 3, 32)
    options, class_ids = SamplingOptions(cfg_scale=2, top_p=0.9), torch.tensor([3, 0, 1])

    def compute(part=slice(None)):
        drawn = sample(tiny_har, class_ids[part], uniforms[part], options)
        return encode_images(tiny_tokenizer, images[part]), decode_codes(tiny_tokenizer, drawn).images, drawn

    first, *others = on_threads(compute)
    assert all(torch.equal(one, other) for result in others for one, other in zip(first, result, strict=True))
    assert all(torch.equal(one[1:2], other) for one, other in zip(first, compute(slice(1, 2)), strict=True))


def test_without_onednn_linear_layers_stay(tiny_har, monkeypatch):
    monkeypatch.setattr(cpu_rewrite.torch.backends.mkldnn, "is_available", lambda: False)
    linears = [part for part in tiny_har.modules() if isinstance(part, nn.Linear)]
    rewrite(tiny_har)
    assert {id(part) for part in tiny_har.modules()} >= {id(part) for part in linears}


def test_a_cpu_computes_in_float32_and_in_bf16_where_that_is_faster(monkeypatch):
    assert can_rewrite(torch.device("cpu"), torch.float32)
    assert not can_rewrite(torch.device("cuda"), torch.float32)
    for fast in (True, False):
        monkeypatch.setattr(cpu_rewrite, "has_fast_bf16", lambda fast=fast: fast)
        assert can_rewrite(torch.device("cpu"), torch.bfloat16) == fast
        assert not can_rewrite(torch.device("cuda"), torch.bfloat16)


def test_bf16_is_fast_where_the_cpu_and_its_library_have_it(monkeypatch):
    for cpu, library in ((True, True), (True, False), (False, True)):
        monkeypatch.setattr(cpu_rewrite, "has_bf16_products", lambda cpu=cpu: cpu)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda library=library: library)
        assert has_fast_bf16() == (cpu and library)
