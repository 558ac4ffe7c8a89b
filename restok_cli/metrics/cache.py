"""Features on the disk, found again by what they were made of: a killed evaluation goes on, a second metric is free.

<cache>/features/<2 digits>/<SHA-256>.npy    float32 (images of a group, D + S), then 8 hexadecimal digits: CRC-32 of
                                             the file's name and the array; NumPy passes over them
<cache>/references/<name>.npz                statistics that --make-reference keeps under a name
"""

import hashlib
import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from restok_cli.console import note
from restok_cli.files import crc32_of, whole_file
from restok_cli.metrics.cache_folder import default_cache
from restok_cli.metrics.image_sets import Group, groups_at_once
from restok_cli.metrics.networks.features import FeatureNetwork, Features
from restok_cli.processes import rank

CODE_VERSION = 1  # to be raised when networks give other features for the same images and weights
CRC_BYTES = 8
LARGEST_CACHE = 20 * 10**9  # bytes; a set of 50,000 images takes 0.8 GB with Inception


def open_cache(folder: Path | None) -> Path | None:
    """The folder where features are kept, by default the user's own, without what is old where it is too large."""
    folder = folder or default_cache()
    if folder is None:
        note(
            "features are not kept for the next evaluation, since this user has no home folder; --cache DIR keeps them"
        )
    elif rank() == 0:
        prune(folder)
    return folder


class FeatureCache:
    """The features that one network has given to groups of images; in no folder, it remembers nothing.

    Where the folder cannot be written to, it says so once, and keeps nothing more.
    """

    def __init__(self, folder: Path | None, network: FeatureNetwork):
        self.folder, self.network = folder / "features" if folder else None, network
        self.is_full = False
        # also the device: features of a GPU differ from those of a CPU in the last digits
        identity = (CODE_VERSION, network.name, network.weights_sha256, network.resize, network.device.type)
        if (at_once := groups_at_once(network.device)) > 1:
            identity += (at_once,)
        self.identity = repr(identity).encode()
        self.widths = [network.dimensions, network.spatial_dimensions]

    def find(self, group: Group) -> Features | None:
        """The features of the group's images, or None where they are not there, or not as they were kept."""
        if self.folder is None:
            return None
        path = self._path(self.folder, group)
        features = kept_features(path, self.widths)
        if features is None or len(features.pool) != len(group.images):
            return None
        with suppress(OSError):
            os.utime(path)  # so that the oldest are those that nobody has asked for longest
        return features

    def keep(self, group: Group, features: Features) -> None:
        if self.folder is None or self.is_full:
            return
        try:
            keep_features(self._path(self.folder, group), features)
        except OSError as error:
            reason = error.strerror or error
            note(f"features cannot be kept in {self.folder} ({reason}); the next evaluation computes them again")
            self.is_full = True

    def _path(self, folder: Path, group: Group) -> Path:
        # digests are of bytes alone: a 2x3 and a 3x2 image, or an image and codes, may have the same ones
        form = repr((group.images.dtype, *group.images.shape[1:])).encode()
        key = hashlib.sha256(self.identity + form + b"".join(group.digests)).hexdigest()
        return folder / key[:2] / f"{key}.npy"


def keep_features(path: Path, features: Features) -> None:
    """Write a file of features, whole or not at all; one that a power cut damages is known by its digest."""
    rows = features.pool if features.spatial is None else torch.cat([features.pool, features.spatial], 1)
    array = BytesIO()
    np.save(array, rows.numpy())
    with whole_file(path, durable=False) as temporary:
        temporary.write_bytes(array.getvalue() + _crc32(path, array.getvalue()))


def kept_features(path: Path, widths: list[int]) -> Features | None:
    """The features in a file: of the pool and with places, so many of each; None where it is not as it was written."""
    try:
        data = path.read_bytes()
        array, crc32 = data[:-CRC_BYTES], data[-CRC_BYTES:]
        if crc32 != _crc32(path, array):
            return None
        pool, spatial = torch.from_numpy(np.load(BytesIO(array), allow_pickle=False)).split(widths, 1)
    except (OSError, ValueError, EOFError, TypeError, RuntimeError):
        return None
    return Features(pool, spatial if spatial.shape[1] else None)


def _crc32(path: Path, array: bytes) -> bytes:
    """The digest of an entry: with its name, so that it is of no other images."""
    return crc32_of(path.name.encode(), array).encode()


def prune(cache: Path) -> None:
    """Delete the features that nobody has asked for longest, as far as the cache is larger than LARGEST_CACHE."""
    files = []
    with suppress(PermissionError):  # of another user, who lets nobody look in
        for path in (cache / "features").glob("??/*.npy"):
            with suppress(OSError):  # another process has deleted it
                files.append((path, path.stat()))
    excess = sum(status.st_size for _, status in files) - LARGEST_CACHE
    for path, status in sorted(files, key=lambda entry: entry[1].st_mtime):
        if excess <= 0:
            return
        with suppress(OSError):  # of somebody else, or on a disk that is read only
            path.unlink(missing_ok=True)
            excess -= status.st_size
