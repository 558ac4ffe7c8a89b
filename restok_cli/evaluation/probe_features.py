"""Features of labelled images or codes, by one process or several: once computed, they are kept by content."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from restok_cli.data.shards.code_cache import CodeCache, CodeSplit
from restok_cli.data.shards.dataset import Dataset
from restok_cli.errors import RestokError
from restok_cli.evaluation.code_metrics import in_all_processes
from restok_cli.evaluation.probe_points import Probed
from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.image_sets import GROUP_SIZE, Group
from restok_cli.metrics.image_sources import open_images
from restok_cli.metrics.protocol import describe_images
from restok_cli.processes import rank, world_size
from restok_cli.room import check_memory, size_text, total_memory


class Source(NamedTuple):
    """One split of images or codes, read in groups of GROUP_SIZE."""

    name: str
    count: int
    groups: Callable[[Sequence[int]], Iterator[Group]]  # by their numbers
    class_ids: np.ndarray
    saw: Callable[..., None]
    describe: Callable[[], dict]  # for the protocol, once all have been read


class Labelled(NamedTuple):
    """Features and classes of the images of a split, but for those that could not be decoded."""

    rows: Tensor  # (n, D) float32
    class_ids: Tensor  # (n,) int64


def open_source(data: Dataset | CodeCache, path: str, split: str, probed: Probed, batch_size: int) -> Source:
    """A split of the data, as the model takes them."""
    if isinstance(data, CodeCache):
        return _codes(data, data.split(split))
    images = open_images(path, split)
    if probed.image_size is not None:
        images.crop_to(probed.image_size)
    height, width = images.find_size()
    check_memory("--batch-size", min(batch_size, images.count), 3 * height * width)
    class_ids = data.split(split).class_ids
    read = partial(images.groups, ahead=max(1, batch_size // GROUP_SIZE))
    return Source(split, images.count, read, class_ids, images.saw, lambda: describe_images(images))


def _codes(cache: CodeCache, split: CodeSplit) -> Source:
    """View 0 of each image."""
    class_ids = np.array([split.class_id(i) for i in range(len(split))])

    def group(number: int) -> Group:
        rows = list(range(number * GROUP_SIZE, min((number + 1) * GROUP_SIZE, len(split))))
        codes = np.stack([split.codes(row, 0) for row in rows]).astype(np.int32)
        digests = [hashlib.sha256(row.tobytes()).digest() for row in codes]
        return Group(rows, torch.from_numpy(codes), digests, {}, 0)

    form = f"codes, the first view of {cache.manifest.views[split.name]}"
    described = {"source": f"{cache.folder} ({split.name})", "form": form, "n": len(split)}
    read = partial(map, group)
    return Source(split.name, len(split), read, class_ids, lambda *_: None, lambda: described)


def collect(source: Source, probed: Probed, cache: FeatureCache) -> Labelled:
    """The features of a split, in process 0; the others get empty ones.

    Raises RestokError where memory does not hold them.
    """
    num_groups = -(-source.count // GROUP_SIZE)
    groups = source.groups(range(rank(), num_groups, world_size()))

    def work(_: int) -> tuple:
        group = next(groups)
        return group.indices, group.digests, group.broken, group.num_cropped, _features(group, probed, cache)

    count = source.count if rank() == 0 else 0
    if (needed := 4 * count * probed.dimensions) > (room := total_memory()):
        raise RestokError(
            f"the features of {count:,} images in {source.name} take {size_text(needed)} of memory, and here are"
            f" {size_text(room)}; prepare a data set of fewer images to probe with"
        )
    rows, indices = torch.empty(count, probed.dimensions), []
    for found, digests, broken, num_cropped, features in in_all_processes(
        f"features of {source.name}", num_groups, work
    ):
        source.saw(found, digests, broken, num_cropped)
        rows[len(indices) : len(indices) + len(found)] = features
        indices += found
    return Labelled(rows[: len(indices)], torch.from_numpy(source.class_ids[indices].astype(np.int64)))


def _features(group: Group, probed: Probed, cache: FeatureCache) -> Tensor:
    """Rows (B, D) of the images of a group."""
    if not group.indices:
        return torch.empty(0, probed.dimensions)
    found = cache.find(group)
    if found is None:
        # always as many at a time: for another number, libraries may sum in another order
        padding = GROUP_SIZE - len(group.images)
        images = pad(group.images, (*(0, 0) * (group.images.ndim - 1), 0, padding))
        found = probed(images)
        found = found._replace(pool=found.pool[: len(group.images)])
        cache.keep(group, found)
    return found.pool
