"""`restok encode` and `restok decode`: codes of images, and images of codes."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from pictures import noise, write_pictures
from PIL import Image
from plain_models import plain_tokenizer

from restok_cli import cli
from restok_cli.data.code_files import read_codes
from restok_cli.data.image_files import center_crop
from restok_cli.data.images import png_bytes, to_float, to_tensor, to_uint8
from restok_cli.data.inputs import Input, Inputs, find_inputs
from restok_cli.data.shards.dataset import Split, open_dataset
from restok_cli.data.shards.layout import Sample
from restok_cli.data.shards.writer import write_dataset
from restok_cli.data.streams import StreamWriter, read_stream
from restok_cli.errors import ImageError, RestokError
from restok_cli.pretrained.folder import fingerprint, open_tokenizer
from restok_cli.pretrained.modules import load_for_use

CPU = torch.device("cpu")


@pytest.fixture
def here(tmp_path, tiny_models, monkeypatch) -> Path:
    """A working folder with images of several sizes, and `tokenizer` and `other`."""
    write_pictures(tmp_path / "images", ["a.png", "b/c.png"], 40, 33)
    write_pictures(tmp_path / "images", ["d.png"], 32, 32)
    (tmp_path / "data").mkdir()
    write_dataset(tmp_path / "data", {"validation": pets()}, name="pets", class_names=["cat", "dog"], provenance={})
    for name in ("tokenizer", "other", "har"):
        (tmp_path / name).symlink_to(tiny_models / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pets() -> Iterator[Sample]:
    """Six images of two classes."""
    for i in range(6):
        yield Sample(f"pet-{i}", "png", png_bytes(to_tensor(noise(i, 32, 32))), (32, 32), i % 2, {})


def run(restok, command: str):
    result = restok(*command.split())
    assert result.code == 0, result.err
    return result


def shell(command: str, folder: Path) -> subprocess.CompletedProcess:
    """A pipeline in a real shell, in which `restok` is this one."""
    restok = f'restok() {{ "{sys.executable}" -m restok_cli "$@"; }}'
    return subprocess.run(["bash", "-c", f"set -o pipefail; {restok}; {command}"], cwd=folder, capture_output=True)


def written(command: str) -> bytes:
    """What a command writes to its stdout, in this process, which saves the start of another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), write_through=True))
        assert cli.run(command.split()) == 0
        return sys.stdout.buffer.getvalue()


@contextmanager
def piped(data: bytes) -> Iterator[None]:
    """`data` comes through a real pipe, to a command in this process."""
    Path("piped").write_bytes(data)
    with subprocess.Popen(("cat", "piped"), stdout=subprocess.PIPE) as cat, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(cat.stdout))
        yield


def test_codes_are_those_of_the_tokenizer_on_the_cropped_picture(restok, here):
    lines = run(restok, "encode images --model tokenizer").out.splitlines()
    tokenizer = plain_tokenizer(here / "tokenizer", CPU)
    for line, key in zip(map(json.loads, lines), ("a", "b/c", "d"), strict=True):
        image = to_float(to_tensor(center_crop(Image.open(here / "images" / f"{key}.png"), (32, 32))))[None]
        with torch.inference_mode():
            assert line["codes"] == tokenizer.encode(image)[0].tolist()
        assert line["key"] == key and line["class_id"] == -1 and line["codebook_size"] == 64
        assert line["tokenizer"] == fingerprint(open_tokenizer(here / "tokenizer"))


@pytest.mark.parametrize("name", ["codes.npz", "codes.safetensors", "codes.jsonl"])
def test_encoding_and_decoding_a_data_set_is_reconstructing_it(restok, here, name):
    assert run(restok, f"encode data --model tokenizer -o {name} --batch-size 4").out == f"{name}\n"
    run(restok, f"decode {name} --model har -o decoded --batch-size 5")
    run(restok, "reconstruct data --model tokenizer -o reconstructed")
    files = sorted(file.name for file in (here / "decoded").glob("*.png"))
    assert len(files) == 6
    for file in files:
        assert (here / "decoded" / file).read_bytes() == (here / "reconstructed" / file).read_bytes()
    split = open_dataset("data").split("validation")
    codes = read_codes(here / name)
    assert codes.class_ids.tolist() == split.class_ids.tolist()
    assert codes.keys == [split.key(i) for i in range(6)]


def test_a_prefix_decodes_to_the_coarser_picture(restok, here):
    run(restok, "encode images/d.png --model tokenizer -o codes.npz")
    run(restok, "decode codes.npz --model tokenizer --num-codes 4 -o d.png")
    tokenizer = load_for_use(open_tokenizer(here / "tokenizer"), CPU)
    found = read_codes(here / "codes.npz")
    assert found.dtype == "float32"  # where --dtype is auto, on a CPU
    codes = torch.from_numpy(found.codes).long()
    with torch.inference_mode():
        expected = to_uint8(tokenizer.decode(codes[:, :4]))[0]
    assert torch.equal(to_tensor(Image.open(here / "d.png")), expected)
    run(restok, "decode codes.npz --model tokenizer --tokens=4 -o e.png")  # the option's former name
    assert (here / "e.png").read_bytes() == (here / "d.png").read_bytes()


