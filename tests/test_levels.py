"""The hierarchy, against the numbers of the paper and of docs/algorithm.md."""

import pytest

from restok_cli.model.levels import (
    is_power_of_two,
    level_grid,
    level_sizes,
    merging_blocks,
    prefix_lengths,
    stage_sizes,
    step_lengths,
    step_sizes,
)


def test_levels_of_128_tokens():
    assert prefix_lengths(128) == (1, 2, 4, 8, 16, 32, 64, 128)
    assert level_sizes(128) == (1, 1, 2, 4, 8, 16, 32, 64)


@pytest.mark.parametrize("length", [16, 32, 64, 128, 256, 512, 1024])
def test_levels_add_up_to_the_prefix_lengths(length):
    sizes = level_sizes(length)
    assert [sum(sizes[: k + 1]) for k in range(len(sizes))] == list(prefix_lengths(length))
    assert all(rows * columns == size for size in sizes for rows, columns in [level_grid(size)])


def test_width_of_a_level_grid_doubles_first():
    grids = [level_grid(size) for size in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
    assert grids == [(1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)]


def test_stages_of_the_paper():
    assert stage_sizes(256, 4, 2) == (256, 128, 64, 32)
    assert merging_blocks(24, 4) == (5, 11, 17)
    assert merging_blocks(6, 4) == (0, 2, 3)
    assert merging_blocks(6, 1) == ()


def test_har_takes_nine_steps_for_128_codes_and_plain_ar_128():
    assert step_sizes(128, 4) == (1, 1, 1, 1, 4, 8, 16, 32, 64)
    assert step_lengths(128, 4) == (1, 2, 3, 4, 8, 16, 32, 64, 128)
    assert step_sizes(128, 1) == (1, 1, 2, 4, 8, 16, 32, 64)
    assert step_sizes(128, 128) == (1,) * 128


def test_powers_of_two():
    assert [n for n in range(-2, 20) if is_power_of_two(n)] == [1, 2, 4, 8, 16]
