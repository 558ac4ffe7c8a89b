import math
from collections import Counter

import numpy as np
import pytest

from restok_cli.errors import RestokError
from restok_cli.evaluation.code_metrics import codebook_numbers
from restok_cli.metrics.formulas.codebook import count_codes, use_of_counts


def codebook_use(codes, codebook_size):
    return use_of_counts(count_codes(codes.reshape(1, -1), codebook_size, (codes.size,))[0])


def naive_use(codes, codebook_size):
    counts = Counter(codes)
    entropy = -sum(count / len(codes) * math.log2(count / len(codes)) for count in counts.values())
    return 100 * len(counts) / codebook_size, entropy, 2**entropy


@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_use_equals_naive_counts(dtype):
    codes = np.random.default_rng(0).integers(0, 40, (20, 8)).astype(dtype)
    assert codebook_use(codes, 64) == pytest.approx(naive_use(codes.flatten().tolist(), 64))


def test_use_by_level_is_the_use_of_its_columns():
    codes = np.random.default_rng(0).integers(0, 64, (20, 8))
    levels = [use_of_counts(counts) for counts in count_codes(codes, 64, (1, 1, 2, 4))]
    columns = [codes[:, :1], codes[:, 1:2], codes[:, 2:4], codes[:, 4:]]
    for level, part in zip(levels, columns, strict=True):
        assert level == pytest.approx(naive_use(part.flatten().tolist(), 64))


def test_evenly_used_codebook_has_the_greatest_entropy():
    assert codebook_use(np.arange(8192).reshape(64, 128), 8192) == pytest.approx((100, 13, 8192))


def test_single_code_has_no_entropy():
    use = codebook_use(np.zeros((5, 4), np.int64), 16)
    assert use == (6.25, 0, 1)
    assert math.copysign(1, use.entropy) == 1  # -0.0 would look odd in a table


@pytest.mark.parametrize("code", [-1, 16])
def test_code_outside_the_codebook_is_refused(code):
    with pytest.raises(RestokError, match="outside a codebook of 16"):
        codebook_use(np.array([[3, code]]), 16)


def test_no_codes_are_refused():
    with pytest.raises(RestokError, match="no codes"):
        codebook_numbers(np.zeros((1, 16), np.int64), (8,))


def test_levels_that_do_not_add_up_are_refused():
    with pytest.raises(RestokError, match=r"expected \(n, 4\)"):
        count_codes(np.zeros((5, 8), np.int64), 16, (1, 1, 2))
