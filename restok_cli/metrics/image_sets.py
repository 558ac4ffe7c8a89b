"""Sets of images in the forms that `evaluate` takes, all of one size, read in groups that never change.

The group is the unit of everything: images go through networks, into the cache and to other processes by groups of
the same images in the same order, so that no number depends on how many are read at a time or by how many processes.
"""

import hashlib
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from pathlib import Path, PurePath
from typing import IO, BinaryIO, NamedTuple
from unicodedata import normalize

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, Field
from torch import Tensor

from restok_cli.console import counted, note, readable
from restok_cli.data.arrays import MAX_UNPACKED, NPZ_ERRORS, open_member, read_member
from restok_cli.data.image_files import PNG_DEPTH, center_crop, open_image, read_file, read_image
from restok_cli.data.image_folders import PICTURE_MANIFEST, check_picture
from restok_cli.data.images import to_tensor
from restok_cli.data.names import split_picture_name
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.shards.layout import is_dataset
from restok_cli.data.shards.manifests import locate
from restok_cli.data.shards.tars import list_files, why_unread
from restok_cli.data.sources.walk import find_images, is_hidden, tars_in
from restok_cli.data.streams import SIDE_SUFFIXES, PassedOver, read_stream
from restok_cli.errors import PictureError, RestokError, UsageError
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES
from restok_cli.processes import rank
from restok_cli.schema import check, read_json_lines

GROUP_SIZE = 16  # images that go through a network together
CHUNK = 2**20  # bytes
READING_THREADS = min(8, os.cpu_count() or 1)
FORMS = "a folder of pictures, an .npz file, tar files, a data set, or - for a tar stream on stdin"


class Group(NamedTuple):
    """Some neighbouring images of a set, as they are measured."""

    indices: list[int]  # of the images that could be decoded
    images: Tensor  # uint8 (B, 3, H, W) of those
    digests: list[bytes]  # SHA-256 of the pixels of each
    broken: dict[int, str]  # what was wrong with the others
    num_cropped: int  # images that had another size


