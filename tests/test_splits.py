import pytest

from restok_cli.data.sources.splits import split_named, split_of
from restok_cli.errors import UsageError


@pytest.mark.parametrize(
    ("words", "split"),
    [
        ("train Training TRAIN", "train"),
        ("val VAL valid Validation dev", "validation"),
        ("test Testing", "test"),
        ("latest carnival trainer tests", None),
    ],
)
def test_a_split_is_named_by_a_whole_word_in_any_case(words, split):
    assert {split_named(word) for word in words.split()} == {split}


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000-of-00294.parquet", "train"),
        ("ILSVRC2012_img_val.tar", "validation"),
        ("test2017.tar", "test"),
        ("latest-000000.tar", None),
        ("carnival/trainers-0.tar", None),
        ("test/train/validation-0.parquet", "validation"),  # the file's name before any folder's
        ("train_and_val/train-0.parquet", "train"),
        ("test/train/0000.parquet", "train"),  # then the nearest folder's
        ("train/default/0000.parquet", "train"),
        ("train/train-0-of-1.train.parquet", "train"),  # one split, however often it is named
    ],
)
def test_one_part_of_a_path_decides_its_split(path, split):
    assert split_of(path) == split


@pytest.mark.parametrize("path", ["train-val-0.tar", "train_and_val/0.tar"])
def test_a_part_that_names_two_splits_is_refused(path):
    with pytest.raises(UsageError, match="names train and validation"):
        split_of(path)
