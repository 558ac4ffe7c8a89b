"""Is a data set, or a code cache, what was prepared, to the last bit? And if not, which samples are not?

The hash in dataset.json says whether a shard is whole; the checksums in its index, each of one sample, say where it is
not. In a whole shard the index itself is compared with what lies in the tar. In shards of codes, each record has a
checksum.
"""

import gzip
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tarfile import TarInfo
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from restok_cli.console import counted
from restok_cli.data.jobs import run_all
from restok_cli.data.shards import code_layout, layout
from restok_cli.data.shards.tars import group_samples, key_in, list_files, read_class_id
from restok_cli.data.shards.writer import Digest, digest_spans
from restok_cli.data.sources.imagenet import synset_ids
from restok_cli.data.sources.walk import is_hidden
from restok_cli.errors import ImageError, RestokError
from restok_cli.files import MAX_MEMBER_BYTES, file_sha256


class Problem(NamedTuple):
    """Something in a data set that is not as it was prepared."""

    file: str
    sample: str | None  # its key, or what can be told of it; None where it is about the file
    what: str


class Verification(NamedTuple):
    """Files that were checked, and what is wrong with them."""

    num_shards: int
    num_samples: int
    streamed: list[str]  # splits whose shards are elsewhere: nothing can be said of them
    problems: list[Problem]


ShardReport = tuple[list[str], list[Problem]]  # the keys in a shard, and what is wrong there


def verify_dataset(path: str | Path, jobs: int, max_member_bytes: int = MAX_MEMBER_BYTES) -> Verification:
    """Read a data set from end to end and compare it with its manifest.

    An image of more than `max_member_bytes` is a problem, since it would be left out wherever it is used.
    Raises UsageError where `path` is no data set, RestokError where its dataset.json is damaged.
    """
    folder = layout.SAMPLE_FOLDER if str(path) == "sample" else Path(path)
    manifest = layout.read_manifest(folder)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    work = partial(_verify_shard, folder, manifest.class_names, max_member_bytes)
    reports = run_all(work, shards, jobs, "verify", "shards")
    problems = _verify_manifest(manifest) + _foreign_files(folder, shards)
    problems += [problem for _, found in reports for problem in found]
    keys = iter(keys for keys, _ in reports)
    for split in manifest.splits.values():
        problems += doubled_keys([(shard.file, next(keys)) for shard in split.shards])
    streamed = [name for name, split in manifest.splits.items() if split.urls]
    return Verification(len(shards), sum(shard.num_samples for shard in shards), streamed, problems)


def doubled_keys(shards: Iterable[tuple[str, list[str]]]) -> list[Problem]:
    """The keys that come twice in the shards (file, keys) of one split."""
    owners: dict[str, str] = {}
    problems = []
    for file, keys in shards:
        for key in keys:
            if key in owners:
                problems.append(Problem(file, key, f"the same key is in {owners[key]} already"))
            owners[key] = file
    return problems


def _verify_manifest(manifest: layout.Manifest) -> list[Problem]:
    problems = []
    for name, split in manifest.splits.items():
        in_shards = sum(shard.num_samples for shard in split.shards)
        if split.shards and in_shards != split.num_samples:
            what = f"{name} is said to have {counted(split.num_samples, 'sample')}, its shards have {in_shards}"
            problems.append(Problem("dataset.json", None, what))
    if layout.fingerprint(manifest.splits, manifest.class_names) != manifest.fingerprint:
        what = "the fingerprint is not that of these shards and class names: it was changed"
        problems.append(Problem("dataset.json", None, what))
    return problems


