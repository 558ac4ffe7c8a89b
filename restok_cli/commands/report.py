"""`restok report`: what runs did, as one HTML file."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands.options import Overwrite
from restok_cli.files import check_output_file

WATCH_SECONDS = 30


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs.", show_default=False)],
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
    watch: Annotated[
        bool, typer.Option("--watch", help="Make it anew every 30 s until the runs end; a browser follows by itself.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Make one HTML file of runs: curves, previews, the codebook, metrics, config and environment. Prints FILE.

    Runs may still be training. Those of the same kind are laid over each other,
    with the settings in which they differ; metrics stand in one row only where
    they were measured alike. The file needs nothing else, and no network. It
    replaces a report that is there; any other file only with --overwrite.

    Examples:

      restok report runs/tokenizer
      restok report runs/tokenizer --watch
      restok report runs/a runs/b --metrics a.json --metrics b.json -o ab.html
    """
    from restok_cli.reports.report_inputs import check_runs, is_report

    check_runs(runs)
    check_output_file("-o", output, ".html", overwrite or is_report(output), *(metrics or []))
    from restok_cli.reports.html import write_report

    write = partial(write_report, runs, metrics or [], output, WATCH_SECONDS if watch else None)
    unfinished = write()
    print(output, flush=True)
    while watch and unfinished:
        time.sleep(WATCH_SECONDS)
        unfinished = write()
