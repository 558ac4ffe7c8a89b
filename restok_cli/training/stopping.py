"""Signals while a model trains: they end the step at hand, or the wait for data that do not come."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from restok_cli.errors import Interrupted
from restok_cli.processes import world_size

Item = TypeVar("Item")
Arriving = Callable[[Iterator[Item]], Iterator[Item]]  # `Stop.arriving`

# for which a run that was told to stop waits for data: alone, it can then save all the same. `docker stop` kills after
# 10 seconds, SLURM after 30
STALL_SECONDS, STALL_SECONDS_OF_SEVERAL = 3, 20
TICK_SECONDS = 0.5


class Stalled(BaseException):
    """The data did not come. No Exception: the libraries that wait for them must not take it for an error of theirs."""


class Stop:
    """Whether the run was told to stop, and by what signal."""

    def __init__(self) -> None:
        self.number = 0  # of the first signal
        self.told_at = 0.0
        self.waits_since: float | None = None  # while it waits for data

    def receive(self, number: int, _frame: object) -> None:
        if self.number and number == signal.SIGINT:
            raise Interrupted(number, "stopped at once; what the last checkpoint holds is kept")
        if not self.number:
            self.number, self.told_at = number, time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)

    def tick(self, _number: int, _frame: object) -> None:
        """From time to time once it was told to: stop waiting, in the middle of a read or wherever that is."""
        patience = STALL_SECONDS if world_size() == 1 else STALL_SECONDS_OF_SEVERAL
        if self.waits_since is not None and time.monotonic() - max(self.waits_since, self.told_at) > patience:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Stalled

    def arriving(self, batches: Iterator[Item]) -> Iterator[Item]:
        """The batches. The wait for one raises Stalled where the run was told to stop and it does not come."""
        while True:
            self.waits_since = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.waits_since = None
            yield batch

    @contextmanager
    def saving(self, step: int, save: Callable[[int], None] | None, folder: Path) -> Iterator[None]:
        """Where the data stall in the block, save what was done up to `step`, unless `save` is None, and interrupt.

        Several processes cannot: the others wait in the middle of a step for this one.
        """
        try:
            yield
        except Stalled:
            if world_size() > 1:
                what = "stopped while it waited for data; what the last checkpoint holds is kept"
                raise Interrupted(self.number, what) from None
            if save is not None:
                save(step)
            raise interrupted(self.number, step, folder) from None


def interrupted(signal_number: int, step: int, folder: Path) -> Interrupted:
    """The exception that a loop raises once it has saved."""
    return Interrupted(
        signal_number, f"interrupted after step {step}; the same command with --resume goes on in {folder}"
    )


def stopped(step: int, max_steps: int, folder: Path) -> str:
    """A line for a run that ends at --stop-at."""
    return (
        f"stopped after step {step} of {max_steps}; the same command with --resume, and without --stop-at or with a"
        f" later one, goes on in {folder}"
    )


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Inside the block, Ctrl-C, SIGTERM and a hang-up are but noted: a step that has its data is never cut in half.

    Another Ctrl-C stops at once: it raises Interrupted wherever the program is. Another SIGTERM does not: where SLURM
    or `timeout` sends one to every process, those that torchrun started get a second one from it.
    """
    stop = Stop()
    heard = {signal.SIGINT: stop.receive, signal.SIGTERM: stop.receive, signal.SIGALRM: stop.tick}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # `nohup restok …` goes on after a hang-up
        heard[signal.SIGHUP] = stop.receive
    before = {number: signal.signal(number, handler) for number, handler in heard.items()}
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
