from itertools import product

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from restok_cli.errors import RestokError
from restok_cli.metrics.formulas import kid
from restok_cli.metrics.formulas.kid import kernel_inception_distance


def draw_sets(n=90, m=70, dimensions=12):
    rng = torch.Generator().manual_seed(0)
    samples = torch.randn(n, dimensions, generator=rng, dtype=torch.float64)
    return samples, 0.8 * torch.randn(m, dimensions, generator=rng, dtype=torch.float64) + 0.5


@pytest.mark.parametrize("subset_size", [20, 1000], ids=["subsets", "more than there are"])
def test_distance_equals_torch_fidelitys(monkeypatch, subset_size):
    monkeypatch.setattr(kid, "SUBSET_SIZE", subset_size)
    samples, reference = draw_sets()
    theirs = kid_features_to_metric(samples, reference, kid_subset_size=min(subset_size, 70), verbose=False)
    expected = theirs["kernel_inception_distance_mean"]
    assert expected > 0.01
    assert kernel_inception_distance(samples, reference).value == pytest.approx(expected, rel=1e-9)


def test_distance_of_two_draws_from_one_distribution_is_about_zero():
    samples, _ = draw_sets(400)
    assert abs(kernel_inception_distance(samples[:200], samples[200:]).value) < 0.02


def test_single_picture_is_refused():
    samples, reference = draw_sets()
    with pytest.raises(RestokError, match="kid needs at least 2 images in each set, here are 1 and 70"):
        kernel_inception_distance(samples[:1], reference)


def test_moments_and_variances_are_right_on_average_over_all_sets_that_may_be_drawn():
    """Four images, or three, on a side, each one of two with equal chance."""
    rng = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 2, 3, generator=rng, dtype=torch.float64)
    kernels = aa, bb, ab = kid._kernel(a, a), kid._kernel(b, b), kid._kernel(a, b)
    threes, fours = ([torch.tensor(draw) for draw in product(range(2), repeat=n)] for n in (3, 4))
    found = [kid.moments(aa[i][:, i], bb[j][:, j], ab[i][:, j]) for i in fours for j in fours]
    squared_mmd, *parts = np.mean(found, 0)
    assert squared_mmd == pytest.approx((aa.mean() + bb.mean() - 2 * ab.mean()).item())
    firsts = aa.mean(1) - ab.mean(1), bb.mean(1) - ab.mean(0)
    rests = [kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean() for kernel in kernels]
    assert parts == pytest.approx([values.var(correction=0).item() for values in (*firsts, *rests)])

    def within(kernel):
        return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))

    of_all = [within(aa[i][:, i]) + within(bb[j][:, j]) - 2 * ab[i][:, j].mean() for i in fours for j in threes]
    assert kid.Moments(squared_mmd, *parts).variance(4, 3) == pytest.approx(np.var(of_all))
