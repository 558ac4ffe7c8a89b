"""Shards that somebody else has made, described for restok where they lie: nothing is copied.

Each tar is read once, from end to end, for its index and its hash. Shards behind a URL are only named.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from glob import glob, has_magic
from importlib.metadata import version
from itertools import chain, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from restok_cli.console import counted, note
from restok_cli.data.image_sizes import shorter_edges
from restok_cli.data.jobs import run_all
from restok_cli.data.shards import layout, tars, writer
from restok_cli.data.sources.imagenet import synset_ids
from restok_cli.data.sources.intake import Rules, check_image
from restok_cli.data.sources.preparation import (
    BadImage,
    Preparation,
    publish,
    remove_own_files,
    remove_unfinished,
    write_bad_list,
)
from restok_cli.data.sources.splits import SPLITS, split_named, split_of
from restok_cli.data.sources.walk import entries_below
from restok_cli.errors import ImageError, RestokError, UsageError
from restok_cli.files import read_whole
from restok_cli.locks import locked_folder

ANY_CLASSES = 50_000  # so many may be told by numbers alone, however few samples there are
TAR = re.compile(r"\.(tar(\.(gz|bz2|xz|zst|lz4|z))?|tgz|tbz2?|txz)$", re.IGNORECASE)
NUMBERED = re.compile(r"\d+-of-(\d+)")  # in a shard's name: its number, and how many there are
HINT = "give a folder of tars, or a pattern such as 'train-{00..15}.tar'"
STATED_HINT = "give SHARDS [OUT], or train=SHARDS validation=SHARDS … OUT, with patterns in quotes"

Sources = dict[str | None, list[str]]  # split -> patterns of its shards; under None those whose names tell the split
Targets = dict[str, tuple[Path, np.ndarray]]  # a shard of dataset.json -> the one that was read, and its index


class IndexedShard(NamedTuple):
    entries: list[tuple[int, int, int]]  # (offset, length, class id) of each image
    digest: writer.Digest
    sizes: Counter[tuple[int, int]]  # (height, width) -> how many
    bad: list[BadImage]
    keys: list[str]  # one per entry
    beside: Counter[str]  # extension -> how many more images samples have, such as .seg.png; none is taken
    unread: set[str]  # extensions of what else samples have, such as .txt


def is_remote(source: str) -> bool:
    """Whether `source` names shards that can only be streamed."""
    return "://" in source or source.startswith("pipe:")


def read_words(words: list[str]) -> tuple[Sources, Path | None]:
    """Read the words of a command line: SHARDS [OUT], or SPLIT=SHARDS for each split, then [OUT].

    Raises UsageError where they are neither.
    """
    sources: Sources = {}
    for place, word in enumerate(words):
        name, equals, pattern = word.partition("=")
        if equals and (split := split_named(name)):
            sources.setdefault(split, []).append(pattern)
        elif not sources:
            sources[None] = [word]
        elif place == len(words) - 1:
            return sources, Path(word)
        else:
            raise UsageError(f"{word}: only one source has no split, and OUT is the last word; {STATED_HINT}")
    if None in sources and len(sources) > 1:
        raise UsageError(f"{sources[None][0]}: the split of these is not stated, of others it is; {STATED_HINT}")
    return sources, None


def find_shards(sources: Sources) -> dict[str, list[str]]:
    """Split -> its shards in order. Where none is stated, file names tell it, which is noted; else it is to train on.

    Raises UsageError where there are none, or one has two places.
    """
    shards: dict[str, list[str]] = {split: [] for split in SPLITS}
    for stated, patterns in sources.items():
        names = [name for pattern in patterns for name in _expand(pattern)]
        for name, split in zip(names, [stated] * len(names) if stated else _splits_of(names), strict=True):
            shards[split].append(name)
    found = [(split, name) for split, names in shards.items() for name in names]
    if len({is_remote(name) for _, name in found}) > 1:
        raise UsageError("some of the shards are behind URLs, others are not; download those, or make two data sets")
    owners: dict[str, str] = {}
    for split, name in found:
        place = name if is_remote(name) else os.path.realpath(name)
        if place in owners:
            raise UsageError(f"{name} is named twice (for {owners[place]} and for {split}); name each shard once")
        owners[place] = split
    filled = {split: names for split, names in shards.items() if names}
    for split, names in filled.items():
        _note_missing(split, names)
    if None in sources:
        named = (f"{split} {names[0]}{f' … ({len(names)})' if names[1:] else ''}" for split, names in filled.items())
        note(f"splits by name: {', '.join(named)}")
    return filled


def _note_missing(split: str, names: list[str]) -> None:
    """Say where names such as train-00002-of-00128.tar, or timm's file beside them, speak of more shards than exist."""
    found = Counter((NUMBERED.sub("", name), int(told[1])) for name in names if (told := NUMBERED.search(name)))
    for (_, count), number in found.items():
        if number < count:
            note(f"{split}: {number} of the {count} shards that their names speak of")
    for folder in sorted({Path(name).parent for name in names if not is_remote(name)}):
        if missing := [name for name in _names_by_timm(folder, split) if not (folder / name).exists()]:
            shards = counted(len(missing), "shard")
            note(f"{split}: {folder / layout.TIMM_MANIFEST} speaks of {shards} more, {missing[0]} the first")


