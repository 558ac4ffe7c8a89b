"""`restok models presets`: what the trainers can build, as a table."""

import json
import shutil
import sys
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restok_cli.commands.options import LinesAsJson
from restok_cli.console import columns, counted, say, track
from restok_cli.errors import UsageError, did_you_mean
from restok_cli.room import size_text

if TYPE_CHECKING:
    from restok_cli.settings.training import RunKind

HEAD = ("preset", "images", "codes", "parameters", "state", "from the net", "what it is for")


def presets(
    preset: Annotated[
        str | None, typer.Argument(metavar="PRESET", help="One of them, in detail.", show_default=False)
    ] = None,
    kind: Annotated[Literal["tokenizer", "har"] | None, typer.Option(help="Only those of this trainer.")] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Count the memory of a whole step of all of them, in some minutes.")
    ] = False,
    as_json: LinesAsJson = False,
) -> None:
    """List the presets of both trainers, or describe one: sizes, memory, what it needs, what it is for.

    state is the memory of weights, gradients, optimizer and averaged weights;
    from the net are networks of others that training downloads. For one PRESET,
    and with --memory for all, the memory of a whole step is counted too, for
    a usual batch on one GPU. A generator's images and codes are those of its
    tokenizer.

    Examples:

      restok models presets --kind tokenizer --memory
      restok models presets har-b
    """
    from restok_cli.settings.presets import preset_names
    from restok_cli.settings.training import RUN_CONFIGS

    kinds: list[RunKind] = [kind] if kind else list(RUN_CONFIGS)
    known: list[tuple[RunKind, str]] = [(each, name) for each in kinds for name in preset_names(each)]
    wanted = [row for row in known if preset in (None, row[1])]
    if not wanted:
        where = f" of train-{kind}" if kind else ""
        meant = did_you_mean(str(preset), {name for _, name in known})
        raise UsageError(f"no preset{where} named {preset}{meant}; `restok models presets` lists them")
    from restok_cli.planning.preset_table import facts_of, step_memory

    found = [{"kind": each, **facts_of(each, name)._asdict()} for each, name in wanted]
    if memory or preset is not None:
        for row in track(found, "counting steps", len(found), "presets"):
            row["batch"], row["memory_bytes"] = step_memory(row["kind"], row["preset"])
    if as_json:
        print(json.dumps({"presets": found}))
    elif preset is None:
        say(*table(found, kinds))
    else:
        for row in found:
            say(*description(row))


def table(rows: list[dict], kinds: "list[RunKind]") -> list[str]:
    """The presets of each trainer, in columns; where the terminal has not so many, in a few lines each."""
    most = shutil.get_terminal_size((sys.maxsize, 0)).columns  # of a file or a pipe, too
    lines = []
    for kind in kinds:
        of_kind = [row for row in rows if row["kind"] == kind]
        cells = [HEAD, *map(cells_of, of_kind)]
        if "batch" in of_kind[0]:
            steps = [f"{size_text(row['memory_bytes'])} for {counted(row['batch'], 'image')}" for row in of_kind]
            cells = [(*row[:5], step, *row[5:]) for row, step in zip(cells, ["a step", *steps], strict=True)]
        lines += ["", f"train-{kind}"] if lines else [f"train-{kind}"]
        rows_of_kind = columns(cells, "<<>>><")
        lines += rows_of_kind if max(map(len, rows_of_kind)) <= most else in_lines(cells, most)
    return lines


def in_lines(cells: list[tuple[str, ...]], width: int) -> list[str]:
    """A table below its head: of each row the first cell, then the others with their heads, then the last alone."""
    (_, *heads, _), *rows = cells
    lines = []
    for name, *facts, purpose in rows:
        told = " · ".join(f"{head} {fact}" for head, fact in zip(heads, facts, strict=True) if fact != "–")
        lines += [name, *(wrapped for text in (told, purpose) for wrapped in indented(text, width))]
    return lines


def indented(text: str, width: int) -> list[str]:
    return wrap(text, width, initial_indent="  ", subsequent_indent="  ", break_long_words=False)


def cells_of(row: dict) -> tuple[str, ...]:
    state, parameters = size_text(row["state_bytes"]), f"{row['parameters'] / 1e6:,.1f} M"
    first = row["purpose"].partition(". ")[0].rstrip(".")
    needs = ", ".join(network.partition(" (")[0] for network in row["networks"]) or "–"
    return row["preset"], row["image_size"] or "–", str(row["codes"]), parameters, state, needs, first


def description(row: dict) -> list[str]:
    """One preset, in lines."""
    images = f"{row['image_size']} pixels, " if row["image_size"] else ""
    return [
        f"{row['preset']}: of train-{row['kind']}",
        f"what it is for: {row['purpose']}",
        f"an image: {images}{row['codes']} codes",
        f"parameters: {row['parameters']:,}",
        f"memory: {size_text(row['memory_bytes'])} on one GPU, {row['batch']} images at a time; "
        f"{size_text(row['state_bytes'])} of that are weights, gradients, optimizer and averaged weights",
        f"from the net, when first needed: {', '.join(row['networks']) or 'nothing'}",
    ]
