"""A built model, rewritten for a CPU: parts of it are replaced by what computes the same faster there."""

from collections.abc import Callable

import torch
from torch import nn

from restok_cli.cpu import leaves
from restok_cli.cpu.winograd import WinogradConv, suits
from restok_cli.machine import has_bf16_products
from restok_cli.model.har import HarBlock
from restok_cli.model.layers import Attention, Mlp
from restok_cli.model.pixel_codec import NormSiLU, ResidualBlock, UpsampledConv

REPLACEMENTS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    Attention: leaves.SpanAttention,
    HarBlock: leaves.InPlaceHarBlock,
    Mlp: leaves.FusedMlp,
    NormSiLU: leaves.StableNormSiLU,
    ResidualBlock: leaves.InPlaceResidualBlock,
    UpsampledConv: leaves.DoublingConv,
    nn.Conv2d: leaves.PackedConv,
    nn.Linear: leaves.PackedLinear,
    nn.RMSNorm: leaves.ShortRMSNorm,
}
# Those of them that may compute in another type than float32.
WITH_DTYPE: tuple[Callable[..., nn.Module], ...] = (
    leaves.FusedMlp,
    leaves.InPlaceResidualBlock,
    leaves.PackedConv,
    leaves.PackedLinear,
)
# The first and last layers of each half of a model, in float32 throughout: rounding there would be seen, and they are
# little work.
OUTER_LAYERS = ("conv_in", "embed", "head", "heads", "conv_out", "out")


def can_rewrite(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a model on this device is faster rewritten to compute in this type."""
    return device.type == "cpu" and (dtype == torch.float32 or (dtype == torch.bfloat16 and has_fast_bf16()))


def has_fast_bf16() -> bool:
    """Whether the CPU, and the library that computes, multiply in bfloat16 faster than in float32."""
    return has_bf16_products() and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def rewrite(module: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Replace what lies below `module`, in place: it can then only be used, not trained, saved or moved.

    One part after the other, so that no second copy of all weights is in memory. The products and convolutions of a
    model in float32 are made in `dtype`.
    """
    for name, child in module.named_children():
        inner = torch.float32 if name in OUTER_LAYERS else dtype
        replaced = replacement(child, inner)
        setattr(module, name, replaced)
        if not isinstance(replaced, WinogradConv):  # which keeps the convolution for small maps
            rewrite(replaced, inner)


def replacement(part: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The part that takes the place of `part`, which may be itself."""
    if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1):
        return leaves.PointwiseConv(part)
    if type(part) is nn.Conv2d and dtype == torch.float32 and suits(part):
        return WinogradConv(part)
    if type(part) in (Mlp, nn.Linear, nn.Conv2d) and not torch.backends.mkldnn.is_available():
        return part
    other = REPLACEMENTS.get(type(part))
    if other is None:
        return part
    arguments = (part, dtype) if other in WITH_DTYPE else (part,)
    return other(*arguments)
