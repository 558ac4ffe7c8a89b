"""ImageNet in parquet files: each row once, in one split, or a refusal."""

import json
import sys
from pathlib import Path

import imagenets
import pytest
from imagenets import splits_of, write_rows


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (
            ("a_n01440764.JPEG", b"x", 1),
            "a_n01440764.JPEG has the label 1, which is n01443537; its name",
        ),
        (("a.JPEG", b"x", 1000), "a.JPEG has the label 1000; ImageNet's are 0 to 999"),
        (("a.JPEG", b"x", -1), "a.JPEG has the label -1"),
        (("a.JPEG", None, 0), "holds names of images instead of the images themselves"),
    ],
)
def test_parquet_files_with_wrong_labels_or_no_pictures_are_refused(fails, tmp_path, row, what):
    write_rows(tmp_path / "in/train-0.parquet", [row], 1)
    assert what in fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")


def test_damaged_and_other_parquet_files_are_refused(fails, tmp_path):
    import pyarrow
    from pyarrow.parquet import write_table

    (tmp_path / "in").mkdir()
    file = tmp_path / "in/train-0.parquet"
    file.write_bytes(b"PAR1 and nothing of it")
    assert "damaged parquet file" in fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")
    write_table(pyarrow.table({"text": ["a"]}), file)
    assert "has no columns image and label" in fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")


def test_parquet_files_that_speak_of_more_than_they_can_hold_are_refused(fails, tmp_path, monkeypatch):
    imagenets.write_rows(tmp_path / "in/train-0.parquet", [("a" * 5000, b"x", 0)], 1)
    assert "is damaged" in fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")
    imagenets.write_rows(tmp_path / "in/train-0.parquet", [("a.JPEG", b"x", 0)] * 30_000, 30_000)
    assert "damaged parquet file" in fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")
    imagenets.write_rows(tmp_path / "in/train-0.parquet", [("a.JPEG", bytes(range(256)), 0)] * 4, 4)
    monkeypatch.setattr("restok_cli.data.sources.parquet.MAX_GROUP_BYTES", 100)
    assert "write it again with fewer rows" in fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")


def test_without_pyarrow_the_extra_is_named(fails, tmp_path, monkeypatch):
    imagenets.write_parquet(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    message = fails(2, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")
    assert "pip install 'restok[parquet]'" in message


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["tench", "goldfish"], "labels of 2 classes, not of ImageNet's 1000"),
        (["n01443537", "n01440764", *["?"] * 998], "label 0 is n01443537 there, but n01440764 in ImageNet"),
    ],
)
def test_parquet_files_whose_labels_are_of_other_classes_are_refused(fails, tmp_path, names, what):
    """As of mini-ImageNet on the hub, whose rows need not be called by synsets."""
    stated = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}}
    write_rows(tmp_path / "in/train-0.parquet", rows(0, 3, 1), 4, {"huggingface": json.dumps(stated)})
    assert what in fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")


def rows(first, count, label=0):
    return [(f"p{i}.JPEG", imagenets._jpeg(i), label) for i in range(first, first + count)]


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("train/train-0.parquet", "validation/validation-0.parquet"),
        ("train_and_val/train-0.parquet", "train_and_val/validation-0.parquet"),
        ("test/default/train/0.parquet", "test/default/Val/0.parquet"),
        ("0.parquet", None),
    ],
)
def test_each_row_of_parquet_files_is_in_one_split_once(restok, tmp_path, train, validation):
    write_rows(tmp_path / "in" / train, rows(0, 6), 4)
    write_rows(tmp_path / "in/._train-0.parquet", rows(6, 1), 4)  # hidden
    if validation:
        write_rows(tmp_path / "in" / validation, rows(50, 3), 4)
    result = restok("prepare", "imagenet", tmp_path / "in", tmp_path / "out", "--json", "--jobs", 1)
    assert splits_of(result) == {"train": 6} | ({"validation": 3} if validation else {})
    assert f"1 parquet file taken as train, {Path(train).name} the first" in result.err
    assert restok("prepare", "verify", tmp_path / "out").code == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"snapshots/r1/train-0": 0, "snapshots/r2/train-0": 6}, "snapshots/r2 are two states of one repository"),
        ({"a/train-0": 0, "b/train-1": 0}, "b/train-1.parquet hold the same rows, which would be there twice"),
        ({"train-0": 0, "validation-0": 0}, "validation-0.parquet hold the same rows"),
        ({"train-0": 0, "more": 6}, "more.parquet: nothing in its path says train, validation or test"),
        ({"train-val-0": 0}, "train-val-0.parquet: train-val-0.parquet names train and validation"),
    ],
)
def test_parquet_files_that_would_count_twice_or_tell_no_split_are_refused(fails, tmp_path, files, message):
    for name, first in files.items():
        write_rows(tmp_path / f"in/{name}.parquet", rows(first, 3), 4)
    assert message in fails(2, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")


def test_parquet_rows_called_alike_get_keys_of_their_own(restok, tmp_path):
    for n in range(3):
        alike = [("image.JPEG", data, label) for _, data, label in rows(3 * n, 3)]
        write_rows(tmp_path / f"in/{n}/train.parquet", [*alike, (None, imagenets._jpeg(90 + n), 1)], 2)
    result = restok("prepare", "imagenet", tmp_path / "in", tmp_path / "out", "--json", "--jobs", 1)
    assert splits_of(result) == {"train": 12}
    assert restok("prepare", "verify", tmp_path / "out").code == 0


def test_a_test_split_of_parquet_files_is_one_where_it_has_labels(restok, tmp_path):
    write_rows(tmp_path / "in/train-0.parquet", rows(0, 4), 4)
    write_rows(tmp_path / "in/test-0.parquet", rows(50, 2, -1), 4)
    command = ("prepare", "imagenet", tmp_path / "in", tmp_path / "out", "--json", "--jobs", 1, "--overwrite")
    result = restok(*command)
    assert splits_of(result) == {"train": 4} and "test is left out, as its rows have no labels" in result.err
    write_rows(tmp_path / "in/test-0.parquet", rows(50, 2, 7), 4)
    assert splits_of(restok(*command)) == {"train": 4, "test": 2}
    assert splits_of(restok(*command, "--test-as-validation")) == {"train": 4, "validation": 2}
