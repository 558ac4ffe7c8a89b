"""The forms in which images come to be measured, one process or several, and what is refused."""

import io
import json
import re
import resource
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from measurements import ALL_METRICS, SETS, draw_images, in_memory, measure_one, to_pil, write_folder
from PIL import Image

from restok_cli.data.images import save_image
from restok_cli.data.streams import StreamWriter
from restok_cli.metrics.image_sources import open_images


def png_bytes(image):
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_fingerprint_is_that_of_the_pixels_whatever_order_and_form(tmp_path):
    folder = write_folder(tmp_path / "folder", SETS[0])
    np.savez(tmp_path / "set.npz", SETS[0].flip(0).permute(0, 2, 3, 1).numpy())
    fingerprints = set()
    for source in ("folder", "set.npz"):
        pictures = open_images(str(tmp_path / source), "all")
        measure_one(pictures, in_memory(SETS[1]), ["gfid"])
        fingerprints.add(pictures.fingerprint)
    assert len(fingerprints) == 1
    save_image(SETS[1][0], folder / "000000.png")
    pictures = open_images(str(folder), "all")
    measure_one(pictures, in_memory(SETS[1]), ["gfid"])
    assert pictures.fingerprint not in fingerprints


def write_tar(path, images, start=0):
    with tarfile.open(path, "w") as tar:
        for i, image in enumerate(images, start):
            for suffix, data in (("json", b"{}"), ("png", png_bytes(image))):
                info = tarfile.TarInfo(f"{i:06d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def test_tar_files_and_streams_measure_like_a_folder(tmp_path):
    expected = measure_one(open_images(str(write_folder(tmp_path / "folder", SETS[0])), "all"), in_memory(SETS[1]))
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards/0.tar", SETS[0][:25])
    write_tar(tmp_path / "shards/1.tar", SETS[0][25:], start=25)
    write_tar(tmp_path / "one.tar", SETS[0])
    stream = io.BytesIO()
    with StreamWriter(stream) as writer:
        for i, image in enumerate(SETS[0]):
            writer.write(f"{i:06d}", png_bytes(image), {"class_id": 3})
    stream.seek(0)
    for pictures in (
        open_images(str(tmp_path / "shards"), "all"),
        open_images(str(tmp_path / "one.tar"), "all"),
        open_images("-", "all", stdin=stream),
    ):
        assert measure_one(pictures, in_memory(SETS[1])) == expected


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGBA", (16, 16)), "has transparency"),
        (Image.new("L", (16, 16)), "has mode L"),
        (Image.new("I;16", (16, 16)), "has 16 bits per channel"),
        (Image.new("LA", (16, 16)), "has transparency"),
    ],
    ids=["RGBA", "gray", "16-bit", "gray with alpha"],
)
def test_samples_that_are_not_8_bit_rgb_are_refused(tmp_path, fails, image, message):
    folder = write_folder(tmp_path / "folder", SETS[0][:4])
    image.save(folder / "000002.png")
    line = fails(1, "evaluate", folder, "--metric", "is", "--features", "random")
    assert "000002.png" in line
    assert message in line
    assert "8-bit RGB" in line


