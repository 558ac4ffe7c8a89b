"""Sets of pictures in the forms that `evaluate` takes, read one at a time and all of one size."""

import hashlib
import json
import os
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restok_cli.console import note
from restok_cli.data.images import center_crop, find_images, read_image, to_tensor
from restok_cli.data.shards import Split, is_dataset, open_dataset
from restok_cli.errors import PictureError, RestokError, UsageError

MANIFEST_FILE = "manifest.jsonl"  # what generate and reconstruct write beside their pictures: a line for each


@dataclass
class Pictures:
    """A set of pictures. Their size is that of the first one read, unless `crop_to` sets it."""

    source: str
    fingerprint: str  # SHA-256 over the files, or the data set's own
    count: int
    key: Callable[[int], str]  # pairs a picture with one of another set
    open: Callable[[int], Image.Image]  # raises RestokError where the picture cannot be decoded
    size: tuple[int, int] | None = None  # (height, width)
    first_key: str | None = None  # of the picture that set the size
    cropped: bool = False  # whether any picture had another size
    unreadable: set[int] = field(default_factory=set)

    def crop_to(self, size: tuple[int, int]) -> None:
        """From here on bring pictures to `size` (height, width) by the ADM centre crop."""
        self.size, self.first_key = size, None

    def read(self, index: int) -> Tensor | None:
        """Picture `index` as uint8 (3, H, W), or None where it cannot be decoded, which is noted once and counted.

        Raises RestokError where its size is not that of the others and `crop_to` was not called.
        """
        try:
            image = self.open(index)
        except PictureError as error:
            if index not in self.unreadable:
                note(f"left out: {error}")
                self.unreadable.add(index)
            return None
        size = (image.height, image.width)
        if self.size is None:
            self.size, self.first_key = size, self.key(index)
        if size != self.size:
            if self.first_key is not None:
                raise RestokError(
                    f"{self.source}: {self.first_key} is {size_text(self.size)} but {self.key(index)} is"
                    f" {size_text(size)}; the pictures to measure must have one size"
                )
            self.cropped = True
            image = center_crop(image, self.size)
        return to_tensor(image)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """All that can be decoded, in order, as uint8 (B, 3, H, W); the last batch may be shorter."""
        batch = []
        for index in range(self.count):
            image = self.read(index)
            if image is not None:
                batch.append(image)
            if batch and (len(batch) == batch_size or index == self.count - 1):
                yield torch.stack(batch)
                batch = []


def size_text(size: tuple[int, int]) -> str:
    """(height, width) as people write it, width first."""
    return f"{size[1]}x{size[0]}"


def open_pictures(source: str, split: str) -> Pictures:
    """Open a folder of pictures, an ADM .npz (`arr_0` uint8 (n, H, W, 3)) or a data set (a prepared folder, `sample`).

    `split` names the split of a data set, or is "all". Raises UsageError or RestokError for anything else.
    """
    path = Path(source)
    if is_dataset(source):
        return _from_data_set(source, split)
    if not path.exists():
        raise UsageError(f"{source}: no such file or folder; give a folder of pictures, an .npz file or a data set")
    if path.suffix == ".npz":
        return _from_npz(path)
    if path.is_file():
        raise UsageError(f"{source} is a single file; give a folder of pictures, an .npz file or a data set")
    return _from_folder(path)


def match_pairs(samples: Pictures, reference: Pictures) -> list[tuple[int, int]]:
    """The indices (in samples, in reference) of the pictures that have the same key, in the order of `samples`.

    Raises RestokError where a key is in one set only, naming the first, or twice in one set.
    """
    ours, theirs = _index_by_key(samples), _index_by_key(reference)
    for keys, source, others, other_source in (
        (ours, samples.source, theirs, reference.source),
        (theirs, reference.source, ours, samples.source),
    ):
        lonely = next((key for key in keys if key not in others), None)
        if lonely is not None:
            raise RestokError(
                f"{lonely} of {source} ({len(keys)} pictures) has no partner in {other_source} ({len(others)});"
                " pairs need the same paths in both folders, suffix aside"
            )
    return [(index, theirs[key]) for key, index in ours.items()]


def _index_by_key(pictures: Pictures) -> dict[str, int]:
    indices: dict[str, int] = {}
    for index in range(pictures.count):
        key = pictures.key(index)
        if key in indices:
            raise RestokError(f"{pictures.source} holds two pictures called {key}; pairs need unique names")
        indices[key] = index
    return indices


def _from_folder(path: Path) -> Pictures:
    files = _listed(path / MANIFEST_FILE) if (path / MANIFEST_FILE).is_file() else find_images([path])
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file.relative_to(path)) + f"\0{file_sha256(file)}\n".encode())
    return Pictures(
        source=str(path),
        fingerprint=digest.hexdigest(),
        count=len(files),
        key=lambda index: files[index].relative_to(path).with_suffix("").as_posix(),
        open=lambda index: read_image(files[index], str(files[index])),
    )


def _listed(manifest: Path) -> list[Path]:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
        return [manifest.parent / json.loads(line)["file"] for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        raise RestokError(
            f"{manifest} does not list pictures ({error!r}); delete it to take all in its folder"
        ) from error


def _from_data_set(source: str, split: str) -> Pictures:
    dataset = open_dataset(source)
    names = list(dataset.splits) if split == "all" else [split]
    parts = [dataset.split(name) for name in names]
    ends = list(accumulate(len(part) for part in parts))

    def locate(index: int) -> tuple[Split, int]:
        number = bisect_right(ends, index)
        return parts[number], index - ends[number] + len(parts[number])

    def key(index: int) -> str:
        part, position = locate(index)
        return part.key(position)

    def read(index: int) -> Image.Image:
        part, position = locate(index)
        return part.image(position)

    return Pictures(
        source=f"{source} ({'+'.join(names)})",
        fingerprint=dataset.fingerprint,
        count=ends[-1],
        key=key,
        open=read,
    )


def _from_npz(path: Path) -> Pictures:
    # read from the archive one by one: 50,000 pictures of 256 pixels are 10 GB
    try:
        archive = zipfile.ZipFile(path)  # stays open as long as the pictures are in use
        damaged = archive.testzip()
        member = archive.open("arr_0.npy")
        np.lib.format.read_magic(member)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
    except (KeyError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise RestokError(f"{path} cannot be read as pictures ({error}); expected an .npz with arr_0") from error
    if damaged is not None:
        raise RestokError(f"{path}: {damaged} is damaged (its checksum is wrong); copy or make the file again")
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape[1:] or fortran_order:
        raise RestokError(f"{path}: arr_0 is {dtype} {shape}; expected uint8 pictures (n, height, width, 3)")
    start, picture_bytes = member.tell(), shape[1] * shape[2] * 3

    def read(index: int) -> Image.Image:
        member.seek(start + index * picture_bytes)  # costs nothing in file order
        return Image.fromarray(np.frombuffer(member.read(picture_bytes), np.uint8).reshape(shape[1:]))

    return Pictures(str(path), file_sha256(path), shape[0], lambda index: f"{index:06d}", read)


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
