"""`restok probe`: how well the features of a model tell classes apart."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from restok_cli.commands.options import (
    Cache,
    DataArgument,
    Device,
    ImagesHeld,
    NoCache,
    NumProcesses,
    ResultAsJson,
    check_models,
    features_folder,
    parse_model,
)
from restok_cli.console import say
from restok_cli.errors import UsageError
from restok_cli.processes import connect, local_device, rank, run_in_processes


def parse_block(text: str) -> str:
    """The value of --block, checked. Raises UsageError."""
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise UsageError(f"--block {text}: give the number of a block, from 1 on, or all")
    return text


def parse_l2(text: str) -> float | None:
    """The strength that --l2 gives, None for auto. Raises UsageError."""
    if text == "auto":
        return None
    try:
        strength = float(text)
    except ValueError:
        strength = 0.0
    if not 1e-12 <= strength <= 1e12:
        raise UsageError(f"--l2 {text}: give a number above 0, such as 0.01, or auto")
    return strength


Model = Annotated[
    Path,
    typer.Argument(
        metavar="M",
        parser=parse_model,
        help="A tokenizer or a generator: a run, a model folder, hf:owner/name, sample or photo.",
        show_default=False,
    ),
]
PartOption = Annotated[
    Literal["tokenizer", "generator"] | None,
    typer.Option(help="Which of a generator with its tokenizer. Default: the generator, where there is one."),
]
Block = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        parser=parse_block,
        help="Of a generator: the block after which features are taken, or all (without levels). Default: the middle.",
    ),
]
ItsTokenizer = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer", metavar="M", parser=parse_model, help="The tokenizer of a generator that has none with it."
    ),
]
L2 = Annotated[
    str,
    typer.Option(
        "--l2",
        metavar="X",
        help="Strength of the regression's regularisation; auto: chosen by a fifth of the training images.",
    ),
]
Neighbours = Annotated[int, typer.Option(min=1, metavar="K", help="Nearest training images that vote.")]


def probe(
    model: Model,
    data: DataArgument,
    part: PartOption = None,
    block: Block = None,
    tokenizer: ItsTokenizer = None,
    l2: L2 = "auto",
    neighbours: Neighbours = 20,
    cache: Cache = None,
    no_cache: NoCache = False,
    batch_size: ImagesHeld = 64,
    num_processes: NumProcesses = 1,
    device: Device = "auto",
    as_json: ResultAsJson = False,
) -> None:
    """Say how well frozen features tell classes apart, by a linear probe and by nearest neighbours.

    Both see the training split of DATA, which must have classes, and are tested
    on its validation split; neither changes the model. Features of a tokenizer:
    the image tokens of each stage, and the code vectors of 1, 2, 4, … latents.
    Of a generator: the outputs of a block, over all positions and over those
    of each level, for an image's codes and no class, which would be the answer.
    For it, DATA may also be a folder of `restok prepare codes`. Features are
    kept: an interrupted command goes on where it was.

    Examples: the generator of emoji, the tokenizer with it, every block of a run:

      restok probe sample sample
      restok probe sample sample --part tokenizer --json
      restok probe runs/har sample --block all --l2 0.01
    """
    strength = parse_l2(l2)
    check_models("any", model)
    check_models("tokenizer", tokenizer)
    from restok_cli.evaluation.probe_data import open_labelled

    labelled = open_labelled(data)
    run_in_processes(num_processes)

    from restok_cli.devices import open_device
    from restok_cli.evaluation.probe import ProbeRequest, probe, report, table
    from restok_cli.evaluation.probe_points import Which

    torch_device = local_device(open_device(device))
    connect(torch_device)
    which, kept = Which(part, block, tokenizer), features_folder(cache, no_cache)
    request = ProbeRequest(model, data, which, strength, neighbours, kept, batch_size)
    probing = probe(request, labelled, torch_device)
    if rank() == 0:
        if as_json:
            print(json.dumps(report(probing), indent=2, allow_nan=False))
        else:
            say(*table(probing))
