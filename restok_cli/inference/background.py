"""Work that goes on beside a GPU's: files are made of a block while the next ones are on their way."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_BEHIND = 2  # blocks that wait to be worked on, in memory


def in_background(
    work: Callable[[Item], Result], items: Iterable[Item], device: torch.device, at_once: bool = False
) -> Iterator[Result]:
    """Results of `work` for all items, in order: of a GPU's, by a thread, while the next items are computed there.

    On a CPU, whose cores compute the items, one after the other; also where each result is wanted `at_once`, as in a
    pipe, in which nobody knows when the next item comes. Raises what `work` raises, a few items later.
    """
    if device.type == "cpu" or at_once:
        yield from map(work, items)
        return
    results: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(1)  # one, so that files are written in order
    try:
        for item in items:
            results.append(pool.submit(work, item))
            if len(results) > MOST_BEHIND:
                yield results.popleft().result()
        while results:
            yield results.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