def _foreign_files(folder: Path, shards: list[layout.ShardInfo]) -> list[Problem]:
    """Shards and indices that dataset.json does not speak of, and what a stopped preparation left."""
    known = {shard.file for shard in shards} | {layout.index_path(Path(shard.file)).name for shard in shards}
    problems = [
        Problem(path.name, None, "dataset.json does not speak of it")
        for path in sorted(folder.iterdir())
        if path.name.endswith((".tar", ".tar.gz", ".npy")) and path.name not in known and not is_hidden(path.name)
    ]
    if (folder / layout.WORK_FOLDER).exists():
        problems.append(Problem(layout.WORK_FOLDER, None, "left by a preparation that was stopped"))
    return problems


def _verify_shard(
    folder: Path, class_names: list[str], max_member_bytes: int, shard: layout.ShardInfo, advance: Callable[[], None]
) -> ShardReport:
    try:
        index, problems = _verify_index(layout.index_path(folder / shard.file), shard, max_member_bytes)
        try:
            with _open(folder / shard.file) as tar:
                keys, found = _verify_tar(tar, index, shard, class_names)
        except (OSError, EOFError, zlib.error) as error:
            what = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            keys, found = [], [Problem(shard.file, None, what)]
        return keys, problems + found
    finally:
        advance()


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else open(path, "rb")


def _verify_index(
    path: Path, shard: layout.ShardInfo, max_member_bytes: int
) -> tuple[np.ndarray | None, list[Problem]]:
    """The index, or None where it is none that could be used; and what is wrong with it."""
    try:
        index = layout.read_index(path, shard)
    except FileNotFoundError:
        return None, [Problem(path.name, None, "is missing")]
    except (OSError, ValueError) as error:
        return None, [Problem(path.name, None, f"is no index of {shard.file} ({error})")]
    too_large = np.flatnonzero(index["length"] > max_member_bytes).tolist()
    what = f"has more than the {max_member_bytes:,} bytes that --max-member-bytes admits"
    return index, [Problem(shard.file, f"number {i}", what) for i in too_large]


def _verify_tar(
    tar: BinaryIO, index: np.ndarray | None, shard: layout.ShardInfo, class_names: list[str]
) -> ShardReport:
    ends = [] if index is None else [offset + layout.padded(length) for offset, length, *_ in index.tolist()]
    digest = digest_spans(tar, ends)
    if (digest.num_bytes, digest.sha256) == (shard.bytes, shard.sha256):
        return _compare(tar, index, digest, shard, class_names)
    problems = []
    if digest.num_bytes != shard.bytes:
        problems.append(Problem(shard.file, None, f"has {digest.num_bytes} bytes instead of {shard.bytes}"))
    if index is None:
        what = "is damaged; without its index it cannot be told which sample is"
        return [], problems or [Problem(shard.file, None, what)]
    keys = []
    for i, (offset, end) in enumerate(zip(index["offset"].tolist(), ends, strict=True)):
        start = ends[i - 1] if i else 0
        if end > digest.num_bytes:
            what = f"lost, with the {len(ends) - i - 1} after it: the file ends at byte {digest.num_bytes}"
            problems.append(Problem(shard.file, _name(tar, i, start, offset), what))
            break
        if digest.checksums[i] == index["checksum"][i]:
            keys.append(_key_at(tar, offset - layout.TAR_BLOCK))
        else:
            problems.append(Problem(shard.file, _name(tar, i, start, offset), "damaged"))
    if not problems:
        problems = [Problem(shard.file, None, "is damaged after its last sample")]
    return keys, problems


def _key_at(tar: BinaryIO, position: int) -> str:
    """The key in the header at this byte; empty where there is none that could be one."""
    tar.seek(position)
    return key_in(tar.read(layout.TAR_BLOCK))


def _name(tar: BinaryIO, i: int, start: int, offset: int) -> str:
    """A damaged sample in words: what the headers at the start of its span and before its image call it.

    They differ where one of them is damaged, and where in a shard of others' making a span begins with what belongs to
    the sample before.
    """
    keys = {_key_at(tar, start), _key_at(tar, offset - layout.TAR_BLOCK)} - {""}
    return f"{' or '.join(sorted(keys))} (number {i})" if keys else f"number {i}"


