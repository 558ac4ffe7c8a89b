"""Image files: which are read, and how they become RGB images of PIL. Imports no torch."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image, ImageFile

from restok_cli.console import no_warnings
from restok_cli.errors import ImageError, RestokError
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, NUL

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import TiffImageFile

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
# The only formats that Pillow may try on a file, by its own names: none of them starts another program, as EPS would
# start Ghostscript. JPEG is MPO too.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
NAMED_FORMAT, NAMED_SUFFIX = "TGA", ".tga"  # nothing in such a file tells what it is, so it must be called so

HEAD_BYTES = 64  # what `looks_like_image` needs of a file
# How files of the formats begin. Where a mark is so short that a text could begin with it, what follows is looked at.
STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP"
    rb"|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"  # BMP: the length of the header
    rb"|II[*+]\0|MM\0[*+]"  # TIFF, BigTIFF
    rb"|P[1-6]\s+[#\d]"  # PBM, PGM, PPM: a comment or the width
    rb"|....ftyp(avi[fs]|m[is]f1.{4}(.{4})*?avi[fs])"  # AVIF: its kind, or a general one and the kinds that it is too
    rb"|\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"  # JPEG 2000, bare and in its container
    rb"|\0\0\x01\0[^\0]\0.{3}\0",  # ICO: how many images, and a byte of the first one that is always 0
    re.DOTALL,
)
# Images to people, of formats that none of FORMATS is. They count as images, so that each that is left out is named.
UNREAD = {
    "HEIC": re.compile(rb"....ftyp(hei[cmsx]|hev[cmsx]|m[is]f1)", re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
}

STRIP_PIXELS = 2**22  # of an image, that are turned into RGB at a time where that takes memory
LONG_ASPECT = 64  # from here on an image that is cropped is not resized as a whole, which could fill all memory
BICUBIC_REACH = 8  # pixels of an image less than twice too large that its resizing may look at beside a piece

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_DEPTH = 24  # the byte of a PNG file that holds the bits per channel; Pillow tells 8 for 16-bit colour
PNG_METADATA = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}  # chunks which Pillow limits, and which no pixel depends on

# Tags of TIFF files.
SUBFILE_TYPE, BITS_PER_SAMPLE, PHOTOMETRIC, DNG_VERSION = 254, 258, 262, 50706
THUMBNAIL, WHITE_IS_ZERO = 1, 0


def looks_like_image(head: bytes) -> bool:
    """Whether a file that begins with these bytes (HEAD_BYTES of them) is an image; no suffix is needed.

    It is of one of FORMATS, or of one that is not read, and named where reading it is tried.
    """
    return STARTS.match(head) is not None or _unread_format(head) is not None


def _unread_format(head: bytes) -> str | None:
    if STARTS.match(head):  # an AVIF file may begin as HEIC does
        return None
    return next((name for name, start in UNREAD.items() if start.match(head)), None)


def split_image_name(name: str) -> tuple[str, str]:
    """Name and suffix of a person's image file, whose name may hold dots: photo.v1.png is photo.v1 and png.

    What does not end in the suffix of an image has none: 2024.01.02 is itself.
    """
    stem, _, suffix = name.rpartition(".")
    is_image = f".{suffix.lower()}" in IMAGE_SUFFIXES and stem and not stem.endswith("/")
    return (stem, suffix) if is_image else (name, "")


def read_image(source: bytes | Path, name: str, max_pixels: int | None = MAX_DECODED_PIXELS) -> Image.Image:
    """Decode a file, or the bytes of one, to RGB.

    Transparency is laid on white, 16-bit gray keeps its high byte, of an animation the first frame is taken. The EXIF
    orientation is not applied: the field's numbers are computed without it.

    Raises ImageError naming `name` where the image cannot be read or decoded, or has more pixels than `max_pixels`.
    """
    data = source if isinstance(source, bytes) else read_file(source, name)
    with open_image(data, name, max_pixels) as image:
        image.load()
        return _to_rgb(image)


def read_file(path: Path | str, name: str, max_bytes: int = MAX_MEMBER_BYTES) -> bytes:
    """The bytes of an image file.

    Raises ImageError where there are none, or more than `max_bytes`, or where reading could wait for ever.
    """
    try:
        status = os.stat(path)
        if not S_ISREG(status.st_mode):
            raise ImageError(f"{name}: is no file, but a folder, a pipe or a device; give an image file")
        check_size(status.st_size, name, max_bytes)
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except ValueError as error:
        raise ImageError(f"{name}: {NUL}") from error
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror})") from error


def check_size(num_bytes: int, name: str, max_bytes: int) -> None:
    """Raises ImageError, before it is read, where a file called `name` has more bytes than `max_bytes`."""
    if num_bytes > max_bytes:
        raise ImageError(
            f"{name}: has {num_bytes:,} bytes, more than the {max_bytes:,} that --max-member-bytes admits"
            " (data.max_member_bytes in training)"
        )


@contextmanager
def open_image(data: bytes, name: str, max_pixels: int | None = MAX_DECODED_PIXELS) -> Iterator[ImageFile.ImageFile]:
    """The image in the bytes of a file called `name`, to be loaded while this is open.

    Whatever a decoder raises meanwhile, but for lack of memory, becomes an ImageError naming `name`. Pillow's warnings
    are dropped: they are of odd metadata, which no pixel depends on.

    Raises ImageError also where the image has more pixels than `max_pixels`; None is no limit.
    """
    formats = (*FORMATS, NAMED_FORMAT) if name.lower().endswith(NAMED_SUFFIX) else FORMATS
    stream = BytesIO(split_png(data)[0])
    with _decoding(name), ExitStack() as limit:
        if unread := _unread_format(data[:HEAD_BYTES]):
            raise ValueError(f"{unread}, which is not read; convert it to JPEG or PNG")
        try:
            image = Image.open(stream, formats=formats)
        except Image.DecompressionBombError:
            if max_pixels is not None and max_pixels <= MAX_DECODED_PIXELS:
                raise
            limit.enter_context(_limit_of_pillow(max_pixels))
            image = Image.open(stream, formats=formats)
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise Image.DecompressionBombError(f"Image size ({image.width * image.height} pixels)")
        _correct(image, data)
        yield image


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """For a block that decodes the image called `name`: raises ImageError for whatever a decoder raises there."""
    try:
        with no_warnings:
            yield
    except (MemoryError, RestokError):
        raise
    except Exception as error:  # the decoders are foreign, and each has its own
        raise ImageError(f"{name}: cannot be decoded as an image ({_describe(error)})") from error


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """An image that somebody opened, in RGB as `read_image` gives it. Raises ImageError as that does."""
    with _decoding(name):
        image.load()
        return _to_rgb(image)


_large = threading.RLock()  # Pillow's limit is one for all threads; so large images are read one after the other


@contextmanager
def _limit_of_pillow(max_pixels: int | None) -> Iterator[None]:
    """Let Pillow open images of so many pixels; it holds the limit in a global, and refuses from its double on."""
    with _large:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None if max_pixels is None else -(-max_pixels // 2)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def split_png(data: bytes) -> tuple[bytes, bytes]:
    """A PNG file without its texts and its colour profile, and one of nothing but these, without pixels.

    Pillow refuses images for their sake, where they are large or damaged. What is no PNG file, or has none of them,
    is returned as it is, with b"" for the second.
    """
    if not data.startswith(PNG_START):
        return data, b""
    pixels: list[bytes | memoryview] = [PNG_START]
    metadata: list[bytes | memoryview] = []
    start, chunks = len(PNG_START), memoryview(data)  # whose pieces are no copies
    while start < len(data):
        kind, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(data[start : start + 4], "big")
        if kind == b"IEND":
            end = len(data)  # what may come behind it is no chunk
        (metadata if kind in PNG_METADATA else pixels).append(chunks[start:end])
        start = end
    if not metadata:
        return data, b""
    return b"".join(pixels), b"".join([*pixels[:2], *metadata, bytes(4), b"IDAT", bytes(4)])


def _correct(image: Image.Image, data: bytes) -> None:
    """Refuse or set right what Pillow opens but does not tell as the file means it."""
    if image.format == "TIFF":
        tags = cast("TiffImageFile", image).tag_v2
        raw = data[8:10] == b"CR" or DNG_VERSION in tags
        if raw or tags.get(SUBFILE_TYPE, 0) & THUMBNAIL:
            raise ValueError("a camera's raw file, of which only a preview could be read; develop it first")
    elif image.format == "PNG" and "transparency" in image.info and image.mode in ("L", "RGB"):
        depth = data[PNG_DEPTH]
        if depth == 16:  # the colours have been cut to their high bytes already
            raise ValueError("16-bit colours one of which is transparent; save it with 8 bits or an alpha channel")
        scale, value = 255 // (2**depth - 1), image.info["transparency"]  # pixels are scaled to 8 bits; this is not
        image.info["transparency"] = value * scale if image.mode == "L" else tuple(band & 255 for band in value)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its values are floating-point numbers of unknown range; save it with 8 bits per channel")
    if image.mode.startswith("I"):
        return _by_strips(image, partial(_high_byte, image))
    if image.has_transparency_data:
        return _by_strips(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _by_strips(image: Image.Image, to_rgb: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The image as `to_rgb` makes it of its strips, for which it needs three times their memory."""
    rows = max(STRIP_PIXELS // image.width, 1)
    if image.height <= rows:
        return to_rgb(image)
    whole = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        whole.paste(to_rgb(image.crop((0, top, image.width, min(top + rows, image.height)))), (0, top))
    return whole


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _high_byte(image: Image.Image, strip: Image.Image) -> Image.Image:
    """A part of an image in gray of 16 bits. Pillow has already cut 16-bit colour to its high byte."""
    values, bits = np.asarray(strip), 16
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its values reach from {values.min()} to {values.max()}; save it with 8 or 16 bits per pixel")
    if image.format == "TIFF":  # which Pillow hands out as they are, scanners' 12 bits and negatives too
        tags = cast("TiffImageFile", image).tag_v2
        bits = min(tags[BITS_PER_SAMPLE][0], bits)
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            values = 2**bits - 1 - values
    gray = (values >> (bits - 8)).astype(np.uint8)
    if "transparency" in image.info:
        gray[values == image.info["transparency"]] = 255
    return Image.fromarray(gray).convert("RGB")


def _describe(error: Exception) -> str:
    """Describe what a decoder raised."""
    if isinstance(error, Image.DecompressionBombError):  # the beginning of its text says how many there are
        return f"{str(error).partition(' exceeds')[0]} is over the limit; --max-decoded-pixels admits it"
    if isinstance(error, Image.UnidentifiedImageError):  # its text names a BytesIO at some address
        return "not an image file, or a damaged one"
    return " ".join(str(error).split()) or type(error).__name__


def center_crop(image: Image.Image, size: int | tuple[int, int]) -> Image.Image:
    """Resize until `size` just fits and keep the middle: the crop of ADM, which published numbers are measured on.

    `size` is (height, width), or one number for a square.
    """
    height, width = (size, size) if isinstance(size, int) else size
    halvings, whole = fit(image.size, (width, height))
    return resize_and_cut(image, halvings, whole, ((whole[0] - width) // 2, (whole[1] - height) // 2), (width, height))


def fit(size: tuple[int, int], room: tuple[float, float]) -> tuple[int, tuple[int, int]]:
    """How often an image of `size` is halved, and to what size it is then resized, to just hold `room`.

    All sizes are (width, height). Halved it is for as long as it is twice too large.
    """
    (width, height), halvings = size, 0
    while width >= 2 * room[0] and height >= 2 * room[1]:
        width, height, halvings = width // 2, height // 2, halvings + 1
    scale = max(room[0] / width, room[1] / height)
    return halvings, (round(width * scale), round(height * scale))


def resize_and_cut(
    image: Image.Image, halvings: int, whole: tuple[int, int], place: tuple[int, int], size: tuple[int, int]
) -> Image.Image:
    """Halve with a box filter, resize to `whole` with a bicubic one, and cut out `size` at `place` (left, top).

    Of a very long image only what is kept is resized: the same pixels, up to how Pillow rounds between its passes.
    """
    for _ in range(halvings):
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    (left, top), (width, height) = place, size
    if not is_long(whole, size):
        return image.resize(whole, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
    across, down = image.width / whole[0], image.height / whole[1]
    x, y = (max(int(start) - BICUBIC_REACH, 0) for start in (left * across, top * down))
    box = (left * across - x, top * down - y, (left + width) * across - x, (top + height) * down - y)
    ends = (min(x + int(box[2]) + BICUBIC_REACH, image.width), min(y + int(box[3]) + BICUBIC_REACH, image.height))
    return image.crop((x, y, *ends)).resize((width, height), Image.Resampling.BICUBIC, box=box)


def is_long(whole: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether an image resized to `whole` would take far more memory than the piece of `size` that is kept of it."""
    return whole[0] * whole[1] >= LONG_ASPECT * size[0] * size[1]
