import multiprocessing
from itertools import chain, islice

import numpy as np
import pytest

from restok_cli.data.loading.batching import Answers, Deal, load, micro_batches, shuffle

PICTURES = 10


def visits(batch_size, steps, **options):
    return list(islice(micro_batches(PICTURES, Deal(batch_size, 0, **options)), steps))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 23])
def test_every_sample_comes_exactly_once_an_epoch_whatever_the_batch(batch_size):
    batches = visits(batch_size, -(-3 * PICTURES // batch_size))
    assert all(len(batch) == batch_size for batch in batches)
    pairs = [pair for batch in batches for pair in batch]
    epochs = [pairs[i : i + PICTURES] for i in range(0, 3 * PICTURES, PICTURES)]
    for number, epoch in enumerate(epochs):
        assert sorted(epoch) == [(number, i) for i in range(PICTURES)]
    assert epochs[0] != [(0, i) for _, i in epochs[1]]


@pytest.mark.parametrize("first_step", [1, 4, 1000])
def test_starting_late_equals_skipping_steps(first_step):
    assert visits(4, 3, first_step=first_step) == visits(4, first_step + 3)[first_step:]


def test_micro_batches_of_all_processes_make_up_the_step():
    one = visits(12, 4)
    two = [visits(12, 8, micro_batch_size=3, rank=rank, world_size=2) for rank in range(2)]
    for step, batch in enumerate(one):
        parts = two[0][2 * step], two[1][2 * step], two[0][2 * step + 1], two[1][2 * step + 1]
        assert [*chain(*parts)] == batch


def test_a_late_epoch_costs_one_shuffle(monkeypatch):
    shuffled = []
    monkeypatch.setattr(
        "restok_cli.data.loading.batching.shuffle", lambda n, seed, epoch: shuffled.append(epoch) or np.arange(n)
    )
    batches = micro_batches(PICTURES, Deal(4, seed=0, first_step=10**15 // 4))
    assert next(batches) == [(10**14, i) for i in (0, 1, 2, 3)]
    assert next(batches) == [(10**14, i) for i in (4, 5, 6, 7)]
    assert next(batches) == [(10**14, 8), (10**14, 9), (10**14 + 1, 0), (10**14 + 1, 1)]
    assert shuffled == [10**14, 10**14 + 1]


def test_the_order_is_a_fair_shuffle():
    first = [shuffle(5, seed, 0)[0] for seed in range(2000)]
    assert all(320 < count < 480 for count in np.bincount(first))


def test_the_order_never_changes_with_versions():
    assert shuffle(10, 1, 0).tolist() == [3, 5, 2, 9, 7, 0, 8, 6, 1, 4]


def test_workers_are_forked_also_where_python_would_start_them_anew():
    """As Python 3.14 does by itself: such workers would import torch again, and get only what can be pickled."""
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        assert list(load(Answers(lambda item: item + 1), 1, [1, 2])) == [2, 3]
    finally:
        multiprocessing.set_start_method(None, force=True)
