"""Independent pieces of work on several processes."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing.connection import wait as wait_for
from multiprocessing.sharedctypes import Synchronized
from typing import TypeVar

from restok_cli.console import Progress
from restok_cli.errors import RestokError

Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Task, Callable[[], None]], Result]

POLL_SECONDS = 0.5  # between two looks at how far the workers are

_done: Synchronized  # in a worker: how many units all workers have done


def run_jobs(
    work: Work[Task, Result], tasks: Sequence[Task], jobs: int, progress: Progress
) -> Generator[tuple[int, Result], None, None]:
    """Yield (number of the task, its result) as they get done, by `jobs` processes or, where one is enough, right here.

    `work(task, advance)` calls `advance()` after each unit that `progress` counts. It is a function of a module, or a
    partial of one, so that it can be sent to a process. Its errors are raised here. Close the generator on any way out
    (`contextlib.closing`), which ends the workers; they also end when this process is killed.
    """
    if min(jobs, len(tasks)) <= 1:
        for i, task in enumerate(tasks):
            yield i, work(task, progress.advance)
        return
    # Forked workers need not import torch again; elsewhere than on Linux forking is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    done = context.Value("q", 0)
    executor = ProcessPoolExecutor(min(jobs, len(tasks)), context, _begin, (done,))
    try:
        numbers = {executor.submit(work, task, _advance): i for i, task in enumerate(tasks)}
        pending, shown = set(numbers), 0
        while pending:
            finished, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            so_far = done.get_obj().value  # without the lock, which a worker may have held when it was killed
            progress.advance(so_far - shown)
            shown = so_far
            for future in finished:
                yield numbers[future], future.result()
    except BrokenProcessPool as error:
        raise RestokError("a worker process was killed, as happens where memory runs out; try fewer --jobs") from error
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def run_all(work: Work[Task, Result], tasks: Sequence[Task], jobs: int, description: str, unit: str) -> list[Result]:
    """The results of all tasks, in their order, with a progress bar of its own."""
    with Progress(description, len(tasks), unit) as progress, closing(run_jobs(work, tasks, jobs, progress)) as results:
        finished = dict(results)
    return [finished[i] for i in range(len(tasks))]


def _begin(done: Synchronized) -> None:
    """Set up a worker. Ctrl-C and hang-ups are for the main process, which then ends its workers."""
    global _done
    _done = done
    gc.freeze()  # or else the collector would look through all that the main process had, and so have it copied
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this worker when the main process is gone, also where it was killed and could not say so."""
    if parent := multiprocessing.parent_process():
        wait_for([parent.sentinel])
    os._exit(1)


def _advance() -> None:
    with _done.get_lock():
        _done.value += 1
