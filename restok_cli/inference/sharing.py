"""Images that several processes encode or reconstruct together: each some of them, and all in the order of one."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from restok_cli.console import note
from restok_cli.data.inputs import Inputs
from restok_cli.inference.background import in_background
from restok_cli.processes import gather, rank, world_size

Computed = TypeVar("Computed")
Made = TypeVar("Made")


def in_turns(
    inputs: Inputs,
    size: int,
    device: torch.device,
    compute: Callable[[Inputs], Iterable[Computed]],
    finish: Callable[[Computed], list[Made]],
) -> Iterator[Made]:
    """Give, in every process, all that comes of the inputs, in their order.

    `compute` makes batches of them, which a GPU may still be at, and `finish` the results of each, beside the next ones
    (see background.py). Several processes take turns of `size` inputs each, so that nobody holds more than some turns.
    """
    if world_size() == 1:
        for made in in_background(finish, compute(inputs), device, at_once=inputs.count is None):
            yield from made
        return
    images, size = list(inputs.images), min(gather(size))  # by what each device holds
    starts = range(rank() * size, len(images) + rank() * size, size * world_size())
    turns = [Inputs(turn, len(turn)) for turn in (images[start : start + size] for start in starts)]

    def finish_turn(batches: list[Computed]) -> list[Made]:
        return [made for batch in batches for made in finish(batch)]

    finished = in_background(finish_turn, (list(compute(turn)) for turn in turns), device)
    for turn, made_here in zip(turns, finished, strict=True):
        for number, (made, left_out) in enumerate(gather((made_here, turn.left_out))):
            inputs.left_out += left_out
            for line in left_out if number > 0 else ():  # the first process has noted its own
                note(line)
            yield from made
