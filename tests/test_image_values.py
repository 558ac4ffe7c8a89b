"""The meaning of the values in a file: depths, alpha, palettes, inks and other colours, as 8-bit RGB."""

import struct
import zlib

import numpy as np
import pytest
from encoded_images import encoded, gray, tiff
from PIL import Image

from restok_cli.data.image_files import read_image
from restok_cli.errors import ImageError


def png(width: int, depth: int, colours: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of one row, with chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colours, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


VALUES = np.array([0, 1, 255, 256, 4095, 32768, 65535])


@pytest.mark.parametrize("order", ["<", ">"])
def test_gray_of_16_bits_keeps_its_high_byte_in_every_format(order):
    row = VALUES.astype(f"{order}u2")
    picture = Image.fromarray(row[None].astype("u2"))
    of_tiff = tiff(len(row), 16, row.tobytes()) if order == "<" else encoded(picture, "TIFF")
    for data in (of_tiff, encoded(picture, "PNG"), encoded(picture, "PPM"), encoded(picture, "JPEG2000")):
        assert gray(data) == [value // 256 for value in VALUES]
    big_endian = b"MM\0*" + struct.pack(">IH", 8, 9)
    tags = {256: 7, 257: 1, 258: 16, 259: 1, 262: 1, 273: 122, 277: 1, 278: 1, 279: 14}
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags.items())
    assert gray(big_endian + entries + bytes(4) + VALUES.astype(">u2").tobytes()) == [v // 256 for v in VALUES]


def test_a_tiff_of_12_bits_or_whose_zero_is_white_means_what_it_says():
    assert gray(tiff(2, 12, bytes([0x12, 0x3F, 0xFF]))) == [0x12, 0xFF]
    assert gray(tiff(3, 16, struct.pack("<3H", 0, 256, 65535), white=0)) == [255, 254, 0]
    assert gray(tiff(3, 8, bytes([0, 1, 255]), white=0)) == [255, 254, 0]


def test_pgm_is_scaled_by_what_it_says_is_white():
    assert gray(b"P2 3 1 1023 0 512 1023") == [0, 512 * 65535 // 1023 // 256, 255]
    assert gray(b"P5 3 1 15 " + bytes([0, 8, 15])) == [0, 136, 255]


@pytest.mark.parametrize("values", [[0, 70_000], [-1, 255], [2**31 - 1, 0]])
def test_gray_of_32_bits_is_taken_as_16_or_refused(values):
    assert gray(encoded(Image.fromarray(VALUES[None].astype(np.int32)), "TIFF")) == [v // 256 for v in VALUES]
    with pytest.raises(ImageError, match=rf"its values reach from {min(values)} to {max(values)}; save it with 8"):
        read_image(encoded(Image.fromarray(np.array([values], np.int32)), "TIFF"), "a")


def test_unsigned_and_signed_values_beyond_16_bits_are_refused():
    for data in (tiff(1, 32, struct.pack("<I", 2**32 - 1)), tiff(1, 16, struct.pack("<h", -5), sample_format=2)):
        with pytest.raises(ImageError, match="its values reach from"):
            read_image(data, "a")
    assert gray(tiff(1, 16, struct.pack("<h", 32767), sample_format=2)) == [127]


def test_floating_point_is_refused():
    for data in (encoded(Image.new("F", (2, 2), 0.5), "TIFF"), b"Pf\n1 1\n-1.0\n" + struct.pack("<f", 0.5)):
        with pytest.raises(ImageError, match="floating-point numbers of unknown range"):
            read_image(data, "a")


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return colour * alpha / 255 + 255 - alpha


@pytest.mark.parametrize(
    ("mode", "kind"),
    [(mode, kind) for mode in ("LA", "RGBA") for kind in ("PNG", "TIFF", "TGA")] + [("PA", "TIFF"), ("RGBA", "BMP")],
)
def test_an_alpha_channel_is_laid_on_white(mode, kind):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (8, 9, 4), np.uint8))
    image = image.convert("LA").convert(mode) if mode != "RGBA" else image
    read = read_image(encoded(image, kind), f"a.{kind.lower()}")
    pixels = np.asarray(image.convert("RGBA")).astype(float)
    if kind == "BMP":  # Pillow writes such a file without a mask for transparency
        pixels[..., 3] = 255
    assert np.abs(on_white(pixels[..., :3], pixels[..., 3:]) - np.asarray(read)).max() <= 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_gray_value_of_a_png_may_be_transparent(depth):
    values = [0, 1] if depth == 1 else [0, 1, 2, 3]
    row = b"".join(struct.pack(">H", v) for v in values) if depth == 16 else None
    if row is None:
        bits = "".join(f"{value:0{depth}b}" for value in values).ljust(8, "0")
        row = int(bits, 2).to_bytes(-(-len(bits) // 8), "big")
    for transparent in values:
        shades = [value * 255 // (2**depth - 1) for value in values]
        expected = [255 if v == transparent else shade for v, shade in zip(values, shades, strict=True)]
        assert gray(png(len(values), depth, 0, row, (b"tRNS", struct.pack(">H", transparent)))) == expected


def test_one_colour_of_a_png_may_be_transparent_and_in_16_bits_that_is_refused():
    key = (b"tRNS", struct.pack(">3H", 4, 5, 6))
    read = read_image(png(2, 8, 2, bytes([4, 5, 6, 4, 5, 7]), key), "a")
    assert np.asarray(read).tolist() == [[[255, 255, 255], [4, 5, 7]]]
    with pytest.raises(ImageError, match="16-bit colours one of which is transparent"):
        read_image(png(1, 16, 2, struct.pack(">3H", 4, 5, 6), key), "a")


def test_a_palette_may_be_transparent_in_part():
    colours, alphas = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]]), np.array([0, 128, 255])
    chunks = (b"PLTE", colours.astype(np.uint8).tobytes()), (b"tRNS", alphas.astype(np.uint8).tobytes())
    read = read_image(png(3, 8, 3, bytes([0, 1, 2]), *chunks), "a")
    assert np.abs(on_white(colours, alphas[:, None]) - np.asarray(read)[0]).max() <= 1
    palette = Image.new("P", (2, 1))
    palette.putpalette(colours.astype(np.uint8).tobytes())
    palette.putpixel((1, 0), 1)
    read = read_image(encoded(palette, "GIF", transparency=0), "a")
    assert np.asarray(read).tolist() == [[[255] * 3, [40, 50, 60]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "BMP", "GIF"])
def test_black_and_white_are_0_and_255(kind):
    pattern = np.random.default_rng(0).random((3, 11)) < 0.5
    read = np.asarray(read_image(encoded(Image.fromarray(pattern), kind), "a"))
    assert np.array_equal(read, np.repeat(pattern[..., None] * 255, 3, 2))


def test_cmyk_is_ink_on_white():
    inks = np.random.default_rng(0).integers(0, 256, (4, 5, 4), np.uint8)
    naive = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    read = read_image(encoded(Image.fromarray(inks, "CMYK"), "TIFF"), "a")
    assert np.abs(naive - np.asarray(read)).max() <= 1
    flat = Image.new("CMYK", (16, 16), (200, 100, 50, 20))  # in JPEG by Adobe's habit inverted, and back
    naive = [(255 - ink) * 235 / 255 for ink in (200, 100, 50)]
    assert np.abs(np.asarray(read_image(encoded(flat, "JPEG", quality=100), "a")) - naive).max() <= 3


def test_ycbcr_is_that_of_jpeg():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    y, cb, cr = np.moveaxis(pixels.astype(float), 2, 0) - np.array([0, 128, 128])[:, None, None]
    naive = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], 2).clip(0, 255)
    read = read_image(encoded(Image.fromarray(pixels, "YCbCr"), "TIFF"), "a")
    assert np.abs(naive - np.asarray(read)).max() <= 1


def test_lab_is_cie_lab_of_the_d50_white():
    lab = np.array([[[0, 0, 0], [255, 0, 0], [128, 0, 0], [150, 30, 20], [150, 240, 246], [90, 10, 246]]], np.uint8)
    signed = lab.astype(np.int8).astype(float)
    fy = (lab[..., 0] / 255 * 100 + 16) / 116
    f = np.stack([fy + signed[..., 1] / 500, fy, fy - signed[..., 2] / 200], 2)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    to_rgb = [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.033454]]
    linear = (xyz @ np.array([*to_rgb, [0.0719453, -0.2289914, 1.4052427]]).T).clip(0, 1)
    naive = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    image = Image.new("LAB", (lab.shape[1], 1))
    for x, colour in enumerate(lab[0].tolist()):
        image.putpixel((x, 0), tuple((value + 128) % 256 if band else value for band, value in enumerate(colour)))
    data = encoded(image, "TIFF")
    assert lab[0].tobytes() in data  # as a file holds it: a and b with a sign
    assert np.abs(naive - np.asarray(read_image(data, "a"))).max() <= 2