def _names_by_timm(folder: Path, split: str) -> list[str]:
    path = folder / layout.TIMM_MANIFEST
    with suppress(OSError, RestokError, ValueError, RecursionError, LookupError, TypeError):
        names = json.loads(read_whole(path))["splits"][split]["filenames"] if path.is_file() else []
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return []


def _splits_of(names: list[str]) -> list[str]:
    """The splits that names tell. Of the folders above, only those count where shards lie, or that tell them apart."""
    paths = [name.split("/") for name in names]
    parts = zip(*(path[:-1] for path in paths), strict=False)  # the first folder of each, the second, …
    shared = len(list(takewhile(lambda folders: len(set(folders)) == 1, parts)))
    try:
        return [split_of("/".join(path[max(shared - 1, 0) :])) or "train" for path in paths]
    except UsageError as error:
        raise UsageError(f"{error}, or state the splits: {STATED_HINT}") from error


def _expand(source: str) -> list[str]:
    """The shards that a folder, a file name or a pattern with {00..15} or * stands for, in order. Hidden ones are none.

    Raises UsageError where there are none such.
    """
    from braceexpand import UnbalancedBracesError, braceexpand  # pyright: ignore[reportAttributeAccessIssue] (its stubs lack it)

    try:
        parts = [source] if os.path.exists(source) else list(braceexpand(source))
    except UnbalancedBracesError as error:
        raise UsageError(f"{source}: a brace is missing; {HINT}") from error
    if is_remote(source):
        return parts
    if os.path.isdir(source):
        tars_below = sorted(Path(entry.path) for entry in entries_below(Path(source)) if TAR.search(entry.name))
        names = [str(tar) for tar in tars_below if tar.parent == Path(source)]
        elsewhere = [tar for tar in tars_below if tar.parent != Path(source) and not layout.is_dataset(tar.parent)]
        if elsewhere:
            raise UsageError(
                f"{elsewhere[0]} lies deeper than the tars of a folder that are taken; name all that you mean by"
                f" patterns, such as 'train={source}/*.tar'"
            )
    else:  # files may be called as patterns are: a[1].tar
        found = [[part] if os.path.exists(part) or not has_magic(part) else sorted(glob(part)) for part in parts]
        names = list(chain.from_iterable(found)) if all(found) else []
    if not names:
        raise UsageError(f"{source}: no shards there; {HINT}")
    if missing := [name for name in names if not Path(name).is_file()]:
        raise UsageError(f"{missing[0]}: no such shard; {HINT}")
    if packed := [name for name in names if not name.lower().endswith(".tar")]:
        raise UsageError(f"{packed[0]} is no plain tar, so that it cannot be indexed; unpack it, or {HINT}")
    return names


