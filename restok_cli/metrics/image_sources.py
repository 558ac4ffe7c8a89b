"""The forms in which `evaluate` takes images: folders, .npz files, tars, data sets, a stream."""

import math
import os
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from typing import IO, BinaryIO, NamedTuple
from unicodedata import normalize

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from restok_cli.console import readable
from restok_cli.data.arrays import MAX_UNPACKED, NPZ_ERRORS, open_member, read_member
from restok_cli.data.image_files import PNG_DEPTH, open_image, read_file, read_image, split_image_name
from restok_cli.data.image_folders import IMAGE_MANIFEST, check_image
from restok_cli.data.shards.dataset import Split, open_dataset
from restok_cli.data.shards.layout import is_dataset
from restok_cli.data.shards.manifests import locate
from restok_cli.data.shards.tars import contents, list_files
from restok_cli.data.sources.listing import place_in_tar
from restok_cli.data.sources.walk import find_images, is_hidden, tars_in
from restok_cli.data.streams import SIDE_SUFFIXES, PassedOver, read_stream
from restok_cli.errors import ImageError, RestokError, UsageError
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, naming
from restok_cli.metrics.image_sets import ImageSet
from restok_cli.processes import rank
from restok_cli.schema import check, read_json_lines

CHUNK = 2**20  # bytes
FORMS = "a folder of images, an .npz file, tar files, a data set, or - for a tar stream on stdin"


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
    listed = (path / IMAGE_MANIFEST).is_file()
    files, digests = _listed(path / IMAGE_MANIFEST) if listed else (find_images(path), None)

    def read(index: int) -> Image.Image:
        name = str(files[index])
        data = read_file(files[index], name, limits.num_bytes)
        try:
            check_image(data, digests[index] if digests else None, name)
        except ImageError as error:
            raise RestokError(str(error)) from None  # not left out: the numbers would be of other images
        return _read(data, name, limits)

    return ImageSet(
        source=str(path),
        count=len(files),
        key=lambda index: split_image_name(readable(files[index].relative_to(path).as_posix()))[0],
        open=read,
        listed=listed,
    )


class _Entry(BaseModel):
    """A line of the manifest of a folder of images."""

    file: str = Field(pattern=r"^[^\x00]+$")
    file_crc32: str | None = None


def _listed(manifest: Path) -> tuple[list[Path], list[str | None]]:
    """The images that a manifest lists, and their digests where it has them."""
    remedy = "delete it to take all images in its folder"
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
    splits = open_dataset(source, max_member_bytes=max_bytes).chosen(split)
    name = "+".join(splits)
    joined = Split(name, [shard for part in splits.values() for shard in part.shards])
    owners = [owner for owner, part in splits.items() for _ in part.shards]

    def split_of(index: int) -> str:
        return owners[locate(joined.ends, index)[0]]

    several = split_of if len(splits) > 1 else None
    return ImageSet(f"{source} ({name})", len(joined), joined.key, joined.image, several)


def _from_npz(path: Path, max_pixels: int) -> ImageSet:
    # read from the archive one by one: 50,000 images of 256 pixels are 10 GB
    try:
        archive = zipfile.ZipFile(path)  # stays open as long as the images are in use
        (shape, fortran_order, dtype), member = open_member(archive, "arr_0")
        start = member.tell()
    except NPZ_ERRORS as error:
        raise RestokError(f"{path} cannot be read as images ({error}); expected an .npz with arr_0") from error
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise RestokError(f"{path}: arr_0 is {dtype} {shape}; expected uint8 images (n, height, width, 3)")
    if shape[1] * shape[2] > max_pixels:
        raise RestokError(
            f"{path}: its images have {shape[1] * shape[2]} pixels, over the limit; --max-decoded-pixels admits them"
        )
    if rank() == 0:
        _check_whole(path, member)
    images = None
    if fortran_order:  # where every image lies all over the file
        if math.prod(shape) > MAX_UNPACKED:
            raise RestokError(
                f"{path}: arr_0 is in the order of Fortran, in which {math.prod(shape):,} bytes are too many to be"
                " read; save np.ascontiguousarray(arr_0)"
            )
        images = read_member(archive, "arr_0")
    image_bytes = shape[1] * shape[2] * 3

    def read(index: int) -> Image.Image:
        if images is not None:
            return Image.fromarray(np.ascontiguousarray(images[index]))
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


class _ImageFile(NamedTuple):
    """An image file within another one."""

    key: str
    name: str  # for messages
    read: Callable[[], bytes]  # raises ImageError where it cannot be read


def _from_tars(source: str, tars: list[Path], limits: Limits) -> ImageSet:
    images = []
    for path in tars:
        passed_over = PassedOver(str(path))
        with open(path, "rb") as tar:
            files = list_files(tar, str(path))
        for file in files:
            name = readable(file.name).removeprefix("./")
            key, suffix = split_image_name(name)
            if suffix and not is_hidden(name):
                named = f"{path}: {name}"
                images.append(_ImageFile(key, named, partial(place_in_tar(file, path).read, named, limits.num_bytes)))
            elif not name.lower().endswith(SIDE_SUFFIXES):
                passed_over.add(name)
        passed_over.say()
    return _from_files(source, images, limits)


def _from_stream(stdin: BinaryIO, limits: Limits) -> ImageSet:
    # set down on the disk, unnamed, since several metrics go through the images more than once
    file = tempfile.TemporaryFile()  # noqa: SIM115  stays open as long as the images are in use

    def read(offset: int, length: int) -> bytes:
        return os.pread(file.fileno(), length, offset)  # moves no position: threads may share it

    images = []
    with naming(Path(tempfile.gettempdir())):
        for image in read_stream(stdin, limits.num_bytes):
            if isinstance(image.data, ImageError):
                get = partial(contents, image.data)
            else:
                get = partial(read, file.tell(), len(image.data))
                file.write(image.data)
            images.append(_ImageFile(image.key, f"stdin: {image.key}.{image.suffix}", get))
        file.flush()
    return _from_files("stdin", images, limits)


def _from_files(source: str, images: list[_ImageFile], limits: Limits) -> ImageSet:
    if not images:
        raise UsageError(f"{source} holds no images; give {FORMS}")

    def read(index: int) -> Image.Image:
        return _read(images[index].read(), images[index].name, limits)

    return ImageSet(source=source, count=len(images), key=lambda index: images[index].key, open=read)


def _read(data: bytes, name: str, limits: Limits) -> Image.Image:
    if limits.exact:
        _check_rgb(data, name, limits.pixels)
    return read_image(data, name, limits.pixels)


def _check_rgb(data: bytes, name: str, max_pixels: int) -> None:
    """Raises RestokError for an image that is not 8-bit RGB, ImageError for what is none."""
    with open_image(data, name, max_pixels) as image:
        mode, transparent = image.mode, image.has_transparency_data
        # Pillow would cut these to 8 bits
        deep = image.format == "PNG" and data[PNG_DEPTH] == 16
    if mode in ("RGB", "P", "CMYK", "YCbCr") and not transparent and not deep:
        return
    what = "16 bits per channel" if deep or mode.startswith("I") else f"mode {mode}"
    raise RestokError(
        f"{name} has {'transparency' if transparent else what}; the images to measure must be 8-bit RGB, so that"
        " nothing is changed unseen: convert them, or `restok prepare folder` makes a data set of them"
    )
