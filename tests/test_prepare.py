import hashlib
import json
import os
import subprocess
import sys

import pytest
from pictures import noise, write_pictures
from PIL import Image

from restok_cli.commands.preparing import prepare
from restok_cli.commands.preparing import shards as prepare_shards
from restok_cli.data.loading.transforms import Transform
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.errors import RestokError, UsageError


def run(*arguments):
    prepare.app([str(argument) for argument in arguments], standalone_mode=False)


def contents(dataset):
    """file -> (split, class name, bytes) of everything in a data set."""
    found = {}
    for name in dataset.splits:
        split = dataset.split(name)
        for i in range(len(split)):
            class_name = dataset.class_names[split.class_id(i)] if dataset.num_classes else None
            found[split.key(i)] = (name, class_name, split.read(i))
    return found


@pytest.fixture
def pets(tmp_path):
    write_pictures(tmp_path / "pets", [f"{kind}/{i}.png" for kind in ("dogs", "cats") for i in range(10)])
    return tmp_path / "pets"


def test_sub_folders_are_classes_and_files_are_kept_byte_for_byte(pets, tmp_path, capsys):
    run("folder", pets, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert dataset.class_names == ["cats", "dogs"]
    found = contents(dataset)
    assert len(found) == 20
    for kind in ("cats", "dogs"):
        for i in range(10):
            _, class_name, picture = found[f"{kind}_{i}"]
            assert class_name == kind
            assert picture == (pets / kind / f"{i}.png").read_bytes()
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'out'}\n"
    assert "20 images, 2 classes: train 18, validation 2" in captured.err


def test_flat_pictures_have_no_classes(tmp_path):
    write_pictures(tmp_path / "flat", [f"{i}.jpg" for i in range(10)])
    run("folder", tmp_path / "flat", tmp_path / "out", "--validation-fraction", 0.3)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.num_classes == 0
    assert [len(dataset.split(name)) for name in dataset.splits] == [7, 3]
    assert dataset.split("train").class_id(0) == -1


def test_the_validation_fraction_holds_in_every_class(tmp_path):
    names = [f"{kind}/{i}.png" for kind, count in (("one", 1), ("two", 2), ("ten", 10)) for i in range(count)]
    write_pictures(tmp_path / "in", names)

    def held_out(fraction):
        run("folder", tmp_path / "in", tmp_path / "out", "--validation-fraction", fraction, "--overwrite")
        split_and_class = [(split, kind) for split, kind, _ in contents(open_dataset(tmp_path / "out")).values()]
        return [split_and_class.count(("validation", kind)) for kind in ("one", "two", "ten")]

    assert held_out(0.1) == [0, 1, 1]
    assert held_out(0.4) == [0, 1, 4]
    assert held_out(0.99) == [0, 1, 9]
    assert held_out(0) == [0, 0, 0]
    assert open_dataset(tmp_path / "out").splits == ["train"]


@pytest.mark.parametrize("validation", ["val", "validation", "valid"])
@pytest.mark.parametrize("named", [".", "../in", "{}/in"])
def test_folders_named_after_splits_are_the_splits(tmp_path, monkeypatch, validation, named):
    write_pictures(tmp_path / "in", ["train/b/1.png", "train/a/1.png", "train/b/2.png", f"{validation}/b/1.png"])
    monkeypatch.chdir(tmp_path / "in")
    run("folder", named.format(tmp_path), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert dataset.class_names == ["a", "b"]
    assert {key: value[:2] for key, value in contents(dataset).items()} == {
        "train_a_1": ("train", "a"),
        "train_b_1": ("train", "b"),
        "train_b_2": ("train", "b"),
        f"{validation}_b_1": ("validation", "b"),
    }


def test_preparing_twice_gives_the_same_bytes(pets, tmp_path):
    run("folder", pets, tmp_path / "one")
    run("folder", pets, tmp_path / "two")
    files = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()}


def test_keys_are_unique_and_survive_dots_slashes_and_long_names(tmp_path):
    names = [
        "IMG.2024.jpg",
        "IMG.2023.jpg",
        "a b.png",
        "a_b.png",
        "a_b.webp",
        "日本.png",
        "中国.png",
        "x" * 200 + ".png",
    ]
    write_pictures(tmp_path / "in", names)
    run("folder", tmp_path / "in", tmp_path / "out", "--validation-fraction", 0)
    split = open_dataset(tmp_path / "out").split("train")
    by_bytes = {split.read(i): split.key(i) for i in range(len(split))}
    keys = {name: by_bytes[(tmp_path / "in" / name).read_bytes()] for name in names}
    assert keys["IMG.2024.jpg"] == "IMG_2024"
    assert len(set(keys.values())) == len(names)
    assert all(key.isascii() and len(key) <= 80 and not set(key) & set("./ ") for key in keys.values())


