"""Sets of images in the forms that `evaluate` takes, all of one size, read in groups that never change.

The group is the unit of everything: images go through networks, into the cache and to other processes by groups of
the same images in the same order, so that no number depends on how many are read at a time or by how many processes.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest
from typing import NamedTuple, TypeVar

import torch
from PIL import Image
from torch import Tensor

from restok_cli.console import counted, note
from restok_cli.data.image_files import center_crop
from restok_cli.data.image_sizes import width_by_height
from restok_cli.data.images import to_tensor
from restok_cli.errors import ImageError, RestokError
from restok_cli.processes import gather, rank, world_size

Found = TypeVar("Found")

GROUP_SIZE = 16  # images that go through a network together on a CPU
GPU_GROUPS = 8  # that go through a network together on a GPU, which so few images as a group's do not fill
READING_THREADS = min(8, os.cpu_count() or 1)


def groups_at_once(device: torch.device) -> int:
    """How many groups go through a network together: always as many, since for another number results may be rounded
    otherwise.
    """
    return GPU_GROUPS if device.type == "cuda" else 1


class Group(NamedTuple):
    """Some neighbouring images of a set, as they are measured."""

    indices: list[int]  # of the images that could be decoded
    images: Tensor  # uint8 (B, 3, H, W) of those, or their codes (B, L)
    digests: list[bytes]  # SHA-256 of each
    broken: dict[int, str]  # what was wrong with the others
    num_cropped: int  # images that had another size

    def without_images(self) -> "Group":
        """Small enough to be sent to process 0."""
        return self._replace(images=self.images[:0])


@dataclass
class ImageSet:
    """A set of images. Their size is that of the first one that can be read, unless `crop_to` sets it."""

    source: str
    count: int
    key: Callable[[int], str]  # pairs an image with one of another set
    open: Callable[[int], Image.Image]  # raises ImageError where the image cannot be decoded
    split: Callable[[int], str] | None = None  # of a data set's images, where they are of several
    named: bool = True  # whether keys mean something; where not, the order does
    listed: bool = False  # whether a manifest says which images belong to the set
    threads: int = READING_THREADS  # that may read at the same time
    size: tuple[int, int] | None = None  # (height, width)
    first_key: str | None = None  # of the image that set the size
    transform: Callable[[list[int], Tensor], Tensor] | None = None  # indices of a group, images -> images
    # what is known once the images have been seen
    digests: dict[int, bytes] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    num_cropped: int = 0

    def crop_to(self, size: tuple[int, int]) -> None:
        """From here on bring images to `size` (height, width) by the ADM centre crop."""
        self.size, self.first_key = size, None

    def find_size(self) -> tuple[int, int]:
        """The size (height, width) of all, taken from the first that can be decoded where nothing has set it.

        Raises RestokError where none can be decoded.
        """
        if self.size is not None:
            return self.size
        for index in range(self.count):
            try:
                image = self.open(index)
            except ImageError:
                continue
            self.size, self.first_key = (image.height, image.width), self.key(index)
            return self.size
        raise RestokError(f"of {counted(self.count, 'image')} of {self.source}, none can be decoded")

    def changed(self, source: str, transform: Callable[[list[int], Tensor], Tensor]) -> "ImageSet":
        """This set, each group of its images (B, 3, H, W) uint8 put through `transform` with their indices."""
        return replace(self, source=source, transform=transform, digests={}, broken=set(), num_cropped=0)

    def subset(self, indices: Sequence[int]) -> "ImageSet":
        """Only some of the images, numbered anew."""
        split = self.split
        return replace(
            self,
            count=len(indices),
            key=lambda index: self.key(indices[index]),
            split=split and (lambda index: split(indices[index])),
            open=lambda index: self.open(indices[index]),
            digests={},
            broken=set(),
        )

    @property
    def num_groups(self) -> int:
        return -(-self.count // GROUP_SIZE)

    def group(self, number: int) -> Group:
        """Images number · GROUP_SIZE and those that follow. `find_size` or `crop_to` must have been called.

        Raises RestokError where one has another size than the others and `crop_to` was not called.
        """
        indices, images, broken, num_cropped, size = [], [], {}, 0, self.find_size()
        for index in range(number * GROUP_SIZE, min((number + 1) * GROUP_SIZE, self.count)):
            try:
                image = self.open(index)
            except ImageError as error:
                broken[index] = str(error)
                continue
            if (image.height, image.width) != size:
                image = self._cropped(image, index, size)
                num_cropped += 1
            indices.append(index)
            images.append(to_tensor(image))
        stacked = torch.stack(images) if images else torch.empty(0, 3, *size, dtype=torch.uint8)
        if self.transform is not None and images:
            stacked = self.transform(indices, stacked)
        digests = [hashlib.sha256(image.numpy().tobytes()).digest() for image in stacked]
        return Group(indices, stacked, digests, broken, num_cropped)

    def groups(self, numbers: Sequence[int], ahead: int = 1) -> Iterator[Group]:
        """The groups of those numbers in order, while up to `ahead` others are being read."""
        if self.transform is not None:  # works on the device, where threads would stand in each other's way
            yield from map(self.group, numbers)
            return
        with ThreadPoolExecutor(min(self.threads, ahead)) as pool:
            waiting = iter(numbers)
            reading = [pool.submit(self.group, number) for number in islice(waiting, ahead)]
            try:
                while reading:
                    group = reading.pop(0).result()
                    reading += [pool.submit(self.group, number) for number in islice(waiting, 1)]
                    yield group
            finally:
                pool.shutdown(cancel_futures=True)

    def saw(self, group: Group) -> None:
        """Keep account of a group that was measured; what could not be decoded is said once."""
        for index, problem in group.broken.items():
            if index not in self.broken:
                note(f"left out: {problem}")
                self.broken.add(index)
        if any(index not in self.digests for index in group.indices):
            self.num_cropped += group.num_cropped
        self.digests |= dict(zip(group.indices, group.digests, strict=True))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the pixels that were measured, whatever their order and the form that they came in."""
        return hashlib.sha256(b"".join(sorted(self.digests.values()))).hexdigest()

    def describe(self) -> dict:
        """Where the images come from and what was done to them, for the protocol, once they have been measured."""
        crop = "none"
        if self.num_cropped and self.transform is None:  # what a model made of cropped images is as it made them
            crop = f"ADM centre crop to {width_by_height(self.find_size())} (box halving, then bicubic)"
        return {
            "source": self.source,
            "fingerprint": self.fingerprint,
            "form": "images",
            "n": len(self.digests),
            "unreadable": len(self.broken),
            "size": width_by_height(self.find_size()),
            "crop": crop,
            "rounding": "none: 8-bit images are taken as stored",
        }

    def _cropped(self, image: Image.Image, index: int, size: tuple[int, int]) -> Image.Image:
        if self.first_key is not None:
            raise RestokError(
                f"{self.source}: {self.first_key} is {width_by_height(size)} but {self.key(index)} is"
                f" {width_by_height((image.height, image.width))}; the images to measure must have one size, which"
                " --crop gives them"
            )
        return center_crop(image, size)


def from_all_processes(rounds: Iterator[list[Found]], num_groups: int, at_once: int = 1) -> Iterator[Found]:
    """The findings of all processes in process 0, in the order of the groups; the others send theirs there.

    The groups are dealt to the processes in turn; in each of its `rounds`, this one goes through `at_once` of its own.
    """
    for _ in range(0, num_groups, world_size() * at_once):
        found = gather(next(rounds, []))
        if rank() == 0:
            yield from (one for turn in zip_longest(*found) for one in turn if one is not None)
