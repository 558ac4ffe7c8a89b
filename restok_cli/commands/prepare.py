"""`restok prepare`: pictures to a data set."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restok_cli.commands.prepare_codes import codes
from restok_cli.console import note
from restok_cli.errors import Interrupted, UsageError
from restok_cli.files import check_output_folder, whole_folder

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

app.command()(codes)

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
SamplesPerShard = Annotated[int, typer.Option(min=1, help="Pictures in a shard.")]


@app.command()
def imagenet(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with ImageNet.", show_default=False)],
    out: Output,
    resize: Resize = None,
    max_pixels: MaxPixels = None,
    check: Check = "quick",
    samples_per_shard: SamplesPerShard = 4000,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set from ImageNet-1k, in any form in which people have it.

    DIR may hold the tars of image-net.org, which are read where they lie
    (ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, with
    ILSVRC2012_devkit_t12.tar.gz for the labels); folders train and val of class
    folders; what Kaggle's archive unpacks to; or the hub's parquet files, for
    which pyarrow is needed: pip install 'restok\\[parquet]'.

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
    sources = open_imagenet(source)
    plan = Plan("imagenet", readable(str(source)), sources, Rules(check, resize, max_pixels), samples_per_shard)
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
            min=0, max=0.99, help="The part of each class to validate on, where DIR has no splits of its own."
        ),
    ] = 0.1,
    resize: Resize = None,
    max_pixels: MaxPixels = None,
    check: Check = "quick",
    samples_per_shard: SamplesPerShard = 4000,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set from a folder of pictures.

    Sub-folders of DIR are the classes; where the pictures lie flat there are
    none. Where DIR has sub-folders train and val (or validation), these are
    the splits. Broken files are named, left out and listed in OUT/bad.jsonl.

    Example: the classes cats and dogs from pets/cats/*.jpg and pets/dogs/*.jpg,
    a fifth of each for validation:

      restok prepare folder pets data/pets --validation-fraction 0.2
    """
    from restok_cli.data.intake import Rules
    from restok_cli.data.preparation import Plan
    from restok_cli.data.sources import readable, walk_folder

    _check_output(out, overwrite)
    _check_apart(pictures, out)
    sources = walk_folder(pictures, validation_fraction)
    rules = Rules(check, resize, max_pixels)
    name, source = readable(pictures.resolve().name), readable(str(pictures))
    _prepare(Plan(name, source, sources, rules, samples_per_shard), out, jobs, overwrite, as_json)


@app.command()
def sample(out: Output, overwrite: Overwrite = False, as_json: AsJson = False) -> None:
    """Write out the data set that comes with restok: 1,906 emoji in 98 classes.

    Commands that take a data set also take the word sample for it, so this is
    only for other programs, or to look at.

    Example:

      restok prepare sample data/emoji
    """
    from restok_cli.data.shards import DATASET_FILES
    from restok_cli.data.writer import write_sample

    check_output_folder(out, overwrite, DATASET_FILES.fullmatch)
    with whole_folder(out.resolve()) as temporary:
        manifest = write_sample(temporary)
    _report(out, manifest, as_json)


def _check_output(out: Path, overwrite: bool) -> None:
    """Check that a data set may be made in `out`: also where one is half done there, which may then go on."""
    from restok_cli.data.preparation import is_half_done
    from restok_cli.data.shards import DATASET_FILES

    check_output_folder(out, overwrite or is_half_done(out), DATASET_FILES.fullmatch)


def _check_apart(pictures: Path, out: Path) -> None:
    source, target = pictures.resolve(), out.resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise UsageError(f"{out} and {pictures} lie in each other; give an output folder apart from the pictures")


def _prepare(plan: "Plan", out: Path, jobs: int | None, overwrite: bool, as_json: bool) -> None:
    from restok_cli.data.jobs import available_cores
    from restok_cli.data.preparation import BAD_LIST, prepare_dataset

    try:
        manifest, changes, num_bad = prepare_dataset(plan, out, jobs or available_cores(), overwrite)
    except Interrupted as error:
        what = "interrupted; the same command goes on where this one was"
        raise Interrupted(error.signal_number, what) from error
    for change, count in changes.items():
        note(f"{count} pictures were re-encoded: {change}")
    if num_bad:
        note(f"{num_bad} pictures could not be decoded and were left out: see {out / BAD_LIST}")
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
    note(f"{sum(counts.values())} pictures, {classes or 'no'} classes: {parts}")
