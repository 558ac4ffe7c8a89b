"""Feature networks other than Inception: DINOv2, CLIP and any other of timm, and VGG-16.

Numbers of these compare with those of other tools only where network, weights and resize are the same: the protocol
names all three.
"""

import hashlib
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restok_cli.data.images import to_float
from restok_cli.errors import RestokError, UsageError, did_you_mean
from restok_cli.files import file_sha256
from restok_cli.metrics.networks.features import FeatureNetwork, Features, RandomNetwork
from restok_cli.metrics.networks.lpips import URL_VGG16, VGG16_SHA256_START
from restok_cli.metrics.networks.torch_hub import hub_file
from restok_cli.model.empty import without_weights
from restok_cli.weights import read_tensors

NETWORKS = ("inception", "dinov2", "clip", "vgg16", "timm:NAME", "random")
TIMM_NAMES = {
    "dinov2": "vit_large_patch14_dinov2.lvd142m",  # of FD-DINOv2 (Stein et al. 2023)
    "clip": "vit_large_patch14_clip_336.openai",  # of CMMD (Jayasumana et al. 2023)
}
DINOV2_SIZE = 224  # pixels, as FD-DINOv2 has it; timm's configuration says 518
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module, FeatureNetwork):
    """Pool features of a network that takes square RGB images, normalised, and gives a vector for each."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, network: nn.Module, size: int, mean: tuple[float, ...], std: tuple[float, ...], sha256: str
    ):
        super().__init__()
        self.name, self.size, self.weights_sha256 = name, size, sha256
        self.resize = f"bicubic to {size}x{size}, antialiased"
        self.network = network.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        with torch.inference_mode():
            self.dimensions = self.network(torch.zeros(1, 3, size, size)).shape[1]

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        images = to_float(images.to(self.device))
        images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        return Features(self.network((images - self.mean) / self.std).float().cpu())


def open_network(
    name: str,
    device: torch.device,
    *,
    inception_weights: Path | None = None,
    vgg_weights: Path | None = None,
    timm_weights: Path | None = None,
) -> FeatureNetwork:
    """The network called `name`, ready on `device`: "inception", "dinov2", "clip", "vgg16", "timm:NAME" or "random".

    Each takes its weights from the file given for it, by default from torch's cache or the hub's, or a download.
    Raises UsageError where there is no such network, RestokError where its weights cannot be had or are not its own.
    """
    if name == "random":
        return RandomNetwork().to(device)
    if name == "inception":
        from restok_cli.metrics.networks.inception import find_inception, load_inception  # which takes seconds

        return load_inception(inception_weights or find_inception()).to(device)
    if name == "vgg16":
        return _open_vgg16(vgg_weights).to(device).to(memory_format=torch.channels_last)
    if is_of_timm(name):
        return _open_timm(name, TIMM_NAMES.get(name) or name.removeprefix("timm:"), timm_weights).to(device)
    near = did_you_mean(name, NETWORKS)
    raise UsageError(f"--features {name}: no such network{near}; choose from {', '.join(NETWORKS)}")


def is_of_timm(name: str) -> bool:
    return name in TIMM_NAMES or name.startswith("timm:")


def _open_vgg16(path: Path | None) -> Backbone:
    """The 4096 activations behind the second fully connected layer, as Kynkäänniemi et al. take them."""
    import torchvision  # which takes seconds

    path = path or hub_file(URL_VGG16, VGG16_SHA256_START, "VGG-16 (528 MB)", "--vgg-weights FILE")
    with without_weights():
        network = torchvision.models.vgg16()
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in read_tensors(path).items()}, assign=True)
    except RuntimeError as error:
        raise RestokError(f"{path} does not hold the whole of VGG-16; get it from {URL_VGG16}") from error
    network.classifier = network.classifier[:5]
    return Backbone("vgg16", network, 224, IMAGENET_MEAN, IMAGENET_STD, file_sha256(path))


def _open_timm(name: str, timm_name: str, path: Path | None) -> Backbone:
    import timm

    if not timm.is_model(timm_name):
        near = did_you_mean(timm_name, timm.list_models())
        raise UsageError(f"--features timm:{timm_name}: timm has no such network{near}")
    weights = read_tensors(path) if path else {}
    options: dict[str, Any] = {"pretrained_cfg_overlay": {"state_dict": weights}} if path else {}
    if name == "dinov2":
        options["img_size"] = DINOV2_SIZE
    if name != "clip":  # whose projection is part of it; of the others the classifier is left out
        options["num_classes"] = 0
    try:
        network = timm.create_model(timm_name, pretrained=True, **options)
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise RestokError(
            f"the weights of timm's {timm_name} cannot be had ({' '.join(str(error).split())[:200]}); fetch"
            f" model.safetensors of huggingface.co/timm/{timm_name} by other means and give it as --timm-weights FILE"
        ) from error
    if path is not None:  # timm only logs what it does not find
        missing = network.state_dict().keys() - weights.keys()
        if missing:
            raise RestokError(f"{path} does not hold the weights of timm's {timm_name}: it lacks {min(missing)}")
    config = cast(dict[str, Any], network.pretrained_cfg)
    size = DINOV2_SIZE if name == "dinov2" else config["input_size"][1]
    return Backbone(name, network, size, config["mean"], config["std"], _sha256_of(network))


def _sha256_of(network: nn.Module) -> str:
    """Of weights that may have come from a file of any form, or from the hub."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
