"""Batches in an exact order: what a step sees is a function of seed and step, and of nothing else."""

import math
import signal
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from restok_cli.data.images import center_crop, to_tensor
from restok_cli.data.shards import Split
from restok_cli.errors import RestokError

CROP_ASPECTS = (3 / 4, 4 / 3)  # of a random crop, relative to the picture that is made of it


class Batch(NamedTuple):
    """Pictures and what they show."""

    images: torch.Tensor  # uint8 (B, 3, H, W)
    class_ids: torch.Tensor  # int64 (B,), -1 where the data set has no classes


class Augmentation(NamedTuple):
    """How a training picture becomes an input; what is random in it depends on seed, epoch and sample alone."""

    seed: int
    image_size: tuple[int, int]  # (height, width)
    random_crop_area: tuple[float, float] | None  # share of the picture's area, from and to; None: the centre crop
    random_flip: bool

    def __call__(self, image: Image.Image, epoch: int, sample: int) -> Image.Image:
        # The counter's highest word sets these numbers apart from the ones that shuffle the epoch.
        rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch], counter=[0, 0, 0, sample + 1]))
        if self.random_crop_area is None:
            image = center_crop(image, self.image_size)
        else:
            image = random_crop(image, self.image_size, self.random_crop_area, rng)
        if self.random_flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image


def random_crop(
    image: Image.Image, image_size: tuple[int, int], area: tuple[float, float], rng: np.random.Generator
) -> Image.Image:
    """Cut a random piece out of an RGB image and resize it to (height, width), antialiased.

    The piece has a share of the area between the two of `area`, less only where the picture is too long for it, and
    an aspect between 3/4 and 4/3 of the output's: of these, one that lets the piece fit.
    """
    height, width = image_size
    pixels = rng.uniform(*area) * image.width * image.height
    # the narrowest and the widest piece of so many pixels that fits, as log aspects
    narrowest, widest = math.log(pixels / image.height**2), math.log(image.width**2 / pixels)
    lowest, highest = (math.log(aspect * width / height) for aspect in CROP_ASPECTS)
    narrowest, widest = (min(max(bound, lowest), highest) for bound in (narrowest, widest))
    aspect = math.exp(rng.uniform(narrowest, widest))
    side = min(math.sqrt(pixels), image.width / math.sqrt(aspect), image.height * math.sqrt(aspect))
    crop_width = min(max(round(side * math.sqrt(aspect)), 1), image.width)
    crop_height = min(max(round(side / math.sqrt(aspect)), 1), image.height)
    left = int(rng.integers(image.width - crop_width, endpoint=True))
    top = int(rng.integers(image.height - crop_height, endpoint=True))
    box = (left, top, left + crop_width, top + crop_height)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


def sample_order(num_samples: int, batch_size: int, seed: int, first_step: int = 0) -> Iterator[list[tuple[int, int]]]:
    """The (epoch, sample) pairs of each batch from step `first_step` on, without end.

    The epochs, each a shuffle of all samples, follow each other without a gap, so that a batch may end one and begin
    the next. Starting late costs one shuffle, not the steps before.
    """
    epoch, offset = divmod(first_step * batch_size, num_samples)
    visits = _visits(num_samples, seed, epoch, offset)
    while True:
        yield list(islice(visits, batch_size))


def _visits(num_samples: int, seed: int, epoch: int, offset: int) -> Iterator[tuple[int, int]]:
    while True:
        # sorted raw bits: NumPy keeps those of Philox the same for ever, which it does not promise of permutation()
        order = np.argsort(np.random.Philox(key=[seed, epoch]).random_raw(num_samples), kind="stable")
        for sample in order[offset:]:
            yield epoch, int(sample)
        epoch, offset = epoch + 1, 0


class _Pictures:
    """What DataLoader asks for batches. An error comes back as a value: raised, it would bring a worker's traceback."""

    def __init__(self, split: Split, augmentation: Augmentation):
        self.split, self.augmentation = split, augmentation

    def __getitems__(self, visits: list[tuple[int, int]]) -> Batch | RestokError:
        try:
            images = [self.augmentation(self.split.image(sample), epoch, sample) for epoch, sample in visits]
        except RestokError as error:
            return error
        return _batch(images, [self.split.class_id(sample) for _, sample in visits])


def batches(
    split: Split,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    seed: int,
    random_crop_area: tuple[float, float] | None,
    random_flip: bool,
    first_step: int = 0,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Training batches from step `first_step` on, without end: the same for any number of worker processes.

    `image_size` is (height, width); `random_crop_area` the smallest and largest share of a picture that a random crop
    takes, None for the centre crop; `seed` is at least 0 and below 2**64. Every sample comes exactly once an epoch,
    however large the batch.

    Raises RestokError, at the step that needs it, where a sample cannot be read.
    """
    loader = DataLoader(
        _Pictures(split, Augmentation(seed, image_size, random_crop_area, random_flip)),
        batch_sampler=sample_order(len(split), batch_size, seed, first_step),
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_interrupts,
        generator=torch.Generator(),  # else it would draw a number from the global one, which is the caller's
    )
    for batch in loader:
        if isinstance(batch, RestokError):
            raise batch
        yield batch


def evaluation_batches(split: Split, *, image_size: tuple[int, int], batch_size: int) -> Iterator[Batch]:
    """Every sample once, in order, centre-cropped; the last batch may be shorter.

    Raises RestokError where a sample cannot be read.
    """
    for start in range(0, len(split), batch_size):
        samples = range(start, min(start + batch_size, len(split)))
        images = [center_crop(split.image(i), image_size) for i in samples]
        yield _batch(images, [split.class_id(i) for i in samples])


def _batch(images: list[Image.Image], class_ids: list[int]) -> Batch:
    return Batch(torch.stack([to_tensor(image) for image in images]), torch.tensor(class_ids))


def _as_it_is(batch: Batch | RestokError) -> Batch | RestokError:
    return batch


def _leave_interrupts(_worker: int) -> None:
    """Ctrl-C is for the main process, which then ends its workers; each of them would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
