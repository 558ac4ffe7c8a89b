"""Which split of a data set a name tells. One rule for every source: folders, parquet files, shards."""

import re
from typing import TypeVar

from restok_cli.errors import UsageError

Members = TypeVar("Members")

SPLITS = ("train", "validation", "test")
WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_named(word: str) -> str | None:
    """The split that is called `word`, in any case; None where that names none: `Val` does, `carnival` does not."""
    return WORDS.get(word.lower())


def splits_in(name: str) -> set[str]:
    """The splits that words in a file's or a folder's name are called as.

    A word stands between characters that are no letters; a capital after a small letter begins another: `trainA` has
    two.
    """
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    return {split for word in words if (split := split_named(word))}


def split_of(path: str) -> str | None:
    """The split of a file at `path`, with slashes; None where nothing tells.

    Only one part of the path decides: the file's name if a word in it names a split, else the nearest folder of which
    that is true.

    Raises UsageError where that part names several splits.
    """
    for part in reversed(path.split("/")):
        told = splits_in(part)
        if len(told) > 1:
            several = " and ".join(split for split in SPLITS if split in told)
            raise UsageError(f"{path}: {part} names {several}, so its split is not known; rename it")
        if told:
            return told.pop()
    return None


def test_as_validation(splits: dict[str, Members], source: str) -> dict[str, Members]:
    """The splits, with test in the place of validation. Raises UsageError where there is no test, or validation too."""
    if "validation" in splits or "test" not in splits:
        what = "has a validation split" if "validation" in splits else "has no test split"
        raise UsageError(f"{source} {what}; leave out --test-as-validation")
    return {"validation" if split == "test" else split: members for split, members in splits.items()}