def test_16_bit_colour_is_refused(tmp_path, fails):
    """Pillow would read it as if it had 8."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(6 * 8)) for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    assert Image.open(tmp_path / "a.png").mode == "RGB"
    assert "a.png has 16 bits per channel" in fails(1, "evaluate", tmp_path, "--metric", "is", "--features", "random")


def test_names_pair_pictures_dots_and_odd_characters_included(tmp_path, capsys):
    names = ["photo.v1", "photo.v2", "2024.01.02", "x\u2028y", "x\x85y"]
    (tmp_path / "folder").mkdir()
    stream = io.BytesIO()
    with StreamWriter(stream) as writer:
        for name, image in zip(names, SETS[0], strict=False):
            save_image(image, tmp_path / "folder" / f"{name}.png")
            writer.write(name, (tmp_path / "folder" / f"{name}.png").read_bytes(), {})
    lines = [json.dumps({"file": f"{name}.png"}, ensure_ascii=False) + "\n" for name in names]
    (tmp_path / "folder/manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "one.tar").write_bytes(stream.getvalue())
    with tarfile.open(tmp_path / "one.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("README.md"))
        tar.addfile(tarfile.TarInfo("._photo.v1.png"))
    stream.seek(0)
    for source in ("folder", "one.tar", "-"):
        pictures = open_images(source if source == "-" else str(tmp_path / source), "all", stdin=stream)
        assert [pictures.key(i) for i in range(pictures.count)] == names
    assert "2 files of" in (said := capsys.readouterr().err) and "passed over as no image, or hidden: README.md" in said


def test_a_folder_of_more_tars_than_files_may_be_open_is_read(tmp_path):
    for i in range(150):
        write_tar(tmp_path / f"{i:03d}.tar", SETS[0][:1], start=i)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    try:
        images = open_images(str(tmp_path), "all")
        assert [images.open(i).size for i in (0, 149)] == 2 * [to_pil(SETS[0][0]).size]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("where", ["in an image", "between two"])
def test_tar_file_that_is_cut_short_is_refused(tmp_path, fails, where):
    write_tar(tmp_path / "one.tar", SETS[0])
    with tarfile.open(tmp_path / "one.tar") as tar:
        ends = {"in an image": tar.getmembers()[21].offset_data + 9, "between two": tar.getmembers()[20].offset}
    with open(tmp_path / "one.tar", "rb+") as file:
        file.truncate(ends[where])
    line = fails(1, "evaluate", tmp_path / "one.tar", "--metric", "is", "--features", "random")
    assert re.search(r"one\.tar is (a damaged tar|cut short).*copy or download it again", line)


def test_crop_brings_samples_of_several_sizes_to_one(tmp_path, restok):
    folder = write_folder(tmp_path / "folder", SETS[0][:4])
    save_image(draw_images(1, seed=3, size=40)[0], folder / "000009.png")
    result = restok("evaluate", folder, "--metric", "is", "--features", "random", "--crop", 16, "--json")
    samples = json.loads(result.out)["protocol"]["samples"]
    assert samples["n"] == 5
    assert samples["size"] == "16x16"
    assert samples["crop"].startswith("ADM centre crop to 16x16")


def test_pairs_without_names_are_matched_by_order(tmp_path, restok, fails):
    np.savez(tmp_path / "samples.npz", SETS[0][:6].permute(0, 2, 3, 1).numpy())
    folder = tmp_path / "originals"
    for name, image in zip("abcdef", SETS[0][:6], strict=True):
        save_image(image, folder / f"{name}.png")
    result = restok("evaluate", tmp_path / "samples.npz", "--reference", folder, "--metric", "mse", "--json")
    assert json.loads(result.out)["metrics"]["mse"]["value"] == 0
    (folder / "f.png").unlink()
    line = fails(1, "evaluate", tmp_path / "samples.npz", "--reference", folder, "--metric", "mse")
    assert "samples.npz holds 6 images and" in line


def test_originals_of_pictures_that_reconstruct_left_out_are_left_out_too(tmp_path, restok):
    originals = write_folder(tmp_path / "originals", SETS[0][:6])
    samples = write_folder(tmp_path / "samples", SETS[0][:6])
    (originals / "000002.png").write_bytes(b"no image")
    (samples / "000002.png").unlink()
    lines = [json.dumps({"file": path.name}) for path in sorted(samples.iterdir())]
    (samples / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    metrics = ("--metric", "rfid", "--metric", "mse", "--features", "random")
    result = restok("evaluate", samples, "--reference", originals, *metrics, "--json")
    found = json.loads(result.out)["metrics"]
    assert {metric["n"] for metric in found.values()} == {metric["n_reference"] for metric in found.values()} == {5}
    assert found["mse"]["value"] == 0
    assert "1 of 6 images" in result.err


@pytest.mark.slow
def test_two_processes_measure_exactly_what_one_measures(tmp_path, restok):
    samples, reference = (write_folder(tmp_path / name, images) for name, images in zip("ab", SETS, strict=True))
    (samples / "000003.png").write_bytes(b"no image")
    command = ["evaluate", str(samples), "--reference", str(reference), "--features", "random", "--json", "--no-cache"]
    command += [part for metric in ALL_METRICS for part in ("--metric", metric)]
    two = (sys.executable, "-m", "restok_cli", *command, "--num-processes", "2")
    texts = restok(*command).out, subprocess.run(two, capture_output=True, check=True, timeout=120).stdout
    results = [json.loads(text) for text in texts]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["metrics"]["mse"]["n"] == 39
    for name in ("samples", "reference", "features"):
        assert results[0]["protocol"][name] == results[1]["protocol"][name]


def test_stream_is_not_for_several_processes(fails):
    line = fails(2, "evaluate", "-", "--metric", "is", "--features", "random", "--num-processes", "2")
    assert "leave --num-processes out" in line
