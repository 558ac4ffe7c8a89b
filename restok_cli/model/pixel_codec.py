"""The convolutional halves of the tokenizer: pixels to features and back (docs/algorithm.md section 2, pixel encoder).

Feature maps are (B, C, H, W) with the channels last in memory, where convolutions are fastest. (On a GPU, PyTorch's
group norm leaves that layout up to pytorch#191945, and the convolution after it takes it again: docs/benchmarks.md.)
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restok_cli.model.config import TokenizerConfig


class NormSiLU(nn.GroupNorm):
    """GroupNorm, then SiLU."""

    def __init__(self, channels: int, config: TokenizerConfig):
        super().__init__(config.cnn_norm_groups, channels, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        return F.silu(super().forward(features))


class UpsampledConv(nn.Conv2d):
    """A 3×3 convolution (padding 1) of a map (B, C, H, W) that is first doubled by nearest neighbours."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(F.interpolate(features, scale_factor=2, mode="nearest"))


class ResidualBlock(nn.Module):
    """GN, SiLU, conv3×3, GN, SiLU, conv3×3, plus the input; a 1×1 convolution where the channel count changes."""

    def __init__(self, in_channels: int, out_channels: int, config: TokenizerConfig):
        super().__init__()
        self.norm1 = NormSiLU(in_channels, config)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = NormSiLU(out_channels, config)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        self.shortcut_sees_input = config.cnn_shortcut == "input"
        if in_channels != out_channels:
            seen_channels = in_channels if self.shortcut_sees_input else out_channels
            self.shortcut = nn.Conv2d(seen_channels, out_channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        change = self.conv1(self.norm1(features))
        change = self.conv2(self.norm2(change))
        if self.shortcut is None:
            return features + change
        return self.shortcut(features if self.shortcut_sees_input else change) + change


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
        self.norm_out = NormSiLU(channels[-1], config)
        self.conv_out = nn.Conv2d(channels[-1], config.feature_channels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.conv_in(pixels.contiguous(memory_format=torch.channels_last))
        for i, blocks in enumerate(self.down):
            if i > 0:
                features = F.avg_pool2d(features, 2)
            for block in blocks.children():
                features = block(features)
        for block in self.mid:
            features = block(features)
        return self.conv_out(self.norm_out(features))


class PixelDecoder(nn.Module):
    """(B, feature_channels, h, w) -> (B, 3, H, W) images, about [0, 1] and not clamped.

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
        self.norm_out = NormSiLU(channels[-1], config)
        self.conv_out = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        features = features.to(self.norm_out.weight.dtype, memory_format=torch.channels_last)
        features = self.conv_in(features)
        for block in self.mid:
            features = block(features)
        for i, blocks in enumerate(self.up):
            if i > 0:
                features = self.upsample[i - 1](features)
            for block in blocks.children():
                features = block(features)
        features = self.norm_out(features)
        with torch.autocast(features.device.type, enabled=False):
            return self.conv_out(features.float())