def test_broken_pictures_are_named_listed_and_left_out(pets, tmp_path, capsys):
    (pets / "cats" / "cut.png").write_bytes((pets / "cats" / "1.png").read_bytes()[:100])
    (pets / "cats" / "text.jpg").write_text("no image")
    (pets / "dogs" / "gone.png").symlink_to(tmp_path / "nowhere")
    for name in ("cats/notes.txt", "cats/logo.svg"):
        (pets / name).write_text("no image")
    os.mkfifo(pets / "dogs" / "pipe")
    run("folder", pets, tmp_path / "out", "--json")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "path": str(tmp_path / "out"),
        "images": 20,
        "unreadable": 3,
        "passed_over": {"begins as no image does": 2, "a pipe, a socket or a device": 1},
        "re_encoded": 0,
        "turned": 0,
        "classes": 2,
        "splits": {"train": 18, "validation": 2},
        "shorter_edge": {"least": 16, "middle": 16, "most": 16},
    }
    bad = [json.loads(line) for line in (tmp_path / "out" / "bad.jsonl").read_text().splitlines()]
    others, bad = bad[:3], bad[3:]
    assert [entry["file"] for entry in others] == ["cats/logo.svg", "cats/notes.txt", "dogs/pipe"]
    assert sorted(entry["file"] for entry in bad) == ["cats/cut.png", "cats/text.jpg", "dogs/gone.png"]
    for entry in bad:
        assert f"left out: {entry['file']}: {entry['reason']}" in captured.err
    assert "3 images left out that cannot be decoded" in captured.err


def test_large_pictures_are_left_out_unless_they_are_admitted_and_are_then_read_by_all(tmp_path, monkeypatch):
    write_pictures(tmp_path / "in", ["large.png", "large.jpg"])
    write_pictures(tmp_path / "in", ["small.png"], 10, 10)
    run("folder", tmp_path / "in", tmp_path / "out", "--max-decoded-pixels", 319, "--validation-fraction", 0)
    bad = [json.loads(line) for line in (tmp_path / "out" / "bad.jsonl").read_text().splitlines()]
    assert sorted(picture["file"] for picture in bad) == ["large.jpg", "large.png"]
    assert all("(320 pixels) is over the limit; --max-decoded-pixels admits it" in picture["reason"] for picture in bad)
    run("folder", tmp_path / "in", tmp_path / "all", "--max-decoded-pixels", 320, "--validation-fraction", 0)
    train = open_dataset(tmp_path / "all").split("train")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # as if they were larger than Pillow takes by itself
    assert sorted(train.image(i).size for i in range(3)) == [(10, 10), (20, 16), (20, 16)]
    for crop in ("centre", "random", "random-resized"):
        transform = Transform(0, (8, 8), crop, (1, 1.25), (0.5, 1), False)
        assert all(transform(*train.file(i), 0, i).shape == (3, 8, 8) for i in range(3))


