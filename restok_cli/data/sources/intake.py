"""Intake of an image file into a data set: kept byte for byte, changed for a reason, or refused.

Kept is what every loader reads: JPEG, PNG and WebP of one frame with 8 bits per channel.
"""

import math
from io import BytesIO
from typing import Literal, NamedTuple

from PIL import Image, ImageFile

from restok_cli.data.image_files import PNG_DEPTH, fit, open_image, read_image, resize_and_cut, split_png
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES

SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}  # the kept formats; timm looks for these names
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}  # what loaders turn into RGB, all in the same way
JPEG_QUALITY = 95
ORIENTATION = 0x112  # of EXIF
END_OF_JPEG = b"\xff\xd9"  # in image data this never occurs before the end

Check = Literal["quick", "full"]


class Rules(NamedTuple):
    """Treatment of images.

    The check `full` decodes every image. `quick` reads headers and structure: it finds files that are no images,
    that are cut short or, of PNG, have a wrong checksum, but not damage inside of JPEG and WebP.
    """

    check: Check = "quick"
    resize: int | None = None  # shorter edges above this become this
    max_pixels: int | None = None  # images of more are shrunk to it
    max_decoded_pixels: int = MAX_DECODED_PIXELS  # images of more are not even opened
    max_member_bytes: int = MAX_MEMBER_BYTES  # files of more are not even read


class Intake(NamedTuple):
    """An image as it goes into a shard."""

    data: bytes
    suffix: str  # without the dot; it tells the true format, whatever the file was called
    size: tuple[int, int]  # (height, width)
    change: str | None  # why the bytes are not the file's own
    turned: bool  # EXIF says that the image is to be shown otherwise than its pixels lie, which nobody here does


def take_in(data: bytes, file: str, rules: Rules) -> Intake:
    """Decide about the bytes of an image file called `file`. Raises ImageError where it is broken."""
    with open_image(data, file, rules.max_decoded_pixels) as image:
        change, turned = _unreadable(image, data), _is_turned(image)
        size = _size_for(image.width, image.height, rules)
        if size != image.size:
            change = "resized"
        if change is None:
            suffix = SUFFIXES[image.format or ""]
            _check(image, data, file, rules)
            return Intake(data, suffix, (size[1], size[0]), None, turned)
        as_jpeg = change == "resized" and SUFFIXES.get(image.format or "") == "jpg"
    encoded, suffix = _encode(read_image(data, file, rules.max_decoded_pixels), size, as_jpeg)
    return Intake(encoded, suffix, (size[1], size[0]), change, turned)


def check_image(data: bytes, file: str, rules: Rules) -> tuple[int, int]:
    """The (height, width) of an image that stays as it is. Raises ImageError where it is broken."""
    with open_image(data, file, rules.max_decoded_pixels) as image:
        _check(image, data, file, rules)
        return image.height, image.width


def _unreadable(image: Image.Image, data: bytes) -> str | None:
    """Why there are loaders that cannot read the image."""
    if image.format not in SUFFIXES:
        return f"{image.format} file"
    if image.mode.startswith(("I", "F")) or (image.format == "PNG" and data[PNG_DEPTH] == 16):
        return "16 bit"
    if image.mode not in MODES:
        return f"{image.mode} colours"
    if image.format != "MPO" and getattr(image, "is_animated", False):  # other images of a photo are no frames
        return "animated"
    if (metadata := split_png(data)[1]) and not _is_readable(metadata):
        return "unreadable metadata"
    return None


def _is_turned(image: Image.Image) -> bool:
    try:
        return bool(image.info.get("exif")) and image.getexif().get(ORIENTATION) in range(2, 9)
    except Exception:  # a decoder may raise anything
        return False


def _is_readable(png: bytes) -> bool:
    """Whether Pillow itself opens a PNG file: `open_image` would pass over what it refuses."""
    try:
        Image.open(BytesIO(png), formats=("PNG",))
    except Exception:  # a decoder may raise anything
        return False
    return True


def _check(image: ImageFile.ImageFile, data: bytes, file: str, rules: Rules) -> None:
    """Raises an error of whatever kind where the image is broken as far as the check can see."""
    if image.format == "JPEG":
        start = image.fp.tell() if image.fp else 0  # the stream stands where image data begin
        if data.rfind(END_OF_JPEG, start) < 0:
            raise ValueError("the file is cut short")
    elif image.format == "PNG":
        image.verify()  # every chunk's checksum, to the last chunk; those of metadata are looked at apart
    # a WebP that is cut short was not even opened
    if rules.check == "full" or image.format not in ("JPEG", "WEBP", "PNG"):
        read_image(data, file, rules.max_decoded_pixels)


def _size_for(width: int, height: int, rules: Rules) -> tuple[int, int]:
    """The (width, height) that the rules leave of an image: never more, and of the same shape."""
    if rules.resize and min(width, height) > rules.resize:
        _, (width, height) = fit((width, height), (rules.resize, rules.resize))
    if rules.max_pixels and width * height > rules.max_pixels:
        scale = math.sqrt(rules.max_pixels / (width * height))
        width, height = max(int(width * scale), 1), max(int(height * scale), 1)
    return width, height


def _encode(image: Image.Image, size: tuple[int, int], as_jpeg: bool) -> tuple[bytes, str]:
    """An RGB image as the bytes of a file, and its suffix; without loss unless `as_jpeg`.

    It is resized as for the centre crop, so that this crop of the file is that of the original.
    """
    if size != image.size:
        image = resize_and_cut(image, fit(image.size, size)[0], size, (0, 0), size)
    file = BytesIO()
    if as_jpeg:
        image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
        return file.getvalue(), "jpg"
    image.save(file, "PNG")
    return file.getvalue(), "png"
