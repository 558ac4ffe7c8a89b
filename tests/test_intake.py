"""Which image files are kept byte for byte, which are changed and into what, and which are broken."""

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import noise
from PIL import Image, ImageCms

from restok_cli.data.image_files import center_crop, read_image
from restok_cli.data.sources.intake import Rules, check_image, take_in
from restok_cli.errors import ImageError


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def frames(count):
    return {"save_all": True, "append_images": [noise(i) for i in range(1, count)]}


def colour_png_of_16_bits():
    """Pillow writes none: 2 x 1 pixels, red and blue."""
    rows = b"\0" + struct.pack(">6H", 0xFFFF, 0x1234, 0, 0, 0, 0xFFFF)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


GRAY_16 = Image.fromarray(np.arange(320, dtype=np.uint16).reshape(16, 20) * 200)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

KEPT = {
    "JPEG": (encode(noise(0), "JPEG"), "jpg"),
    "gray JPEG": (encode(noise(0).convert("L"), "JPEG"), "jpg"),
    "progressive JPEG with a profile and thumbnail": (
        encode(
            noise(0),
            "JPEG",
            progressive=True,
            icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        ),
        "jpg",
    ),
    "JPEG with a second image behind it": (encode(noise(0), "MPO", **frames(2)), "jpg"),
    "JPEG with bytes behind it": (encode(noise(0), "JPEG") + b"\0\0 and more", "jpg"),
    "PNG": (encode(noise(0), "PNG"), "png"),
    "PNG with transparency": (encode(noise(0).convert("RGBA"), "PNG"), "png"),
    "PNG with a palette": (encode(noise(0).quantize(16), "PNG"), "png"),
    "black and white PNG": (encode(noise(0).convert("1"), "PNG"), "png"),
    "WebP": (encode(noise(0), "WEBP"), "webp"),
    "lossless WebP": (encode(noise(0), "WEBP", lossless=True), "webp"),
}
CHANGED = {
    "CMYK JPEG": (encode(noise(0).convert("CMYK"), "JPEG"), "CMYK colours"),
    "16-bit gray PNG": (encode(GRAY_16, "PNG"), "16 bit"),
    "16-bit colour PNG": (colour_png_of_16_bits(), "16 bit"),
    "16-bit TIFF": (encode(GRAY_16, "TIFF"), "TIFF file"),
    "animated PNG": (encode(noise(0), "PNG", **frames(3)), "animated"),
    "animated WebP": (encode(noise(0), "WEBP", **frames(3)), "animated"),
    "animated GIF": (encode(noise(0), "GIF", **frames(3)), "GIF file"),
    "BMP": (encode(noise(0), "BMP"), "BMP file"),
    "PPM": (encode(noise(0), "PPM"), "PPM file"),
}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("check", ["quick", "full"])
def test_what_every_loader_reads_is_kept_and_named_after_its_true_format(name, check):
    data, suffix = KEPT[name]
    taken = take_in(data, "image.JPEG", Rules(check))
    assert (taken.data, taken.suffix, taken.size, taken.change) == (data, suffix, (16, 20), None)
    assert check_image(data, "image.JPEG", Rules(check)) == (16, 20)


@pytest.mark.parametrize("name", CHANGED)
def test_what_some_loaders_cannot_read_becomes_a_png_of_the_same_pixels(name):
    data, change = CHANGED[name]
    taken = take_in(data, "image.jpg", Rules())
    assert (taken.suffix, taken.change) == ("png", change)
    image = Image.open(io.BytesIO(taken.data))
    assert (image.format, image.mode, getattr(image, "n_frames", 1)) == ("PNG", "RGB", 1)
    assert taken.size == (image.height, image.width)
    expected = read_image(data, "the original")
    assert np.array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.parametrize("name", [name for name in KEPT if "behind" not in name])
