"""`restok reconstruct`: any size, any number of codes, what it says of them, and pipes."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from launchers import accelerate
from pictures import noise, write_pictures
from PIL import Image

from restok_cli.data.image_files import center_crop
from restok_cli.data.images import to_float, to_tensor, to_uint8
from restok_cli.data.streams import StreamWriter, read_stream
from restok_cli.files import file_crc32
from restok_cli.inference import reconstruct as reconstruction
from restok_cli.inference.background import in_background
from restok_cli.inference.sheets import compared
from restok_cli.metrics.formulas.codebook import use_of_counts
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.modules import load_for_use

CPU = torch.device("cpu")


@pytest.fixture
def here(tmp_path, tiny_models, monkeypatch) -> Path:
    """A working folder with five images of two sizes, and `tokenizer`."""
    write_pictures(tmp_path / "images", ["a.png", "b.png"], 40, 33)
    write_pictures(tmp_path / "images", ["c.png", "d.png", "e.png"], 32, 64)
    (tmp_path / "tokenizer").symlink_to(tiny_models / "tokenizer")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def reconstruct(restok, here):
    def call(*arguments):
        result = restok("reconstruct", *arguments, "--model", "tokenizer")
        assert result.code == 0, result.err
        return result

    return call


def pngs(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.png"))}


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return -10 * np.log10((((one.astype(float) - other) / 255) ** 2).mean())


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_pictures_and_numbers_are_those_of_the_tokenizer(reconstruct, here, batch_size):
    tokenizer = load_for_use(open_tokenizer(here / "tokenizer"), CPU)
    result = json.loads(reconstruct("images", "-o", "out", "--json", "--batch-size", batch_size).out)
    lines = [json.loads(line) for line in (here / "out" / "manifest.jsonl").read_text().splitlines()]
    codes, values = [], []
    for line, name in zip(lines, "abcde", strict=True):
        original = to_tensor(center_crop(Image.open(here / "images" / f"{name}.png"), (32, 32)))
        with torch.inference_mode():
            codes.append(tokenizer.encode(to_float(original)[None]))
            expected = to_uint8(tokenizer.decode(codes[-1]))[0]
        made = to_tensor(Image.open(here / "out" / line["file"]))
        assert torch.equal(made, expected)
        values.append(psnr(made.numpy(), original.numpy()))
        assert line.pop("file_crc32") == file_crc32(here / "out" / line["file"]) and line.pop("fields_crc32")
        assert line == {"file": f"{name}.png", "num_codes": 32, "psnr": pytest.approx(values[-1], abs=1e-4)}
    use = use_of_counts(np.bincount(torch.cat(codes).numpy().ravel(), minlength=64))
    assert result["psnr"] == pytest.approx(np.mean(values), abs=1e-4) and result["images"] == 5
    assert (result["codebook_usage"], result["codebook_perplexity"]) == (use.usage, use.perplexity)


def test_several_numbers_of_codes_give_a_folder_each(reconstruct, here):
    result = json.loads(reconstruct("images", "--num-codes", "16,1,32", "-o", "out", "--json").out)
    assert list(result["psnr_by_num_codes"]) == ["1", "16", "32"] and result["num_codes"] == 32
    for tokens in (1, 16, 32):
        reconstruct("images", "--tokens", tokens, "-o", f"out-{tokens}")  # the option's former name
        assert pngs(here / "out" / str(tokens)) == pngs(here / f"out-{tokens}")
    reconstruct("images", "--num-codes", "1,4", "-o", "out", "--overwrite")
    assert sorted(path.name for path in (here / "out").iterdir()) == ["1", "4", "manifest.jsonl"]


def test_what_is_made_beside_computing_as_on_a_gpu_is_the_same(reconstruct, restok, here, monkeypatch):
    def both(name: str) -> dict[str, bytes]:
        reconstruct("images", "-o", name, "--num-codes", "4,32", "--batch-size", 2, "--grid", f"{name}.png")
        assert restok("encode", "images", "--model", "tokenizer", "-o", f"{name}.npz", "--batch-size", 2).code == 0
        files = [*(here / name).rglob("*.*"), here / f"{name}.png", here / f"{name}.npz"]
        return {str(file.relative_to(here)).removeprefix(name): file.read_bytes() for file in files}

    one_by_one = both("cpu")
    on_gpu = lambda work, items, _, **options: in_background(work, items, torch.device("cuda"), **options)  # noqa: E731
    monkeypatch.setattr("restok_cli.inference.sharing.in_background", on_gpu)
    assert both("gpu") == one_by_one


def test_pictures_at_their_own_size_keep_it(reconstruct, here):
    write_pictures(here / "sizes", ["a.png", "b.png"], 64, 32)
    write_pictures(here / "sizes", ["c.png"], 32, 32)
    reconstruct("sizes", "--no-crop", "-o", "out", "--grid", "grid.png")
    reconstruct("sizes/c.png", "-o", "cropped")
    sizes = {file.name: Image.open(file).size for file in (here / "out").glob("*.png")}
    assert sizes == {"a.png": (64, 32), "b.png": (64, 32), "c.png": (32, 32)}
    assert pngs(here / "out")["c.png"] == pngs(here / "cropped")["c.png"]


def test_sizes_that_do_not_divide_into_tokens_are_refused(fails, here):
    line = fails(2, "reconstruct", "images/a.png", "--no-crop", "--model", "tokenizer", "-o", "out")
    assert "images of 40x33: image_height = 33 is not a multiple of patch_size" in line
    assert not (here / "out").exists()


def test_a_sheet_shows_each_picture_what_became_of_it_and_what_each_step_added():
    original, coarse, fine = (to_tensor(noise(seed, 96, 96)) for seed in range(3))
    cells, captions = compared("folder/name", original, [coarse, fine], [1, 4])
    assert captions[0] == "name" and captions[3:] == ["still missing", "first", "added"]
    values = [psnr(made.numpy(), original.numpy()) for made in (coarse, fine)]
    assert captions[1:3] == [f"1: {values[0]:.1f} dB", f"4: {values[1]:.1f} dB"]
    assert all(map(torch.equal, cells[:3], (original, coarse, fine)))
    added = cells[5].int() - 128
    assert (2 * added - (fine.int() - coarse.int())).abs().max() <= 1


def test_ladders_have_a_column_for_every_level_and_sheets_a_row_for_the_first_images(reconstruct, here, monkeypatch):
    monkeypatch.setattr(reconstruction, "SHEET_ROWS", 3)
    reconstruct("images", "-o", "out", "--ladder", "ladder.png", "--grid", "grid.png", "--num-codes", 16)
    with Image.open(here / "ladder.png") as ladder, Image.open(here / "grid.png") as grid:
        cell, row = 96 + 2, 96 + 2 + 14
        assert ladder.size == ((1 + 6) * cell + 2, 2 * 3 * row + 2)
        assert grid.size == (3 * cell + 2, 3 * row + 2)  # of one number of codes: original, made, still missing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("images --num-codes 33", "--num-codes 33: this tokenizer makes 32 codes an image; give 1 to 32"),
        ("images --num-codes 4,x", "--num-codes 4,x: give numbers of codes such as 16, or 1,4,16,128"),
        ("images --num-codes 0", "--num-codes 0: give numbers of codes"),
        ("images --num-codes 1,4 -o -", "a tar stream has one image of each"),
        ("- images", "- stands for the images on stdin; give it alone"),
        ("images --grid a.png --ladder a.png", "--grid and --ladder are both a.png; give two files"),
        ("images -o x.npz", "x.npz is the name of a file, and the output is a folder"),
        (
            "images --split train",
            "--split train: only what `restok prepare` made has splits",
        ),
        ("images --grid a.jpg", "--grid a.jpg: give a file name that ends in .png"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(fails, here, arguments, message):
    before = sorted(here.iterdir())
    assert message in fails(2, "reconstruct", *arguments.split(), "--model", "tokenizer")
    assert sorted(here.iterdir()) == before


def test_a_picture_and_a_folder_that_would_get_one_name_are_refused_before_anything_is_done(fails, here):
    write_pictures(here / "both", ["a.jpg", "a.png/b.png"], 32, 32)
    line = fails(1, "reconstruct", "both", "--model", "tokenizer")
    assert "holds an image called a and others in a folder a.png/" in line


def test_names_that_are_no_text_become_readable_ones(reconstruct, here):
    (here / "odd").mkdir()
    shutil.copy(here / "images" / "a.png", os.fsdecode(b"odd/\xff\xfe.png"))
    reconstruct("odd", "-o", "out")
    assert json.loads((here / "out" / "manifest.jsonl").read_text())["file"] == r"\xff\xfe.png"
    assert [file.name for file in (here / "out").glob("*.png")] == [r"\xff\xfe.png"]


@pytest.mark.parametrize("option", ["--grid", "--ladder"])
@pytest.mark.parametrize("source", ["images/a.png", "images"])
def test_a_sheet_never_replaces_a_picture_that_is_read(fails, here, source, option):
    before = (here / "images" / "a.png").read_bytes()
    arguments = (source, "--model", "tokenizer", option, "images/a.png", "--overwrite")
    assert f"would replace what is read from {source}" in fails(2, "reconstruct", *arguments)
    assert (here / "images" / "a.png").read_bytes() == before


def test_outputs_are_called_after_the_whole_names_of_pictures(reconstruct, here):
    names = ["photo.v1.png", "photo.v2.png", "2024.01.02", "2024.01.03", "x\u2028y.png", "x\x85y.png", "scan.dat"]
    (here / "odd").mkdir()
    for name in names:
        (here / "odd" / name).write_bytes((here / "images" / "a.png").read_bytes())
    made = sorted(f"{name.removesuffix('.png')}.png" for name in names)
    for more in ((), ("--overwrite",)):  # which reads the manifest
        reconstruct(*(f"odd/{name}" for name in names), "-o", "out", *more)
        assert sorted(pngs(here / "out")) == made


@pytest.mark.slow
def test_tar_streams_go_in_and_come_out(reconstruct, here):
    file = io.BytesIO()
    with StreamWriter(file) as writer:
        for name in "abcde":
            writer.write(name, (here / "images" / f"{name}.png").read_bytes(), {"class_id": 3})
        writer.write("broken", b"no image", {})
    command = (sys.executable, "-m", "restok_cli", "reconstruct", "-", "--model", "tokenizer", "-o", "-")
    result = subprocess.run(command, input=file.getvalue(), capture_output=True)
    assert result.returncode == 0, result.stderr
    made = list(read_stream(io.BytesIO(result.stdout)))
    reconstruct("images", "-o", "out")
    assert {f"{picture.key}.png": picture.data for picture in made} == pngs(here / "out")
    assert all(picture.info["class_id"] == 3 and picture.info["psnr"] > 0 for picture in made)
    assert b"left out: the tar stream: broken." in result.stderr and b"1 left out" in result.stderr


COMMANDS = """
import json, sys
from restok_cli.cli import run
from restok_cli.processes import leave, take_place
take_place()
leave(max(run(words) for words in json.loads(sys.argv[1])))
"""


@pytest.mark.slow
def test_two_processes_reconstruct_and_encode_like_one(here, restok):
    """Started by `accelerate launch`: the same files, sheets and numbers, in the same order."""
    (here / "images" / "bb.png").write_bytes(b"no image")  # falls to the second process
    (here / "run.py").write_text(COMMANDS)

    def commands(name: str) -> list[list[str]]:
        options = ("images", "--model", "tokenizer", "--batch-size", "1")
        sheets = ("--grid", f"{name}-grid.png", "--ladder", f"{name}-ladder.png", "--num-codes", "4,32", "--json")
        return [
            ["reconstruct", *options, "-o", name, *sheets],
            ["encode", *options, "-o", f"{name}.npz"],
            ["encode", *options],
        ]

    words = (sys.executable, *accelerate(here), "run.py", json.dumps(commands("two")))
    two = subprocess.run(words, capture_output=True, text=True)
    assert two.returncode == 0, two.stderr
    assert two.stderr.count("left out: images/bb.png") == 3
    one = "".join(restok(*command).out for command in commands("one"))
    assert two.stdout == one.replace('"one"', '"two"').replace("one.npz", "two.npz")
    for file in ("manifest.jsonl", *(f"{n}/{name}.png" for n in (4, 32) for name in "abcde")):
        assert (here / "two" / file).read_bytes() == (here / "one" / file).read_bytes()
    for rest in (".npz", "-grid.png", "-ladder.png"):
        assert (here / f"two{rest}").read_bytes() == (here / f"one{rest}").read_bytes()


def test_a_stream_is_not_for_several_processes(fails, here):
    for command in ("encode", "reconstruct"):
        line = fails(2, command, "-", "--model", "tokenizer", "--num-processes", 2)
        assert "one stream, which one process reads; leave --num-processes out" in line
