"""The convolutional halves of the tokenizer: pixels to features and back (ALGORITHM section 2, pixel encoder)."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from restok_cli.model.config import TokenizerConfig


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
        change = self.conv1(F.silu(self.norm1(features)))
        change = self.conv2(F.silu(self.norm2(change)))
        if self.shortcut is None:
            return features + change
        return change + self.shortcut(features if self.shortcut_sees_input else change)


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
        features = self.conv_in(pixels)
        for i, blocks in enumerate(self.down):
            if i > 0:
                features = F.avg_pool2d(features, 2)
            for block in blocks:
                features = block(features)
        for block in self.mid:
            features = block(features)
        return self.conv_out(F.silu(self.norm_out(features)))


class PixelDecoder(nn.Module):
    """(B, feature_channels, h, w) -> (B, 3, H, W) pictures, about [0, 1] and not clamped."""

    def __init__(self, config: TokenizerConfig):
        super().__init__()
        channels = [m * config.cnn_channels for m in reversed(config.cnn_multipliers)]
        self.conv_in = nn.Conv2d(config.feature_channels, channels[0], 3, padding=1)
        self.mid = nn.ModuleList(ResidualBlock(channels[0], channels[0], config) for _ in range(2))
        self.up = nn.ModuleList(  # coarsest first
            nn.ModuleList([ResidualBlock(before, after, config), ResidualBlock(after, after, config)])
            for before, after in pairwise([channels[0], *channels])
        )
        self.upsample = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in channels[:-1])
        self.norm_out = nn.GroupNorm(config.cnn_norm_groups, channels[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv_in(features)
        for block in self.mid:
            features = block(features)
        for i, blocks in enumerate(self.up):
            if i > 0:
                features = self.upsample[i - 1](F.interpolate(features, scale_factor=2, mode="nearest"))
            for block in blocks:
                features = block(features)
        return self.conv_out(F.silu(self.norm_out(features)))
