"""Weights of other people's networks: files that are read as data only, and torch's hub cache, where they lie."""

import pickle
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from restok_cli.console import note
from restok_cli.errors import RestokError
from restok_cli.files import expand_home

# What comes of files of other kinds: torch documents none of it.
READ_ERRORS = (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, TypeError, ValueError, LookupError)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors of a .safetensors file or a torch checkpoint, on the CPU. No code in the file is run.

    Raises RestokError where the file holds anything else.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        raise RestokError(
            f"{path} cannot be read as weights; expected .safetensors, or a torch checkpoint of tensors only"
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise RestokError(f"{path} holds no weights; expected names and their tensors")
    return weights


def hub_file(url: str, hash_prefix: str, what: str, option: str) -> Path:
    """The file that `url` names in torch's hub cache, where other tools keep it too; downloaded if it is not there yet.

    `what` says in messages whose weights these are, `option` how a file of them can be given instead. Raises
    RestokError where there is no way to get it.
    """
    path = Path(expand_home(torch.hub.get_dir())) / "checkpoints" / url.rsplit("/", 1)[1]
    if path.exists():
        return path
    note(f"downloading the {what} weights to {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=hash_prefix, progress=False)
    except (OSError, HTTPException, RuntimeError) as error:
        raise RestokError(
            f"the {what} weights could not be downloaded ({error}); fetch {url} by other means and give it as {option}"
        ) from error
    return path
