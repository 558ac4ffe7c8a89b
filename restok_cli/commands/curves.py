"""`restok curves`: what runs have logged, as an image."""

from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands.options import Overwrite
from restok_cli.files import check_output_file


def curves(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The PNG to make.", show_default=False)
    ],
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Draw this one, such as validation_psnr; repeatable."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw what runs have logged over their steps: a panel for each number, a line in it for each run. Prints FILE.

    Each trainer has panels of its own, since its numbers are not the other's.
    Runs may still be training. Needs matplotlib: pip install 'restok\\[plots]'.

    Examples:

      restok curves runs/tokenizer -o curves.png
      restok curves runs/a runs/b --metric loss --metric learning_rate -o ab.png
    """
    check_output_file("-o", output, ".png", overwrite)

    from restok_cli.reports.curves import draw_curves, read_curves, short_names, trainer_of

    names = short_names(runs)
    curves = dict(zip(names, map(read_curves, runs), strict=True))
    draw_curves(curves, dict(zip(names, map(trainer_of, runs), strict=True)), metrics or [], output)
    print(output)
