"""Shards that somebody else has made, described for restok where they lie: nothing is copied.

Each tar is read once, from end to end, for its index and its hash. Shards behind a URL are only named.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from glob import glob, has_magic
from importlib.metadata import version
from pathlib import Path
from tarfile import TarInfo
from typing import BinaryIO, NamedTuple

from restok_cli.console import Progress
from restok_cli.data.images import IMAGE_SUFFIXES
from restok_cli.data.intake import Rules, check_picture
from restok_cli.data.jobs import run_jobs
from restok_cli.data.preparation import BadPicture, remove_own_files, write_bad_list
from restok_cli.data.shards import (
    BAD_LIST,
    IN_PLACE,
    MANIFEST,
    NO_CLASS,
    SHARD_FILE,
    TIMM_MANIFEST,
    Manifest,
    ShardInfo,
    SplitInfo,
    index_path,
    is_index,
    own_files,
)
from restok_cli.data.tars import group_samples, list_files, read_class_id
from restok_cli.data.writer import (
    Digest,
    describe_shard,
    digest_spans,
    fingerprint,
    make_manifest,
    padded,
    shard_name,
    write_index,
    write_manifest,
    write_timm_manifest,
)
from restok_cli.errors import PictureError, RestokError, UsageError
from restok_cli.files import locked_folder

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # what a file name contains -> its split
ANY_CLASSES = 50_000  # so many may be told by numbers alone, however few samples there are
HINT = "give a folder of tars, or a pattern such as 'train-{00..15}.tar'"


class IndexedShard(NamedTuple):
    """What was learned from reading a shard."""

    entries: list[tuple[int, int, int]]  # (offset, length, class id) of each picture
    digest: Digest
    sizes: set[tuple[int, int]]  # (height, width)
    bad: list[BadPicture]
    keys: list[str]  # one per entry


def is_remote(source: str) -> bool:
    """Whether `source` names shards that can only be streamed."""
    return "://" in source or source.startswith("pipe:")


def find_shards(source: str) -> dict[str, list[str]]:
    """Split -> the shards that `source` means, in order: a folder of them, a tar, or a pattern with {00..15} or *.

    A file name tells the split; one that tells none is of the training split. Raises UsageError where there are none.
    """
    if not is_remote(source) and Path(source).is_dir():
        names = sorted(str(path) for path in Path(source).glob("*.tar"))
    else:
        names = list(_expand(source))
    if not is_remote(source):
        names = [name for part in names for name in (sorted(glob(part)) if has_magic(part) else [part])]
        if missing := [name for name in names if not Path(name).is_file()]:
            raise UsageError(f"{missing[0]}: no such shard; {HINT}")
        if packed := [name for name in names if not name.endswith(".tar")]:
            raise UsageError(f"{packed[0]} is no plain tar, so that it cannot be indexed; {HINT}")
    if not names:
        raise UsageError(f"{source}: no shards there; {HINT}")
    shards: dict[str, list[str]] = {}
    for name in names:
        file = name.rpartition("/")[2]
        split = next((split for word, split in SPLITS.items() if word in file), "train")
        shards.setdefault(split, []).append(name)
    return shards


def _expand(pattern: str) -> Iterator[str]:
    from braceexpand import UnbalancedBracesError, braceexpand  # comes with webdataset

    try:
        yield from braceexpand(pattern)
    except UnbalancedBracesError as error:
        raise UsageError(f"{pattern}: a brace is missing; {HINT}") from error


def describe_remote(out: Path, shards: dict[str, list[str]], name: str, class_names: list[str]) -> Manifest:
    """Write a dataset.json into the folder `out` that names the URLs, to be streamed; return it.

    It replaces the data set that `out` may hold.
    """
    splits = {split: SplitInfo(num_samples=0, urls=urls) for split, urls in shards.items()}
    manifest = Manifest(
        name=name,
        splits=splits,
        class_names=class_names,
        image_size=None,
        provenance={"restok": version("restok")},
        fingerprint=fingerprint(splits, class_names),
    )
    with locked_folder(out):
        _make_room(out, everything=True)
        write_manifest(out, manifest)
    return manifest


def describe_shards(
    shards: dict[str, list[str]],
    out: Path | None,
    *,
    name: str,
    source: str,
    class_names: list[str] | None,
    rules: Rules,
    jobs: int,
) -> tuple[Manifest, int]:
    """Index the shards, and describe them in the folder `out`, with links to them, or (None) where they lie.

    A broken picture, or what else is no sample, is left out of the index and listed in bad.jsonl. Without
    `class_names` the classes are called by their numbers. Nothing is written before everything has been read.

    Returns the manifest and how many were left out. Raises RestokError where a shard is damaged, a key comes twice or
    no class can be told, UsageError where the shards cannot be described in their place.
    """
    paths = [Path(path) for split in shards.values() for path in split]
    if out is None:
        _check_place(paths)
    with (
        Progress("index", len(paths), "shards") as progress,
        closing(run_jobs(partial(_index_shard, rules), paths, jobs, progress)) as results,
    ):
        finished = dict(results)
    indexed = {path: finished[i] for i, path in enumerate(paths)}
    _check_keys([(path, indexed[path].keys) for path in paths])
    bad = [picture for path in paths for picture in indexed[path].bad]
    class_names = _class_names(indexed, class_names)
    infos: dict[str, list[ShardInfo]] = {split: [] for split in shards}
    targets: dict[Path, Path] = {}  # what dataset.json speaks of -> what was read
    for split, members in shards.items():
        for path in map(Path, members):
            if indexed[path].entries:
                target = out / shard_name(split, len(infos[split])) if out else path
                targets[target] = path
                infos[split].append(describe_shard(target.name, len(indexed[path].entries), indexed[path].digest))
    manifest = make_manifest(
        infos,
        set().union(*(shard.sizes for shard in indexed.values())),
        name=name,
        class_names=class_names,
        provenance={"source": source, "left_out": str(len(bad)), "check": rules.check} | ({} if out else IN_PLACE),
    )
    folder = out or paths[0].parent
    with locked_folder(folder):
        _make_room(folder, everything=out is not None)
        for target, path in targets.items():
            if out:
                target.symlink_to(path.resolve())
            write_index(index_path(target), indexed[path].entries, indexed[path].digest)
        if bad:
            write_bad_list(folder, bad)
        if not (folder / TIMM_MANIFEST).exists():  # shards that timm has made bring theirs
            write_timm_manifest(folder, manifest)
        write_manifest(folder, manifest)
    return manifest, len(bad)


def _make_room(folder: Path, everything: bool) -> None:
    """Delete the data set that is replaced, or of the shards that stay where they are its description alone."""
    if everything:
        remove_own_files(folder)
        return
    for file in own_files(folder) & {MANIFEST, BAD_LIST}:
        (folder / file).unlink(missing_ok=True)


def _check_place(paths: list[Path]) -> None:
    """Raises UsageError where the shards cannot be described where they lie."""
    if others := [path for path in paths if path.parent != paths[0].parent]:
        raise UsageError(f"{others[0]} and {paths[0]} lie in different folders; give a folder OUT for the data set")
    bad_list = paths[0].parent / BAD_LIST
    if bad_list.exists() and bad_list.name not in own_files(bad_list.parent):
        raise UsageError(f"{bad_list} is in the way of the list of broken pictures; move it, or give a folder OUT")
    for path in paths:
        if not SHARD_FILE.fullmatch(path.name):
            raise UsageError(f"{path.name}: only letters, digits, - and _ may be in a shard's name; give a folder OUT")
        index = index_path(path)
        if index.exists() and not is_index(index):
            raise UsageError(f"{index} is in the way of the index of {path.name}; give a folder OUT")


def _check_keys(shards: list[tuple[Path, list[str]]]) -> None:
    """Raises RestokError where a key comes twice, in a shard or in two."""
    owners: dict[str, Path] = {}
    for path, keys in shards:
        for key in keys:
            if key in owners:
                where = "twice" if owners[key] == path else f"as {owners[key]} does"
                raise RestokError(f"{path} holds the key {key} {where}: keys must be unique; rename the samples")
            owners[key] = path


def _class_names(indexed: dict[Path, IndexedShard], class_names: list[str] | None) -> list[str]:
    """The names of the classes, checked against the class ids that occur."""
    ids = {path: {class_id for _, _, class_id in shard.entries} for path, shard in indexed.items()}
    found = set().union(*ids.values())
    if NO_CLASS in found and len(found) > 1:
        path = next(path for path in ids if NO_CLASS in ids[path])
        raise RestokError(f"{path} holds samples without a class (.cls), others have one: the data set is incomplete")
    if found <= {NO_CLASS}:
        return []
    if class_names is None:
        if max(found) >= max(ANY_CLASSES, sum(len(shard.entries) for shard in indexed.values())):
            path = next(path for path in ids if max(found) in ids[path])
            raise RestokError(
                f"{path} holds class {max(found)}, more than there are samples: class ids count from 0; correct the"
                " .cls, or give --class-names with all of them"
            )
        return [str(class_id) for class_id in range(max(found) + 1)]
    if max(found) >= len(class_names):
        path = next(path for path in ids if max(found) in ids[path])
        raise RestokError(f"{path} holds class {max(found)}, but there are only {len(class_names)} class names")
    return class_names


def _index_shard(rules: Rules, path: Path, advance: Callable[[], None]) -> IndexedShard:
    """Read a shard to its end. Raises RestokError where it is damaged."""
    entries, sizes, bad, keys = [], set(), [], []
    with open(path, "rb") as tar:
        for key, files in group_samples(list_files(tar, str(path))):
            try:
                picture, class_id = _sample(tar, files)
                tar.seek(picture.offset_data)
                sizes.add(check_picture(tar.read(picture.size), key, rules))
                entries.append((picture.offset_data, picture.size, class_id))
                keys.append(key)
            except PictureError as error:
                bad.append(BadPicture(file=f"{key} in {path.name}", reason=str(error).removeprefix(f"{key}: ")))
        tar.seek(0)
        digest = digest_spans(tar, [offset + padded(length) for offset, length, _ in entries])
    advance()
    return IndexedShard(entries, digest, sizes, bad, keys)


def _sample(tar: BinaryIO, files: dict[str, TarInfo]) -> tuple[TarInfo, int]:
    """The picture and the class id in the files of a sample. Raises PictureError where there are none such."""
    pictures = [file for extension, file in files.items() if f".{extension}" in IMAGE_SUFFIXES]
    if len(pictures) != 1:
        raise PictureError(f"{len(pictures)} pictures under this key instead of one, among .{' .'.join(files)}")
    class_id = read_class_id(tar, files)
    if class_id is None:
        raise PictureError("its .cls is no class id")
    return pictures[0], class_id
