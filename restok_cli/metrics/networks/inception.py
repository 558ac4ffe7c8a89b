"""torch-fidelity's Inception, the network behind FID. Apart, since importing it takes as long as torch."""

import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from restok_cli.errors import RestokError
from restok_cli.files import file_sha256
from restok_cli.metrics.networks.features import Features
from restok_cli.metrics.networks.torch_hub import hub_file
from restok_cli.metrics.table import SPATIAL_CHANNELS
from restok_cli.model.empty import without_weights
from restok_cli.weights import read_tensors

INCEPTION_SHA256_START = "6726825d"  # of the weights that every published number was made with


class Inception(FeatureExtractorInceptionV3):
    """The Inception of 2015-12-05. `load_inception` gives it weights.

    The constructor it inherits would unpickle a weights file without restraint, so here it gets an empty one, and what
    it then wants to load is nothing.
    """

    name, dimensions, num_classes = "inception", 2048, 1008
    spatial_dimensions = 17 * 17 * SPATIAL_CHANNELS
    resize = "bilinear to 299x299 as in TensorFlow 1"
    constructed = False
    weights_sha256: str
    published: bool

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
        (pool,) = super().__call__(images.to(self.device))
        return Features(pool.cpu(), self.spatial.cpu())

    @torch.inference_mode()
    def logits(self, pool: Tensor) -> Tensor:
        """Without the bias, as the field takes them."""
        return (pool.to(self.device) @ self.fc.weight.T).cpu()

    def _keep_spatial(self, _module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        # flattened as TensorFlow lays images out, channels last
        self.spatial = output[:, :SPATIAL_CHANNELS].movedim(1, -1).flatten(1)


def load_inception(path: Path) -> Inception:
    """Inception with the weights of a file, which is read as data only, never as code.

    Raises RestokError where they are not Inception's.
    """
    with without_weights():  # no time and memory for weights that are about to be replaced
        network = Inception()
    network.weights_sha256 = file_sha256(path)
    network.published = network.weights_sha256.startswith(INCEPTION_SHA256_START)
    try:
        dtypes = {name: tensor.dtype for name, tensor in network.state_dict().items()}
        weights = {name: tensor.to(dtypes.get(name)) for name, tensor in read_tensors(path).items()}
        network.load_state_dict(weights, assign=True)
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
