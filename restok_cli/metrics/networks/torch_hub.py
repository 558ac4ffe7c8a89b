"""Weights of other people's networks: their digests, and torch's hub cache, where they lie."""

from http.client import HTTPException
from pathlib import Path

import torch

from restok_cli.console import note
from restok_cli.errors import RestokError
from restok_cli.files import expand_home


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
