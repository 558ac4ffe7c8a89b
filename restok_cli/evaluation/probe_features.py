"""Features of labelled images or codes, by one process or several: once computed, they are kept by content."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from restok_cli.data.shards.code_cache import CodeCache
from restok_cli.data.shards.dataset import Dataset
from restok_cli.errors import RestokError
from restok_cli.evaluation.probe_points import Probed
from restok_cli.metrics.code_sets import CodeSet, codes_in_cache
from restok_cli.metrics.image_sets import ImageSet
from restok_cli.metrics.image_sources import open_images
from restok_cli.metrics.measure import Instruments, see_all
from restok_cli.processes import rank
from restok_cli.room import check_memory, size_text, total_memory


class Source(NamedTuple):
    """One split of labelled images or codes."""

    name: str
    images: ImageSet | CodeSet
    class_ids: np.ndarray


class Labelled(NamedTuple):
    """Features and classes of the images of a split, but for those that could not be decoded."""

    rows: Tensor  # (n, D) float32
    class_ids: Tensor  # (n,) int64


def open_source(data: Dataset | CodeCache, path: str, split: str, probed: Probed, batch_size: int) -> Source:
    """A split of the data, as the model takes them."""
    if isinstance(data, CodeCache):
        codes = codes_in_cache(data, split)
        return Source(split, codes, codes.class_ids)
    images = open_images(path, split)
    if probed.image_size is not None:
        images.crop_to(probed.image_size)
    height, width = images.find_size()
    check_memory("--batch-size", min(batch_size, images.count), 3 * height * width)
    return Source(split, images, data.split(split).class_ids)


def collect(source: Source, instruments: Instruments) -> Labelled:
    """The features of a split by the one network of the instruments, in process 0; the others get empty ones.

    Raises RestokError where memory does not hold them.
    """
    (network,) = instruments.networks
    count = source.images.count if rank() == 0 else 0
    if (needed := 4 * count * network.dimensions) > (room := total_memory()):
        raise RestokError(
            f"the features of {count:,} images in {source.name} take {size_text(needed)} of memory, and here are"
            f" {size_text(room)}; prepare a data set of fewer images to probe with"
        )
    rows, indices = torch.empty(count, network.dimensions), []
    for seen in see_all(source.images, None, [], instruments, f"features of {source.name}"):
        (features,), found = seen.features, seen.group.indices
        rows[len(indices) : len(indices) + len(found)] = features.pool
        indices += found
    return Labelled(rows[: len(indices)], torch.from_numpy(source.class_ids[indices].astype(np.int64)))
