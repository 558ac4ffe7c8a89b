"""What `prepare folder` takes for splits and classes."""

import json
import os
import shutil
import unicodedata

import pytest
from pictures import write_pictures

from restok_cli.cli import run
from restok_cli.data.sources.folders import walk_folder
from restok_cli.data.sources.listing import unused_key
from restok_cli.errors import RestokError, UsageError

CAFE = {form: unicodedata.normalize(form, "café") for form in ("NFC", "NFD")}


def counts(folder, *options):
    """Split -> class name -> number of images."""
    sources = walk_folder(folder, *options or (0,))
    keys = [source.key for split in sources.splits.values() for source in split]
    assert len(set(keys)) == len(keys)
    return {
        split: {
            name: number
            for i, name in enumerate(sources.class_names)
            if (number := sum(source.class_id == i for source in found))
        }
        for split, found in sources.splits.items()
        if found
    }


def names(*folders, number=2):
    return [f"{folder}/{i}.png" for folder in folders for i in range(number)]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        ("train test", "train test"),
        ("Train Val", "train validation"),
        ("TRAINING Valid Testing", "train validation test"),
        ("train", "train"),
        ("test", "test"),
    ],
)
def test_split_folders_are_known_in_any_case_and_said(tmp_path, capsys, folders, splits):
    write_pictures(tmp_path, [name for folder in folders.split() for name in names(f"{folder}/cat", f"{folder}/dog")])
    assert counts(tmp_path) == {split: {"cat": 2, "dog": 2} for split in splits.split()}
    taken = [f"{name}/ ({split})" for name, split in zip(folders.split(), splits.split(), strict=True)]
    said = capsys.readouterr().err
    assert "taken as its splits: " in said and all(part in said for part in taken)


def test_without_a_validation_split_a_part_of_train_is_it_or_by_an_option_test(tmp_path, capsys):
    write_pictures(tmp_path, [*names("train/a", "train/b", number=10), *names("test/a")])
    divided = {"train": {"a": 8, "b": 8}, "validation": {"a": 2, "b": 2}, "test": {"a": 2}}
    assert counts(tmp_path, 0.2) == divided
    assert "validation is 0.2 of each class of train/" in capsys.readouterr().err
    assert counts(tmp_path, 0.2, True) == {"train": {"a": 10, "b": 10}, "validation": {"a": 2}}
    write_pictures(tmp_path, names("val/a"))
    assert list(counts(tmp_path, 0.2)) == ["train", "validation", "test"]
    with pytest.raises(UsageError, match="has a validation split; leave out --test-as-validation"):
        walk_folder(tmp_path, 0.2, True)
    shutil.rmtree(tmp_path / "val")
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(UsageError, match="has no test split"):
        walk_folder(tmp_path, 0.2, True)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("Train/a train/a", "Train and train are both for train; rename one"),
        ("train/a val/a validation/a", "val and validation are both for validation"),
        ("bus train plane", "train may be splits or classes, as bus/0.png is in none of them"),
        ("train/a val/a extra", "train and val may be splits or classes, as extra/0.png is in none"),
        ("train/a val/images", "0.png is in no class folder of train; sort val as that is"),
        ("train/a val", "0.png is in no class folder of train"),
        ("train2017 val2017 more", "train2017 and val2017 look like splits, whose .*; call them train, validation"),
        ("trainA trainB testA testB", "testB and trainB look like splits"),
        ("seg_test/seg_test/a seg_train/seg_train/a", "seg_test and seg_train look like splits"),
        ("pets/train/a pets/val/a", "pets: train and val look like splits, whose .*; give that folder"),
        ("train/a/train train/a/test", "train/a: test and train look like splits"),
        ("x/y/train/good x/y/test/good x/y/masks", "x/y: test and train look like splits"),
    ],
)
def test_what_is_ambiguous_is_refused(tmp_path, folders, message):
    write_pictures(tmp_path, names(*folders.split()))
    with pytest.raises(UsageError, match=message):
        walk_folder(tmp_path, 0)


def test_folders_in_class_folders_are_said(tmp_path, capsys):
    write_pictures(tmp_path / "in", names("pets/cat", "pets/dog/test_tube", "cars/bullet_train"))
    assert counts(tmp_path / "in") == {"train": {"pets": 4, "cars": 2}}
    said = f"{tmp_path / 'in'}: 3 folders in class folders (cars/bullet_train the first): their images are of the class"
    assert said in capsys.readouterr().err
    write_pictures(tmp_path / "splits", names("train/test_tube", "train/bullet_train"))
    assert counts(tmp_path / "splits") == {"train": {"bullet_train": 2, "test_tube": 2}}