@dataclass
class ImageSet:
    """A set of images. Their size is that of the first one that can be read, unless `crop_to` sets it."""

    source: str
    count: int
    key: Callable[[int], str]  # pairs an image with one of another set
    open: Callable[[int], Image.Image]  # raises PictureError where the image cannot be decoded
    split: Callable[[int], str] | None = None  # of a data set's images, where they are of several
    named: bool = True  # whether keys mean something; where not, the order does
    listed: bool = False  # whether a manifest says which images belong to the set
    threads: int = READING_THREADS  # that may read at the same time
    size: tuple[int, int] | None = None  # (height, width)
    first_key: str | None = None  # of the image that set the size
    transform: Callable[[int, Tensor], Tensor] | None = None  # number of the group, images -> images; see `changed`
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
            except PictureError:
                continue
            self.size, self.first_key = (image.height, image.width), self.key(index)
            return self.size
        raise RestokError(f"of {counted(self.count, 'picture')} of {self.source}, none can be decoded")

    def changed(self, source: str, transform: Callable[[int, Tensor], Tensor]) -> "ImageSet":
        """This set, each group of its images (B, 3, H, W) uint8 put through `transform` with the group's number."""
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
            except PictureError as error:
                broken[index] = str(error)
                continue
            if (image.height, image.width) != size:
                image = self._cropped(image, index, size)
                num_cropped += 1
            indices.append(index)
            images.append(to_tensor(image))
        stacked = torch.stack(images) if images else torch.empty(0, 3, *size, dtype=torch.uint8)
        if self.transform is not None and images:
            stacked = self.transform(number, stacked)
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

    def saw(self, indices: list[int], digests: list[bytes], broken: dict[int, str], num_cropped: int) -> None:
        """Keep account of a group that was measured; what could not be decoded is said once."""
        for index, problem in broken.items():
            if index not in self.broken:
                note(f"left out: {problem}")
                self.broken.add(index)
        if any(index not in self.digests for index in indices):
            self.num_cropped += num_cropped
        self.digests |= dict(zip(indices, digests, strict=True))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the pixels that were measured, whatever their order and the form that they came in."""
        return hashlib.sha256(b"".join(sorted(self.digests.values()))).hexdigest()

    def _cropped(self, image: Image.Image, index: int, size: tuple[int, int]) -> Image.Image:
        if self.first_key is not None:
            raise RestokError(
                f"{self.source}: {self.first_key} is {size_text(size)} but {self.key(index)} is"
                f" {size_text((image.height, image.width))}; the pictures to measure must have one size, which"
                " --crop gives them"
            )
        return center_crop(image, size)


def size_text(size: tuple[int, int]) -> str:
    """(height, width) as people write it, width first."""
    return f"{size[1]}x{size[0]}"


# --- opening ------------------------------------------------------------------------------------------------------


class Limits(NamedTuple):
    """Conditions that image files must meet to be taken."""

    exact: bool  # 8-bit RGB
    pixels: int  # at most
    num_bytes: int  # at most


def open_images(
    source: str,
    split: str,
    stdin: BinaryIO | None = None,
    exact: bool = False,
    max_pixels: int = MAX_DECODED_PIXELS,
    max_bytes: int = MAX_MEMBER_BYTES,
) -> ImageSet:
    """Open a folder of images or of tar files, an ADM .npz (`arr_0` uint8 (n, H, W, 3)), a tar file, a data set (a
    prepared folder, `sample`), or for "-" the tar stream `stdin`.

    `split` names the split of a data set, or is "all". With `exact`, files must hold 8-bit RGB: others are what no
    generator writes, and would be changed by making them so. Images of more than `max_pixels` are not decoded, but in
    a data set, and files of more than `max_bytes` are not read. Raises UsageError or RestokError for anything else.
    """
    path, limits = Path(source), Limits(exact, max_pixels, max_bytes)
    if source == "-" and stdin is not None:
        return _from_stream(stdin, limits)
    if is_dataset(source):
        return _from_data_set(source, split, max_bytes)
    if not path.exists():
        raise UsageError(f"{source}: no such file or folder; give {FORMS}")
    if path.suffix.lower() == ".npz":
        return _from_npz(path, max_pixels)
    if path.suffix.lower() == ".tar":
        return _from_tars(source, [path], limits)
    if path.is_file():
        raise UsageError(f"{source} is a single file; give {FORMS}")
    tars = tars_in(path)
    return _from_tars(source, tars, limits) if tars else _from_folder(path, limits)


def _from_folder(path: Path, limits: Limits) -> ImageSet:
    listed = (path / PICTURE_MANIFEST).is_file()
    files, digests = _listed(path / PICTURE_MANIFEST) if listed else (find_images([path]), None)

    def read(index: int) -> Image.Image:
        name = str(files[index])
        data = read_file(files[index], name, limits.num_bytes)
        try:
            check_picture(data, digests[index] if digests else None, name)
        except PictureError as error:
            raise RestokError(str(error)) from None  # not left out: the numbers would be of other images
        return _read(data, name, limits)

    return ImageSet(
        source=str(path),
        count=len(files),
        key=lambda index: split_picture_name(readable(files[index].relative_to(path).as_posix()))[0],
        open=read,
        listed=listed,
    )


class _Entry(BaseModel):
    """A line of the manifest of a folder of images."""

    file: str = Field(pattern=r"^[^\x00]+$")
    file_crc32: str | None = None


def _listed(manifest: Path) -> tuple[list[Path], list[str | None]]:
    """The images that a manifest lists, and their digests where it has them."""
    remedy = "delete it to take all pictures in its folder"
    lines = [check(_Entry, line, str(manifest), remedy) for line in read_json_lines(manifest, remedy)]
    names, digests = [PurePath(line.file) for line in lines], [line.file_crc32 for line in lines]
    if outside := [name for name in names if name.is_absolute() or ".." in name.parts]:
        raise RestokError(f"{manifest} lists {outside[0]}, which is not in its folder; {remedy}")
    files = [manifest.parent / name for name in names]
    if all(file.exists() for file in files):
        return files, digests
    # copied by way of another system, names may be written otherwise
    there = {normalize("NFC", str(file)): file for file in manifest.parent.rglob("*")}
    return [there.get(normalize("NFC", str(file)), file) for file in files], digests


def _from_data_set(source: str, split: str, max_bytes: int) -> ImageSet:
    dataset = open_dataset(source, max_member_bytes=max_bytes)
    splits = dataset.chosen(split)
    names, parts = list(splits), list(splits.values())
    ends = list(accumulate(len(part) for part in parts))

    def key(index: int) -> str:
        number, position = locate(ends, index)
        return parts[number].key(position)

    def read(index: int) -> Image.Image:
        number, position = locate(ends, index)
        return parts[number].image(position)

    def split_of(index: int) -> str:
        return names[locate(ends, index)[0]]

    several = split_of if len(names) > 1 else None
    return ImageSet(source=f"{source} ({'+'.join(names)})", count=ends[-1], key=key, open=read, split=several)


def _from_npz(path: Path, max_pixels: int) -> ImageSet:
    # read from the archive one by one: 50,000 images of 256 pixels are 10 GB
    try:
        archive = zipfile.ZipFile(path)  # stays open as long as the images are in use
        (shape, fortran_order, dtype), member = open_member(archive, "arr_0")
        start = member.tell()
    except NPZ_ERRORS as error:
        raise RestokError(f"{path} cannot be read as pictures ({error}); expected an .npz with arr_0") from error
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise RestokError(f"{path}: arr_0 is {dtype} {shape}; expected uint8 pictures (n, height, width, 3)")
    if shape[1] * shape[2] > max_pixels:
        raise RestokError(
            f"{path}: its pictures have {shape[1] * shape[2]} pixels, over the limit; --max-decoded-pixels admits them"
        )
    if rank() == 0:
        _check_whole(path, member)
    if fortran_order:  # where every image lies all over the file
        if math.prod(shape) > MAX_UNPACKED:
            raise RestokError(
                f"{path}: arr_0 is in the order of Fortran, in which {math.prod(shape):,} bytes are too many to be"
                " read; save np.ascontiguousarray(arr_0)"
            )
        images = read_member(archive, "arr_0")
        return ImageSet(
            *(str(path), shape[0], lambda index: f"{index:06d}"),
            lambda index: Image.fromarray(np.ascontiguousarray(images[index])),
            named=False,
        )
    image_bytes = shape[1] * shape[2] * 3

    def read(index: int) -> Image.Image:
        member.seek(start + index * image_bytes)  # costs nothing in file order
        return Image.fromarray(np.frombuffer(member.read(image_bytes), np.uint8).reshape(shape[1:]))

    return ImageSet(str(path), shape[0], lambda index: f"{index:06d}", read, named=False, threads=1)


def _check_whole(path: Path, member: IO[bytes]) -> None:
    """Raises RestokError where an array in an .npz file is damaged, whose checksum stands at its end."""
    try:
        while member.read(CHUNK):
            pass
    except NPZ_ERRORS as error:
        problem = "its checksum is wrong" if isinstance(error, zipfile.BadZipFile) else error
        raise RestokError(f"{path}: arr_0.npy is damaged ({problem}); copy or make the file again") from error


class _Place(NamedTuple):
    """A piece of a file that is an image file."""

    key: str
    name: str  # for messages
    file: BinaryIO
    offset: int
    length: int
    problem: PictureError | None  # why it is not read


def _from_tars(source: str, tars: list[Path], limits: Limits) -> ImageSet:
    places = []
    for path in tars:
        file = open(path, "rb")  # noqa: SIM115  stays open as long as the images are in use
        passed_over = PassedOver(str(path))
        for member in list_files(file, str(path)):
            name = readable(member.name).removeprefix("./")
            key, suffix = split_picture_name(name)
            if suffix and not is_hidden(name):
                problem = why_unread(member, f"{path}: {name}", limits.num_bytes)
                places.append(_Place(key, f"{path}: {name}", file, member.offset_data, member.size, problem))
            elif not name.lower().endswith(SIDE_SUFFIXES):
                passed_over.add(name)
        passed_over.say()
    return _from_places(source, places, limits)


def _from_stream(stdin: BinaryIO, limits: Limits) -> ImageSet:
    # set down on the disk, unnamed, since several metrics go through the images more than once
    file = tempfile.TemporaryFile()  # noqa: SIM115  stays open as long as the images are in use
    places = []
    for image in read_stream(stdin, limits.num_bytes):
        data, problem = (b"", image.data) if isinstance(image.data, PictureError) else (image.data, None)
        name = f"stdin: {image.key}.{image.suffix}"
        places.append(_Place(image.key, name, file, file.tell(), len(data), problem))
        file.write(data)
    file.flush()
    return _from_places("stdin", places, limits)


def _from_places(source: str, places: list[_Place], limits: Limits) -> ImageSet:
    if not places:
        raise UsageError(f"{source} holds no pictures; give {FORMS}")

    def read(index: int) -> Image.Image:
        place = places[index]
        if place.problem:
            raise place.problem
        data = os.pread(place.file.fileno(), place.length, place.offset)  # moves no position: threads may share it
        return _read(data, place.name, limits)

    return ImageSet(source=source, count=len(places), key=lambda index: places[index].key, open=read)


def _read(data: bytes, name: str, limits: Limits) -> Image.Image:
    if limits.exact:
        _check_rgb(data, name, limits.pixels)
    return read_image(data, name, limits.pixels)


def _check_rgb(data: bytes, name: str, max_pixels: int) -> None:
    """Raises RestokError for an image that is not 8-bit RGB, PictureError for what is none."""
    with open_image(data, name, max_pixels) as image:
        mode, transparent = image.mode, image.has_transparency_data
        # Pillow would cut these to 8 bits
        deep = image.format == "PNG" and data[PNG_DEPTH] == 16
    if mode in ("RGB", "P", "CMYK", "YCbCr") and not transparent and not deep:
        return
    what = "16 bits per channel" if deep or mode.startswith("I") else f"mode {mode}"
    raise RestokError(
        f"{name} has {'transparency' if transparent else what}; the pictures to measure must be 8-bit RGB, so that"
        " nothing is changed unseen: convert them, or `restok prepare folder` makes a data set of them"
    )