def test_keys_with_folders_become_folders_and_are_listed(restok, here):
    run(restok, "encode images --model tokenizer -o codes.jsonl")
    run(restok, "decode codes.jsonl --model tokenizer -o out --json")
    lines = [json.loads(line) for line in (here / "out" / "manifest.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["a.png", "b/c.png", "d.png"]
    assert all((here / "out" / line["file"]).is_file() for line in lines)
    run(restok, "decode codes.jsonl --model tokenizer -o out --overwrite")


def test_files_of_codes_decode_together_as_each_does(restok, here):
    run(restok, "encode images/a.png images/d.png --model tokenizer -o two.npz")
    run(restok, "encode images/b --model tokenizer -o one.jsonl")
    run(restok, "decode two.npz --model tokenizer -o apart")
    result = run(restok, "decode two.npz one.jsonl --model tokenizer -o out --json --grid g.png")
    assert json.loads(result.out)["images"] == 3
    lines = [json.loads(line)["file"] for line in (here / "out/manifest.jsonl").read_text().splitlines()]
    assert lines == ["a.png", "d.png", "c.png"]
    assert (here / "out/d.png").read_bytes() == (here / "apart/d.png").read_bytes()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("encode nowhere.png --model tokenizer", "nowhere.png: no such file or folder"),
        ("encode images --model images", "images is not a model"),
        ("encode images --model tokenizer -o codes.txt", "ends in .npz, .safetensors, .jsonl"),
        ("encode images --model tokenizer -o codes.npz", "codes.npz already exists"),
        ("encode images --model tokenizer -o tokenizer/model.safetensors --overwrite", "would replace what is read"),
        ("encode images --split train --model tokenizer", "--split train: only what `restok prepare` made has splits"),
        ("encode - images --model tokenizer", "- stands for the images on stdin; give it alone"),
        ("encode images --no-crop --model tokenizer", "images of 40x33 with --no-crop: their codes do not tell"),
        ("decode codes.npz --model other", "the codes belong to another tokenizer than other"),
        ("decode codes.npz --model tokenizer --num-codes 33", "an image has 32 codes; give 1 to 32"),
        ("decode codes.npz --model tokenizer -o one.png", "one.png is one image, but there are codes of several"),
        ("decode images/a.png --model tokenizer", "images/a.png: give codes, in a file that ends in .npz"),
        ("decode cache --model tokenizer", "cache is a code cache, for train-har and evaluate; `restok encode DATA"),
        ("decode codes.npz --model tokenizer -o k.jpg", "k.jpg is the name of a file, and the output is a folder"),
        ("decode codes.npz codes.npz --model tokenizer", "codes.npz and codes.npz would both become a.png"),
        ("decode - codes.npz --model tokenizer", "- stands for the codes on stdin; give it alone"),
        ("decode codes.npz nowhere.npz --model tokenizer", "nowhere.npz: no such file"),
        ("decode codes.npz foreign.npz --model tokenizer", "foreign.npz: the codes are 4 of 65 for each image"),
        ("decode nowhere.npz --model tokenizer", "nowhere.npz: no such file"),
        ("decode foreign.npz --model tokenizer", "the codes are 4 of 65 for each image, tokenizer makes 32 of 64"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(restok, fails, here, command, message):
    run(restok, "encode images --model tokenizer -o codes.npz")
    np.savez(here / "foreign.npz", codes=np.zeros((1, 4), int), codebook_size=65)
    (here / "cache").mkdir()
    (here / "cache" / "codes.json").touch()
    before = sorted(here.iterdir())
    assert message in fails(2, *command.split())
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("key", ["../out", "/tmp/out", "a//b", "", "a", "a.png/b", "long/" + "é" * 126])
def test_keys_cannot_lead_out_of_the_folder_or_come_twice(fails, here, key):
    np.savez(here / "evil.npz", codes=np.zeros((2, 4), int), codebook_size=64, keys=["a", key])
    before = sorted(here.iterdir())
    assert "called" in fails(1, "decode", "evil.npz", "--model", "tokenizer", "-o", "out")
    assert sorted(here.iterdir()) == before


def test_no_decodable_picture_at_all_is_a_failure(fails, here):
    (here / "broken.png").write_bytes(b"no image")
    line = fails(1, "encode", "broken.png", "--model", "tokenizer", "-o", "codes.npz")
    assert "of 1 image, none could be decoded" in line


@pytest.mark.slow
def test_a_picture_goes_through_a_pipe_of_encode_and_decode(restok, here):
    result = shell("restok encode images/d.png --model tokenizer | restok decode - --model tokenizer -o d.png", here)
    assert result.returncode == 0 and result.stdout == b"d.png\n", result.stderr
    run(restok, "reconstruct images/d.png --model tokenizer -o out")
    assert (here / "d.png").read_bytes() == (here / "out" / "d.png").read_bytes()


def test_generated_codes_go_through_a_pipe(here):
    with piped(written("generate --model har --count 5 --codes -o -")):
        images = written("decode - --model har -o -")
    names = subprocess.run(("tar", "tf", "-"), input=images, capture_output=True, check=True).stdout.decode().split()
    assert names == [f"{i:06d}.{suffix}" for i in range(5) for suffix in ("json", "cls", "png")]


def test_pictures_go_through_a_pipe_of_tar_streams(restok, here):
    with piped(written("reconstruct data --model tokenizer -o -")):
        run(restok, "encode - --model tokenizer -o c.npz")
    run(restok, "reconstruct data --model tokenizer -o out")
    run(restok, "encode out --model tokenizer -o d.npz")
    ours, theirs = read_codes(here / "c.npz"), read_codes(here / "d.npz")
    rows = {key: row.tolist() for key, row in zip(ours.keys, ours.codes, strict=True)}
    assert rows == {key: row.tolist() for key, row in zip(theirs.keys, theirs.codes, strict=True)}
    assert ours.class_ids.tolist() == open_dataset("data").split("validation").class_ids.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "folder", "metric"),
    [
        ("generate --model har --count 6", "images-made", "gfid"),
        ("reconstruct data --model tokenizer", "images-again", "rfid"),
    ],
)
def test_evaluate_measures_a_pipe_like_a_folder(restok, here, command, folder, metric):
    evaluate = f"--metric {metric} --reference data --features random"
    with piped(written(f"{command} -o -")):
        of_pipe = run(restok, f"evaluate - {evaluate}")
    run(restok, f"{command} -o {folder}")
    kept = run(restok, f"evaluate {folder} {evaluate}")
    numbers = [text.split()[:2] for text in (of_pipe.out, kept.out)]
    assert numbers[0] == numbers[1] and numbers[0][0].lower().startswith(metric)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "restok generate --model har --count 3000 -o -",
        "restok generate --model har --count 3000 --codes -o -",
        "restok encode sample --model tokenizer",
        "restok reconstruct sample --model tokenizer -o -",
    ],
)
def test_a_reader_that_has_seen_enough_ends_them_quietly(here, command):
    result = shell(f"{command} | head -c 3000 >/dev/null", here)
    assert result.returncode == 1
    assert b"restok:" not in result.stderr and b"Traceback" not in result.stderr and b"Exception" not in result.stderr