@pytest.mark.parametrize("check", ["quick", "full"])
def test_a_file_that_is_cut_short_is_broken_wherever_it_is_cut(name, check):
    data, _ = KEPT[name]
    for length in {*range(0, len(data) - 5, 7), len(data) - 5}:
        with pytest.raises(ImageError, match=r"^a\.jpg: cannot be decoded as an image \("):
            take_in(data[:length], "a.jpg", Rules(check))


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture():
    exif = b"Exif\0\0" + encode(noise(1, 8, 8), "JPEG")
    data = encode(noise(0), "JPEG", exif=exif)
    assert take_in(data, "a.jpg", Rules()).data == data
    with pytest.raises(ImageError, match="cut short"):
        take_in(data[:-10], "a.jpg", Rules())


def test_the_quick_check_finds_every_flipped_bit_in_the_chunks_of_a_png():
    data = encode(noise(0), "PNG")
    for position in range(8, len(data) - 12, 5):  # to the last one, which is empty
        flipped = bytearray(data)
        flipped[position] ^= 1
        with pytest.raises(ImageError):
            take_in(bytes(flipped), "a.png", Rules())


def test_only_the_full_check_finds_damage_inside_a_webp():
    data = bytearray(encode(noise(0), "WEBP", lossless=True))
    data[40:80] = bytes(40)
    assert take_in(bytes(data), "a.webp", Rules("quick")).change is None
    with pytest.raises(ImageError):
        take_in(bytes(data), "a.webp", Rules("full"))


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"])
def test_what_is_no_picture_is_broken(data):
    with pytest.raises(ImageError):
        take_in(data, "a.jpg", Rules())


@pytest.mark.parametrize(
    ("size", "rules", "expected"),
    [
        ((50, 40), Rules(resize=20), (25, 20)),
        ((40, 51), Rules(resize=20), (20, 25)),  # halved first, as by the centre crop
        ((39, 51), Rules(resize=20), (20, 26)),
        ((20, 300), Rules(resize=20), (20, 300)),
        ((19, 18), Rules(resize=20), (19, 18)),
        ((100, 100), Rules(max_pixels=400), (20, 20)),
        ((20, 20), Rules(max_pixels=400), (20, 20)),
        ((1000, 20), Rules(max_pixels=5000), (500, 10)),
        ((1000, 40), Rules(resize=20, max_pixels=5000), (353, 14)),
    ],
)
def test_pictures_are_shrunk_to_shape_and_never_enlarged(size, rules, expected):
    data = encode(noise(0, *size), "JPEG")
    taken = take_in(data, "a.jpg", rules)
    image = Image.open(io.BytesIO(taken.data))
    assert image.size == expected == taken.size[::-1]
    assert taken.change == (None if expected == size else "resized")
    assert (taken.data == data) == (expected == size)


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "png"), ("GIF", "png")])
def test_a_shrunk_jpeg_stays_one_and_all_else_loses_nothing(kind, suffix):
    smooth = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    data = encode(smooth, kind)
    taken = take_in(data, "a", Rules(resize=24))
    assert taken.suffix == suffix
    expected = np.asarray(read_image(data, "a").resize((32, 24), Image.Resampling.BOX)).astype(int)
    difference = np.abs(np.asarray(read_image(taken.data, "a")) - expected).max()
    assert difference <= (2 if suffix == "jpg" else 0)


@pytest.mark.parametrize("size", [(33, 47), (64, 100), (131, 64), (129, 255), (300, 65)])
def test_the_centre_crop_of_a_shrunk_picture_is_that_of_the_original(size):
    """So that numbers against a data set that was prepared with --resize are not of another resampling."""
    picture = noise(0, *size)
    taken = take_in(encode(picture, "PNG"), "a.png", Rules(resize=32))
    shrunk = read_image(taken.data, "a.png")
    assert min(shrunk.size) == 32
    assert np.array_equal(center_crop(shrunk, 32), center_crop(picture, 32))
