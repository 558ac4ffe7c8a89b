"""A built model, rewritten for a CPU: parts of it are replaced by what computes the same faster there."""

import warnings

import torch
from torch import nn

from restok_cli.cpu.leaves import (
    DoublingConv,
    InPlaceHarBlock,
    PackedLinear,
    PointwiseConv,
    ShortRMSNorm,
    SpanAttention,
    StableNormSiLU,
)
from restok_cli.cpu.winograd import WinogradConv, suits
from restok_cli.errors import RestokError
from restok_cli.model.har import HarBlock
from restok_cli.model.layers import Attention
from restok_cli.model.pixel_codec import NormSiLU, UpsampledConv

REPLACEMENTS = {
    Attention: SpanAttention,
    HarBlock: InPlaceHarBlock,
    NormSiLU: StableNormSiLU,
    UpsampledConv: DoublingConv,
    nn.RMSNorm: ShortRMSNorm,
    nn.Linear: PackedLinear,
}


def can_rewrite(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a model on this device in this type may be rewritten."""
    return device.type == "cpu" and dtype == torch.float32


def rewrite(module: nn.Module) -> None:
    """Replace what lies below `module`, in place: it can then only be used, not trained, saved or moved.

    One part after the other, so that no second copy of all weights is in memory.
    """
    for name, child in module.named_children():
        replaced = replacement(child)
        setattr(module, name, replaced)
        if not isinstance(replaced, WinogradConv):
            rewrite(replaced)


def replacement(part: nn.Module) -> nn.Module:
    """The part that takes the place of `part`, which may be itself."""
    if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1):
        return PointwiseConv(part)
    if type(part) is nn.Conv2d and suits(part):
        return WinogradConv(part)
    if isinstance(part, nn.Linear) and not torch.backends.mkldnn.is_available():
        return part
    return REPLACEMENTS.get(type(part), lambda same: same)(part)


def quantize_linears(module: nn.Module) -> None:
    """Turn every linear layer below `module`, in place, into one of 8-bit products: of int8 weights, a scale for each
    output, and of inputs that are rounded to 8 bits by one scale for the whole batch.

    An image so depends a little on the others of its batch. Raises RestokError where PyTorch has it no more.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch moves its quantization to a library of its own
        try:
            from torch.ao.quantization import quantize_dynamic
            from torch.ao.quantization.qconfig import per_channel_dynamic_qconfig
        except ImportError as error:
            raise RestokError("this PyTorch has no dynamic quantization; leave --quantize out") from error
        quantize_dynamic(module, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
