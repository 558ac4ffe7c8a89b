"""Networks that turn images into the feature vectors in which sets of images are compared."""

import hashlib
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restok_cli.data.images import to_float
from restok_cli.metrics.table import SPATIAL_CHANNELS

RANDOM_SEED = 20_151_205


class Features(NamedTuple):
    pool: Tensor  # (B, D) float32: what distances are taken between
    spatial: Tensor | None = None  # (B, S) float32: where in the image things are, for sFID; None if there are none


class FeatureNetwork(Protocol):
    """Interface of a network to the metrics."""

    name: str
    dimensions: int  # D
    spatial_dimensions: int = 0  # S, 0 where there are none
    num_classes: int = 0  # of `logits`, 0 where there are none
    weights_sha256: str
    resize: str  # what it does to the size of its input
    published: bool = False  # whether these weights are the ones behind published numbers

    @property
    def device(self) -> torch.device: ...

    def __call__(self, images: Tensor) -> Features:
        """Features, on the CPU, of images (B, 3, H, W) uint8 on any device."""
        ...

    def logits(self, pool: Tensor) -> Tensor:
        """Class logits (B, num_classes) of pool features (B, D): what the Inception Score is taken of."""
        return pool[:, :0]


class RandomNetwork(nn.Module):
    """Three convolutions with fixed random weights. It needs no download and means nothing: for smoke tests only."""

    name, dimensions, num_classes = "random", 128, 10
    spatial_dimensions = 4 * 4 * SPATIAL_CHANNELS
    resize = "none"
    published = False
    classifier: Tensor

    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(RANDOM_SEED)
        widths = (3, 32, 64, self.dimensions)
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            weight = _uniform((outputs, inputs, 3, 3), (6 / (9 * inputs)) ** 0.5, rng)  # He: keeps the variance
            self.register_buffer(f"convolution_{i}", weight)
        self.register_buffer("classifier", _uniform((self.num_classes, self.dimensions), 1.0, rng))
        self.weights_sha256 = hashlib.sha256(b"".join(b.numpy().tobytes() for b in self.buffers())).hexdigest()

    @property
    def device(self) -> torch.device:
        return self.classifier.device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        *convolutions, _ = self.buffers()
        features = 2 * to_float(images.to(self.device)) - 1  # (B, 3, H, W)
        for weight in convolutions:
            features = F.conv2d(features, weight, stride=2, padding=1).relu()
        spatial = F.adaptive_avg_pool2d(features[:, :SPATIAL_CHANNELS], 4).flatten(1)
        return Features(features.mean((2, 3)).cpu(), spatial.cpu())

    @torch.inference_mode()
    def logits(self, pool: Tensor) -> Tensor:
        return (pool.to(self.device) @ self.classifier.T).cpu()


def _uniform(shape: tuple[int, ...], bound: float, rng: torch.Generator) -> Tensor:
    # not normal: the logarithms in normal numbers differ between processors in the last bit
    return (2 * torch.rand(shape, generator=rng) - 1) * bound
