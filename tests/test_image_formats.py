"""Files of every format, mode and state of damage: right pixels, or a refusal."""

import os
import struct
import tarfile
import threading
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pictures import noise
from PIL import Image, PngImagePlugin

import restok_cli
from restok_cli.data import image_files
from restok_cli.data.image_files import HEAD_BYTES, looks_like_image, open_image, read_file, read_image, split_png
from restok_cli.data.inputs import find_inputs
from restok_cli.data.sources.intake import Rules, check_image, take_in
from restok_cli.errors import ImageError, Interrupted
from restok_cli.metrics.image_sources import open_images


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, depth: int, colours: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of one row, with chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colours, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(width: int, bits: int, row: bytes, white: int = 1, sample_format: int = 1, more: dict | None = None) -> bytes:
    """A gray TIFF file of one row. `white` is 0 where 0 is white."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: white, 273: 0, 277: 1, 278: 1, 279: len(row)}
    tags |= {339: sample_format} | (more or {})
    tags[273] = 14 + 12 * len(tags)  # where the pixels begin
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + row


def gray(data: bytes) -> list[int]:
    """The one row of a gray image."""
    pixels = np.asarray(read_image(data, "a"))
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


WRITTEN = {  # by Pillow, in each of the formats
    kind: encoded(noise(0), kind)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
} | {
    "MPO": encoded(noise(0), "MPO", save_all=True, append_images=[noise(1)]),
    "PGM": encoded(noise(0).convert("L"), "PPM"),
    "PBM": encoded(noise(0).convert("1"), "PPM"),
    "bare JPEG 2000": encoded(noise(0), "JPEG2000", no_jp2=True),
    "big TIFF": encoded(noise(0), "TIFF", big_tiff=True),
    "animated AVIF": encoded(noise(0), "AVIF", save_all=True, append_images=[noise(1)]),
    "lossless WebP": encoded(noise(0), "WEBP", lossless=True),
    "gray BMP": encoded(noise(0).convert("L"), "BMP"),
    "BMP with transparency": encoded(noise(0).convert("RGBA"), "BMP"),
    "PPM with a comment": b"P6\n# made by hand\n1 1\n255\nabc",
    "plain PGM": b"P2 2 1 255 7 9",
    "icon of bitmaps": encoded(noise(0), "ICO", bitmap_format="bmp"),
}
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n0 0 moveto\n%%EOF\n"
NO_PICTURES = {
    "nothing": b"",
    "text": b"P.S. 7 of us came\n",
    "text that begins as a bitmap": b"BMW, and other makes of cars that are sold in Europe\n",
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "HTML": b"<!DOCTYPE html>\n<html><body>404 not found</body></html>",
    "EPS": POSTSCRIPT,
    "PDF": b"%PDF-1.7\n",
    "sound": b"RIFF\x24\x08\0\0WAVEfmt ",
    "video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "JSON": b'{"class_id": 3}',
    "zeros": bytes(64),
}


UNREAD = {
    "HEIC": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40),
    "HEIC, a phone's": b"\0\0\0\x24ftypheic\0\0\0\0mif1MiHEheic" + bytes(40),
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
    "JPEG XL, bare": b"\xff\x0a" + bytes(40),
}


@pytest.mark.parametrize("name", UNREAD)
def test_an_image_of_a_format_that_is_not_read_counts_as_one_and_says_which_it_is(name):
    assert looks_like_image(UNREAD[name][:HEAD_BYTES])
    reason = f"{name.partition(',')[0]}, which is not read; convert it to JPEG or PNG"
    with pytest.raises(ImageError, match=rf"^a.jpg: cannot be decoded as an image \({reason}\)$"):
        read_image(UNREAD[name], "a.jpg")


@pytest.mark.parametrize("name", WRITTEN)
def test_a_picture_is_told_and_read_by_its_content_whatever_it_is_called(name):
    data = WRITTEN[name]
    assert looks_like_image(data[:HEAD_BYTES])
    expected = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    for file in ("a.jpg", "a.txt", "a", "a.tga"):
        assert np.array_equal(read_image(data, file), expected)


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_neither_told_nor_read_as_one(name):
    assert not looks_like_image(NO_PICTURES[name][:HEAD_BYTES])
    for file in ("a.jpg", "a.svg", "a.eps", "a.tga"):
        with pytest.raises(ImageError, match=r"^a\.\w+: cannot be decoded as an image \("):
            read_image(NO_PICTURES[name], file)


def test_a_tga_is_read_only_where_it_is_called_so():
    data = encoded(noise(0), "TGA")
    assert np.array_equal(read_image(data, "cats/a.TGA"), noise(0))
    with pytest.raises(ImageError, match="not an image file"):
        read_image(data, "cats/a.jpg")


def test_no_file_starts_another_program(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gs"
    program.write_text(f"#!/bin/sh\necho started >> {tmp_path}/gs.log\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None, raising=False)  # not looked for yet
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "x.jpg"
    file.write_bytes(POSTSCRIPT)
    for read in (
        lambda: read_image(file, "x.jpg"),
        lambda: take_in(POSTSCRIPT, "x.jpg", Rules("full")),
        lambda: check_image(POSTSCRIPT, "x.jpg", Rules("full")),
        lambda: next(iter(find_inputs([str(file)], "validation", BytesIO()).images)).read(),
        lambda: open_images(str(file.parent), "all", exact=True).open(0),
    ):
        with pytest.raises(ImageError, match="not an image file"):
            read()
    assert not (tmp_path / "gs.log").exists()


def test_nowhere_is_pillow_left_to_choose_the_format():
    for path in Path(restok_cli.__file__).parent.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert "Image.open(" not in line or "formats=" in line, (path, line)


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN)
def test_whatever_a_decoder_raises_on_damage_is_one_error_in_one_line(name):
    data, rng = WRITTEN[name], np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 400), 2):
            damaged[place] ^= 1 << rng.integers(8)
        for read in (read_image, lambda *picture: take_in(*picture, Rules())):
            try:
                read(bytes(damaged), "a.x")
            except ImageError as error:
                assert str(error).startswith("a.x: cannot be decoded as an image (") and "\n" not in str(error)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), Interrupted(15, "stopped")])
def test_lack_of_memory_and_interrupts_are_no_damage(error, monkeypatch):
    def load(image):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    with pytest.raises(type(error)):
        read_image(WRITTEN["PNG"], "a")


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", tmp_path, "/dev/zero"):
        with pytest.raises(ImageError, match=r"^a: is no file, but a folder, a pipe or a device"):
            read_file(Path(path), "a")
    with pytest.raises(ImageError, match=r"^a: cannot be read \(No such file"):
        read_image(tmp_path / "absent.jpg", "a")


# --- values ---------------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("more", [{254: 1}, {50706: 0x00000401}])
def test_the_preview_in_a_raw_file_of_a_camera_is_not_taken_for_the_picture(more):
    with pytest.raises(ImageError, match="a camera's raw file"):
        read_image(tiff(1, 8, b"a", more=more), "a.nef")
    assert gray(tiff(1, 8, b"a", more={254: 0})) == [97]


# --- metadata -------------------------------------------------------------------------------------------------------


def large_metadata() -> dict[str, bytes]:
    text, late = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    text.add_itxt("workflow", "x" * (2 << 20), zip=True)
    late.add(b"zTXt", b"late\0\0" + zlib.compress(bytes(3 << 20)), after_idat=True)
    whole = encoded(noise(0), "PNG", icc_profile=b"p" * 100)
    place = whole.index(b"iCCP") + 8
    return {
        "text": encoded(noise(0), "PNG", pnginfo=text),
        "text behind the pixels": encoded(noise(0), "PNG", pnginfo=late),
        "profile": encoded(noise(0), "PNG", icc_profile=bytes(2 << 20)),
        "damaged profile": whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
    }


@pytest.mark.parametrize("what", large_metadata())
def test_metadata_of_a_png_never_refuse_its_pixels_and_what_other_loaders_refuse_is_written_anew(what):
    data = large_metadata()[what]
    assert np.array_equal(read_image(data, "a"), noise(0))
    with pytest.raises((ValueError, OSError)):
        Image.open(BytesIO(data)).load()
    for check in ("quick", "full"):
        taken = take_in(data, "a.png", Rules(check))
        assert (taken.change, taken.suffix) == ("unreadable metadata", "png")
        assert np.array_equal(Image.open(BytesIO(taken.data)), noise(0))


def test_small_metadata_change_nothing():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "hello")
    data = encoded(noise(0), "PNG", pnginfo=text, icc_profile=b"p" * 100)
    assert take_in(data, "a.png", Rules()).data == data
    lean, metadata = split_png(data)
    assert lean == encoded(noise(0), "PNG")
    assert Image.open(BytesIO(metadata)).info == {"comment": "hello", "icc_profile": b"p" * 100}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_exif_and_profiles_that_are_rubbish_refuse_nothing(kind):
    for rubbish in (b"", b"rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", bytes(50)):
        try:
            data = encoded(noise(0), kind, exif=rubbish, icc_profile=rubbish)
        except Exception:  # an encoder that takes none such
            continue
        assert read_image(data, "a").size == noise(0).size


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
def test_a_limit_of_pixels_is_exact_and_tells_how_to_raise_it(kind):
    data = encoded(noise(0, 10, 10), kind)
    assert read_image(data, "a", max_pixels=100).size == (10, 10)
    message = r"^a: cannot be decoded as an image \(Image size \(100 pixels\) is over the limit; --max-decoded-pixels"
    for read in (
        lambda: read_image(data, "a", max_pixels=99),
        lambda: take_in(data, "a", Rules(max_decoded_pixels=99)),
        lambda: check_image(data, "a", Rules(max_decoded_pixels=99)),
    ):
        with pytest.raises(ImageError, match=message):
            read()


def test_commands_that_read_pictures_keep_the_limit_that_they_are_given(tmp_path):
    noise(0, 10, 10).save(tmp_path / "a.png")
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.add(tmp_path / "a.png", "a.png")
    stream = (tmp_path / "tar").read_bytes()
    for limit, admitted in ((100, True), (99, False)):
        for read in (
            lambda limit: next(iter(find_inputs([str(tmp_path / "a.png")], "train", None, limit).images)).read(),
            lambda limit: next(iter(find_inputs(["-"], "train", BytesIO(stream), limit).images)).read(),
            lambda limit: open_images(str(tmp_path), "all", max_pixels=limit).open(0),
            lambda limit: open_images(str(tmp_path), "all", exact=True, max_pixels=limit).open(0),
            lambda limit: open_images("-", "all", BytesIO(stream), max_pixels=limit).open(0),
        ):
            if admitted:
                assert read(limit).size == (10, 10)
            else:
                with pytest.raises(ImageError, match="--max-decoded-pixels admits it"):
                    read(limit)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "ICO"])
def test_larger_pictures_than_pillow_takes_are_read_where_they_are_admitted(kind, monkeypatch):
    data = encoded(noise(0, 16, 16), kind, **({"lossless": True} if kind == "WEBP" else {}))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # Pillow refuses from 101 on
    monkeypatch.setattr(image_files, "MAX_DECODED_PIXELS", 100)
    with pytest.raises(ImageError, match="--max-decoded-pixels admits it"):
        read_image(data, "a", max_pixels=100)
    for admitted in (256, None):
        assert np.array_equal(read_image(data, "a", max_pixels=admitted), noise(0, 16, 16))
        assert Image.MAX_IMAGE_PIXELS == 50
    with pytest.raises(ImageError, match=r"Image size \(256 pixels\)"):
        read_image(data, "a", max_pixels=255)
    assert take_in(data, "a", Rules(max_pixels=64, max_decoded_pixels=256)).size == (8, 8)
    assert Image.MAX_IMAGE_PIXELS == 50


def test_our_limit_is_the_one_that_pillow_has():
    assert image_files.MAX_DECODED_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


@pytest.mark.filterwarnings("error")
def test_no_warning_leaks_whichever_threads_read(monkeypatch):
    data = encoded(noise(0, 10, 10), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # Pillow warns from 61 on
    filters, problems = list(warnings.filters), []

    def read() -> None:
        try:
            for _ in range(50):
                read_image(data, "a")
        except Warning as warning:
            problems.append(warning)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems and warnings.filters == filters
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(BytesIO(data))


def test_a_picture_may_be_opened_while_a_large_one_is(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    data = encoded(noise(0, 16, 16), "PNG")
    with open_image(data, "a", None), open_image(data, "b", None) as image:
        assert image.size == (16, 16)
    assert Image.MAX_IMAGE_PIXELS == 50


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "P"])
def test_large_pictures_are_turned_into_rgb_in_strips_to_the_same_pixels(monkeypatch, mode):
    rng = np.random.default_rng(0)
    if mode == "I;16":
        picture = Image.fromarray(rng.integers(0, 2**16, (23, 17), np.uint16))
        data = encoded(picture, "PNG", transparency=int(np.asarray(picture)[3, 4]))
    else:
        picture = Image.fromarray(rng.integers(0, 256, (23, 17, 4), np.uint8), "RGBA")
        data = encoded(picture.quantize(40) if mode == "P" else picture.convert(mode), "PNG")
    whole = np.asarray(read_image(data, "a"))
    for pixels in (1, 17, 5 * 17, 22 * 17 + 1, 23 * 17):
        monkeypatch.setattr(image_files, "STRIP_PIXELS", pixels)
        assert np.array_equal(read_image(data, "a"), whole)
