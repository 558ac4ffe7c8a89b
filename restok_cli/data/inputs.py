"""The images that `encode` and `reconstruct` take: files, folders, a data set, or a tar stream on stdin."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple
from unicodedata import normalize

import torch
from PIL import Image

from restok_cli.console import note, readable
from restok_cli.data.image_files import center_crop, read_file, read_image, split_image_name
from restok_cli.data.image_folders import check_image, known_digests
from restok_cli.data.images import to_tensor
from restok_cli.data.shards.dataset import Split, open_dataset
from restok_cli.data.shards.layout import NO_CLASS, is_dataset
from restok_cli.data.shards.tars import contents
from restok_cli.data.sources.walk import find_images
from restok_cli.data.streams import read_stream
from restok_cli.errors import ImageError, RestokError, UsageError
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES

READERS = 4  # threads that decode images; no more, as each may hold one of hundreds of megabytes
MAX_NAME = 255 - len(".png")  # bytes that file systems leave for a name


class Input(NamedTuple):
    """One image, still unread."""

    key: str  # its name, with slashes and without a suffix: what outputs are called after
    class_id: int
    read: Callable[[], Image.Image]  # raises ImageError where it cannot be decoded


class InputBatch(NamedTuple):
    """Images of one size."""

    keys: list[str]
    class_ids: list[int]
    images: torch.Tensor  # uint8 (B, 3, H, W)


class Inputs:
    """Images in order, and how many of them could not be decoded so far."""

    def __init__(self, images: Iterable[Input], count: int | None):
        self.images, self.count = images, count  # of a stream nobody knows the count
        self.left_out: list[str] = []  # why, of each

    @property
    def unreadable(self) -> int:
        return len(self.left_out)

    def batches(self, size: tuple[int, int] | None, batch_size: int) -> Iterator[InputBatch]:
        """Images cropped to `size` (height, width); where that is None, as they are, with their neighbours of a size.

        Those that cannot be decoded are noted and left out.
        """
        batch: list[tuple[Input, torch.Tensor]] = []
        for found, tensor in self._tensors(size, batch_size):
            if isinstance(tensor, ImageError):
                self.left_out.append(f"left out: {tensor}")
                note(self.left_out[-1])
                continue
            if batch and tensor.shape != batch[0][1].shape:
                yield _batched(batch)
                batch = []
            batch.append((found, tensor))
            if len(batch) == batch_size:  # before the next one is asked for, which in a pipe may be long in coming
                yield _batched(batch)
                batch = []
        if batch:
            yield _batched(batch)

    def _tensors(self, size: tuple[int, int] | None, ahead: int) -> Iterator[tuple[Input, torch.Tensor | ImageError]]:
        """Each image, decoded by threads while those before it are computed; or why it cannot be.

        One of a stream when it is asked for: nobody knows when the next comes.
        """

        def decode(found: Input) -> tuple[Input, torch.Tensor | ImageError]:
            try:
                image = found.read()
            except ImageError as error:
                return found, error
            return found, to_tensor(center_crop(image, size) if size else image)

        if self.count is None:
            yield from map(decode, self.images)
            return
        waiting = iter(self.images)
        pool = ThreadPoolExecutor(READERS)  # Pillow lets other threads run
        try:
            reading = deque(pool.submit(decode, found) for found in islice(waiting, max(ahead, READERS)))
            while reading:
                yield reading.popleft().result()
                reading += [pool.submit(decode, found) for found in islice(waiting, 1)]
        finally:
            pool.shutdown(cancel_futures=True)


def _batched(found: list[tuple[Input, torch.Tensor]]) -> InputBatch:
    inputs, images = zip(*found, strict=True)
    return InputBatch([one.key for one in inputs], [one.class_id for one in inputs], torch.stack(images))


def find_inputs(
    images: list[str],
    split: str,
    stdin: BinaryIO,
    max_pixels: int = MAX_DECODED_PIXELS,
    max_bytes: int = MAX_MEMBER_BYTES,
) -> Inputs:
    """Find the inputs that `images` name: `-` (a tar stream on stdin), one data set, or files and folders.

    Images of more than `max_pixels` cannot be decoded, but for those of a data set, which `prepare` let in. Of files
    with more than `max_bytes` none is read.

    Raises UsageError where something is not there, or two files would have one name, RestokError where an image's name
    can be no file's.
    """
    if "-" in images:
        if len(images) > 1:
            raise UsageError("- stands for the images on stdin; give it alone")
        return Inputs(_from_stream(stdin, max_pixels, max_bytes), None)
    if len(images) == 1 and is_dataset(images[0]):
        part = open_dataset(images[0], max_member_bytes=max_bytes).split(split)
        return Inputs(_from_dataset(part), len(part))
    if sets := [image for image in images if is_dataset(image)]:
        raise UsageError(f"{sets[0]} is a data set, which stands alone; give it without other images")
    files = _named_files([Path(image) for image in images])
    found = [Input(key, NO_CLASS, partial(_read, *file, max_pixels, max_bytes)) for key, file in files.items()]
    taken: set[str] = set()
    for image in found:
        check_key(image.key, taken, "the list of images")
    return Inputs(found, len(found))


def _from_dataset(part: Split) -> Iterator[Input]:
    """The samples, each key read when its image is next: in the tars of millions, that takes minutes."""
    keys: set[str] = set()
    for i in range(len(part)):
        key = check_key(part.key(i), keys, f"the split {part.name} of the data set")
        yield Input(key, part.class_id(i), partial(part.image, i))


def _read(file: Path, crc32: str | None, max_pixels: int, max_bytes: int) -> Image.Image:
    data = check_image(read_file(file, str(file), max_bytes), crc32, str(file))
    return read_image(data, str(file), max_pixels)


def _from_stream(file: BinaryIO, max_pixels: int, max_bytes: int) -> Iterator[Input]:
    keys: set[str] = set()
    for image in read_stream(file, max_bytes):
        key = check_key(image.key, keys, "the tar stream")
        class_id = image.info.get("class_id", NO_CLASS)
        name = f"the tar stream: {image.key}.{image.suffix}"
        yield Input(key, class_id, lambda data=image.data, name=name: read_image(contents(data), name, max_pixels))


def check_key(key: str, taken: set[str], source: str) -> str:
    """The key, added to those taken. Raises RestokError where no file `<key>.png` can be, or another one is."""
    is_text = key == key.encode(errors="replace").decode()
    if not is_text or not key or key.startswith("/") or "\0" in key or {"", ".", ".."} & set(key.split("/")):
        raise RestokError(f"{source} holds an image called {key!r}, which can be no file below the output folder")
    if any(len(part.encode(errors="replace")) > MAX_NAME for part in key.split("/")):
        raise RestokError(f"{source} holds an image called {key[:40]}…; names may have {MAX_NAME} bytes at most")
    if key in taken:
        raise RestokError(f"{source} holds two images called {key}; names must differ")
    folders = [f"{folder}/" for folder in PurePosixPath(key).parents[:-1]]
    files = {folder for folder in folders if folder.endswith(".png/") and folder.removesuffix(".png/") in taken}
    for file in files | ({f"{key}.png/"} & taken):
        raise RestokError(
            f"{source} holds an image called {file.removesuffix('.png/')} and others in a folder {file}; of the"
            " first, the output would be a file of that name: rename one"
        )
    taken.update((key, *folders))  # with their slashes, folders are told from images
    return key


def _named_files(paths: list[Path]) -> dict[str, tuple[Path, str | None]]:
    """Image files, with their digests where known, by the names that their outputs get: their path in the folder that
    was given, without its suffix where that is an image's.

    Raises UsageError where two would get the same name.
    """
    names: dict[str, tuple[Path, str | None]] = {}
    for path in paths:
        digests = known_digests(path)
        for file in find_images(path):
            relative = file.relative_to(path) if path.is_dir() else Path(file.name)
            name = readable(split_image_name(relative.as_posix())[0])
            if name in names:
                raise UsageError(
                    f"{names[name][0]} and {file} would both become {name}.png; give them one after the other"
                )
            names[name] = file, digests.get(normalize("NFC", relative.as_posix()))
    return names
