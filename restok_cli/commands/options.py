"""Options that several commands share, and what they mean. Nothing heavy is imported until it is needed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

PICTURE_MANIFEST = "manifest.jsonl"  # a line per picture in the folders that generate and reconstruct write

DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="A folder made by `restok prepare`, or the word sample.")
]
RunOutput = Annotated[
    Path, typer.Option("--output", "-o", metavar="RUN", help="The folder of the run.", show_default=False)
]
PictureOutput = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="The folder for the pictures.", show_default=False)
]
MaxSteps = Annotated[int | None, typer.Option(min=1, help="Optimizer steps of the whole run. Default: the preset's.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides everything random: the same seed gives the same result.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Pictures per step. Default: the preset's.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on exactly where the run in RUN stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what the output folder already holds.")]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1, mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the path.")]


def open_device(name: str) -> "torch.device":
    """The device called `name`. Raises UsageError where this machine has none such."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name} cannot be used here ({reason}); take cpu, or auto") from error
    return device


def check_resume(resume: bool, overwrite: bool) -> None:
    """Raises UsageError where both are asked for."""
    if resume and overwrite:
        raise UsageError("--resume keeps the run in the output folder and --overwrite replaces it; give one of them")
