"""`restok report`: what runs did, as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands.options import OverwriteFile
from restok_cli.files import check_output_file


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML file to make.")] = Path(
        "report.html"
    ),
    metrics: Annotated[
        list[Path] | None,
        typer.Option(
            "--metrics",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="What `restok evaluate … --json > FILE` wrote, beside those in the runs; repeatable.",
        ),
    ] = None,
    overwrite: OverwriteFile = False,
) -> None:
    """Make one HTML file of runs: curves, previews, the codebook, metrics, config and environment. Prints FILE.

    Runs may still be training. Those of the same kind are laid over each other,
    with the settings in which they differ; metrics stand in one row only where
    they were measured alike. The file needs nothing else, and no network.

    Examples:

      restok report runs/tokenizer
      restok report runs/a runs/b --metrics a.json --metrics b.json -o ab.html
    """
    check_output_file("-o", output, ".html", overwrite, *(metrics or []))

    from restok_cli.reports.html import write_report

    write_report(runs, metrics or [], output)
    print(output)
