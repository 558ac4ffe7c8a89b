"""What a set of pictures is measured against: other pictures, or statistics that someone has made of them."""

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from restok_cli.errors import RestokError
from restok_cli.metrics.frechet import Gaussian
from restok_cli.metrics.pictures import Pictures, file_sha256, open_pictures


class Statistics(NamedTuple):
    source: str
    fingerprint: str  # SHA-256 of the file
    gaussian: Gaussian


def open_reference(source: str, split: str) -> Pictures | Statistics:
    """Open statistics where `source` is an .npz that holds `mu`, and pictures as `open_pictures` does otherwise.

    The ADM reference batches hold both: their statistics are those of the whole training set, so they come first.
    """
    path = Path(source)
    if path.suffix == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if "mu.npy" in archive.namelist():
                return Statistics(source, file_sha256(path), read_statistics(path))
    return open_pictures(source, split)


def read_statistics(path: Path) -> Gaussian:
    """The `mu` (D,) and `sigma` (D, D) of an .npz file.

    Raises RestokError where they are missing, damaged, of odd shape, not finite or not symmetric.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            mu, sigma = (torch.from_numpy(arrays[name].astype(np.float64)) for name in ("mu", "sigma"))
    except (KeyError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise RestokError(f"{path} holds no statistics ({error}); expected an .npz with mu and sigma") from error
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise RestokError(
            f"{path}: mu {tuple(mu.shape)} and sigma {tuple(sigma.shape)} do not fit; expected (D,) and (D, D)"
        )
    if not (mu.isfinite().all() and sigma.isfinite().all() and torch.allclose(sigma, sigma.T, rtol=1e-5, atol=1e-6)):
        raise RestokError(f"{path}: sigma is no covariance (not finite or not symmetric); make the statistics again")
    return Gaussian(mu, sigma)
