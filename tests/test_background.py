"""Work beside a GPU's."""

import threading

import pytest
import torch

from restok_cli.inference.background import MOST_BEHIND, in_background

CPU, GPU = torch.device("cpu"), torch.device("cuda")  # of which no more than the name is used


@pytest.mark.parametrize("device", [CPU, GPU])
def test_results_come_in_order(device):
    assert list(in_background(lambda item: item**2, range(10), device)) == [item**2 for item in range(10)]
    assert list(in_background(str, [], device)) == []


def test_of_a_pipe_each_result_comes_before_the_next_item():
    wanted = []
    for result in in_background(str, iter(lambda: wanted.append(1) or len(wanted), 4), GPU, at_once=True):
        assert result == str(len(wanted))
    assert len(wanted) == 4


def test_a_cpu_works_where_it_computes_and_a_gpu_goes_on_meanwhile():
    threads, made = [], []

    def items(count):
        for item in range(count):
            made.append(item)
            yield item

    def work(item):
        threads.append(threading.current_thread())
        if item == 0:
            assert may_end.wait(10)
        return item

    may_end = threading.Event()
    may_end.set()
    assert next(in_background(work, items(3), CPU)) == 0
    assert threads == [threading.current_thread()] and made == [0]
    threads.clear()
    made.clear()
    may_end.clear()
    results = in_background(work, items(9), GPU)
    threading.Timer(0.2, may_end.set).start()
    assert next(results) == 0  # while it was worked on, others were made
    assert made == list(range(MOST_BEHIND + 1))
    results.close()
    assert len(set(threads)) == 1 and threads[0] is not threading.current_thread() and not threads[0].is_alive()


def test_what_goes_wrong_is_raised_and_nothing_follows():
    done = []

    def work(item):
        if item == 1:
            raise OSError("no space left")
        done.append(item)

    with pytest.raises(OSError, match="no space"):
        list(in_background(work, range(100), GPU))
    assert len(done) <= 1 + MOST_BEHIND
