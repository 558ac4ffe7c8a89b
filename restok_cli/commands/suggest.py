"""`restok config suggest`: a training command for one's own images and machine."""

import json
import shlex
from typing import Annotated, Literal

import typer

from restok_cli.commands.options import DataArgument, Device, ImageSizeOption, LinesAsJson
from restok_cli.console import say


def suggest(
    data: DataArgument,
    kind: Annotated[Literal["tokenizer", "har"], typer.Option(help="What to train.")] = "tokenizer",
    image_size: ImageSizeOption = None,
    minutes: Annotated[float, typer.Option(min=0.1, metavar="N", help="How long the training may take.")] = 15,
    memory: Annotated[
        float | None, typer.Option(min=0.01, metavar="GB", help="How much it may take. Default: all of the device's.")
    ] = None,
    device: Device = "auto",
    as_json: LinesAsJson = False,
) -> None:
    """Look at a data set and at this machine, measure a few steps, and print one command to train by.

    With it comes what to expect, and why each choice. Nothing is kept of the
    steps that were measured.

    Examples:

      restok config suggest data/photos
      restok config suggest data/photos --image-size 128 --minutes 240 --device cuda
      restok config suggest data/photos --kind har
    """
    from restok_cli.data.shards.dataset import open_dataset

    dataset = open_dataset(data)
    from restok_cli.devices import open_device
    from restok_cli.planning.suggest import Wishes
    from restok_cli.planning.suggest import suggest as find

    request = Wishes(data, kind, image_size, minutes, device, open_device(device), memory and memory * 1e9)
    found = find(request, dataset)
    if as_json:
        print(json.dumps(found._asdict()))
        return
    say(shlex.join(found.command))
    for title, lines in (("expect", found.expect), ("why", found.why), ("mind", found.warnings)):
        say(*(f"{title}: {line}" for line in lines))
