"""Networks that turn pictures into the feature vectors in which sets of pictures are compared."""

import hashlib
import io
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from restok_cli.data.images import to_float
from restok_cli.errors import RestokError
from restok_cli.metrics.weights import file_sha256, hub_file, read_weights

INCEPTION_SHA256_START = "6726825d"  # of the weights that every published number was made with
RANDOM_SEED = 20_151_205
SPATIAL_CHANNELS = 7  # of the convolution that sFID is taken of, as ADM does


class Features(NamedTuple):
    pool: Tensor  # (B, D) float32: what distances are taken between
    spatial: Tensor | None = None  # (B, S) float32: where in the picture things are, for sFID; None if there are none


class FeatureNetwork(Protocol):
    """What the metrics need to know of a network."""

    name: str
    dimensions: int  # D
    spatial_dimensions: int  # S, 0 where there are none
    num_classes: int  # of `logits`, 0 where there are none
    weights_sha256: str
    resize: str  # what it does to the size of its input
    published: bool  # whether these weights are the ones behind published numbers
    device: torch.device

    def __call__(self, images: Tensor) -> Features:
        """Features, on the CPU, of images (B, 3, H, W) uint8 on any device."""

    def logits(self, pool: Tensor) -> Tensor:
        """Class logits (B, num_classes) of pool features (B, D): what the Inception Score is taken of."""


class Inception(FeatureExtractorInceptionV3):
    """torch-fidelity's Inception of 2015-12-05. `load_inception` gives it weights.

    The constructor it inherits would unpickle a weights file without restraint, so here it gets an empty one, and what
    it then wants to load is nothing.
    """

    name, dimensions, num_classes = "inception", 2048, 1008
    spatial_dimensions = 17 * 17 * SPATIAL_CHANNELS
    resize = "bilinear to 299x299 as in TensorFlow 1"
    constructed = False

    def __init__(self):
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("inception", ["2048"], feature_extractor_weights_path=nothing)
        self.constructed = True
        # TensorFlow's mixed_6/conv:0, after its ReLU
        self.Mixed_6d.branch1x1.register_forward_hook(self._keep_spatial)

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        return super().load_state_dict(state_dict, strict, assign) if self.constructed else None

    @property
    def device(self) -> torch.device:
        return self.fc.weight.device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 drops 13 bits of every factor
            (pool,) = super().__call__(images.to(self.device))
        return Features(pool.cpu(), self.spatial.cpu())

    @torch.inference_mode()
    def logits(self, pool: Tensor) -> Tensor:
        """Without the bias, as the field takes them."""
        return (pool.to(self.device) @ self.fc.weight.T).cpu()

    def _keep_spatial(self, _module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        # flattened as TensorFlow lays pictures out, channels last
        self.spatial = output[:, :SPATIAL_CHANNELS].movedim(1, -1).flatten(1)


class RandomNetwork(nn.Module):
    """Three convolutions with fixed random weights. It needs no download and means nothing: for smoke tests only."""

    name, dimensions, num_classes = "random", 128, 10
    spatial_dimensions = 4 * 4 * SPATIAL_CHANNELS
    resize = "none"
    published = False

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


def load_inception(path: Path) -> Inception:
    """Inception with the weights of a file, which is read as data only, never as code.

    Raises RestokError where they are not Inception's.
    """
    with torch.device("meta"):  # no time and memory for weights that are about to be replaced
        network = Inception()
    network.weights_sha256 = file_sha256(path)
    network.published = network.weights_sha256.startswith(INCEPTION_SHA256_START)
    try:
        network.load_state_dict(read_weights(path), assign=True)
    except (RestokError, RuntimeError) as error:
        raise RestokError(
            f"{path} does not hold the weights of torch-fidelity's Inception; get them from {URL_INCEPTION_V3}"
        ) from error
    return network.to(memory_format=torch.channels_last)  # 1.6 times as fast on a CPU


def find_inception() -> Path:
    """The file of Inception's weights where torch-fidelity keeps it too; downloaded if it is not there yet."""
    return hub_file(
        *(URL_INCEPTION_V3, INCEPTION_SHA256_START, "Inception (96 MB)"),
        "--inception-weights FILE, or try the command offline with --features random (smoke tests only)",
    )
