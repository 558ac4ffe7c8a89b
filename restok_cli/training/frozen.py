"""Vision networks of timm that training only looks through: never trained, in no checkpoint.

timm is imported where it is needed: it takes as long as torch, and a run without such a network does without it.
"""

from hashlib import sha256
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor, nn

from restok_cli.errors import RestokError, UsageError, did_you_mean
from restok_cli.model.empty import without_weights
from restok_cli.weights import read_tensors

RANDOM = "random"  # instead of a file: weights that mean nothing
RANDOM_SEED = 0


def build(name: str, field: str) -> nn.Module:
    """The network that timm calls `name`, on the meta device: its structure and sizes, without weights.

    Raises UsageError, naming the config's `field`, where timm has none of that name, none with weights of that name, or
    one that cannot be built or is not a ViT: a grid of patch tokens after some prefix tokens.
    """
    import timm
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    structure, _, tag = name.partition(".")
    if not timm.is_model(structure):  # such as hf-hub:owner/name, which timm would look for elsewhere
        near = did_you_mean(name, [*timm.list_models(), *timm.list_pretrained()])
        raise UsageError(f"{field} = {name} is no network of timm{near}; timm.list_models() lists them")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        listed = f"{structure}.*"
        near = did_you_mean(name, timm.list_pretrained(listed))
        raise UsageError(
            f"{field} = {name}: timm has {structure}, but no weights for it called {tag}{near};"
            f" timm.list_pretrained('{listed}') lists them"
        ) from error
    try:
        with without_weights():
            network = timm.create_model(name)
    except (RuntimeError, ValueError, ImportError) as error:
        raise UsageError(
            f"{field} = {name} cannot be built by the timm that is installed ({_reason(error)}); give a ViT, such as"
            " vit_small_patch16_224.dino"
        ) from error
    if not isinstance(network, VisionTransformer | Eva):
        raise UsageError(
            f"{field} = {name} has no grid of patch tokens; give a ViT, such as vit_small_patch16_224.dino"
        )
    return network


def open_frozen(
    name: str, weights: str | None, image_size: tuple[int, int], device: torch.device, section: str
) -> nn.Module:
    """The network that timm calls `name` with frozen weights, for images of `image_size` (height, width) pixels.

    `weights` is a file (safetensors or a pickled state dict, read as data only), "random", or None for those that
    timm downloads once. Every tensor must find its place. Draws nothing from the global generators. Raises RestokError,
    naming `section`.weights, where weights cannot be had or are not this network's.
    """
    import timm

    state = None if weights in (None, RANDOM) else _read(weights, name, section)
    overlay = None if state is None else {"state_dict": state}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        try:
            network = timm.create_model(
                name, pretrained=weights != RANDOM, pretrained_cfg_overlay=overlay, img_size=image_size
            )
        except (OSError, HfHubHTTPError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise RestokError(_message(name, weights, section, error)) from error
    return network.requires_grad_(False).eval().to(device)


def weights_fingerprint(network: nn.Module) -> str:
    """A fingerprint of some values of every tensor, which no two networks share that were trained.

    To be asked for before `take_dtype`. Not of positions, which were resized to the images on this machine, and may be
    rounded otherwise on another.
    """
    tensors = [tensor for name, tensor in sorted(network.state_dict().items()) if "pos_embed" not in name]
    values = [tensor.flatten()[:: max(1, tensor.numel() // 64)].float() for tensor in tensors]
    return sha256(torch.cat(values).cpu().numpy().tobytes()).hexdigest()


def take_dtype(network: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of frozen products and convolutions as autocast in `dtype` takes them: it gives the same bits.

    Of a weight that trains it keeps the copy for a whole pass, of a frozen one it would make a copy at every use.
    """
    for layer in network.modules():
        if type(layer) in (nn.Linear, nn.Conv2d):  # what derives from them may do something to its weights first
            layer.to(dtype)


def missing_download(name: str) -> str | None:
    """Where timm would get the weights of a network from, which it does not have on this machine; None if it has."""
    import timm

    known = timm.get_pretrained_cfg(name)
    if known is None:
        return None
    if known.hf_hub_id:
        files = (known.hf_hub_filename,) if known.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
        here = any(isinstance(try_to_load_from_cache(known.hf_hub_id, file), str) for file in files)
        return None if here else f"https://huggingface.co/{known.hf_hub_id}"
    url = known.url[0] if isinstance(known.url, tuple) else known.url
    here = url and (Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]).exists()
    return None if here else url


def normalisation(network: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (3, 1, 1) of the images that a network of timm was trained on, beside it."""
    device, facts = next(network.parameters()).device, network.pretrained_cfg
    mean, std = (torch.tensor(facts[name], device=device).view(3, 1, 1) for name in ("mean", "std"))
    return mean, std


def _read(path: str, name: str, section: str) -> dict:
    if not Path(path).is_file():
        raise UsageError(f"{section}.weights = {path}: no such file; {_remedy(name, section)}")
    try:
        return read_tensors(Path(path))
    except RestokError as error:
        raise RestokError(_message(name, path, section, error)) from error


def _message(name: str, weights: str | None, section: str, error: Exception) -> str:
    reason = _reason(error)
    if weights == RANDOM:
        return f"{name} cannot be built with {section}.weights = random ({reason}); give another network"
    if weights is None:
        failed = "downloaded" if isinstance(error, OSError | HfHubHTTPError) else "used"
        return f"the weights of {name} cannot be {failed} ({reason}); {_remedy(name, section)}"
    return f"{section}.weights = {weights} does not hold the weights of {name} ({reason}); {_remedy(name, section)}"


def _reason(error: Exception) -> str:
    return shorten(str(error) or type(error).__name__, 160, placeholder=" …")


def _remedy(name: str, section: str) -> str:
    import timm

    known = timm.get_pretrained_cfg(name)
    where = f"https://huggingface.co/{known.hf_hub_id}" if known and known.hf_hub_id else "where they were published"
    return f"fetch model.safetensors from {where} by other means and set {section}.weights to that file"
