"""`restok prepare`: pictures to a data set."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands.prepare_codes import codes
from restok_cli.console import note, track
from restok_cli.errors import UsageError
from restok_cli.files import check_output_folder, whole_folder

if TYPE_CHECKING:
    from restok_cli.data.shards import Manifest

app = typer.Typer(
    no_args_is_help=True,
    help="""Make a data set: tar shards, indexed and hashed, that training reads in an exact order.

    Any WebDataset reader takes the shards too. The files of the pictures are
    kept byte for byte.

    Examples:

      restok prepare folder photos data/photos
      restok prepare sample data/emoji
    """,
)

app.command()(codes)

Output = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the data set that OUT already holds.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object instead of OUT.")]


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
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set from a folder of pictures.

    Sub-folders of DIR are the classes; where the pictures lie flat there are
    none. Where DIR has sub-folders train and val (or validation), these are
    the splits. Files that cannot be decoded are named, left out and listed in
    OUT/bad.jsonl.

    Example: the classes cats and dogs from pets/cats/*.jpg and pets/dogs/*.jpg,
    a fifth of each for validation:

      restok prepare folder pets data/pets --validation-fraction 0.2
    """
    from restok_cli.data.shards import DATASET_FILES, write_dataset
    from restok_cli.data.sources import BadPicture, read_samples, readable, walk_folder

    check_output_folder(out, overwrite, DATASET_FILES.fullmatch)
    _check_apart(pictures, out)
    sources = walk_folder(pictures, validation_fraction)
    bad: list[BadPicture] = []
    samples = {
        split: read_samples(track(files, f"prepare {split}", len(files), "pictures"), bad)
        for split, files in sources.splits.items()
    }
    with whole_folder(out.resolve()) as temporary:
        manifest = write_dataset(
            temporary,
            samples,
            name=readable(pictures.resolve().name),
            class_names=sources.class_names,
            provenance={"source": readable(str(pictures))},
        )
        if bad:
            lines = (json.dumps(picture._asdict()) + "\n" for picture in bad)
            (temporary / "bad.jsonl").write_text("".join(lines), encoding="utf-8")
    if bad:
        note(f"{len(bad)} pictures could not be decoded and were left out: see {out / 'bad.jsonl'}")
    _report(out, manifest, len(bad), as_json)


@app.command()
def sample(out: Output, overwrite: Overwrite = False, as_json: AsJson = False) -> None:
    """Write out the data set that comes with restok: 1,906 emoji in 98 classes.

    Commands that take a data set also take the word sample for it, so this is
    only for other programs, or to look at.

    Example:

      restok prepare sample data/emoji
    """
    from restok_cli.data.shards import DATASET_FILES, write_sample

    check_output_folder(out, overwrite, DATASET_FILES.fullmatch)
    with whole_folder(out.resolve()) as temporary:
        manifest = write_sample(temporary)
    _report(out, manifest, 0, as_json)


def _check_apart(pictures: Path, out: Path) -> None:
    source, target = pictures.resolve(), out.resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise UsageError(f"{out} and {pictures} lie in each other; give an output folder apart from the pictures")


def _report(out: Path, manifest: "Manifest", unreadable: int, as_json: bool) -> None:
    counts = {split: info.num_samples for split, info in manifest.splits.items()}
    classes = len(manifest.class_names)
    if as_json:
        total = sum(counts.values())
        result = {"path": str(out), "pictures": total, "unreadable": unreadable, "classes": classes, "splits": counts}
        print(json.dumps(result))
    else:
        print(out)
    parts = ", ".join(f"{split} {count}" for split, count in counts.items())
    note(f"{sum(counts.values())} pictures, {classes or 'no'} classes: {parts}")
