"""Files from outside start no program, and name no file outside of their folder (docs/security.md)."""

import io
import json
import os
import sys
import tarfile
from pathlib import Path

import imagenets
import pytest
from bombs import END, member, png
from pictures import write_pictures

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n0 0 moveto\n%%EOF\n"


@pytest.fixture
def started(tmp_path, monkeypatch):
    """The programs that have been started: those that Pillow would start on files, and others of their kind."""
    (tmp_path / "bin").mkdir()
    for name in ("gs", "gswin32c", "gswin64c", "djpeg", "cjpeg", "ppmquant", "ffmpeg", "convert", "magick"):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/started\nexit 1\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None, raising=False)  # not looked for yet
    return lambda: (tmp_path / "started").read_text().splitlines() if (tmp_path / "started").exists() else []


@pytest.mark.parametrize("scheme", ["pipe", "PIPE", "Pipe", " pipe", "pi\npe", "\tpipe"])
@pytest.mark.parametrize("command", ["train-tokenizer", "train-har"])
def test_a_data_set_runs_no_command_however_it_is_written(fails, tiny_models, tmp_path, command, scheme):
    (tmp_path / "data").mkdir()
    split = {"num_samples": 4, "urls": [f"{scheme}:touch {tmp_path}/ran; touch {tmp_path}/ran"]}
    manifest = {"name": "a", "splits": {"train": split}, "class_names": [], "image_size": None}
    manifest |= {"provenance": {}, "fingerprint": ""}
    (tmp_path / "data/dataset.json").write_text(json.dumps(manifest))
    options = ["--tokenizer", tiny_models / "tokenizer"] if command == "train-har" else []
    train = (command, tmp_path / "data", "-o", tmp_path / "run", "--preset", "tiny", "--skip-preflight", *options)
    assert "would run the shell command" in fails(2, *train, "--device", "cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../a.png", "/etc/hostname", "in/../../a.png"])
def test_a_list_of_pictures_names_none_outside_of_its_folder(fails, tmp_path, name):
    write_pictures(tmp_path, ["a.png", "in/a.png"])
    (tmp_path / "in/manifest.jsonl").write_text(json.dumps({"file": name}) + "\n")
    assert "which is not in its folder" in fails(1, "evaluate", tmp_path / "in", "--metric", "is", "--device", "cpu")


HOSTILE = {
    "x.jpg": POSTSCRIPT,
    "y.png": b"%PDF-1.7\n" + POSTSCRIPT,
    "z.gif": b"\xc5\xd0\xd3\xc6" + bytes(28) + POSTSCRIPT,
}


def write_hostile(folder: Path, good: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name, data in HOSTILE.items():
        (folder / name).write_bytes(data)
    if good:
        write_pictures(folder, ["a.png", "b.png"])
    return folder


def write_hostile_tar(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for file in sorted(write_hostile(path.parent.parent / f"files-{path.parent.name}").iterdir()):
            tar.add(file, file.name)
    return path


def write_hostile_set(folder: Path) -> Path:
    """A data set that somebody has published, whose images are none."""
    from restok_cli.data.shards.layout import Sample
    from restok_cli.data.shards.writer import write_dataset

    good = [Sample("a", "png", png(), (16, 20), -1, {})]
    bad = [Sample(name[0], name[2:], data, (16, 20), -1, {}) for name, data in HOSTILE.items()]
    write_dataset(folder, {"train": good + bad, "validation": good + bad}, name="a", class_names=[], provenance={})
    return folder


def write_hostile_imagenet(folder: Path) -> None:
    (folder / "train").mkdir(parents=True)
    files = b"".join(member(f"{name[0]}.JPEG", data) for name, data in HOSTILE.items())
    (folder / "train/n01440764.tar").write_bytes(files + member("a.JPEG", png()) + END)


def write_hostile_rows(folder: Path) -> None:
    rows = [(f"{name[0]}.JPEG", data, 0) for name, data in HOSTILE.items()]
    imagenets.write_rows(folder / "train-0.parquet", [*rows, ("a.JPEG", png(), 0)], 4)


# Of each kind of source: what writes it below a folder, and the commands that may read it, in which IN is that place,
# OUT and OUT2 are folders to make, TOKENIZER is a model and FILE a file to write.
MODEL = "--model TOKENIZER --device cpu"
MEASURE = "--features random --no-cache --device cpu"
TRAIN = "--preset tiny --max-steps 1 --skip-preflight --device cpu"
SOURCES = {
    "folder": (
        write_hostile,
        "prepare folder IN OUT --check full",
        f"encode IN -o FILE {MODEL}",
        f"reconstruct IN -o OUT2 {MODEL}",
        f"evaluate IN --metric is {MEASURE}",
        f"evaluate IN --metric mse --reference IN {MEASURE}",
        f"evaluate IN --metric codebook {MODEL}",
        f"evaluate --make-reference IN -o OUT.npz {MEASURE}",
        "report IN",
        "doctor IN",
    ),
    "tars": (
        lambda place: write_hostile_tar(place / "a.tar"),
        "prepare shards IN OUT --check full",
        f"evaluate IN --metric is {MEASURE}",
        f"evaluate IN/a.tar --metric mse --reference IN {MEASURE}",
    ),
    "stdin": (
        lambda place: write_hostile_tar(place / "a.tar"),
        f"encode - -o FILE {MODEL}",
        f"reconstruct - -o OUT {MODEL}",
        f"evaluate - --metric is {MEASURE}",
    ),
    "data set": (
        write_hostile_set,
        "prepare verify IN",
        f"encode IN -o FILE {MODEL}",
        f"reconstruct IN -o OUT {MODEL}",
        f"evaluate IN --metric is {MEASURE}",
        "prepare codes IN OUT2 --tokenizer TOKENIZER --device cpu",
        f"train-tokenizer IN -o RUN {TRAIN}",
    ),
    "imagenet": (write_hostile_imagenet, "prepare imagenet IN OUT --check full"),
    "parquet": (write_hostile_rows, "prepare imagenet IN OUT --check full"),
    "npz": (
        lambda place: (place.mkdir(), (place / "a.npz").write_bytes(POSTSCRIPT)),
        f"evaluate IN/a.npz --metric is {MEASURE}",
        f"decode IN/a.npz -o OUT {MODEL}",
    ),
    "streamed": (
        lambda place: write_hostile_tar(place / "a.tar"),
        "prepare shards file://IN/a.tar OUT --num-classes 0",
        f"train-tokenizer OUT -o RUN {TRAIN}",
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_no_command_starts_a_program_on_any_source(restok, tiny_models, tmp_path, monkeypatch, started, source):
    write, *commands = SOURCES[source]
    write(tmp_path / "IN")
    (tmp_path / "TOKENIZER").symlink_to(tiny_models / "tokenizer")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        if source == "stdin":
            stdin = io.BytesIO((tmp_path / "IN/a.tar").read_bytes())
            monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": stdin}))
        result = restok(*command.replace("file://IN", f"file://{tmp_path}/IN").replace("FILE", "FILE.npz").split())
        assert result.code in (0, 1, 2) and "Traceback" not in result.err, (command, result)
        assert started() == [], command
