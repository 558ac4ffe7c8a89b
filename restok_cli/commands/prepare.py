"""`restok prepare`: pictures to a data set."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restok_cli.commands.options import MaxDecodedPixels, MaxMemberBytes
from restok_cli.commands.prepare_codes import codes
from restok_cli.console import counted, note, say
from restok_cli.errors import Interrupted, RestokError, UsageError
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, check_output_folder, clear_beside, whole_folder

if TYPE_CHECKING:
    from restok_cli.data.preparation import Plan
    from restok_cli.data.shards import Manifest

app = typer.Typer(
    no_args_is_help=True,
    help="""Make a data set: tar shards, indexed and hashed, that training reads in an exact order.

    Any WebDataset reader takes the shards too, timm's among them. The files of
    the pictures are kept byte for byte, unless there are loaders that cannot
    read them: what is no JPEG, PNG or WebP, is animated, or has CMYK colours or
    16 bits becomes an 8-bit PNG; its .json member and the summary say so.

    Stopped at any moment, the same command goes on where it was, and ends with
    the same bytes.

    Examples:

      restok prepare folder photos data/photos
      restok prepare imagenet downloads data/imagenet --resize 256
      restok prepare sample data/emoji
      restok prepare verify data/photos
    """,
)

Output = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the data set that OUT already holds.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object instead of OUT.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Processes to work with; the result is the same. Default: one per core.")
]
Check = Annotated[
    Literal["quick", "full"],
    typer.Option(
        help="How to look for broken pictures: quick reads structure (no picture, cut short, PNG checksums),"
        " full decodes every one, which takes ten times as long."
    ),
]
Resize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Shrink pictures whose shorter edge is longer than this. JPEG stays JPEG; others become PNG."
    ),
]
MaxPixels = Annotated[int | None, typer.Option(min=1, help="Shrink pictures of more pixels than this to so many.")]
TestAsValidation = Annotated[
    bool, typer.Option("--test-as-validation", help="Validate on the test split, where there is none for validation.")
]
SamplesPerShard = Annotated[int, typer.Option(min=1, help="Pictures in a shard.")]


@app.command()
def imagenet(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with ImageNet.", show_default=False)],
    out: Output,
    test_as_validation: TestAsValidation = False,
    resize: Resize = None,
    max_pixels: MaxPixels = None,
    max_decoded_pixels: MaxDecodedPixels = MAX_DECODED_PIXELS,
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES,
    check: Check = "quick",
    samples_per_shard: SamplesPerShard = 4000,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set from ImageNet-1k, in any of its usual forms.

    DIR may hold the tars of image-net.org, which are read where they lie
    (ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, with
    ILSVRC2012_devkit_t12.tar.gz for the labels); folders train, val and test of
    class folders, called so in any case; what Kaggle's archive unpacks to; or
    the hub's parquet files, of which the name, or else the nearest folder, tells
    the split, and for which pyarrow is needed: pip install 'restok\\[parquet]'.

    The class id is the rank of the synset among the 1000, everywhere.

    Example:

      restok prepare imagenet downloads data/imagenet
    """
    from restok_cli.data.imagenet import open_imagenet
    from restok_cli.data.intake import Rules
    from restok_cli.data.preparation import Plan
    from restok_cli.data.sources import readable

    _check_output(out, overwrite)
    _check_apart(source, out)
    sources = open_imagenet(source, test_as_validation)
    rules = Rules(check, resize, max_pixels, max_decoded_pixels, max_member_bytes)
    plan = Plan("imagenet", readable(str(source)), sources, rules, samples_per_shard)
    _prepare(plan, out, jobs, overwrite, as_json)