def describe_remote(
    out: Path, shards: dict[str, list[str]], name: str, class_names: list[str] | None
) -> layout.Manifest:
    """Write a dataset.json into the folder `out` that names the URLs, to be streamed; return it.

    It replaces the data set that `out` may hold. Raises UsageError where `class_names` is None.
    """
    if class_names is None:
        raise UsageError(
            "shards behind URLs are not read, so that their classes must be stated: give --class-names, or"
            " --num-classes (0 where there are none)"
        )
    splits = {split: layout.SplitInfo(num_samples=0, urls=urls) for split, urls in shards.items()}
    manifest = layout.Manifest(
        name=name,
        splits=splits,
        class_names=class_names,
        image_size=None,
        provenance={"restok": version("restok")},
        fingerprint=layout.fingerprint(splits, class_names),
    )
    with locked_folder(out):
        remove_own_files(out)
        writer.write_manifest(out, manifest)
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
) -> Preparation:
    """Index the shards, and describe them in the folder `out`, with links to them, or (None) where they lie.

    A broken image, or what else is no sample, is left out of the index and listed in bad.jsonl. Where `class_names`
    is None the classes are called by their numbers. Nothing is written before everything has been read.

    Raises RestokError where a shard is damaged, nothing is left of a split, a key comes twice in one or no class can be
    told, UsageError where the shards cannot be described in their place.
    """
    paths = [Path(path) for split in shards.values() for path in split]
    if out is None:
        _check_place(paths)
    index = partial(_index_shard, rules, synset_ids(class_names or []))
    indexed = dict(zip(paths, run_all(index, paths, jobs, "index", "shards"), strict=True))
    for split, members in shards.items():
        _check_split(split, {path: indexed[path] for path in map(Path, members)})
    _check_copies(indexed)
    bad = [image for path in paths for image in indexed[path].bad]
    class_names = _class_names(indexed, class_names)
    infos: dict[str, list[layout.ShardInfo]] = {split: [] for split in shards}
    targets: Targets = {}
    for split, members in shards.items():
        for path in map(Path, members):
            if indexed[path].entries:
                file = writer.shard_name(split, len(infos[split])) if out else path.name
                index = writer.make_index(indexed[path].entries, indexed[path].digest)
                targets[file] = path, index
                infos[split].append(writer.describe_shard(file, index, indexed[path].digest))
    provenance = {"source": source, "left_out": str(len(bad)), "check": rules.check}
    manifest = writer.make_manifest(
        infos,
        set().union(*(shard.sizes for shard in indexed.values())),
        name=name,
        class_names=class_names,
        provenance=provenance | ({} if out else layout.IN_PLACE),
    )
    if out:
        _write_links(out, manifest, targets, bad)
    else:
        with locked_folder(folder := paths[0].parent):
            for file in layout.own_files(folder) & {layout.MANIFEST, layout.BAD_LIST, layout.TIMM_MANIFEST}:
                (folder / file).unlink(missing_ok=True)
            _write(folder, manifest, targets, bad)
    passed_over = {f"a .{extension} beside a sample's image": count for extension, count in _beside(indexed).items()}
    edges = shorter_edges(min(size) for shard in indexed.values() for size in shard.sizes.elements())
    return Preparation(manifest, len(bad), edges, passed_over=passed_over)


def _write_links(out: Path, manifest: layout.Manifest, targets: Targets, bad: list[BadImage]) -> None:
    """Make the data set in `out` of links to the shards; it replaces the one that `out` may hold."""
    with locked_folder(out):
        work = out / layout.WORK_FOLDER  # what is there is ours, also after a kill
        remove_unfinished(work)
        work.mkdir()
        for file, (path, _) in targets.items():
            (work / file).symlink_to(path.resolve())
        _write(work, manifest, targets, bad)
        publish(work, out, manifest)


def _write(folder: Path, manifest: layout.Manifest, targets: Targets, bad: list[BadImage]) -> None:
    """Describe the shards that lie in `folder` under the names of `targets`."""
    for file, (_, index) in targets.items():
        writer.write_index(layout.index_path(folder / file), index)
    if bad:
        write_bad_list(folder, bad)
    if not (folder / layout.TIMM_MANIFEST).exists():  # shards that timm has made bring theirs
        writer.write_timm_manifest(folder, manifest)
    writer.write_manifest(folder, manifest)


def _check_place(paths: list[Path]) -> None:
    """Raises UsageError where the shards cannot be described where they lie."""
    if others := [path for path in paths if path.parent != paths[0].parent]:
        raise UsageError(f"{others[0]} and {paths[0]} lie in different folders; give a folder OUT for the data set")
    bad_list = paths[0].parent / layout.BAD_LIST
    if bad_list.exists() and bad_list.name not in layout.own_files(bad_list.parent):
        raise UsageError(f"{bad_list} is in the way of the list of broken images; move it, or give a folder OUT")
    for path in paths:
        if not layout.SHARD_FILE.fullmatch(path.name):
            raise UsageError(f"{path.name}: only letters, digits, - and _ may be in a shard's name; give a folder OUT")
        index = layout.index_path(path)
        if index.exists() and not layout.is_index(index):
            raise UsageError(f"{index} is in the way of the index of {path.name}; give a folder OUT")