def _compare(
    tar: BinaryIO, index: np.ndarray | None, digest: Digest, shard: layout.ShardInfo, class_names: list[str]
) -> ShardReport:
    """Compare the index with the tar, which is whole."""
    try:
        samples = group_samples(list_files(tar, shard.file), shard.file)
    except RestokError as error:
        return [], [Problem(shard.file, None, str(error))]
    problems, keys = [], []
    num_classes, synsets = len(class_names), synset_ids(class_names)
    by_offset = {file.offset_data: (key, files, file) for key, files in samples.items() for file in files.values()}
    for i, (offset, length, class_id, _) in enumerate([] if index is None else index.tolist()):
        key, files, file = by_offset.get(offset, (f"number {i}", {}, None))
        keys.append(key)
        if file is None or file.size != length:
            what = "its index does not point at its image"
        elif (said := _said_class(tar, files, synsets)) != class_id:
            what = f"its index says class {class_id}, its .cls says {said}"
        elif not (0 <= class_id < num_classes or (class_id == layout.NO_CLASS and not num_classes)):
            what = f"its class {class_id} is none of the {num_classes} in dataset.json"
        else:
            continue
        problems.append(Problem(shard.file, key, what))
    if index is not None and not problems and digest.checksums != index["checksum"].tolist():
        problems.append(
            Problem(layout.index_path(Path(shard.file)).name, None, "its checksums are not those of the samples")
        )
    return keys if index is not None else list(samples), problems


def _said_class(tar: BinaryIO, files: dict[str, TarInfo], synsets: dict[str, int]) -> int | str:
    try:
        return read_class_id(tar, files, synsets)
    except ImageError as error:
        return str(error)


def verify_codes(path: str | Path) -> Verification:
    """Read a code cache from end to end and compare it with its manifest.

    Raises UsageError where `path` is no finished code cache, RestokError where its codes.json is damaged.
    """
    folder = Path(path)
    manifest = code_layout.read_code_manifest(folder)
    problems = []
    if code_layout.fingerprint(manifest, manifest.splits) != manifest.fingerprint:
        what = "the fingerprint is not that of this tokenizer, these shards and class names: it was changed"
        problems.append(Problem(code_layout.CODES_FILE, None, what))
    shards = [(split, shard) for split, shards in manifest.splits.items() for shard in shards]
    known = {code_layout.CODES_FILE, *(shard.file for _, shard in shards)}
    names = sorted(file.name for file in folder.iterdir() if file.name not in known and not is_hidden(file.name))
    problems += [Problem(name, None, f"{code_layout.CODES_FILE} does not speak of it") for name in names]
    for split, members in manifest.splits.items():
        keys = []
        for shard in members:
            found_keys, found = _verify_code_shard(folder / shard.file, shard, manifest, split)
            keys.append((shard.file, found_keys))
            problems += found
        problems += doubled_keys(keys)
    return Verification(len(shards), sum(shard.num_samples for _, shard in shards), [], problems)


def _verify_code_shard(
    path: Path, info: code_layout.CodeShardInfo, manifest: code_layout.CodeManifest, split: str
) -> ShardReport:
    try:
        records = code_layout.open_records(path, info, manifest, split)
    except RestokError:
        what = "is cut short, or its header was changed" if path.exists() else "is missing"
        return [], [Problem(path.name, None, what)]
    keys = [key.decode(errors="replace") for key in records["key"].tolist()]
    changed = np.array([code_layout.checksum(record) != record["checksum"] for record in records], dtype=bool)
    problems = [Problem(path.name, keys[i], "was changed") for i in np.flatnonzero(changed)]
    if file_sha256(path) != info.sha256 and not problems:
        problems.append(Problem(path.name, None, "was changed outside its samples"))
    problems += [
        Problem(path.name, keys[i], "has a code or a class that does not exist")
        for i in np.flatnonzero(code_layout.impossible(records, manifest) & ~changed)
    ]
    return keys, problems
