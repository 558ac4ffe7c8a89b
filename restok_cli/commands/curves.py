"""`restok curves`: what runs have logged, as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands.options import OverwriteFile
from restok_cli.errors import UsageError


def curves(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The PNG to make.", show_default=False)
    ],
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Draw this one, such as validation_psnr; repeatable."),
    ] = None,
    overwrite: OverwriteFile = False,
) -> None:
    """Draw what runs have logged over their steps: a panel for each number, a line in it for each run. Prints FILE.

    Runs may still be training. Needs matplotlib: pip install 'restok\\[plots]'.

    Examples:

      restok curves runs/tokenizer -o curves.png
      restok curves runs/a runs/b --metric loss --metric learning_rate -o ab.png
    """
    from restok_cli.training.curves import draw_curves, read_curves

    if output.suffix.lower() != ".png":
        raise UsageError(f"-o {output}: the picture is a PNG; give a name that ends in .png")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} already exists; give another name, or --overwrite to replace it")
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    draw_curves(dict(zip(names, map(read_curves, runs), strict=True)), metrics or [], output)
    print(output)
