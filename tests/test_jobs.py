"""Work on several processes: every result once, errors and deaths told, and nobody left behind."""

import gc
import multiprocessing
import os
import signal
from contextlib import closing

import pytest

from restok_cli.console import Progress
from restok_cli.data.jobs import run_jobs
from restok_cli.errors import RestokError


def square(task, advance):
    advance()
    return task * task, os.getpid()


def count_frozen(task, advance):
    return gc.get_freeze_count()


def fail_on_three(task, advance):
    if task == 3:
        raise RestokError("three is wrong")
    return task


def die_on_three(task, advance):
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def stop_the_caller(task, advance):
    if task == 1:  # by now all workers are forked: what is raised within a fork, Python only reports
        os.kill(os.getppid(), signal.SIGALRM)
    signal.pause()


def run(work, tasks, jobs):
    with Progress("test", len(tasks), "tasks") as progress, closing(run_jobs(work, tasks, jobs, progress)) as results:
        return dict(results), progress.count


@pytest.mark.parametrize("jobs", [1, 2, 20])
def test_every_task_gives_its_result_once(jobs):
    results, count = run(square, list(range(9)), jobs)
    assert count == 9 and {i: result for i, (result, _) in results.items()} == {i: i * i for i in range(9)}
    processes = {process for _, process in results.values()}
    assert (os.getpid() in processes) == (jobs == 1) and len(processes) <= jobs


def test_one_task_needs_no_other_process():
    assert run(square, [5], 4) == ({0: (25, os.getpid())}, 1)
    assert run(square, [], 4) == ({}, 0)


def test_what_was_there_is_not_looked_through_by_workers_and_still_collected_here():
    before = gc.get_freeze_count()
    results, _ = run(count_frozen, [1, 2], 2)
    assert min(results.values()) > len(gc.get_objects()) / 2
    assert gc.get_freeze_count() == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_a_task_is_raised_here_and_ends_the_workers(jobs):
    with pytest.raises(RestokError, match="three is wrong"):
        run(fail_on_three, list(range(6)), jobs)
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_killed_is_an_error_with_advice():
    with pytest.raises(RestokError, match=r"a worker process was killed.* fewer --jobs"):
        run(die_on_three, list(range(6)), 2)
    assert multiprocessing.active_children() == []


def test_workers_end_at_once_when_the_caller_stops():
    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(stop_the_caller, [1, 2, 3], 2)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert multiprocessing.active_children() == []
