"""Images to a data set, on several processes, and after a kill from where it was.

Shard k of a split is made of its sources [k·n, (k+1)·n), less those that are broken: no shard needs another, so they
can be made at once, in any order, and again. While they are, all lies in OUT/.partial:

    plan.json                what is being made of what
    train-000000.tar  .npy   finished shards
    train-000000.json        what is to be told of a shard; written last, it says that the shard is finished

When all are finished they move to OUT, and dataset.json last: from then on OUT is a data set.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import closing
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from restok_cli.console import Progress, counted, note, resumable
from restok_cli.data.image_sizes import ShorterEdges, shorter_edges
from restok_cli.data.jobs import run_jobs
from restok_cli.data.shards import layout
from restok_cli.data.shards.writer import make_manifest, shard_name, write_manifest, write_shard, write_timm_manifest
from restok_cli.data.sources.intake import Rules, take_in
from restok_cli.data.sources.listing import Source, Sources
from restok_cli.errors import ImageError, RestokError, UsageError
from restok_cli.files import clear_beside, discard_folder, remove_leftovers, sync, whole_folder, write_text
from restok_cli.locks import locked_folder
from restok_cli.schema import Count, Fields, PositiveCount, Schema, read_json

PLAN = "plan.json"
NOTED_IMAGES = 20  # broken ones that are named on the terminal; the file names all


class Plan(NamedTuple):
    """All that the data set depends on."""

    name: str
    source: str  # what the user gave
    sources: Sources
    rules: Rules
    samples_per_shard: int

    def facts(self) -> dict[str, str | int | None]:
        """The plan in words and numbers; two plans with the same ones make the same bytes."""
        counts = {f"{split} pictures": len(sources) for split, sources in self.sources.splits.items()}
        options = {"--" + name.replace("_", "-"): value for name, value in self.rules._asdict().items()}
        contents = sha256(json.dumps(self.sources.class_names).encode())
        for split, sources in self.sources.splits.items():
            contents.update(split.encode())
            for source in sources:
                contents.update(repr(source).encode())
        return {
            "restok": version("restok"),
            "name": self.name,
            "source": self.source,
            **counts,
            **options,
            "--samples-per-shard": self.samples_per_shard,
            "list of pictures": contents.hexdigest(),
        }


class BadImage(Schema):
    """A file that is not in the data set, and why."""

    file: str
    reason: str


class ShardRecord(Schema):
    """Report on a finished shard."""

    shard: layout.ShardInfo | None  # None where every image was broken
    sizes: list[tuple[PositiveCount, PositiveCount]]  # (height, width), the first two that occur
    changes: dict[str, Count]  # why images were re-encoded -> how many
    bad: list[BadImage]
    turned: Count = 0  # images that EXIF wants to be shown otherwise than their pixels lie
    edges: tuple[tuple[PositiveCount, Count], ...] = ()  # pixels of the shorter edge, and how many images have so many


class Task(NamedTuple):
    """One shard to make."""

    split: str
    number: int
    sources: list[Source]

    @property
    def file(self) -> str:
        return shard_name(self.split, self.number)


class Preparation(NamedTuple):
    """A data set that was made, and what became of the files that it was made of."""

    manifest: layout.Manifest
    num_bad: int = 0  # images that are broken
    edges: ShorterEdges | None = None
    changes: Mapping[str, int] = MappingProxyType({})  # why images were re-encoded -> how many
    passed_over: Mapping[str, int] = MappingProxyType({})  # why files are no images -> how many
    turned: int | None = None  # images that EXIF wants to be shown otherwise than their pixels lie; None: not counted


def is_half_done(out: Path) -> bool:
    """Whether a data set is being made in `out`, and none is there yet: making it may go on without --overwrite."""
    return (out / layout.WORK_FOLDER / PLAN).is_file() and not (out / layout.MANIFEST).exists()


def prepare_dataset(plan: Plan, out: Path, jobs: int, overwrite: bool) -> Preparation:
    """Make the data set in `out`, going on where an earlier call with the same plan was stopped.

    Raises UsageError where another process makes one there, and where `out` has one or something else is half done and
    `overwrite` is false; RestokError where not one image can be read; OSError where `out` cannot be written. What is
    finished by then is kept for the next call.
    """
    with locked_folder(out), resumable():
        return _prepare_alone(plan, out, jobs, overwrite)


def _prepare_alone(plan: Plan, out: Path, jobs: int, overwrite: bool) -> Preparation:
    if (out / layout.MANIFEST).exists() and not overwrite:  # another process was faster
        raise UsageError(f"{out} already holds a data set; give another folder, or --overwrite to replace it")
    work = out / layout.WORK_FOLDER
    clear_beside(work)
    _open_work_folder(work, plan.facts(), overwrite)
    size = plan.samples_per_shard
    tasks = [
        Task(split, number, sources[start : start + size])
        for split, sources in plan.sources.splits.items()
        for number, start in enumerate(range(0, len(sources), size))
    ]
    todo = [task for task in tasks if not _record_path(work, task).is_file()]
    total, left = (sum(len(task.sources) for task in some) for some in (tasks, todo))
    if left < total:
        note(f"{total - left} of {counted(total, 'image')} done before; going on")
    noted = 0
    try:
        with (
            Progress("prepare", total, "images", done=total - left) as progress,
            closing(run_jobs(partial(_make_shard, work, plan.rules), todo, jobs, progress)) as results,
        ):
            for _, record in results:
                for image in record.bad[: NOTED_IMAGES - noted]:
                    note(f"left out: {image.file}: {image.reason}")
                noted = min(noted + len(record.bad), NOTED_IMAGES)
    except BaseException:
        remove_leftovers(work)  # of the processes that were ended since one of them failed
        raise
    remedy = "delete it, and run the command again"
    records = [(task, read_json(ShardRecord, _record_path(work, task), remedy)) for task in tasks]
    try:
        preparation = _describe(work, plan, records)
    except RestokError:
        shutil.rmtree(work)
        raise
    publish(work, out, preparation.manifest)
    return preparation


def _open_work_folder(work: Path, facts: dict[str, str | int | None], overwrite: bool) -> None:
    """Make the work folder, or take the one that is there if it is of the same plan."""
    path = work / PLAN
    if path.is_file():
        before = read_json(Fields, path, f"delete {work} and start again")
        different = [name for name in {**before, **facts} if before.get(name) != facts.get(name)]
        if different and not overwrite:
            raise UsageError(
                f"{work.parent} holds a half-done data set with {_differences(before, facts, different)};"
                " go on with what it was, or give another folder, or --overwrite to start anew"
            )
        if different:
            remove_unfinished(work)
    if path.is_file():
        remove_leftovers(work)
        return
    with whole_folder(work) as temporary:  # never without the plan, by which the next call knows it
        write_text(temporary / PLAN, json.dumps(facts, indent=1) + "\n")


def remove_unfinished(work: Path) -> None:
    """Delete a work folder, and what was moved out of it before it was stopped."""
    if not (work.parent / layout.MANIFEST).exists():
        remove_own_files(work.parent)
    if work.exists():
        shutil.rmtree(work)


def remove_own_files(folder: Path, keep: Container[str] = ()) -> None:
    """Delete the data set in `folder`, but for the files called `keep`, and for one that is being made there."""
    files = {file for file in layout.own_files(folder) if not file.startswith(f"{layout.WORK_FOLDER}/")}
    (folder / layout.MANIFEST).unlink(missing_ok=True)  # first what says that the others are whole
    for file in files:
        if file not in keep:
            (folder / file).unlink(missing_ok=True)


def _differences(before: dict, now: dict, names: list[str]) -> str:
    """In words, without the hash unless nothing else tells."""
    telling = [name for name in names if name != "list of pictures"]
    if not telling:
        return "other images than are in the source now"
    return ", ".join(f"{name} {before.get(name)} (now {now.get(name)})" for name in telling)


def _make_shard(work: Path, rules: Rules, task: Task, advance: Callable[[], None]) -> ShardRecord:
    """Write one shard and its record, in which broken images are named."""
    bad: list[BadImage] = []
    changes: Counter[str] = Counter()
    turned = 0
    edges: Counter[int] = Counter()

    def make_samples() -> Iterator[layout.Sample]:
        nonlocal turned
        for source in task.sources:
            try:
                taken = take_in(source.place.read(source.file, rules.max_member_bytes), source.file, rules)
            except ImageError as error:
                bad.append(BadImage(file=source.file, reason=str(error).removeprefix(f"{source.file}: ")))
            else:
                height, width = taken.size
                edges[min(taken.size)] += 1
                turned += taken.turned
                info = {"file": source.file, "width": width, "height": height}
                if taken.change:
                    changes[taken.change] += 1
                    info["change"] = taken.change
                yield layout.Sample(source.key, taken.suffix, taken.data, taken.size, source.class_id, info)
            advance()

    samples = make_samples()
    shard, sizes = None, set()
    if first := next(samples, None):
        shard, sizes = write_shard(work / task.file, chain([first], samples))
    facts = {"sizes": sorted(sizes)[:2], "changes": dict(sorted(changes.items())), "edges": sorted(edges.items())}
    record = ShardRecord(shard=shard, bad=bad, turned=turned, **facts)
    write_text(_record_path(work, task), record.model_dump_json())
    return record


def _record_path(work: Path, task: Task) -> Path:
    return (work / task.file).with_suffix(".json")


def _describe(work: Path, plan: Plan, records: list[tuple[Task, ShardRecord]]) -> Preparation:
    """Write what is told of the whole data set."""
    shards: dict[str, list[layout.ShardInfo]] = {split: [] for split in plan.sources.splits}
    changes: Counter[str] = Counter()
    for task, record in records:
        shards[task.split] += [record.shard] if record.shard else []
        changes.update(record.changes)
    bad = [image for _, record in records for image in record.bad]
    edges = (edge for _, record in records for edge, count in record.edges for _ in range(count))
    provenance = {"source": plan.source, "left_out": str(len(bad)), "re_encoded": str(changes.total())}
    provenance |= {name: str(value) for name, value in plan.rules._asdict().items() if value is not None}
    manifest = make_manifest(
        shards,
        {size for _, record in records for size in record.sizes},
        name=plan.name,
        class_names=plan.sources.class_names,
        provenance=provenance,
    )
    unread = [BadImage(file=file, reason=reason) for file, reason in plan.sources.passed_over] + bad
    if unread:
        write_bad_list(work, unread)
    write_timm_manifest(work, manifest)
    write_manifest(work, manifest)
    passed_over = Counter(why for _, why in plan.sources.passed_over)
    counts = len(bad), shorter_edges(edges), dict(sorted(changes.items())), passed_over
    return Preparation(manifest, *counts, turned=sum(record.turned for _, record in records))


def write_bad_list(folder: Path, bad: list[BadImage]) -> None:
    """Write bad.jsonl into `folder`."""
    write_text(folder / layout.BAD_LIST, "".join(json.dumps(image.model_dump()) + "\n" for image in bad))


def publish(work: Path, out: Path, manifest: layout.Manifest) -> None:
    """Move the files of the data set from the work folder to `out`, dataset.json last; what it replaces goes first.

    Killed in between, the next call moves the rest: what was moved already is known by its record.
    """
    if (out / layout.MANIFEST).exists():
        os.replace(out / layout.MANIFEST, work / layout.REPLACED)
    shards = [shard.file for split in manifest.splits.values() for shard in split.shards]
    files = [*shards, *(layout.index_path(Path(shard)).name for shard in shards), layout.BAD_LIST, layout.TIMM_MANIFEST]
    remove_own_files(out, keep={*files} - {layout.BAD_LIST})
    for file in files:
        if (work / file).exists():
            os.replace(work / file, out / file)
    sync(out)
    os.replace(work / layout.MANIFEST, out / layout.MANIFEST)
    sync(out)
    discard_folder(work, work)
