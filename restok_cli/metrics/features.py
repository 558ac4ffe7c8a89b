"""Networks that turn pictures into the feature vectors in which sets of pictures are compared."""

import hashlib
import io
import pickle
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from restok_cli.console import note
from restok_cli.data.images import to_float
from restok_cli.errors import RestokError

INCEPTION_SHA256_START = "6726825d"  # of the weights that every published number was made with
RANDOM_SEED = 20_151_205


class Features(NamedTuple):
    pool: Tensor  # (B, D) float32: what distances are taken between
    logits: Tensor  # (B, C) float32: what the Inception Score is taken of


class FeatureNetwork(Protocol):
    """What the metrics need to know of a network."""

    name: str
    dimensions: int  # D
    weights_sha256: str
    resize: str  # what it does to the size of its input
    published: bool  # whether these weights are the ones behind published numbers

    def __call__(self, images: Tensor) -> Features:
        """Features of images (B, 3, H, W) uint8 on any device."""


class Inception(FeatureExtractorInceptionV3):
    """torch-fidelity's Inception of 2015-12-05: pool_3, and logits without bias. `load_inception` gives it weights.

    The constructor it inherits would unpickle a weights file without restraint, so here it gets an empty one, and what
    it then wants to load is nothing.
    """

    name, dimensions = "inception", 2048
    resize = "bilinear to 299x299 as in TensorFlow 1"
    constructed = False

    def __init__(self):
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=nothing)
        self.constructed = True

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        return super().load_state_dict(state_dict, strict, assign) if self.constructed else None

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 drops 13 bits of every factor
            return Features(*super().__call__(images.to(self.fc.weight.device)))


class RandomNetwork(nn.Module):
    """Three convolutions with fixed random weights. It needs no download and means nothing: for smoke tests only."""

    name, dimensions = "random", 128
    resize = "none"
    published = False

    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(RANDOM_SEED)
        widths = (3, 32, 64, self.dimensions)
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            weight = _uniform((outputs, inputs, 3, 3), (6 / (9 * inputs)) ** 0.5, rng)  # He: keeps the variance
            self.register_buffer(f"convolution_{i}", weight)
        self.register_buffer("classifier", _uniform((10, self.dimensions), 1.0, rng))
        self.weights_sha256 = hashlib.sha256(b"".join(b.numpy().tobytes() for b in self.buffers())).hexdigest()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        *convolutions, classifier = self.buffers()
        features = 2 * to_float(images.to(classifier.device)) - 1  # (B, 3, H, W)
        for weight in convolutions:
            features = F.conv2d(features, weight, stride=2, padding=1).relu()
        pool = features.mean((2, 3))  # (B, 128)
        return Features(pool, pool @ classifier.T)


def _uniform(shape: tuple[int, ...], bound: float, rng: torch.Generator) -> Tensor:
    # not normal: the logarithms in normal numbers differ between processors in the last bit
    return (2 * torch.rand(shape, generator=rng) - 1) * bound


def open_network(name: str, inception_weights: Path | None, device: torch.device) -> FeatureNetwork:
    """The network called `name`, "inception" or "random", ready on `device`.

    Raises RestokError where Inception's weights cannot be had or are not Inception's.
    """
    if name == "random":
        return RandomNetwork().to(device)
    return load_inception(inception_weights or _inception_weights()).to(device)


def load_inception(path: Path) -> Inception:
    """Inception with the weights of a file, which is read as data only, never as code."""
    with torch.device("meta"):  # no time and memory for weights that are about to be replaced
        network = Inception()
    with open(path, "rb") as file:
        network.weights_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    network.published = network.weights_sha256.startswith(INCEPTION_SHA256_START)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError) as error:
        raise RestokError(
            f"{path} does not hold the weights of torch-fidelity's Inception; get them from {URL_INCEPTION_V3}"
        ) from error
    return network.to(memory_format=torch.channels_last)  # 1.5 times as fast on a CPU


def _inception_weights() -> Path:
    """The weights file in torch's hub cache, where torch-fidelity keeps it too; downloaded if it is not there yet."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[1]
    if path.exists():
        return path
    note(f"downloading the Inception weights (96 MB) to {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=INCEPTION_SHA256_START, progress=False)
    except (OSError, HTTPException, RuntimeError) as error:
        raise RestokError(
            f"the Inception weights could not be downloaded ({error}); fetch {URL_INCEPTION_V3} by other means and"
            " give it as --inception-weights FILE, or try the command offline with --features random (smoke tests only)"
        ) from error
    return path
