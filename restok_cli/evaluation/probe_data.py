"""Labelled data to probe with, checked before anything heavy is loaded: no torch is imported."""

from restok_cli.data.shards.code_cache import CodeCache, open_codes
from restok_cli.data.shards.code_layout import is_codes
from restok_cli.data.shards.dataset import Dataset, StreamedSplit, open_dataset
from restok_cli.errors import UsageError

TRAIN, TEST = "train", "validation"


def open_labelled(path: str) -> Dataset | CodeCache:
    """The data set or code cache at `path`, which has classes, and a split to fit and one to test on.

    Raises UsageError where it has not.
    """
    found = open_codes(path) if is_codes(path) else open_dataset(path)
    if found.num_classes < 2:
        known = "no classes" if not found.class_names else f"the one class {found.class_names[0]}"
        raise UsageError(
            f"{found.title} has {known}, and probing is to tell classes apart; `restok prepare folder DIR OUT` takes"
            " them from a folder for each class"
        )
    for name in (TRAIN, TEST):
        if name not in found.splits:
            raise UsageError(
                f"{found.title} has no {name} split, and probing fits on train and tests on validation; prepare it"
                " again, with --validation-fraction 0.1"
            )
        split = found.split(name)
        if isinstance(split, StreamedSplit):
            raise split.refusal()
    return found
