"""Parts of a model that is only used, without gradients, on a CPU: each takes the place of one of `model/`.

They compute the same up to rounding, and none rounds otherwise for another number of threads or of images. What they
save is waiting for memory: weights are laid out once as the CPU reads them fastest, not again at every use, and small
operations are few and write where their input lies.

Products and convolutions may have a dtype of their own (bfloat16); all else is float32, sums of residuals, too.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from restok_cli.machine import is_intel
from restok_cli.model.empty import without_weights
from restok_cli.model.har import HarBlock, Seen, see
from restok_cli.model.layers import Attention, Mlp
from restok_cli.model.pixel_codec import NormSiLU, ResidualBlock, UpsampledConv

# What the libraries choose the layouts for; any number of rows can be multiplied, and maps of any size convolved. MKL's
# manual does not promise that, nor that all are rounded alike: tests/test_cpu.py holds it to both.
TYPICAL_ROWS = 256
TYPICAL_SIZE = 32
SPAN = 32  # tokens that are worth a call of their own, to leave out what they do not see
# Pixels at most that are added up by PyTorch, in one order: threads share such sums out, and split none.
SUMMED_PIXELS = 64
CACHED_ELEMENTS = 1 << 18  # of a feature map that are handled at once: 1 MB of float32, which stay in the cache
GRAIN_SIZE = 2**15  # elements that PyTorch gives a thread at least
# Maps of fewer pixels are left to PyTorch, which adds up each group of theirs in one thread, and in fewer calls.
SMALL_MAP = 1024


class PackedLinear(nn.Module):
    """A linear layer of products in `dtype`, laid out by MKL on an Intel CPU for float32, else by oneDNN.

    With `gelu` its results go through that, before they are rounded to `dtype`.
    """

    def __init__(self, layer: nn.Linear, dtype: torch.dtype = torch.float32, gelu: bool = False):
        super().__init__()
        self.dtype, self.gelu = dtype, gelu
        weight = layer.weight.detach().to(dtype)
        self.bias = None if layer.bias is None else layer.bias.detach().to(dtype, copy=True)
        self.by_mkl = dtype == torch.float32 and is_intel() and torch.backends.mkl.is_available()
        if self.by_mkl:
            self.packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, TYPICAL_ROWS)
            self.shape = weight.new_empty(1).expand(weight.shape)  # which the product is told; it reads no more of it
        else:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.numel() // inputs.shape[-1]
        if self.by_mkl:
            product = torch.ops.mkl._mkl_linear(inputs, self.packed, self.shape, self.bias, rows)
            return F.gelu(product) if self.gelu else product
        if rows == 1:  # a single row would be multiplied in another way, and round otherwise
            return self(inputs.expand(2, *inputs.shape[1:]))[:1]
        after = ("gelu", [], "none") if self.gelu else ("none", [], "")
        product = torch.ops.mkldnn._linear_pointwise(inputs.to(self.dtype), self.packed, self.bias, *after)
        return product.to(inputs.dtype)


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of weights that exist."""
    with without_weights():
        layer = nn.Linear(*reversed(weight.shape), bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


class FusedMlp(nn.Module):
    """The tokenizer's MLP, whose first product applies the GELU; between the two all stays in `dtype`."""

    def __init__(self, mlp: Mlp, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.fc1, self.fc2 = PackedLinear(mlp.fc1, dtype, gelu=True), PackedLinear(mlp.fc2, dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.fc1(tokens.to(self.fc1.dtype))).to(tokens.dtype)


class ShortRMSNorm(nn.Module):
    """An RMS norm, x·w·√C / √(|x|² + C·ε), in four operations where PyTorch takes nine."""

    def __init__(self, norm: nn.RMSNorm):
        super().__init__()
        size, eps = norm.weight.numel(), torch.finfo(norm.weight.dtype).eps if norm.eps is None else norm.eps
        self.weight = norm.weight.detach() * math.sqrt(size)
        self.least = torch.tensor(math.sqrt(size * eps))

    def forward(self, inputs: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True)
        return (inputs / length.hypot_(self.least)).mul_(self.weight)


def rotate(tokens: Tensor, table: Tensor) -> Tensor:
    """The rotation of `model/layers.py`: a pair is a complex number, and turning it one product."""
    pairs = torch.view_as_complex(tokens.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.view_as_complex(table[0])).flatten(-2)


class InPlaceHarBlock(nn.Module):
    """The generator's block, whose sums and products write over the last result."""

    def __init__(self, block: HarBlock):
        super().__init__()
        self.head_width = block.head_width
        self.attention_norm, self.qkv, self.proj = block.attention_norm, block.qkv, block.proj
        self.ffn_norm, self.gate, self.up, self.down = block.ffn_norm, block.gate, block.up, block.down

    def forward(self, tokens: Tensor, table: Tensor, mask: Tensor | None, seen: Seen | None = None) -> Tensor:
        qkv = self.qkv(self.attention_norm(tokens)).unflatten(-1, (3, -1, self.head_width))
        q, k, v = qkv.transpose(1, 3).unbind(2)  # (B, heads, T, width)
        q, k = rotate(q, table), rotate(k, table)
        if seen is not None:
            k, v = see(seen, k, v)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        tokens = self.proj(mixed).add_(tokens)
        hidden = self.ffn_norm(tokens)
        return self.down(F.silu(self.gate(hidden), inplace=True).mul_(self.up(hidden))).add_(tokens)


class Span(NamedTuple):
    """Tokens that are attended at once: they see none from `end` on, and all before unless `is_masked`."""

    start: int
    end: int
    is_masked: bool


def attention_spans(mask: Tensor) -> list[Span]:
    """Spans for a mask (T, T) by which each group of tokens sees itself and the groups before it."""
    ends = mask.sum(1).tolist()  # of each token's group
    spans, start = [], 0
    while start < len(ends):
        end = ends[start]
        while end - start < SPAN and end < len(ends):
            end = ends[end]
        spans.append(Span(start, end, ends[start] < end))
        start = end
    return spans


class SpanAttention(nn.Module):
    """The tokenizer's attention, span by span: a masked pair would take as long as any other."""

    def __init__(self, attention: Attention):
        super().__init__()
        self.head_width = attention.head_width
        bias = torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias])
        self.qkv = linear_of(attention.qkv.weight, bias)
        self.q_norm, self.k_norm, self.proj = attention.q_norm, attention.k_norm, attention.proj

    def forward(self, tokens: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = rearrange(self.qkv(tokens), "b t (three h d) -> three b h t d", three=3, d=self.head_width)
        q, k = rotate(self.q_norm(q), table), rotate(self.k_norm(k), table)
        if mask is None:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            v = v.contiguous()  # head by head, as q and k are, it is read faster: the copy pays for itself
            mixed = torch.cat([self.attend(span, q, k, v, mask) for span in attention_spans(mask)], dim=2)
        return self.proj(rearrange(mixed, "b h t d -> b t (h d)"))

    @staticmethod
    def attend(span: Span, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        start, end, is_masked = span
        part = mask[start:end, :end] if is_masked else None
        return F.scaled_dot_product_attention(q[:, :, start:end], k[:, :, :end], v[:, :, :end], attn_mask=part)


class PackedConv(nn.Module):
    """A convolution in `dtype`, which is that of its results, laid out by oneDNN."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.dtype = dtype
        self.how = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype, copy=True)
        weight, typical = conv.weight.detach().to(dtype), [1, conv.in_channels, TYPICAL_SIZE, TYPICAL_SIZE]
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.how, typical)

    def forward(self, features: Tensor) -> Tensor:
        rounded = features.to(self.dtype)
        return torch.ops.mkldnn._convolution_pointwise(rounded, self.packed, self.bias, *self.how, "none", [], "")


class PointwiseConv(nn.Module):
    """A 1×1 convolution as the matrix product that it is: PyTorch's rounds by the number of threads."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.linear = linear_of(conv.weight.flatten(1), conv.bias)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DoublingConv(nn.Module):
    """A convolution of a doubled map as 2×2 convolutions of the map, one for each place in a doubled pixel.

    That is 4/9 of the work: of a doubled map, a 3×3 window holds only 2×2 values.
    """

    def __init__(self, conv: UpsampledConv):
        super().__init__()
        # of three weights in a row (or column), the sums that fall on each of two pixels, for either half of a pixel
        halves = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
        weight = torch.einsum("iar,jbs,ocrs->ijocab", halves, halves, conv.weight.detach())
        with without_weights():
            self.conv = nn.Conv2d(conv.in_channels, 4 * conv.out_channels, 2, padding=1)
        self.conv.weight = nn.Parameter(weight.flatten(0, 2))
        self.conv.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().repeat(4))
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        batch, channels, height, width = features.shape
        made = self.conv(features).unflatten(1, (2, 2, channels))
        doubled = features.new_empty(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
        for row in (0, 1):
            for column in (0, 1):
                places = made[:, row, column, :, row : row + height, column : column + width]
                doubled[:, :, row::2, column::2] = places
        return doubled


class InPlaceResidualBlock(nn.Module):
    """The residual block, whose results write over the last ones, where they are of the same type."""

    def __init__(self, block: ResidualBlock, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.norm1, self.norm2 = StableNormSiLU(block.norm1, dtype), StableNormSiLU(block.norm2, dtype)
        self.conv1, self.conv2, self.shortcut = block.conv1, block.conv2, block.shortcut
        self.shortcut_sees_input = block.shortcut_sees_input

    def forward(self, features: Tensor) -> Tensor:
        change = self.conv1(self.norm1(features))
        change = self.conv2(self.norm2(change, in_place=True))
        if self.shortcut is not None:
            features = self.shortcut(features if self.shortcut_sees_input else change.float())
        return change.add_(features) if change.dtype == features.dtype else features + change


class StableNormSiLU(nn.Module):
    """GroupNorm, then SiLU, rounded alike for any number of threads, as PyTorch's of large maps is not.

    Computed in float32, with results in `dtype`.
    """

    def __init__(self, norm: NormSiLU, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.dtype = dtype
        self.num_groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, features: Tensor, in_place: bool = False) -> Tensor:
        """With `in_place`, large maps that are in `dtype` are written over."""
        if features.shape[2] * features.shape[3] < SMALL_MAP:
            normed = F.group_norm(features.float(), self.num_groups, self.weight, self.bias, self.eps)
            return F.silu(normed).to(self.dtype)
        features = features.contiguous(memory_format=torch.channels_last)
        in_place = in_place and features.dtype == self.dtype
        result = features if in_place else torch.empty_like(features, dtype=self.dtype)
        rows = max(CACHED_ELEMENTS // features.shape[1], 1)
        for image, made in zip(features.permute(0, 2, 3, 1), result.permute(0, 2, 3, 1), strict=True):
            pixels = image.flatten(0, 1)  # (H·W, C)
            scale, shift = self.affine(pixels)
            for part, out in zip(pixels.split(rows), made.flatten(0, 1).split(rows), strict=True):
                values = out if self.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
                silu_(torch.addcmul(shift, part.float(), scale, out=values).flatten())
                if values is not out:
                    out.copy_(values)
        return result

    def affine(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The scale (C,) and shift (C,) by which the norm changes the pixels (n, C) of a map."""
        channels, groups = pixels.shape[1], self.num_groups
        size = math.gcd(len(pixels), SUMMED_PIXELS)
        means, variances = [], []
        for part in pixels.view(-1, size, channels).split(max(CACHED_ELEMENTS // (size * channels), 1)):
            part = part.float()
            mean = part.mean(1, keepdim=True)
            means.append(mean.squeeze(1))
            variances.append((part - mean).square_().mean(1))
        # from pieces to the whole in float64, so that nothing is lost where the mean is far from zero
        means, variances = torch.cat(means).double(), torch.cat(variances).double()  # (pieces, C)
        mean = means.mean(0).view(groups, -1).mean(1).repeat_interleave(channels // groups)  # (C,)
        variance = (variances + (means - mean).square()).mean(0).view(groups, -1).mean(1)
        scale = self.weight * (variance + self.eps).rsqrt().repeat_interleave(channels // groups)
        return scale.float(), (self.bias - mean * scale).float()


def silu_(values: Tensor) -> None:
    """SiLU in place, in steps of which each thread gets GRAIN_SIZE values.

    The last values of a thread, fewer than a vector of the CPU holds, PyTorch computes in another way, which rounds
    otherwise; so they must be the same for any number of threads.
    """
    whole = len(values) // GRAIN_SIZE * GRAIN_SIZE
    for part in (*values[:whole].split(GRAIN_SIZE * torch.get_num_threads()), values[whole:]):
        F.silu(part, inplace=True)
