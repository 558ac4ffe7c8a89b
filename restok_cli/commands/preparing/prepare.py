"""`restok prepare`: images to a data set."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands import options
from restok_cli.commands.groups import grouped
from restok_cli.commands.preparing.codes import codes
from restok_cli.commands.preparing.counts import print_counts
from restok_cli.commands.preparing.shards import shards
from restok_cli.console import counted, note, readable, say
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, check_output_folder, clear_beside, whole_folder

if TYPE_CHECKING:
    from restok_cli.data.sources.intake import Rules
    from restok_cli.data.sources.listing import Sources

app = typer.Typer(
    no_args_is_help=True,
    help="""Make a data set: tar shards, indexed and hashed, that training reads in an exact order.

    Any WebDataset reader takes the shards too, timm's among them. The files of
    the images are kept byte for byte, unless there are loaders that cannot
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
Resize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Shrink images whose shorter edge is longer than this. JPEG stays JPEG; others become PNG."
    ),
]
MaxPixels = Annotated[int | None, typer.Option(min=1, help="Shrink images of more pixels than this to so many.")]
TestAsValidation = Annotated[
    bool, typer.Option("--test-as-validation", help="Validate on the test split, where there is none for validation.")
]
SamplesPerShard = Annotated[int, typer.Option(min=1, help="Images in a shard.")]


@dataclass
class Making:
    """How a data set is made of images, wherever these come from."""

    test_as_validation: TestAsValidation = False
    resize: Resize = None
    max_pixels: MaxPixels = None
    max_decoded_pixels: options.MaxDecodedPixels = MAX_DECODED_PIXELS
    max_member_bytes: options.MaxMemberBytes = MAX_MEMBER_BYTES
    check: options.Check = "quick"
    samples_per_shard: SamplesPerShard = 4000
    jobs: options.Jobs = None
    overwrite: options.OverwriteDataset = False
    as_json: options.CountsAsJson = False

    @property
    def rules(self) -> "Rules":
        from restok_cli.data.sources.intake import Rules

        return Rules(self.check, self.resize, self.max_pixels, self.max_decoded_pixels, self.max_member_bytes)


@app.command()
@grouped
def imagenet(
    *,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with ImageNet.", show_default=False)],
    out: Output,
    making: Making,
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
    from restok_cli.data.sources.imagenet import open_imagenet

    find = partial(open_imagenet, source, making.test_as_validation)
    _prepare(source, out, "imagenet", find, making)


@app.command()
@grouped
def folder(
    *,
    images: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of images, or of one folder per class.", show_default=False)
    ],
    out: Output,
    validation_fraction: Annotated[
        float,
        typer.Option(
            min=0, max=0.99, help="The part of each class to validate on, where DIR has no validation split of its own."
        ),
    ] = 0.1,
    making: Making,
) -> None:
    """Make a data set from a folder of images.

    Sub-folders of DIR are the classes; where the images lie flat there are
    none. Sub-folders called train, val (or valid, validation, dev) and test are
    the splits, in any case (Train, VAL), with the classes in them. Broken files
    are named, left out and listed in OUT/bad.jsonl, with what is no image.

    Example: the classes cats and dogs from pets/cats/*.jpg and pets/dogs/*.jpg,
    a fifth of each for validation:

      restok prepare folder pets data/pets --validation-fraction 0.2
    """
    from restok_cli.data.sources.folders import walk_folder

    find = partial(walk_folder, images, validation_fraction, making.test_as_validation)
    _prepare(images, out, readable(images.resolve().name), find, making)


app.command()(shards)
app.command()(codes)


@app.command()
def verify(
    data: options.DataArgument,
    jobs: options.Jobs = None,
    max_member_bytes: options.MaxMemberBytes = MAX_MEMBER_BYTES,
    as_json: options.LinesAsJson = False,
) -> None:
    """Read a data set, or the codes of one, and say whether it is what was prepared.

    Finds every changed bit and every cut in shards and indices, shards that are
    missing or foreign, keys that come twice and classes that do not exist, and
    names the sample. The exit code is 1 where there are problems, and where all
    shards are behind URLs, so that nothing can be checked.

    Example:

      restok prepare verify data/photos
    """
    from restok_cli.data.shards.code_layout import is_codes
    from restok_cli.data.shards.verify import verify_codes, verify_dataset
    from restok_cli.machine import available_cores

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
def sample(out: Output, overwrite: options.OverwriteDataset = False, as_json: options.CountsAsJson = False) -> None:
    """Write out the data set that comes with restok, of 1,906 emoji.

    Commands that take a data set also take the word sample for it, so this is
    only for other programs, or to look at.

    Example:

      restok prepare sample data/emoji
    """
    from restok_cli.data.shards.layout import own_files
    from restok_cli.data.shards.writer import write_sample
    from restok_cli.data.sources.preparation import Preparation

    check_output_folder(out, overwrite, own_files(out).__contains__, whole=True)
    with whole_folder(out.resolve()) as temporary:
        preparation = Preparation(write_sample(temporary))
    print_counts(out, preparation, as_json)


def _prepare(images: Path, out: Path, name: str, find: "Callable[[], Sources]", making: Making) -> None:
    """Make a data set in `out`, also where one is half done there, of the images that `find` finds in `images`."""
    from restok_cli.data.shards.layout import BAD_LIST, WORK_FOLDER, own_files
    from restok_cli.data.sources.preparation import Plan, is_half_done, prepare_dataset
    from restok_cli.machine import available_cores

    clear_beside(out / WORK_FOLDER)
    check_output_folder(out, making.overwrite or is_half_done(out), own_files(out).__contains__)
    source, target = images.resolve(), out.resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise UsageError(f"{out} and {images} lie in each other; give an output folder apart from the images")
    plan = Plan(name, readable(str(images)), find(), making.rules, making.samples_per_shard)
    preparation = prepare_dataset(plan, out, making.jobs or available_cores(), making.overwrite)
    for change, count in preparation.changes.items():
        note(f"{counted(count, 'image')} re-encoded: {change}")
    if preparation.turned:
        note(
            f"{counted(preparation.turned, 'image')} to be shown turned, as EXIF says, which nothing here does; to turn"
            " the pixels first: mogrify -auto-orient"
        )
    if preparation.num_bad:
        note(f"{counted(preparation.num_bad, 'image')} left out that cannot be decoded: see {out / BAD_LIST}")
    print_counts(out, preparation, making.as_json)