def test_a_stream_that_breaks_is_told_by_the_command_that_reads_it(fails, here):
    file = io.BytesIO()
    with StreamWriter(file) as writer:
        for i in range(2):
            writer.write(str(i), (here / "images" / "d.png").read_bytes(), {})
    assert len(list(read_stream(io.BytesIO(file.getvalue())))) == 2
    with piped(file.getvalue()[:-2000]):
        line = fails(1, "reconstruct", "-", "--model", "tokenizer", "-o", "out")
    assert line.startswith("restok: the tar stream ends or breaks after 0 (") and not (here / "out").exists()


def test_images_are_decoded_beside_each_other_and_stay_in_order(capsys):
    together = Barrier(2, timeout=60)

    def read(number):
        if number < 2:
            together.wait()  # for ever, were there one reader
        if number == 3:
            raise ImageError("image 3 is broken")
        return Image.new("RGB", (8, 8), (number, 0, 0))

    images = [Input(str(number), number, partial(read, number)) for number in range(9)]
    inputs = Inputs(images, len(images))
    batches = list(inputs.batches((8, 8), 3))
    assert [batch.class_ids for batch in batches] == [[0, 1, 2], [4, 5, 6], [7, 8]]
    assert [batch.images[:, 0, 0, 0].tolist() for batch in batches] == [batch.class_ids for batch in batches]
    assert inputs.left_out == ["left out: image 3 is broken"] and capsys.readouterr().err.count("left out") == 1


def test_keys_of_a_data_set_are_read_as_its_images_are_taken_and_none_comes_twice(monkeypatch):
    read = []

    def key(_, i):
        read.append(i)
        return str(i % 2)

    monkeypatch.setattr(Split, "key", key)
    inputs = find_inputs(["sample"], "validation", None)
    images = iter(inputs.images)
    assert (inputs.count, next(images).key, next(images).key, read) == (202, "0", "1", [0, 1])
    with pytest.raises(RestokError, match="the split validation of the data set holds two images called 0"):
        next(images)


def test_an_image_of_a_stream_is_not_waited_for_before_the_one_before_it_is_done():
    def images():
        yield Input("a", 0, lambda: Image.new("RGB", (8, 8)))
        pytest.fail("asked for before it came")

    assert next(Inputs(images(), None).batches(None, 1)).keys == ["a"]
