"""Layers made ready for a CPU: their weights laid out once, instead of again whenever they are used, or in 8 bits.

A product with few rows waits for the weights, not for arithmetic: in the order in which the CPU wants them they are
read faster (tests/benchmarks/sampling.py). MKL makes the layout on Intel's CPUs, oneDNN on those of others; rows of
both round alike however many there are. oneDNN does the same for convolutions of small maps.
"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restok_cli.errors import RestokError
from restok_cli.machine import is_intel
from restok_cli.model.pixel_codec import SMALL_MAP, UpsampledConv
from restok_cli.model.winograd import TILE, WinogradConv

# What the libraries choose the layouts for; any number of rows can be multiplied, and maps of any size convolved. MKL's
# manual does not promise that: tests/test_packing.py holds it to it, and to its rounding (`round_alike`).
TYPICAL_ROWS = 256
TYPICAL_SIZE = 32
# Winograd's convolutions pay from so many channels on, and with more weights than that would need much memory for their
# transformed ones, to no effect in maps of 16×16.
WINOGRAD_CHANNELS = 128
WINOGRAD_WEIGHTS = 512 * 256


class PackedLinear(nn.Module):
    """A linear layer that can only be used, in float32 on a CPU: not trained, saved or moved."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        weight = layer.weight.detach()
        self.product = None
        if is_intel() and torch.backends.mkl.is_available():
            self.product = torch.ops.mkl._mkl_linear.default
            self.packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, TYPICAL_ROWS)
            self.shape = weight.new_empty(1).expand(weight.shape)  # which the product is told; it reads no more of it
        else:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)
        self.bias = None if layer.bias is None else layer.bias.detach().clone()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.multiply(inputs, self.bias)

    __call__ = forward  # to look for hooks would take as long as a small operation

    def multiply(self, inputs: Tensor, bias: Tensor | None) -> Tensor:
        rows = inputs.numel() // inputs.shape[-1]
        if self.product:
            return self.product(inputs, self.packed, self.shape, bias, rows)
        if rows == 1:  # a single row would be multiplied in another way, and round otherwise
            return self.multiply(inputs.expand(2, *inputs.shape[1:]), bias)[:1]
        return torch.ops.mkldnn._linear_pointwise(inputs, self.packed, bias, "none", [], "")


class PackedRMSNorm(nn.Module):
    """The same for an RMS norm, x·w·√C / √(|x|² + C·ε): in four operations where PyTorch takes nine."""

    def __init__(self, norm: nn.RMSNorm):
        super().__init__()
        size = norm.weight.numel()
        self.weight = norm.weight.detach() * math.sqrt(size)
        self.least = torch.tensor(math.sqrt(size * norm.eps))

    def forward(self, inputs: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True)
        return (inputs / length.hypot_(self.least)).mul_(self.weight)

    __call__ = forward


class PackedConv(nn.Module):
    """The same for a convolution. Large maps of many channels are convolved with a quarter of the multiplications."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.how = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())
        typical = [1, conv.in_channels, TYPICAL_SIZE, TYPICAL_SIZE]
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self.how, typical)
        channels = (conv.in_channels, conv.out_channels)
        pays = min(channels) >= WINOGRAD_CHANNELS and math.prod(channels) <= WINOGRAD_WEIGHTS
        self.winograd = WinogradConv(conv) if pays and self.how == [[1, 1], [1, 1], [1, 1], 1] else None

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        if self.winograd and height * width >= SMALL_MAP and height % TILE == width % TILE == 0:
            return self.winograd(features)
        return torch.ops.mkldnn._convolution_pointwise(features, self.packed, self.bias, *self.how, "none", [], "")


def linear(layer: nn.Linear | PackedLinear, inputs: Tensor, bias: Tensor) -> Tensor:
    """The product with a layer's weights, packed or not, and another bias than its own."""
    return layer.multiply(inputs, bias) if isinstance(layer, PackedLinear) else F.linear(inputs, layer.weight, bias)


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether packing is possible for a model on this device in this type."""
    return device.type == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available()


def pack(module: nn.Module) -> None:
    """Pack the layers below `module`, in place and one by one, so that no second copy of all is in memory."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child))
        elif isinstance(child, nn.RMSNorm):
            setattr(module, name, PackedRMSNorm(child))
        elif isinstance(child, UpsampledConv):
            setattr(module, name, child.as_transposed())
        elif isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3):  # others are computed as products
            setattr(module, name, PackedConv(child))
        else:
            pack(child)


def quantize_linears(module: nn.Module) -> None:
    """Turn every linear layer below `module`, in place, into one of 8-bit products: of int8 weights, a scale for each
    output, and of inputs that are rounded to 8 bits by one scale for the whole batch.

    A picture so depends a little on the others of its batch. Raises RestokError where PyTorch has it no more.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch moves its quantization to a library of its own
        try:
            from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic
        except ImportError as error:
            raise RestokError("this PyTorch has no dynamic quantization; leave --quantize out") from error
        quantize_dynamic(module, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
