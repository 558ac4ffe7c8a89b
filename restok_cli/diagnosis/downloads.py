"""Checks of `restok doctor` on the weights of other people's networks: which are here, and how to get them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from restok_cli.diagnosis.environment import Finding, guarded

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # one of which timm takes


def torch_weights() -> Iterator[Finding]:
    """Those that come by URL, and whose hash is known."""
    from restok_cli.metrics.networks.inception import INCEPTION_SHA256_START, URL_INCEPTION_V3
    from restok_cli.metrics.networks.lpips import URL_VGG16, VGG16_SHA256_START

    metrics = "gfid, rfid, fid, sfid, is, precision, recall and kid"
    vgg_options = "--vgg-weights FILE, in training as loss.lpips_weights"
    for subject, *weights in (
        ("Inception (96 MB)", metrics, "--inception-weights FILE", URL_INCEPTION_V3, INCEPTION_SHA256_START),
        ("VGG-16 (528 MB)", "LPIPS", vgg_options, URL_VGG16, VGG16_SHA256_START),
    ):
        yield from guarded(subject, partial(_torch_file, subject, *weights))


def _torch_file(subject: str, purpose: str, option: str, url: str, sha256_start: str) -> Iterator[Finding]:
    """Weights that are downloaded to torch's cache when they are first needed; `option` takes a file of them."""
    from torch.hub import get_dir

    from restok_cli.files import file_sha256

    path = Path(get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.exists():
        text = f"not here, for {purpose}; downloaded when first needed"
        remedy = f"offline: fetch {url} elsewhere and put it at {path}, or give it as {option}"
        yield Finding("note", subject, text, remedy)
    elif not file_sha256(path).startswith(sha256_start):
        text = f"{path} is damaged or another file"
        yield Finding("problem", subject, text, f"delete it, or fetch {url} again")
    else:
        yield Finding("ok", subject, f"{path}, for {purpose}")


def hub_weights() -> Iterator[Finding]:
    """Those that timm takes from the hub."""
    from restok_cli.metrics.networks.backbones import TIMM_NAMES
    from restok_cli.settings.training import DINO, AlignmentConfig

    teacher = AlignmentConfig().teacher
    for subject, *weights in (
        ("DINOv3", teacher, "alignment in training (restok-s/b/l-128)", "alignment.weights"),
        ("DINO", DINO, "the discriminator in training (restok-s/b/l-128)", "discriminator.weights"),
        ("DINOv2", TIMM_NAMES["dinov2"], "evaluate --features dinov2", "--timm-weights FILE"),
        ("CLIP", TIMM_NAMES["clip"], "evaluate --features clip", "--timm-weights FILE"),
    ):
        yield from guarded(subject, partial(_hub_file, subject, *weights))


def _hub_file(subject: str, name: str, purpose: str, option: str) -> Iterator[Finding]:
    """Weights that timm, which calls them `name`, downloads from the hub; `option` takes a file of them."""
    from huggingface_hub import try_to_load_from_cache

    repository = f"timm/{name}"
    found = [path for file in HUB_FILES if isinstance(path := try_to_load_from_cache(repository, file), str)]
    url = f"https://huggingface.co/{repository}/resolve/main/{HUB_FILES[0]}"
    fetch = f"fetch {url} elsewhere and give it as {option}"
    if not found:
        text = f"not here, for {purpose}; downloaded when first needed"
        yield Finding("note", subject, text, f"offline: {fetch}")
    elif not _is_weights(Path(found[0])):
        yield Finding("problem", subject, f"{found[0]} is damaged", f"delete it, or {fetch}")
    else:
        yield Finding("ok", subject, f"{found[0]}, for {purpose}")


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
