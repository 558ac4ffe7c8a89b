"""MIND and CMMD, distances of features that fit no Gaussian, and the intervals of these and of density and coverage."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import t

from restok_cli.metrics.formulas import mind, neighbours
from restok_cli.metrics.formulas.cmmd import clip_mmd
from restok_cli.metrics.formulas.density import density_coverage
from restok_cli.metrics.formulas.mind import monge_inception_distance
from restok_cli.metrics.formulas.neighbours import draw_groups


def draw_sets(n=60, m=45, dimensions=6):
    rng = torch.Generator().manual_seed(0)
    samples = torch.randn(n, dimensions, generator=rng)
    return samples, 0.8 * torch.randn(m, dimensions, generator=rng) + 0.5


def naive_mind(a, b, projections=1000):
    """In the words of the paper, and by the seed and the order of draws of torch-fidelity."""
    rng = torch.Generator().manual_seed(2020)
    size = min(len(a), len(b))
    a, b = (x if len(x) == size else x[torch.randperm(len(x), generator=rng)[:size]] for x in (a, b))
    total = 0
    for direction in torch.randn(projections, a.shape[1], generator=rng).double():
        direction = direction / direction.square().sum().sqrt()
        lines = [sorted((row.double() * direction).sum().item() for row in x) for x in (a, b)]
        total += sum((x - y) ** 2 for x, y in zip(*lines, strict=True)) / size
    return 3 * a.shape[1] * total / projections


@pytest.mark.parametrize("sizes", [(30, 30), (40, 25), (25, 40)])
def test_mind_equals_a_naive_one(monkeypatch, sizes):
    monkeypatch.setattr(mind, "PROJECTIONS", 50)
    monkeypatch.setattr(mind, "DIRECTIONS", 7)
    monkeypatch.setattr(mind, "ROWS", 16)
    sets = draw_sets(*sizes)
    assert monge_inception_distance(*sets).value == pytest.approx(naive_mind(*sets, 50), rel=1e-9)


def test_mind_of_a_shift_is_three_times_its_square():
    """A shift t moves every projection by u.t, whose square is |t|^2 / D in the mean over directions."""
    samples, _ = draw_sets()
    shift = torch.tensor([3.0, 0, 0, 0, 4, 0])
    assert monge_inception_distance(samples, samples + shift).value == pytest.approx(3 * 25, rel=0.1)
    assert monge_inception_distance(samples, samples.flip(0)).value == 0


def naive_cmmd(a, b):
    """In the words of the paper: the kernel of every pair, and their means."""

    def mean(x, y):
        return sum(torch.exp(-((u - v) ** 2).sum() / 200).item() for u in x for v in y) / (len(x) * len(y))

    a, b = (F.normalize(x.double(), dim=1) for x in (a, b))
    return 1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))


@pytest.mark.parametrize("block", [7, 4096])
def test_cmmd_equals_a_naive_one_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    sets = draw_sets(30, 20)
    assert clip_mmd(*sets).value == pytest.approx(naive_cmmd(*sets), rel=1e-6)
    assert clip_mmd(sets[0], 3 * sets[0]).value == pytest.approx(0, abs=1e-9)  # the length of features does not matter


@pytest.mark.parametrize("distance", [monge_inception_distance, clip_mmd])
def test_interval_is_that_of_the_jackknife_over_groups_of_both_sets(monkeypatch, distance):
    monkeypatch.setattr(mind, "PROJECTIONS", 50)
    sets = draw_sets(45, 45)
    groups = draw_groups(sets[0])
    without = np.array([distance(*(features[groups != group] for features in sets)).value for group in range(20)])
    half = t.ppf(0.975, 19) * np.sqrt(19 / 20 * ((without - without.mean()) ** 2).sum())
    found = distance(*sets)
    assert found.interval == pytest.approx((found.value - half, found.value + half), rel=1e-6)
    assert distance(sets[0][:20], sets[1]).interval is None  # too few to say


def test_intervals_of_density_and_coverage_cover_their_expectation():
    """Those of coverage more often than 95 %: a jackknife sees its nearest samples jump."""
    rng = torch.Generator().manual_seed(0)
    sets = [(torch.randn(80, 2, generator=rng), 1.5 * torch.randn(100, 2, generator=rng)) for _ in range(40)]
    found = [density_coverage(*one) for one in sets]
    for name in ("density", "coverage"):
        estimates = [getattr(one, name) for one in found]
        mean = np.mean([estimate.value for estimate in estimates])
        covered = [estimate.interval[0] <= mean <= estimate.interval[1] for estimate in estimates]
        assert np.mean(covered) >= 0.9, name
        widths = [estimate.interval[1] - estimate.interval[0] for estimate in estimates]
        assert np.mean(widths) < 10 * np.std([estimate.value for estimate in estimates])
