"""Which sample is shown when: a function of seed and step, and of nothing else. And what the loaders share."""

import io
import math
import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from itertools import count
from multiprocessing.connection import Connection, wait
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from restok_cli.console import tell
from restok_cli.errors import RestokError
from restok_cli.processes import START_METHOD, check_division

BROKEN_LIMIT = 0.001  # the share of a split's samples that may turn out broken
NAMED_KEYS = 5  # of broken samples, in an error
GRACE_SECONDS = 600  # that a loading process outlives SIGTERM: a run may take as long to save
READERS: set[Popen] = set()  # the programs that fetch what this process reads, to be ended with it


class Batch(NamedTuple):
    """Images and what they show."""

    images: torch.Tensor  # uint8 (B, 3, H, W)
    class_ids: torch.Tensor  # int64 (B,), -1 where the data set has no classes


def shuffle(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """All samples in the order of an epoch: uint32 (num_samples,)."""
    # sorted raw bits: NumPy keeps those of Philox the same for ever, which it does not promise of permutation()
    keys = np.random.Philox(key=[seed, epoch]).random_raw(num_samples)
    return np.argsort(keys, kind="stable").astype(np.uint32)


class Deal(NamedTuple):
    """How the samples of each step are dealt out to the processes."""

    batch_size: int  # samples of a step, over all processes
    seed: int  # from 0 on, below 2**64
    first_step: int = 0
    micro_batch_size: int | None = None  # None: one micro-batch a step for each process
    rank: int = 0  # of this process
    world_size: int = 1

    @property
    def size(self) -> int:
        """Of a micro-batch. Raises UsageError as `check_division` does."""
        return check_division(self.batch_size, self.micro_batch_size, self.world_size)


def micro_batches(num_samples: int, deal: Deal) -> Iterator[list[tuple[int, int]]]:
    """The (epoch, sample) pairs of each micro-batch that this process computes, from the first step on, without end.

    Epochs, each a shuffle of all samples, follow each other without a gap; of them, one is held in memory.
    The samples of a step are cut into micro-batches one after the other, of which each process takes every
    `world_size`-th: what a step sees does not depend on the number of processes. Starting late costs one shuffle, not
    the steps before. Raises UsageError where the batch cannot be divided so.
    """
    size, batch_size = deal.size, deal.batch_size
    mine = range(deal.rank * size, batch_size, deal.world_size * size)
    shuffled = lru_cache(maxsize=1)(partial(shuffle, num_samples, deal.seed))

    def visits(start: int) -> list[tuple[int, int]]:
        places = (divmod(place, num_samples) for place in range(start, start + size))
        return [(epoch, int(shuffled(epoch)[place])) for epoch, place in places]

    return (visits(step * batch_size + first) for step in count(deal.first_step) for first in mine)


class BrokenSamples:
    """The samples of a split that turned out broken: each is named once, and at too many of them training stops."""

    def __init__(self, num_samples: int, limit: float, advice: str):
        """`limit` is the share of `num_samples` that may be broken; one always may. `advice` says what to do then.

        All never may, where their number is known, since the search for one that can be read would not end.
        """
        self.num_samples, self.limit, self.advice = num_samples, limit, advice
        self.most = num_samples - 1 if num_samples else math.inf
        self.reasons: dict[str, str] = {}  # by key

    @property
    def num_allowed(self) -> float:
        return min(max(int(self.limit * self.num_samples), 1), self.most)

    def add(self, reasons: dict[str, str]) -> None:
        """Count the broken samples and say why each is. Raises RestokError past the limit."""
        for key in reasons.keys() - self.reasons.keys():
            # from whichever process it is, unlike other notes: each meets samples of its own
            tell(f"left out: {reasons[key]}")
        self.reasons |= reasons
        if len(self.reasons) > self.num_allowed:
            keys = sorted(self.reasons)
            named = ", ".join(keys[:NAMED_KEYS]) + (", …" if len(keys) > NAMED_KEYS else "")
            raise RestokError(
                f"{len(keys)} samples cannot be decoded ({named}), more than the {self.num_allowed} that may be broken:"
                f" {self.advice}"
            )


def verify_advice(folder: Path) -> str:
    """Advice about a data set in `folder` with too many broken samples."""
    return f"`restok prepare verify {folder}` finds them all; prepare the data set again"


class Loaded(NamedTuple):
    """Delivery of a worker: a batch, and why the samples that others had to stand in for are broken, by key."""

    batch: Batch | None  # None where too many were
    broken: dict[str, str]
    beside: frozenset[str] = frozenset()  # extensions of images that streamed samples have beside their own


class Answers(Dataset):
    """Dataset for DataLoader: what `answer` makes of whatever a sampler gives.

    Errors come back as values: raised, they would bring a worker's traceback.
    """

    def __init__(self, answer: Callable[[Any], object]):
        self.answer = answer

    def __getitem__(self, item: object) -> object:
        try:
            return self.answer(item)
        except RestokError as error:
            return error


def load(dataset: Dataset, num_workers: int, sampler: Iterable | None = None) -> Iterator[Any]:
    """Iterate over `dataset`, in the sampler's order where it has none of its own: read by workers, or here if 0.

    On any way out the workers end, also those that wait for a disk or the net. Raises the errors that they hand over
    as values, RuntimeError where one was killed.
    """
    told, tell = multiprocessing.Pipe(duplex=False)
    with told, tell:
        items = None
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "This DataLoader will create")  # more than cores, as was asked for
                loader = DataLoader(
                    dataset,
                    sampler=sampler,
                    batch_size=None,
                    num_workers=num_workers,
                    multiprocessing_context=START_METHOD if num_workers else None,
                    collate_fn=pack if num_workers else lambda item: item,  # it would stack what is a batch already
                    worker_init_fn=partial(begin_worker, told),
                    generator=torch.Generator(),  # else it would draw from the global one, the caller's
                )
                items = iter(loader)
            for item in items:
                item = pickle.loads(item) if num_workers else item
                if isinstance(item, RestokError):
                    raise item
                yield item
        except (ConnectionError, EOFError) as error:  # a batch on its way from a worker that is gone
            raise RuntimeError(f"DataLoader worker is gone ({error})") from error  # as torch says it of all others
        finally:
            tell.send_bytes(b"leave")
            del items  # only now does DataLoader wait for its workers


