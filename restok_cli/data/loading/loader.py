"""Batches in an exact order: what a step sees is a function of seed and step, and of nothing else."""

from collections.abc import Generator, Iterator, Sequence
from functools import partial

import torch

from restok_cli.data.image_files import center_crop
from restok_cli.data.images import to_tensor
from restok_cli.data.loading.batching import (
    BROKEN_LIMIT,
    Answers,
    Batch,
    BrokenSamples,
    Deal,
    Loaded,
    load,
    micro_batches,
    verify_advice,
)
from restok_cli.data.loading.jpeg import find_jpeg_decoder
from restok_cli.data.loading.streaming import streamed_batches, streamed_evaluation_batches
from restok_cli.data.loading.transforms import Crop, Transform, make_views
from restok_cli.data.shards.code_layout import Views
from restok_cli.data.shards.dataset import Split, StreamedSplit
from restok_cli.errors import ImageError


def batches(
    split: Split,
    image_size: tuple[int, int],
    deal: Deal,
    *,
    random_zoom: tuple[float, float],
    random_crop_area: tuple[float, float],
    random_flip: bool,
    crop: Crop = "random",
    num_workers: int = 0,
    broken_limit: float = BROKEN_LIMIT,
) -> Generator[Batch, None, None]:
    """Training micro-batches by `deal`, without end: the same for any number of workers and processes.

    Every sample comes exactly once an epoch, however large the batch. `image_size` is (height, width); `random_zoom`
    and `random_crop_area` are what `random_crop` and `random_resized_crop` take.

    In the place of a sample that cannot be decoded comes the next of the split that can. It is named once on stderr.
    A split in shards that are elsewhere is streamed, which cannot promise all of this: see `streamed_batches`.

    Raises UsageError where the batch cannot be divided so; at the step that needs it, RestokError where a shard cannot
    be read, and where more samples are broken than the share `broken_limit` of all (one always may be, all never).
    """
    transform = Transform(deal.seed, image_size, crop, random_zoom, random_crop_area, random_flip)
    if num_workers and crop != "centre":
        find_jpeg_decoder()  # once here, not in each worker, where it would take two seconds and 90 MB
    if isinstance(split, StreamedSplit):
        return streamed_batches(split, transform, deal, deal.size, num_workers, broken_limit)
    broken = BrokenSamples(len(split), broken_limit, verify_advice(split.shards[0].path.parent))
    answers = Answers(partial(_load_batch, split, transform, broken.num_allowed))
    return _load(load(answers, num_workers, micro_batches(len(split), deal)), broken)


def _load_batch(split: Split, transform: Transform, num_allowed: float, visits: list[tuple[int, int]]) -> Loaded:
    """A batch of (epoch, sample) pairs, in which the next sample that can be decoded stands in for a broken one."""
    images, class_ids, broken = [], [], {}
    for epoch, sample in visits:
        while len(broken) <= num_allowed:
            try:
                images.append(transform(*split.file(sample), epoch, sample))
                class_ids.append(split.class_id(sample))
                break
            except ImageError as error:
                broken[split.key(sample)] = str(error)
                sample = (sample + 1) % len(split)
        else:
            return Loaded(None, broken)
    return Loaded(Batch(torch.stack(images), torch.tensor(class_ids)), broken)


def _load(answers: Iterator[Loaded], broken: BrokenSamples) -> Generator[Batch, None, None]:
    for loaded in answers:
        broken.add(loaded.broken)
        if loaded.batch is not None:
            yield loaded.batch


def evaluation_batches(
    split: Split,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    limit: int | None = None,
) -> Iterator[Batch]:
    """Every sample once, or each of the first `limit`, in order, centre-cropped; the last batch may be shorter.

    Of several processes, each gets every `world_size`-th batch, from number `rank` on.

    Raises RestokError where a sample cannot be read.
    """
    if isinstance(split, StreamedSplit):
        yield from streamed_evaluation_batches(split, image_size, batch_size, rank, world_size, limit)
        return
    end = len(split) if limit is None else min(limit, len(split))
    for start in range(rank * batch_size, end, world_size * batch_size):
        samples = range(start, min(start + batch_size, end))
        images = torch.stack([to_tensor(center_crop(split.image(i), image_size)) for i in samples])
        yield Batch(images, torch.tensor([split.class_id(i) for i in samples]))


def load_views(
    split: Split,
    samples: Sequence[int],
    *,
    image_size: tuple[int, int],
    views: Views,
    num_workers: int,
    broken: BrokenSamples,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Each of the samples, in their order, and its views (see `make_views`); broken ones are counted and left out.

    Raises RestokError where a shard cannot be read, and where too many are broken.
    """
    views_of_all = load(Answers(partial(_make_views, split, image_size, views)), num_workers, samples)
    for sample, (loaded, reason) in zip(samples, views_of_all, strict=True):
        if loaded is None:
            broken.add({split.key(sample): reason})
        else:
            yield sample, loaded


def _make_views(
    split: Split, image_size: tuple[int, int], views: Views, sample: int
) -> tuple[torch.Tensor | None, str]:
    """The views of a sample, or why there are none."""
    try:
        return make_views(split.image(sample), image_size, views), ""
    except ImageError as error:
        return None, str(error)
