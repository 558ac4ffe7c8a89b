"""Means, differences and their intervals, held against SciPy's tests of means and against what they promise."""

import numpy as np
import pytest
from scipy import stats

from restok_cli.metrics.intervals import difference_interval, mean_interval, paired_interval, welch_interval

A, B = [2.0, 2.5, 1.75, 2.25], [2.75, 4.0, 3.5, 1.0]


def test_intervals_of_means_are_those_of_students_and_welchs_tests():
    assert mean_interval(A) == pytest.approx(stats.ttest_1samp(A, 0).confidence_interval())
    assert mean_interval([1.0, 2.0]) == pytest.approx((1.5 - 12.706 / 2, 1.5 + 12.706 / 2), abs=1e-3)
    assert paired_interval(A, B) == pytest.approx(stats.ttest_rel(B, A).confidence_interval())
    assert welch_interval(A, B[:3]) == pytest.approx(stats.ttest_ind(B[:3], A, equal_var=False).confidence_interval())


def test_what_does_not_scatter_is_known_exactly():
    assert mean_interval([3.0, 3.0]) == (3.0, 3.0)
    assert welch_interval([3.0, 3.0], [5.0, 5.0, 5.0]) == (2.0, 2.0)
    assert welch_interval([0.0, 1e-100], [0.0, 1e-100]) == pytest.approx((-3.04e-100, 3.04e-100), rel=0.01)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 5), (1, 4), (4, 1)])
def test_differences_of_runs_are_covered_as_often_as_promised(sizes):
    """Also where one side is a single run, which scatters as the others do."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        a, b = (rng.normal(mean, 1, size).tolist() for mean, size in zip((5, 7), sizes, strict=True))
        low, high = welch_interval(a, b)
        covered += low <= 2 <= high
    assert 0.94 <= covered / 2000 <= 0.985  # Welch's errs on the safe side for few


def test_differences_of_numbers_with_intervals_use_the_sides_that_face_each_other():
    assert difference_interval(10, (7, 14), 20, (17, 26)) == pytest.approx((10 - 5, 10 + np.hypot(6, 3)))
    assert difference_interval(1, (1, 1), 3, (2, 3)) == (1, 2)
    assert difference_interval(1, (1.5, 2), 3, (3, 3)) == (1, 2)  # a number outside its own interval