class _Pickler(pickle.Pickler):
    """Tensors go as NumPy arrays, which are copied at the speed of memory."""

    def reducer_override(self, value: object) -> object:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, torch.Tensor) else NotImplemented


def pack(item: object) -> bytes:
    """In a worker: an item, pickled.

    DataLoader would have a thread put tensors into shared memory and offer them at a socket. Where that fails (a long
    TMPDIR, a small /dev/shm, too many open files) the thread drops the batch, and training waits for it for ever.
    """
    packed = io.BytesIO()
    _Pickler(packed, pickle.HIGHEST_PROTOCOL).dump(item)
    return packed.getvalue()


def begin_worker(told: Connection, _worker: int) -> None:
    """Set up a worker, which leaves when it is told to, or when the main process is gone.

    Ctrl-C, a hang-up and SIGTERM, which often go to all processes at once, are for the main process alone. It finishes
    its step, for which it may need more images, saves, and then tells its workers that there is no more to do.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_SECONDS))
    threading.Thread(target=_leave_when_told, args=(told,), daemon=True).start()


def _leave_when_told(told: Connection) -> None:
    """A thread, since the worker itself may wait for a disk or the net."""
    parent = multiprocessing.parent_process()
    wait([told, *([parent.sentinel] if parent else [])])
    for process in list(READERS):
        end_reader(process)
    os._exit(0)


def end_reader(process: Popen) -> None:
    """End a program, and those that it started where it leads a group of its own."""
    with suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
