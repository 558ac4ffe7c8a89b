"""Writing a code cache shard by shard, so that what is there after a kill is kept and gone on with."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from restok_cli.data.shards.code_layout import (
    CODE_FILES,
    CODES_FILE,
    MADE,
    UNFINISHED_FILE,
    CodeManifest,
    CodePlan,
    CodeShardInfo,
    checksum,
    fingerprint,
    is_codes,
    read_records,
    record_dtype,
)
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import check_output_folder, file_sha256, remove_leftovers, whole_file
from restok_cli.schema import shown


def start_codes(folder: Path, plan: CodePlan, overwrite: bool) -> None:
    """Make `folder` ready for the shards of `plan`; those that are there already, of the same plan, are kept.

    Raises UsageError where it holds anything else, unless that is a code cache and `overwrite` is true.
    """
    if not overwrite and (folder / UNFINISHED_FILE).is_file() and not (folder / CODES_FILE).is_file():
        _check_same(folder, MADE.read(CodePlan, folder / UNFINISHED_FILE), plan)
    else:
        # in a folder that is no code cache, files of such names are somebody else's
        check_output_folder(folder, overwrite, lambda file: is_codes(folder) and bool(CODE_FILES.fullmatch(file)))
        for file in [folder / CODES_FILE, *folder.glob("*.npy")]:  # first what says that the others are whole
            file.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    MADE.write(plan, folder / UNFINISHED_FILE)


def _check_same(folder: Path, before: CodePlan, now: CodePlan) -> None:
    for key, value in now:
        was = getattr(before, key)
        if value != was and any(folder.glob("*.npy")):
            raise UsageError(
                f"{folder} holds unfinished codes with another {key.replace('_', ' ')} ({shown(was)}, now"
                f" {shown(value)}); finish those by the command that began them, give another folder, or --overwrite"
                " to replace them"
            )


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Where a shard goes: it is there only once it is whole."""
    return folder / f"{split}-{number:06d}.npy"


def write_code_shard(path: Path, plan: CodePlan, codes: np.ndarray, class_ids: list[int], keys: list[str]) -> None:
    """Write a shard, whole or not at all: integer codes (n, views, L), and class and key of each sample."""
    encoded = [key.encode() for key in keys]
    records = np.zeros(len(keys), record_dtype(plan, codes.shape[1], max(map(len, encoded), default=1)))
    records["codes"], records["class_id"], records["key"] = codes, class_ids, encoded
    records["checksum"] = [checksum(record) for record in records]
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.save(file, records)


def is_whole_shard(path: Path, plan: CodePlan, split: str, keys: Iterator[str]) -> bool:
    """Whether a shard is there as it was written, of samples of `split` with some of these keys, in their order."""
    try:
        records = read_records(path, plan, split)
    except (OSError, ValueError):
        return False
    if any(checksum(record) != record["checksum"] for record in records):
        return False
    return all(key.decode() in keys for key in records["key"].tolist())  # which goes on where it found the last one


def finish_codes(folder: Path, plan: CodePlan, num_shards: dict[str, int]) -> CodeManifest:
    """Write codes.json over the shards in `folder`, all of which are there.

    Raises RestokError where those of a split hold no samples.
    """
    splits = {
        split: [_describe(shard_path(folder, split, number), plan, split) for number in range(count)]
        for split, count in num_shards.items()
    }
    for split, shards in splits.items():
        if not any(shard.num_samples for shard in shards):
            raise RestokError(f"none of the images of split {split} could be decoded, so there are no codes of it")
    manifest = CodeManifest(**dict(plan), splits=splits, fingerprint=fingerprint(plan, splits))
    MADE.write(manifest, folder / CODES_FILE)
    (folder / UNFINISHED_FILE).unlink()
    return manifest


def _describe(path: Path, plan: CodePlan, split: str) -> CodeShardInfo:
    try:
        num_samples = len(read_records(path, plan, split))
    except (OSError, ValueError) as error:
        raise RestokError(f"{path} is damaged: delete it, and run the command again") from error
    return CodeShardInfo(file=path.name, num_samples=num_samples, bytes=path.stat().st_size, sha256=file_sha256(path))
