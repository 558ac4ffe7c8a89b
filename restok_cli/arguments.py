"""Arguments of the Python interface, made into what the rest of restok takes; each error is one line."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restok_cli.data.image_files import center_crop, read_image, to_rgb
from restok_cli.data.images import to_tensor
from restok_cli.devices import tf32
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import parse_model
from restok_cli.machine import DEVICE_TYPES
from restok_cli.room import is_out_of_memory
from restok_cli.threads import Together

ImageFile = str | Path | Image.Image
Images = ImageFile | Sequence[ImageFile] | np.ndarray | Tensor


@contextmanager
def _real_float32() -> Iterator[None]:
    """In the block, new tensors are float32, and float32 is computed as such, in all threads."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with tf32(False):
            yield
    finally:
        torch.set_default_dtype(dtype)


real_float32 = Together(_real_float32)


@contextmanager
def settled() -> Iterator[None]:
    """In the block, torch is as in a command whatever a notebook has set: nothing is cast by autocast, float32 is
    float32, and so are new tensors, which lie on the CPU unless they say otherwise. Raises RestokError where memory
    runs out.
    """
    with ExitStack() as stack:
        for kind in filter(torch.is_autocast_enabled, DEVICE_TYPES):
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(real_float32)
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise RestokError("out of memory; give a smaller batch_size, another device or another model") from error


def dense_tensor(array: np.ndarray | Tensor, name: str) -> Tensor:
    if isinstance(array, Tensor):
        if array.is_meta or array.is_nested or array.layout != torch.strided:
            raise UsageError(f"{name} are a tensor that is nested or sparse, or has no values; give a dense one")
        return array
    try:
        array = np.asarray(array)
        native = array.dtype.newbyteorder("=")
        return torch.from_numpy(np.array(array, native, order="C"))  # a copy, whose strides and flags suit torch
    except ValueError as error:  # lists of unequal lengths
        raise UsageError(f"{name} are no array ({error}); give rows of equal lengths") from error
    except TypeError as error:  # of objects, texts and the like
        raise UsageError(f"{name} are {np.asarray(array).dtype}; give numbers") from error


def whole(name: str, value: int, least: int, most: int = 2**63 - 1) -> int:
    """The number as Python's own. Raises UsageError where it is no whole one, or out of range."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= most:
        end = "on" if most == 2**63 - 1 else f"to {most}"
        raise UsageError(f"{name} = {value!r}; give a whole number from {least} {end}")
    return number


def model_path(name: str, model: str | Path) -> Path:
    if not isinstance(model, str | Path) or model == "":  # which as a path would mean the current folder
        raise UsageError(f"{name} is {'empty' if model == '' else type(model).__name__}; give a path or a name")
    return parse_model(model)


def ordered(name: str, items: Iterable) -> Iterable:
    """The items. Raises UsageError for a set, whose order differs from one run of Python to the next."""
    if isinstance(items, set | frozenset):
        raise UsageError(f"{name} are a set, which has no order; give a list")
    return items


def class_words(classes: Any) -> list[str]:
    """The classes, one or several of them, as words of a command line."""
    if isinstance(classes, np.ndarray | np.generic | Tensor):
        classes = classes.tolist()
    one = isinstance(classes, str | bytes) or not isinstance(classes, Iterable)
    words = [str(classes)] if one else [*map(str, ordered("classes", classes))]
    if not words:
        raise UsageError("classes is empty; name a class, or leave it out for all in turn")
    return words


def image_batches(images: Images, size: tuple[int, int], batch_size: int) -> Iterator[Tensor]:
    """The images as (B, 3, H, W), uint8 or float, `batch_size` at a time."""
    if isinstance(images, np.ndarray | Tensor):
        yield from _check_array(dense_tensor(images, "images"), size).split(batch_size)
        return
    if isinstance(images, bytes) or not isinstance(images, ImageFile | Iterable):
        raise UsageError(f"images are a {type(images).__name__}; give paths or Pillow's images, or one array of all")
    files = [images] if isinstance(images, ImageFile) else list(ordered("images", images))
    if not files:
        raise UsageError("there are no images; give at least one")
    for first in range(0, len(files), batch_size):
        part = enumerate(files[first : first + batch_size], start=first)
        yield torch.stack([to_tensor(center_crop(_open_image(file, i), size)) for i, file in part])


def _open_image(file: ImageFile, index: int) -> Image.Image:
    if isinstance(file, Image.Image):
        if 0 in file.size:
            raise UsageError(f"image {index} has {file.width} x {file.height} pixels; give one that has some")
        return to_rgb(file, f"image {index}")
    if isinstance(file, str | Path):
        return read_image(Path(file), str(file))
    raise UsageError(f"image {index} is a {type(file).__name__}; give paths or Pillow's images, or one array of all")


def _check_array(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The images of an array as (B, 3, H, W)."""
    height, width = size
    said = f"images are {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
    if images.dtype == torch.uint8 and images.ndim == 4 and images.shape[3] == 3:
        images = images.permute(0, 3, 1, 2)
    elif not (images.is_floating_point() and images.ndim == 4 and images.shape[1] == 3):
        raise UsageError(f"{said}; give uint8 (B, {height}, {width}, 3) or float (B, 3, {height}, {width})")
    if len(images) == 0:
        raise UsageError("there are no images; give at least one")
    if images.shape[2:] != size:
        raise UsageError(f"{said}, and this tokenizer takes {height} x {width}; resize them, or give Pillow's images")
    if images.is_floating_point():
        images = images.float()
        if not (images.min() >= 0 and images.max() <= 1):  # NaN is neither
            raise UsageError(f"images run from {images.min():.8g} to {images.max():.8g}; give values from 0 to 1")
    return images
