"""Images that several processes encode or reconstruct together: each some of them, and all in the order of one."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
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
    assert inputs.count is not None, "a stream is for one process"
    images, size = iter(inputs.images), min(gather(size))  # by what each device holds

    def turns() -> Iterator[tuple[Inputs, list[Computed]]]:
        for _ in range(0, inputs.count or 0, size * world_size()):
            turn = list(islice(images, size * world_size()))[rank() * size :][:size]
            mine = Inputs(turn, len(turn))
            yield mine, list(compute(mine))

    def finish_turn(turn: tuple[Inputs, list[Computed]]) -> tuple[list[Made], list[str]]:
        return [made for batch in turn[1] for made in finish(batch)], turn[0].left_out

    for finished in in_background(finish_turn, turns(), device):
        for number, (made, left_out) in enumerate(gather(finished)):
            inputs.left_out += left_out
            for line in left_out if number > 0 else ():  # the first process has noted its own
                note(line)
            yield from made