@app.command()
def folder(
    pictures: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder of pictures, or of one folder per class.", show_default=False),
    ],
    out: Output,
    validation_fraction: Annotated[
        float,
        typer.Option(
            min=0, max=0.99, help="The part of each class to validate on, where DIR has no validation split of its own."
        ),
    ] = 0.1,
    test_as_validation: TestAsValidation = False,
    resize: Resize = None,
    max_pixels: MaxPixels = None,
    max_decoded_pixels: MaxDecodedPixels = MAX_DECODED_PIXELS,
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES,
    check: Check = "quick",
    samples_per_shard: SamplesPerShard = 4000,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set from a folder of pictures.

    Sub-folders of DIR are the classes; where the pictures lie flat there are
    none. Sub-folders called train, val (or valid, validation, dev) and test are
    the splits, in any case (Train, VAL), with the classes in them. Broken files
    are named, left out and listed in OUT/bad.jsonl, with what is no picture.

    Example: the classes cats and dogs from pets/cats/*.jpg and pets/dogs/*.jpg,
    a fifth of each for validation:

      restok prepare folder pets data/pets --validation-fraction 0.2
    """
    from restok_cli.data.folders import walk_folder
    from restok_cli.data.intake import Rules
    from restok_cli.data.preparation import Plan
    from restok_cli.data.sources import readable

    _check_output(out, overwrite)
    _check_apart(pictures, out)
    sources = walk_folder(pictures, validation_fraction, test_as_validation)
    rules = Rules(check, resize, max_pixels, max_decoded_pixels, max_member_bytes)
    name, source = readable(pictures.resolve().name), readable(str(pictures))
    _prepare(Plan(name, source, sources, rules, samples_per_shard), out, jobs, overwrite, as_json)


@app.command()
def shards(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SHARDS",
            help="A folder of tars, or a pattern with {00..15} or *, of files or URLs, in quotes; or SPLIT=SHARDS for"
            " each split. Last, the folder OUT to make. Default: where the shards lie.",
            show_default=False,
        ),
    ],
    class_names: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="What the classes are called: a file with a line for each, or the word imagenet. Default: numbers.",
        ),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=10**6,
            help="How many classes there are, called by numbers; 0: none. Default: what the .cls say, which behind URLs"
            " nobody reads, so that there this or --class-names is needed.",
        ),
    ] = None,
    check: Check = "quick",
    max_decoded_pixels: MaxDecodedPixels = MAX_DECODED_PIXELS,
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set of WebDataset shards, which stay where they are.

    Each sample is a picture (.jpg, .png, .webp) and, where there are classes,
    their number (.cls). OUT gets links to the shards; without OUT, the index of
    each is written beside it. Broken pictures are left out, listed in bad.jsonl.

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
    from restok_cli.data import existing
    from restok_cli.data.intake import Rules
    from restok_cli.data.jobs import available_cores
    from restok_cli.data.shards import BAD_LIST
    from restok_cli.data.sources import readable

    sources, out = existing.read_words(words)
    names = _stated_classes(class_names, num_classes)
    found = existing.find_shards(sources)
    if None in sources:
        note("splits by name: " + ", ".join(f"{split} {paths[0]} … ({len(paths)})" for split, paths in found.items()))
    remote = existing.is_remote(next(iter(found.values()))[0])
    paths = [] if remote else [Path(path) for split in found.values() for path in split]
    folder = _check_shards_output(paths, out, overwrite)
    name = readable(folder.resolve().name)
    if remote:
        if names is None:
            raise UsageError(
                "shards behind URLs are not read, so that their classes must be stated: give --class-names, or"
                " --num-classes (0 where there are none)"
            )
        _report_remote(folder, existing.describe_remote(folder, found, name, names), as_json)
        return
    rules = Rules(check, max_decoded_pixels=max_decoded_pixels, max_member_bytes=max_member_bytes)
    source = readable(" ".join(words[:-1] if out else words))
    manifest, num_bad = existing.describe_shards(
        found, out, name=name, source=source, class_names=names, rules=rules, jobs=jobs or available_cores()
    )
    if num_bad:
        note(f"{counted(num_bad, 'broken sample')} left out: see {folder / BAD_LIST}")
    _report(folder, manifest, as_json, unreadable=num_bad)


app.command()(codes)


@app.command()
def verify(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A folder made by `restok prepare`, or the word sample.", show_default=False
        ),
    ],
    jobs: Jobs = None,
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Read a data set, or the codes of one, and say whether it is what was prepared.

    Finds every changed bit and every cut in shards and indices, shards that are
    missing or foreign, keys that come twice and classes that do not exist, and
    names the sample. The exit code is 1 where there are problems, and where all
    shards are behind URLs, so that nothing can be checked.

    Example:

      restok prepare verify data/photos
    """
    from restok_cli.data.codes import is_codes
    from restok_cli.data.jobs import available_cores
    from restok_cli.data.verify import verify_dataset
    from restok_cli.data.verify_codes import verify_codes

    if is_codes(data):
        verification = verify_codes(data)
    else:
        verification = verify_dataset(data, jobs or available_cores(), max_member_bytes)
    num_shards, num_samples, streamed, problems = verification
    for split in streamed:
        note(f"the shards of {split} are elsewhere, so nothing is known of them")
    if as_json:
        counts = {"path": data, "shards": num_shards, "samples": num_samples, "streamed": streamed}
        print(json.dumps(counts | {"problems": [problem._asdict() for problem in problems]}))
    else:
        for file, sample, what in problems:
            say(f"{file}: {sample}: {what}" if sample else f"{file}: {what}")
    if problems:
        raise RestokError(f"{data} has {counted(len(problems), 'problem')}; prepare or copy it again")
    if streamed and not num_shards:
        raise RestokError(
            f"nothing of {data} could be checked; download its shards and give the folder to `restok prepare shards`"
        )
    verb = "is as it was" if num_samples == 1 else "are as they were"
    if not as_json:
        say(f"{counted(num_samples, 'sample')} in {counted(num_shards, 'shard')} {verb} prepared")


@app.command()
def sample(out: Output, overwrite: Overwrite = False, as_json: AsJson = False) -> None:
    """Write out the data set that comes with restok, of 1,906 emoji.

    Commands that take a data set also take the word sample for it, so this is
    only for other programs, or to look at.

    Example:

      restok prepare sample data/emoji
    """
    from restok_cli.data.shards import own_files
    from restok_cli.data.writer import write_sample

    check_output_folder(out, overwrite, own_files(out).__contains__)
    with whole_folder(out.resolve()) as temporary:
        manifest = write_sample(temporary)
    _report(out, manifest, as_json)


def _check_output(out: Path, overwrite: bool) -> None:
    """Check that a data set may be made in `out`: also where one is half done there, which may then go on."""
    from restok_cli.data.preparation import is_half_done
    from restok_cli.data.shards import WORK_FOLDER, own_files

    clear_beside(out / WORK_FOLDER)
    check_output_folder(out, overwrite or is_half_done(out), own_files(out).__contains__)


def _check_apart(pictures: Path, out: Path) -> None:
    source, target = pictures.resolve(), out.resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise UsageError(f"{out} and {pictures} lie in each other; give an output folder apart from the pictures")


def _stated_classes(file: str | None, count: int | None) -> list[str] | None:
    """The names of the classes by --class-names or --num-classes; None where neither is given."""
    from restok_cli.data.imagenet import read_classes
    from restok_cli.data.texts import read_names

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
    from restok_cli.data.shards import is_dataset, own_files

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


def _prepare(plan: "Plan", out: Path, jobs: int | None, overwrite: bool, as_json: bool) -> None:
    from restok_cli.data.jobs import available_cores
    from restok_cli.data.preparation import prepare_dataset
    from restok_cli.data.shards import BAD_LIST

    try:
        manifest, changes, num_bad = prepare_dataset(plan, out, jobs or available_cores(), overwrite)
    except Interrupted as error:
        what = "interrupted; the same command goes on where this one was"
        raise Interrupted(error.signal_number, what) from error
    for change, count in changes.items():
        note(f"{counted(count, 'picture')} re-encoded: {change}")
    if num_bad:
        note(f"{counted(num_bad, 'picture')} left out that cannot be decoded: see {out / BAD_LIST}")
    _report(out, manifest, as_json, unreadable=num_bad, re_encoded=sum(changes.values()))


def _report(out: Path, manifest: "Manifest", as_json: bool, unreadable: int = 0, re_encoded: int = 0) -> None:
    counts = {split: info.num_samples for split, info in manifest.splits.items()}
    classes = len(manifest.class_names)
    if as_json:
        result = {"path": str(out), "pictures": sum(counts.values()), "unreadable": unreadable}
        print(json.dumps(result | {"re_encoded": re_encoded, "classes": classes, "splits": counts}))
    else:
        print(out)
    parts = ", ".join(f"{split} {count}" for split, count in counts.items())
    kinds = counted(classes, "class", "classes") if classes else "no classes"
    note(f"{counted(sum(counts.values()), 'picture')}, {kinds}: {parts}")


def _report_remote(out: Path, manifest: "Manifest", as_json: bool) -> None:
    urls = {split: len(info.urls) for split, info in manifest.splits.items()}
    classes = len(manifest.class_names) or None
    if as_json:
        result = {"path": str(out), "pictures": None, "classes": classes, "splits": dict.fromkeys(urls), "urls": urls}
        print(json.dumps(result))
    else:
        print(out)
    parts = ", ".join(f"{split} {count}" for split, count in urls.items())
    note(f"{counted(sum(urls.values()), 'URL')} named: {parts}; nothing was read, so the pictures are not counted")