def _check_split(split: str, shards: dict[Path, IndexedShard]) -> None:
    """Raises RestokError where nothing of a split is left, or a key comes twice in it; notes what is not taken."""
    if not any(shard.entries for shard in shards.values()):
        bad = [image for shard in shards.values() for image in shard.bad]
        reasons = list({image.reason: f"{image.file}: {image.reason}" for image in reversed(bad)}.values())
        why = f"of {len(bad)}, none can be taken ({'; '.join(reasons[:-3:-1])})" if bad else "there are none"
        raise RestokError(f"the {split} shards ({next(iter(shards))}, …) hold no samples: {why}")
    owners: dict[str, Path] = {}
    for path, shard in shards.items():
        for key in shard.keys:
            if key in owners:
                raise RestokError(
                    f"{path} holds the key {key} as {owners[key]} does: keys must be unique in a split; rename the"
                    " samples"
                )
            owners[key] = path
        if not shard.entries:
            note(f"{path} is left out: it holds no sample that can be taken")
    for extension, count in _beside(shards).items():
        note(f"{count} .{extension} passed over in the {split} shards: {tars.IMAGE_RULE}")


def _check_copies(shards: dict[Path, IndexedShard]) -> None:
    """Raises RestokError where two shards with samples have the same bytes, which within a split their keys tell."""
    owners: dict[str, Path] = {}
    for path, shard in shards.items():
        if shard.entries and (owner := owners.setdefault(shard.digest.sha256, path)) != path:
            raise RestokError(f"{owner} and {path} hold the same samples, which would be in two splits; leave one out")


def _beside(shards: dict[Path, IndexedShard]) -> Counter[str]:
    return sum((shard.beside for shard in shards.values()), Counter())


def _class_names(indexed: dict[Path, IndexedShard], class_names: list[str] | None) -> list[str]:
    """The names of the classes, checked against the class ids that occur."""
    holders = {class_id: path for path, shard in reversed(indexed.items()) for _, _, class_id in shard.entries}
    if layout.NO_CLASS in holders and len(holders) > 1:
        path = holders[layout.NO_CLASS]
        raise RestokError(f"{path} holds samples without a class (.cls), others have one: the data set is incomplete")
    stated = counted(len(class_names or []), "class", "classes")
    if path := holders.get(layout.NO_CLASS):
        if class_names:
            raise RestokError(
                f"{stated} stated, but the samples ({path}, …) have none (.cls); leave --class-names and --num-classes"
                " out"
            )
        unread = set().union(*(shard.unread for shard in indexed.values()))
        if class_names is None and unread:
            note(f"no sample has a class, which is read of .cls alone, not of .{', .'.join(sorted(unread))}")
        return []
    highest = max(holders)
    if class_names is None:
        if highest >= max(ANY_CLASSES, sum(len(shard.entries) for shard in indexed.values())):
            raise RestokError(
                f"{holders[highest]} holds class {highest}, more than there are samples: class ids count from 0;"
                " correct the .cls, or give --class-names with all of them"
            )
        if empty := [class_id for class_id in range(highest) if class_id not in holders]:
            note(
                f"{counted(len(empty), 'class', 'classes')} below {highest} without a sample, {empty[0]} the first:"
                " class ids count from 0"
            )
        return [str(class_id) for class_id in range(highest + 1)]
    if highest >= len(class_names):
        raise RestokError(f"{holders[highest]} holds class {highest}, beyond the {stated} stated")
    return class_names


def _index_shard(rules: Rules, synsets: dict[str, int], path: Path, advance: Callable[[], None]) -> IndexedShard:
    """Read a shard to its end. Raises RestokError where it is damaged."""
    found, sizes, bad, beside, unread = [], Counter(), [], Counter(), set()
    with open(path, "rb") as tar:
        for key, files in tars.group_samples(tars.list_files(tar, str(path)), str(path)).items():
            name = key
            try:
                extension, class_id = tars.image_extension(files), tars.read_class_id(tar, files, synsets)
                image = files[extension]
                if problem := tars.why_unread(image, key, rules.max_member_bytes):
                    raise problem
                tar.seek(image.offset_data - layout.TAR_BLOCK)
                name = tars.name_in(tar.read(layout.TAR_BLOCK))  # as readers find it, who may need its suffix
                sizes[check_image(tar.read(image.size), name, rules)] += 1
                found.append((image.offset_data, image.size, class_id, key))
                beside.update(tars.images_beside(files, extension))
                unread.update(other for other in files if not tars.is_image(other))
            except ImageError as error:
                bad.append(BadImage(file=f"{key} in {path.name}", reason=str(error).removeprefix(f"{name}: ")))
        found.sort()  # by place: where the files of a sample lie apart, its first one does not tell that of its image
        tar.seek(0)
        digest = writer.digest_spans(tar, [offset + layout.padded(length) for offset, length, *_ in found])
    advance()
    return IndexedShard([entry[:3] for entry in found], digest, sizes, bad, [key for *_, key in found], beside, unread)