def test_a_folder_of_broken_pictures_makes_no_data_set(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("no image")
    with pytest.raises(RestokError, match="not one image could be read"):
        run("folder", tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_pictures_beside_class_folders_are_refused(pets, tmp_path):
    noise(0).save(pets / "stray.png")
    with pytest.raises(UsageError, match=r"stray\.png is in no class folder, unlike 20 other images"):
        run("folder", pets, tmp_path / "out")


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        run("folder", tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty holds no images"):
        run("folder", tmp_path / "empty", tmp_path / "out")


def test_output_that_exists_needs_overwrite(pets, tmp_path):
    run("folder", pets, tmp_path / "out")
    with pytest.raises(UsageError, match="--overwrite"):
        run("sample", tmp_path / "out")
    run("sample", tmp_path / "out", "--overwrite")
    assert open_dataset(tmp_path / "out").name == "sample"


def test_overwrite_replaces_data_sets_only(pets, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"home holds thesis\.tex, which this command did not make"):
        run("folder", pets, tmp_path / "home", "--overwrite")
    assert (tmp_path / "home" / "thesis.tex").exists()
    run("sample", tmp_path / "data")
    (tmp_path / "data" / "notes").mkdir()
    (tmp_path / "data" / "notes" / "thesis.tex").write_text("more of it")
    with pytest.raises(UsageError, match=r"data holds notes/thesis\.tex, which"):
        run("sample", tmp_path / "data", "--overwrite")


@pytest.mark.parametrize("name", ["mine-000001.tar", "train-000000.npy", "LICENSE", "dataset.json", "_info.json"])
def test_overwrite_leaves_what_only_has_the_name_of_our_files(pets, tmp_path, name):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / name).write_text("years of work")
    for command in (["folder", pets], ["sample"]):
        with pytest.raises(UsageError, match=f"home holds {name}, which this command did not make"):
            run(*command, tmp_path / "home", "--overwrite")
    assert (tmp_path / "home" / name).read_text() == "years of work"
    run("folder", pets, tmp_path / "data")
    if not (tmp_path / "data" / name).exists():
        (tmp_path / "data" / name).write_text("more of it")
        with pytest.raises(UsageError, match=f"data holds {name}, which"):
            run("sample", tmp_path / "data", "--overwrite")


def test_the_current_folder_can_be_the_output_while_it_is_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("sample", ".")
    assert open_dataset(tmp_path).name == "sample"


def test_output_inside_or_around_the_pictures_is_refused(pets):
    for out in (pets / "out", pets, pets.parent):
        with pytest.raises(UsageError):
            run("folder", pets, out, "--overwrite")
    with pytest.raises(UsageError, match="lie in each other"):
        run("folder", pets, pets / "out")


def test_a_crash_while_writing_keeps_the_old_data_set(pets, tmp_path, monkeypatch):
    run("folder", pets, tmp_path / "out")
    fingerprint = open_dataset(tmp_path / "out").fingerprint

    def crash(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("restok_cli.data.sources.preparation.write_manifest", crash)
    with pytest.raises(OSError, match="No space left"):
        run("folder", pets, tmp_path / "out", "--validation-fraction", 0.5, "--overwrite")
    assert open_dataset(tmp_path / "out").fingerprint == fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pets"]


def test_the_sample_is_written_out_as_plain_shards(tmp_path, capsys):
    run("sample", tmp_path / "emoji")
    assert capsys.readouterr().out == f"{tmp_path / 'emoji'}\n"
    assert sorted(path.name for path in (tmp_path / "emoji").iterdir()) == [
        "LICENSE",
        "NOTICE",
        "_info.json",
        "dataset.json",
        "train-000000.npy",
        "train-000000.tar",
        "validation-000000.npy",
        "validation-000000.tar",
    ]
    embedded, written = open_dataset("sample"), open_dataset(tmp_path / "emoji")
    assert written.fingerprint == embedded.fingerprint
    for name in embedded.splits:
        ours, theirs = written.split(name), embedded.split(name)
        assert [ours.read(i) for i in range(len(ours))] == [theirs.read(i) for i in range(len(theirs))]


def test_the_manifest_hashes_the_files_that_lie_there(tmp_path):
    run("sample", tmp_path / "emoji")
    for split in json.loads((tmp_path / "emoji" / "dataset.json").read_text())["splits"].values():
        for shard in split["shards"]:
            data = (tmp_path / "emoji" / shard["file"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])


def test_class_names_that_come_twice_are_said(tmp_path, capsys):
    (tmp_path / "names").write_bytes("\ufeffcrane\r\nowl\r\ncrane\r\n".encode())
    assert prepare_shards._stated_classes(str(tmp_path / "names"), None) == ["crane", "owl", "crane"]
    assert "several classes are called crane" in capsys.readouterr().err


# The command line on a login node: no torch, and 400 MB of address space.
ON_A_LOGIN_NODE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (400 << 20,) * 2)
sys.modules.update(dict.fromkeys(("torch", "torchvision", "webdataset")))  # so that importing them fails
from restok_cli.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_data_sets_are_made_and_verified_without_torch_in_little_memory(pets, tmp_path):
    def run_there(*command):
        arguments = (sys.executable, "-c", ON_A_LOGIN_NODE, *map(str, command))
        result = subprocess.run(arguments, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert result.returncode == 0, result.stderr
        return result.stdout

    with pytest.raises(AssertionError, match="torch"):  # so it would be seen
        run_there("prepare", "codes", "sample", tmp_path / "codes", "--tokenizer", "sample")
    run_there("prepare", "folder", pets, tmp_path / "out", "--jobs", 2)
    assert "20 samples in 2 shards are as they were prepared" in run_there("prepare", "verify", tmp_path / "out")
    run_there("prepare", "sample", tmp_path / "sample")
    (tmp_path / "sample" / "dataset.json").unlink()
    run_there("prepare", "shards", tmp_path / "sample")
