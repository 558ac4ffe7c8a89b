"""`restok prepare shards`: a data set of shards that somebody else has made."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands.options import Check, CountsAsJson, Jobs, MaxDecodedPixels, MaxMemberBytes, OverwriteDataset
from restok_cli.commands.preparing.counts import print_counts, print_remote_counts
from restok_cli.console import counted, note, readable
from restok_cli.errors import UsageError
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, check_output_folder

Shards = Annotated[
    list[str],
    typer.Argument(
        metavar="SHARDS",
        help="A folder of tars, or a pattern with {00..15} or *, of files or URLs, in quotes; or SPLIT=SHARDS for"
        " each split. Last, the folder OUT to make. Default: where the shards lie.",
        show_default=False,
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="What the classes are called: a file with a line for each, or the word imagenet. Default: numbers.",
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=10**6,
        help="How many classes there are, called by numbers; 0: none. Default: what the .cls say, which behind URLs"
        " nobody reads, so that there this or --class-names is needed.",
    ),
]


def shards(
    words: Shards,
    class_names: ClassNames = None,
    num_classes: NumClasses = None,
    check: Check = "quick",
    max_decoded_pixels: MaxDecodedPixels = MAX_DECODED_PIXELS,
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES,
    jobs: Jobs = None,
    overwrite: OverwriteDataset = False,
    as_json: CountsAsJson = False,
) -> None:
    """Make a data set of WebDataset shards, which stay where they are.

    Each sample is an image (.jpg, .png, .webp) and, where there are classes,
    their number (.cls). OUT gets links to the shards; without OUT, the index of
    each is written beside it. Broken images are left out, listed in bad.jsonl.

    The splits are stated, train=SHARDS validation=SHARDS test=SHARDS, each as
    often as needed, or told by names: a shard is of the split that is a word of
    its file name, such as cats-val-0000.tar, or else of its folder. Where
    there is none, it is to train on.

    Shards behind URLs cannot be indexed, only named: training streams them, in
    an order that it cannot promise.

    Examples:

      restok prepare shards imagenet-1k-wds data/imagenet --class-names imagenet
      restok prepare shards train='a/*.tar' validation='b/*.tar' data/ab
      restok prepare shards 'https://host/{00..46}.tar' data/x --num-classes 12
    """
    from restok_cli.data.shards.layout import BAD_LIST
    from restok_cli.data.sources import existing
    from restok_cli.data.sources.intake import Rules
    from restok_cli.machine import available_cores

    sources, out = existing.read_words(words)
    names = _stated_classes(class_names, num_classes)
    found = existing.find_shards(sources)
    remote = existing.is_remote(next(iter(found.values()))[0])
    paths = [] if remote else [Path(path) for split in found.values() for path in split]
    folder = _check_shards_output(paths, out, overwrite)
    name = readable(folder.resolve().name)
    if remote:
        print_remote_counts(folder, existing.describe_remote(folder, found, name, names), as_json)
        return
    rules = Rules(check, max_decoded_pixels=max_decoded_pixels, max_member_bytes=max_member_bytes)
    source = readable(" ".join(words[:-1] if out else words))
    preparation = existing.describe_shards(
        found, out, name=name, source=source, class_names=names, rules=rules, jobs=jobs or available_cores()
    )
    if preparation.num_bad:
        note(f"{counted(preparation.num_bad, 'broken sample')} left out: see {folder / BAD_LIST}")
    print_counts(folder, preparation, as_json)


def _stated_classes(file: str | None, count: int | None) -> list[str] | None:
    """The names of the classes by --class-names or --num-classes; None where neither is given."""
    from restok_cli.data.sources.imagenet import read_classes
    from restok_cli.data.sources.texts import read_names

    if file is not None and count is not None:
        raise UsageError("--class-names says how many classes there are; leave --num-classes out")
    if file is None:
        return None if count is None else [str(class_id) for class_id in range(count)]
    if file == "imagenet":
        return list(read_classes().values())
    try:
        names = read_names(Path(file))
    except UsageError as error:
        raise UsageError(f"--class-names {error}; give a text file with a name on each line, or imagenet") from error
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        note(f"--class-names {file}: several classes are called {twice[0]}; only their numbers tell them apart")
    return names


def _check_shards_output(paths: list[Path], out: Path | None, overwrite: bool) -> Path:
    """The folder that a data set of shards may be described in; `paths` are those of them that are on this disk."""
    from restok_cli.data.shards.layout import is_dataset, own_files

    if out is not None:
        here = out.resolve()
        if any(path.parent.resolve() == here for path in paths):
            raise UsageError(f"{out} is where the shards lie; leave it away to describe them there")
        if linked := [path for path in paths if path.resolve().parent == here]:
            raise UsageError(f"{linked[0]} is a link to a shard in {out}; give another folder OUT")
        check_output_folder(out, overwrite, own_files(out).__contains__)
        return out
    if not paths:
        raise UsageError("shards behind URLs cannot be described where they are; give a folder OUT")
    place = paths[0].parent
    if is_dataset(place) and not overwrite:
        raise UsageError(f"{place} is a data set already; give --overwrite to describe it anew")
    return place
