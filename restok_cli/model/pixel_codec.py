"""The convolutional halves of the tokenizer: pixels to features and back (docs/algorithm.md section 2, pixel encoder).

Feature maps are (B, C, H, W) with the channels last in memory, where convolutions are fastest.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restok_cli.model.config import TokenizerConfig

# Elements of a feature map that `norm_silu` handles at once on a CPU: 1 MB of float32, which stay in the cache.
CACHED_ELEMENTS = 1 << 18
# Pixels that are added up by PyTorch, always in the same order: threads share such sums out, and split none.
SUMMED_PIXELS = 64
GRAIN_SIZE = 2**15  # elements that PyTorch gives a thread at least
# Maps of fewer pixels are left to PyTorch, which adds up each group of theirs in one thread, and in fewer calls.
SMALL_MAP = 1024


def norm_silu(norm: nn.GroupNorm, features: Tensor, reuse: bool = False) -> Tensor:
    """SiLU of the group norm of a map (B, C, H, W); with `reuse`, possibly in its memory: it is not needed any more.

    Without gradients on a CPU a large map is done piece by piece, since waiting for memory, and above all for new
    memory, takes four times as long as the arithmetic. The result there does not depend on the number of threads, as
    PyTorch's does.
    """
    is_small = features.shape[2] * features.shape[3] < SMALL_MAP
    if is_small or features.is_cuda or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.silu(norm(features))
    features = features.contiguous(memory_format=torch.channels_last)
    result = features if reuse else torch.empty_like(features)
    rows = max(CACHED_ELEMENTS // features.shape[1], 1)
    for picture, made in zip(features.permute(0, 2, 3, 1), result.permute(0, 2, 3, 1), strict=True):
        pixels = picture.flatten(0, 1)  # (H·W, C)
        scale, shift = _affine(norm, pixels)
        for part, out in zip(pixels.split(rows), made.flatten(0, 1).split(rows), strict=True):
            _silu_(torch.addcmul(shift, part, scale, out=out).flatten())
    return result


def _silu_(values: Tensor) -> None:
    """SiLU in place, in steps of which each thread gets GRAIN_SIZE values.

    The last values of a thread, fewer than a vector of the CPU holds, PyTorch computes in another way, which rounds
    otherwise; so they must be the same for any number of threads.
    """
    whole = len(values) // GRAIN_SIZE * GRAIN_SIZE
    for part in (*values[:whole].split(GRAIN_SIZE * torch.get_num_threads()), values[whole:]):
        F.silu(part, inplace=True)


def _affine(norm: nn.GroupNorm, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The scale (C,) and shift (C,) by which the norm changes the pixels (n, C) of a map."""
    channels = pixels.shape[1]
    whole = len(pixels) // SUMMED_PIXELS * SUMMED_PIXELS
    pieces = pixels[:whole].view(-1, SUMMED_PIXELS, channels)
    parts = list(pieces.split(max(CACHED_ELEMENTS // (SUMMED_PIXELS * channels), 1)))
    counts = torch.full((len(pieces), 1), SUMMED_PIXELS, dtype=torch.float64)
    if whole < len(pixels):
        parts.append(pixels[None, whole:])
        counts = torch.cat([counts, counts.new_tensor([[len(pixels) - whole]])])
    averages, squares = [], []
    for part in parts:  # (pieces, pixels, C)
        averages.append(part.mean(1, keepdim=True))
        squares.append((part - averages[-1]).square_().sum(1))
    # from pieces to the whole in float64, so that nothing is lost where the mean is far from zero
    means, weights = torch.cat(averages).squeeze(1).double(), counts / len(pixels)
    group = (norm.num_groups, -1)
    mean = (means * weights).sum(0).view(group).mean(1, keepdim=True)  # (groups, 1)
    spread = ((means.view(len(means), *group) - mean).square() * weights[..., None]).sum(0)
    variance = (torch.cat(squares).double().sum(0).view(group) / len(pixels) + spread).mean(1, keepdim=True)
    scale = (norm.weight.view(group) * (variance + norm.eps).rsqrt()).to(norm.weight.dtype)
    shift = (norm.bias.view(group) - mean * scale).to(norm.weight.dtype)
    return scale.flatten(), shift.flatten()


def conv1x1(conv: nn.Conv2d, features: Tensor) -> Tensor:
    """A 1×1 convolution as the matrix product that it is."""
    weight = conv.weight.flatten(1)
    return F.linear(features.permute(0, 2, 3, 1), weight, conv.bias).permute(0, 3, 1, 2)


class UpsampledConv(nn.Conv2d):
    """A 3×3 convolution (padding 1) of a map (B, C, H, W) that is first doubled by nearest neighbours."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(F.interpolate(features, scale_factor=2, mode="nearest"))

    def as_transposed(self) -> nn.ConvTranspose2d:
        """The same as one convolution, in 4/9 of the work: of the doubled map, a window holds only 2×2 values."""
        conv = nn.ConvTranspose2d(self.in_channels, self.out_channels, 4, stride=2, padding=1)
        sums = F.avg_pool2d(F.pad(self.weight, (1, 1, 1, 1)), 2, stride=1, divisor_override=1)
        conv.weight = nn.Parameter(sums.flip(2, 3).transpose(0, 1), requires_grad=False)
        conv.bias = self.bias
        return conv


class ResidualBlock(nn.Module):
    """GN, SiLU, conv3×3, GN, SiLU, conv3×3, plus the input; a 1×1 convolution where the channel count changes."""

    def __init__(self, in_channels: int, out_channels: int, config: TokenizerConfig):
        super().__init__()
        self.norm1 = nn.GroupNorm(config.cnn_norm_groups, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(config.cnn_norm_groups, out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        self.shortcut_sees_input = config.cnn_shortcut == "input"
        if in_channels != out_channels:
            seen_channels = in_channels if self.shortcut_sees_input else out_channels
            self.shortcut = nn.Conv2d(seen_channels, out_channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        change = self.conv1(norm_silu(self.norm1, features))
        change = self.conv2(norm_silu(self.norm2, change, reuse=True))
        if self.shortcut is None:
            return change.add_(features)
        return conv1x1(self.shortcut, features if self.shortcut_sees_input else change).add_(change)


class PixelEncoder(nn.Module):
    """(B, 3, H, W) normalised pixels -> (B, feature_channels, h, w)."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        channels = [m * config.cnn_channels for m in config.cnn_multipliers]
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(
            nn.ModuleList([ResidualBlock(before, after, config), ResidualBlock(after, after, config)])
            for before, after in pairwise([channels[0], *channels])
        )
        self.mid = nn.ModuleList(ResidualBlock(channels[-1], channels[-1], config) for _ in range(2))
        self.norm_out = nn.GroupNorm(config.cnn_norm_groups, channels[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(channels[-1], config.feature_channels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.conv_in(pixels.contiguous(memory_format=torch.channels_last))
        for i, blocks in enumerate(self.down):
            if i > 0:
                features = F.avg_pool2d(features, 2)
            for block in blocks:
                features = block(features)
        for block in self.mid:
            features = block(features)
        return conv1x1(self.conv_out, norm_silu(self.norm_out, features, reuse=True))


class PixelDecoder(nn.Module):
    """(B, feature_channels, h, w) -> (B, 3, H, W) pictures, about [0, 1] and not clamped.

    It computes in the dtype of its weights, or of autocast, and the last convolution in float32: rounding there would
    be seen.
    """

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        channels = [m * config.cnn_channels for m in reversed(config.cnn_multipliers)]
        self.conv_in = nn.Conv2d(config.feature_channels, channels[0], 3, padding=1)
        self.mid = nn.ModuleList(ResidualBlock(channels[0], channels[0], config) for _ in range(2))
        self.up = nn.ModuleList(  # coarsest first
            nn.ModuleList([ResidualBlock(before, after, config), ResidualBlock(after, after, config)])
            for before, after in pairwise([channels[0], *channels])
        )
        self.upsample = nn.ModuleList(UpsampledConv(c) for c in channels[:-1])
        self.norm_out = nn.GroupNorm(config.cnn_norm_groups, channels[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        features = features.to(self.norm_out.weight.dtype, memory_format=torch.channels_last)
        features = self.conv_in(features)
        for block in self.mid:
            features = block(features)
        for i, blocks in enumerate(self.up):
            if i > 0:
                features = self.upsample[i - 1](features)
            for block in blocks:
                features = block(features)
        features = norm_silu(self.norm_out, features, reuse=True)
        with torch.autocast(features.device.type, enabled=False):
            return self.conv_out(features.float())
