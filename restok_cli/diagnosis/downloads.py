"""Checks of `restok doctor` on the weights of other people's networks: which are here, and how to get them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from restok_cli.diagnosis.environment import Finding, guarded

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # one of which timm takes


class TorchWeights(NamedTuple):
    """Weights that are downloaded to torch's cache when they are first needed."""

    subject: str
    purpose: str
    option: str  # that takes a file of them
    url: str
    hash_start: str  # of the file's SHA-256


class HubWeights(NamedTuple):
    """Weights that timm downloads from the Hugging Face hub when they are first needed."""

    subject: str
    name: str  # timm's
    purpose: str
    option: str  # that takes a file of them


def torch_weights() -> Iterator[Finding]:
    """Those that come by URL, and whose hash is known."""
    from restok_cli.metrics.networks.inception import INCEPTION_SHA256_START, URL_INCEPTION_V3
    from restok_cli.metrics.networks.lpips import URL_VGG16, VGG16_SHA256_START

    for each in (
        TorchWeights(
            *("Inception (96 MB)", "gfid, rfid, fid, sfid, is, precision, recall and kid", "--inception-weights FILE"),
            *(URL_INCEPTION_V3, INCEPTION_SHA256_START),
        ),
        TorchWeights(
            *("VGG-16 (528 MB)", "LPIPS", "--vgg-weights FILE, in training as loss.lpips_weights"),
            *(URL_VGG16, VGG16_SHA256_START),
        ),
    ):
        yield from guarded(each.subject, partial(_torch_file, each))


def _torch_file(weights: TorchWeights) -> Iterator[Finding]:
    from torch.hub import get_dir

    from restok_cli.files import file_sha256

    path = Path(get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
    if not path.exists():
        text = f"not here, for {weights.purpose}; downloaded when first needed"
        remedy = f"offline: fetch {weights.url} elsewhere and put it at {path}, or give it as {weights.option}"
        yield Finding("note", weights.subject, text, remedy)
    elif not file_sha256(path).startswith(weights.hash_start):
        text = f"{path} is damaged or another file"
        yield Finding("problem", weights.subject, text, f"delete it, or fetch {weights.url} again")
    else:
        yield Finding("ok", weights.subject, f"{path}, for {weights.purpose}")


def hub_weights() -> Iterator[Finding]:
    """Those that timm takes from the hub."""
    from restok_cli.metrics.networks.backbones import TIMM_NAMES
    from restok_cli.settings.training import DINO, AlignmentConfig

    teacher = AlignmentConfig().teacher
    for each in (
        HubWeights("DINOv3", teacher, "alignment in training (restok-s/b/l-128)", "alignment.weights"),
        HubWeights("DINO", DINO, "the discriminator in training (restok-s/b/l-128)", "discriminator.weights"),
        HubWeights("DINOv2", TIMM_NAMES["dinov2"], "evaluate --features dinov2", "--timm-weights FILE"),
        HubWeights("CLIP", TIMM_NAMES["clip"], "evaluate --features clip", "--timm-weights FILE"),
    ):
        yield from guarded(each.subject, partial(_hub_file, each))


def _hub_file(weights: HubWeights) -> Iterator[Finding]:
    from huggingface_hub import try_to_load_from_cache

    repository = f"timm/{weights.name}"
    found = [path for file in HUB_FILES if isinstance(path := try_to_load_from_cache(repository, file), str)]
    url = f"https://huggingface.co/{repository}/resolve/main/{HUB_FILES[0]}"
    fetch = f"fetch {url} elsewhere and give it as {weights.option}"
    if not found:
        text = f"not here, for {weights.purpose}; downloaded when first needed"
        yield Finding("note", weights.subject, text, f"offline: {fetch}")
    elif not _is_weights(Path(found[0])):
        yield Finding("problem", weights.subject, f"{found[0]} is damaged", f"delete it, or {fetch}")
    else:
        yield Finding("ok", weights.subject, f"{found[0]}, for {weights.purpose}")


def _is_weights(path: Path) -> bool:
    """Whether the file is as long as its header says; one that may be pickled is only seen to be there."""
    if path.suffix.lower() != ".safetensors":
        return path.stat().st_size > 0
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, OSError):
        return False


DOWNLOAD_CHECKS = (torch_weights, hub_weights)