def test_pictures_beside_split_folders_are_refused(tmp_path):
    write_pictures(tmp_path, [*names("train/a"), "train.png"])
    with pytest.raises(UsageError, match=r"as train\.png is in none of them"):
        walk_folder(tmp_path, 0)


def test_folders_that_hold_no_pictures_are_no_classes_and_no_splits_and_this_is_said(tmp_path, capsys):
    write_pictures(tmp_path, names("train/a", "train/b"))
    for name in ("val", "annotations", "train/empty", "train/notes/deep"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "train/notes/deep/a.txt").write_text("no image")
    assert counts(tmp_path) == {"train": {"a": 2, "b": 2}}
    said = capsys.readouterr().err
    assert f"{tmp_path}: 2 folders (the first: annotations) hold no images, so passed over" in said
    assert f"{tmp_path / 'train'}: 2 folders (the first: empty) hold no images, so passed over" in said
    assert "passed over a file that is no image (train/notes/deep/a.txt: begins as no image does)" in said


def test_a_test_split_without_labels_is_left_out_and_this_is_said(tmp_path, capsys):
    write_pictures(tmp_path, names("train/a", "train/b", "test/images"))
    assert counts(tmp_path) == {"train": {"a": 2, "b": 2}}
    assert "test is left out: its 2 images are not sorted into the classes of train" in capsys.readouterr().err


def test_classes_that_train_has_not_are_said(tmp_path, capsys):
    write_pictures(tmp_path, names("train/a", "train/b", "val/a", "val/c"))
    assert counts(tmp_path)["validation"] == {"a": 2, "c": 2}
    assert "val has 1 class that train has not: c" in capsys.readouterr().err


def test_a_name_in_two_forms_of_unicode_is_one_class(tmp_path, capsys):
    write_pictures(tmp_path, names(f"train/{CAFE['NFC']}", f"val/{CAFE['NFD']}"))
    assert counts(tmp_path) == {split: {CAFE["NFC"]: 2} for split in ("train", "validation")}
    assert "one class" not in capsys.readouterr().err
    write_pictures(tmp_path, names(f"train/{CAFE['NFD']}"))
    assert counts(tmp_path)["train"] == {CAFE["NFC"]: 4}
    assert "2 folders are called café, in different bytes; they are one class" in capsys.readouterr().err


def test_classes_keep_their_number_where_all_their_pictures_are_broken(tmp_path):
    write_pictures(tmp_path, names("a", "c"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "0.png").write_text("no image")
    assert walk_folder(tmp_path, 0).class_names == ["a", "b", "c"]


def test_what_is_no_picture_is_listed_with_the_broken_ones(tmp_path, capsys):
    write_pictures(tmp_path / "in", names("a"))
    (tmp_path / "in/a/b.svg").write_text("<svg/>")
    (tmp_path / "in/a/c.png").write_text("no image")
    os.mkfifo(tmp_path / "in/a/d.jpg")
    assert run(["prepare", "folder", str(tmp_path / "in"), str(tmp_path / "out"), "--jobs", "1"]) == 0
    listed = [json.loads(line) for line in (tmp_path / "out/bad.jsonl").read_text().split("\n")[:-1]]
    assert [(entry["file"], entry["reason"][:20]) for entry in listed[:2]] == [
        ("a/b.svg", "begins as no image d"),
        ("a/d.jpg", "a pipe, a socket or "),
    ]
    assert [entry["file"] for entry in listed[2:]] == ["a/c.png"]
    assert "passed over 2 files that are no images" in capsys.readouterr().err


def test_a_class_that_is_a_link_to_nothing_stops_the_command(tmp_path):
    write_pictures(tmp_path, names("a", "b"))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RestokError, match="loop: this link cannot be followed"):
        walk_folder(tmp_path, 0)


def test_keys_are_unique_however_many_names_are_alike():
    taken: set[str] = set()
    keys = [unused_key("a b.png", taken, path) for path in ("x/a b.png", "y/a b.png", "y/a b.png", "y/a b.png")]
    assert keys[0] == "a_b" and len(taken) == len(set(keys)) == 4
    assert unused_key(f"{CAFE['NFD']}.png", set()) == unused_key(f"{CAFE['NFC']}.png", set()) == "caf_"
    assert unused_key("a b.png", {"a_b"}, "y/a b.png") == keys[1]  # the path tells it, not how many came before
