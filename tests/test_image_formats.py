"""Files of every format, mode and state of damage: right pixels, or a refusal."""

import os
import tarfile
import threading
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from encoded_images import encoded, gray, tiff
from pictures import noise
from PIL import Image, PngImagePlugin

import restok_cli
from restok_cli.data import image_files
from restok_cli.data.image_files import HEAD_BYTES, looks_like_image, open_image, read_file, read_image, split_png
from restok_cli.data.inputs import find_inputs
from restok_cli.data.sources.intake import Rules, check_image, take_in
from restok_cli.errors import ImageError, Interrupted
from restok_cli.metrics.image_sources import open_images

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
