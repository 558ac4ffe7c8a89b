"""LPIPS, the learned perceptual distance of Zhang et al. 2018, on VGG-16: a metric here and a loss in training."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from restok_cli.errors import RestokError
from restok_cli.files import file_sha256
from restok_cli.metrics.networks.torch_hub import hub_file
from restok_cli.metrics.table import METRICS
from restok_cli.weights import read_tensors

URL_VGG16 = "https://download.pytorch.org/models/vgg16-397923af.pth"  # torchvision's, as the lpips package takes them
VGG16_SHA256_START = "397923af"
HEADS = Path(__file__).parents[2] / "assets" / "lpips" / "heads.safetensors"

# The convolutions of each stage by their places in torchvision's vgg16().features; max pooling lies between stages.
STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
WIDTHS = (64, 128, 256, 512, 512)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of RGB values in [-1, 1]
SMALLEST_SIDE = METRICS["lpips"].smallest_side


class Lpips(nn.Module):
    """Differences of VGG-16 features, weighted by channel and averaged over places. Frozen, but lets gradients through.

    `open_lpips` gives it weights.
    """

    weights_sha256: str  # of the file that the convolutions came from
    shift: Tensor
    scale: Tensor

    def __init__(self):
        super().__init__()
        convolutions, inputs = {}, 3
        for places, outputs in zip(STAGES, WIDTHS, strict=True):
            for place in places:
                convolutions[str(place)] = nn.Conv2d(inputs, outputs, 3, padding=1)
                inputs = outputs
        self.features = nn.ModuleDict(convolutions)  # named as torchvision names them
        for i, width in enumerate(WIDTHS):
            self.register_buffer(f"lin{i}", torch.zeros(width))
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """The distance of each pair of images (B, 3, H, W) in [0, 1]: (B,), 0 for equal ones.

        Under autocast the convolutions run in its dtype, and features are compared in that of the weights.
        Raises RestokError for images of fewer than SMALLEST_SIDE pixels a side.
        """
        height, width = images.shape[2:]
        if min(height, width) < SMALLEST_SIDE:
            raise RestokError(f"LPIPS needs images of at least {SMALLEST_SIDE} pixels a side, not {width}x{height}")
        a, b = self._scaled(images), self._scaled(others)
        distances = images.new_zeros(len(images))
        for i in range(len(STAGES)):
            # stage by stage, so that features that need no gradient are gone before the next are made
            a, b = self.stage(a, i), self.stage(b, i)
            distances = distances + self.distance(a, b, i)
        return distances

    def _scaled(self, images: Tensor) -> Tensor:
        return ((2 * images - 1) - self.shift) / self.scale

    def stage(self, features: Tensor, i: int) -> Tensor:
        """Features of stage `i` from those of the one before."""
        if i > 0:
            features = F.max_pool2d(features, 2)
        for place in STAGES[i]:
            features = F.relu(self.features[str(place)](features), inplace=True)
        return features

    def distance(self, a: Tensor, b: Tensor, i: int) -> Tensor:
        """Between features (B, C, H, W) of stage `i`, their channels weighted: (B,)."""
        weights = self.get_buffer(f"lin{i}")
        with torch.autocast(a.device.type, enabled=False):
            # F.normalize and not a division by the root: that has no gradient where all channels are 0
            a, b = (F.normalize(features.to(weights.dtype), dim=1, eps=1e-10) for features in (a, b))
            difference = (a - b).square()
            return torch.einsum("bchw,c->b", difference, weights) / (difference.shape[2] * difference.shape[3])


def open_lpips(vgg_weights: Path | None, device: torch.device, option: str = "--vgg-weights FILE") -> Lpips:
    """LPIPS ready on `device`, its convolutions from a file of VGG-16, by default torchvision's, downloaded once.

    The file is .safetensors or a torch checkpoint; what it holds beside the 13 convolutions is passed over.
    Raises RestokError where it cannot be had or lacks one of them; it names the `option` that gives a file.
    """
    path = vgg_weights or hub_file(URL_VGG16, VGG16_SHA256_START, "VGG-16 (528 MB)", option)
    lpips = Lpips()
    lpips.load_state_dict(_vgg_convolutions(path, lpips) | load_file(HEADS))
    lpips.weights_sha256 = file_sha256(path)
    return lpips.to(device).to(memory_format=torch.channels_last)


def _vgg_convolutions(path: Path, lpips: Lpips) -> dict[str, Tensor]:
    weights = read_tensors(path)
    prefix = "features." if "features.0.weight" in weights else ""
    convolutions = {}
    for name, parameter in lpips.named_parameters():  # features.0.weight, features.0.bias, …
        tensor = weights.get(prefix + name.removeprefix("features."))
        if tensor is None or tensor.shape != parameter.shape:
            found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise RestokError(
                f"{path} does not hold the convolutions of VGG-16: {name} is {found}, expected"
                f" {tuple(parameter.shape)}; get them from {URL_VGG16}"
            )
        convolutions[name] = tensor.float()
    return convolutions
