"""References that a set of images is measured against: other images, or statistics that someone has made of them."""

import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from restok_cli.data.arrays import NPZ_ERRORS, read_npz
from restok_cli.errors import RestokError, UsageError, did_you_mean
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, file_sha256, whole_file
from restok_cli.metrics.formulas.frechet import Gaussian
from restok_cli.metrics.image_sets import GROUP_SIZE, ImageSet
from restok_cli.metrics.image_sources import open_images
from restok_cli.metrics.networks.features import FeatureNetwork

MAX_STATISTICS = 256 << 20  # bytes: two networks' of 4,000 features


class Statistics(NamedTuple):
    """Statistics of all images of a set, from a file, which may hold only some of the images."""

    fingerprint: str  # of the images where the file tells it, else the SHA-256 of the file
    gaussian: Gaussian  # of pool features
    spatial: Gaussian | None  # of the features of sFID
    count: int | None  # images; None where the file does not tell, as ADM's do not
    network: str | None  # SHA-256 of the network's weights, likewise


@dataclass
class Reference:
    """Statistics, images or both: where there are statistics, FID and sFID are taken from them."""

    source: str
    statistics: Statistics | None
    images: ImageSet | None


def open_reference(
    source: str,
    split: str,
    cache: Path | None,
    max_pixels: int = MAX_DECODED_PIXELS,
    max_bytes: int = MAX_MEMBER_BYTES,
) -> Reference:
    """Open statistics, an .npz that holds `mu` (and `arr_0`, as ADM's do), or images as `open_images` does.

    `source` may be a name that --make-reference gave in the cache. Raises UsageError or RestokError for anything else.
    """
    path = Path(source)
    named = []
    with suppress(PermissionError):  # a cache of another user, who lets nobody look in
        named = sorted(file.stem for file in (cache / "references").glob("*.npz")) if cache else []
    if not path.exists() and source in named:
        path = reference_path(source, cache)
    elif not path.exists() and source != "sample" and path.name == source and not path.suffix:
        raise UsageError(
            f"--reference {source}: no such file, folder or name{did_you_mean(source, named)}; names are made by"
            f" `restok evaluate --make-reference DATA -o NAME`{': ' + ', '.join(named) if named else ''}"
        )
    if path.suffix.lower() == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if "mu.npy" in names:
            images = open_images(str(path), split, max_pixels=max_pixels) if "arr_0.npy" in names else None
            return Reference(source, read_statistics(path), images)
    return Reference(source, None, open_images(source, split, max_pixels=max_pixels, max_bytes=max_bytes))


def reference_path(output: str, cache: Path | None) -> Path:
    """Where --make-reference writes: to a file that ends in .npz, or under a bare name to the cache.

    Raises UsageError for anything else.
    """
    path = Path(output)
    if path.suffix.lower() == ".npz":
        return path
    if path.name != output or path.suffix or cache is None:
        raise UsageError(f"-o {output}: give a file that ends in .npz, or a name without slashes and dots")
    return cache / "references" / f"{output}.npz"


def read_statistics(path: Path) -> Statistics:
    """Read an .npz file: `mu` (D,) and `sigma` (D, D), and perhaps `mu_s`, `sigma_s`, `count`, and more.

    Raises RestokError where they are missing, damaged, of odd shape, not finite or not symmetric.
    """
    try:
        arrays = read_npz(path, ("mu", "sigma", "mu_s", "sigma_s", "count", "fingerprint", "network"), MAX_STATISTICS)
        gaussian = _gaussian(path, arrays["mu"], arrays["sigma"])
        spatial = _gaussian(path, arrays["mu_s"], arrays["sigma_s"]) if "mu_s" in arrays else None
        count = int(arrays["count"]) if "count" in arrays else None
        fingerprint = str(arrays["fingerprint"]) if "fingerprint" in arrays else file_sha256(path)
        network = str(arrays["network"]) if "network" in arrays else None
    except NPZ_ERRORS as error:
        raise RestokError(f"{path} holds no statistics ({error}); expected an .npz with mu and sigma") from error
    return Statistics(fingerprint, gaussian, spatial, count, network)


def _gaussian(path: Path, mu: np.ndarray, sigma: np.ndarray) -> Gaussian:
    mean, covariance = (torch.from_numpy(array.astype(np.float64, casting="same_kind")) for array in (mu, sigma))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise RestokError(
            f"{path}: mu {tuple(mu.shape)} and sigma {tuple(sigma.shape)} do not fit; expected (D,) and (D, D)"
        )
    symmetric = torch.allclose(covariance, covariance.T, rtol=1e-5, atol=1e-6)
    if not (mean.isfinite().all() and covariance.isfinite().all() and symmetric):
        raise RestokError(f"{path}: sigma is no covariance (not finite or not symmetric); make the statistics again")
    return Gaussian(mean, covariance)


def check_statistics(reference: Reference, network: FeatureNetwork) -> None:
    """Raises RestokError where the statistics were made with another network than this one."""
    statistics = reference.statistics
    if statistics is None:
        return
    dimensions = len(statistics.gaussian.mu)
    if dimensions != network.dimensions:
        raise RestokError(
            f"{reference.source} holds statistics of {dimensions} features, {network.name} gives"
            f" {network.dimensions}; give statistics made with {network.name} features, or the images themselves"
        )
    if statistics.network not in (None, network.weights_sha256):
        raise RestokError(
            f"{reference.source} holds statistics made with other weights ({statistics.network[:8]}…) than these of"
            f" {network.name} ({network.weights_sha256[:8]}…); give statistics made with them, or the images"
        )


def write_reference(
    path: Path,
    images: ImageSet,
    network: FeatureNetwork,
    gaussian: Gaussian,
    spatial: Gaussian | None,
    num_images: int,
) -> int:
    """Write statistics of images that have been seen, and up to `num_images` of them, spread evenly, as `arr_0`.

    The names are ADM's, whose evaluator takes the file too. Returns how many images it holds.
    """
    arrays = {"mu": gaussian.mu.numpy(), "sigma": gaussian.sigma.numpy()}
    if spatial is not None:
        arrays |= {"mu_s": spatial.mu.numpy(), "sigma_s": spatial.sigma.numpy()}
    readable = sorted(images.digests)
    arrays |= {"count": np.array(len(readable)), "fingerprint": np.array(images.fingerprint)}
    arrays["network"] = np.array(network.weights_sha256)
    kept = min(num_images, len(readable))
    chosen = [readable[i * len(readable) // kept] for i in range(kept)]
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        if chosen:
            with archive.open("arr_0.npy", "w", force_zip64=True) as member:
                header = {"descr": "|u1", "fortran_order": False, "shape": (kept, *images.find_size(), 3)}
                np.lib.format.write_array_header_1_0(member, header)
                for group in _images(images.subset(chosen)):
                    member.write(group.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
    return kept


def _images(images: ImageSet) -> Iterator[Tensor]:
    for group in images.groups(range(images.num_groups), ahead=64 // GROUP_SIZE):
        yield group.images
