"""Images that several processes encode or reconstruct together: each some of them, and all in the order of one."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from restok_cli.console import note
from restok_cli.data.inputs import Inputs
from restok_cli.devices import open_device
from restok_cli.inference.coding import Computation
from restok_cli.processes import connect, gather, local_device, rank, world_size

Made = TypeVar("Made")


def connected(computation: Computation) -> Computation:
    """Join the other processes, if there are any; the computation is then on a device of this one's own."""
    device = local_device(open_device(computation.device, computation.deterministic))
    connect(device)
    return computation._replace(device=str(device))


def in_turns(inputs: Inputs, size: int, work: Callable[[Inputs], Iterator[Made]]) -> Iterator[Made]:
    """Do `work` on the inputs and give, in every process, all that comes of it, in their order.

    Several take turns of `size` inputs each, so that nobody holds more than one turn of results.
    """
    if world_size() == 1:
        yield from work(inputs)
        return
    images, size = list(inputs.images), min(gather(size))  # by what each device holds
    for first in range(0, len(images), size * world_size()):
        start = first + rank() * size
        mine = Inputs(images[start : start + size], None)
        for number, (made, left_out) in enumerate(gather((list(work(mine)), mine.left_out))):
            inputs.left_out += left_out
            for line in left_out if number > 0 else ():  # the first process has noted its own
                note(line)
            yield from made
