"""Intervals of numbers: equal to naive formulas, and 92 to 98 % of them cover over hundreds of redrawn sets."""

from statistics import fmean

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from restok_cli.errors import RestokError
from restok_cli.metrics.formulas import kid, neighbours
from restok_cli.metrics.formulas.frechet import GaussianStatistics, frechet_distance
from restok_cli.metrics.formulas.frechet_intervals import Cloud, FrechetDistance, influences
from restok_cli.metrics.formulas.inception_score import inception_score
from restok_cli.metrics.formulas.kid import kernel_inception_distance
from restok_cli.metrics.formulas.neighbours import precision_recall
from restok_cli.metrics.intervals import (
    FEWEST,
    Estimate,
    Influences,
    around,
    around_share,
    difference_interval,
    mean_interval,
    variance,
)
from restok_cli.metrics.kept import KeptRows

TRIALS = 400


def cloud(rows, exact=False):
    rows = torch.as_tensor(rows)
    statistics = GaussianStatistics(rows.shape[1])
    statistics.add(rows)
    return Cloud(statistics.gaussian(), None if exact else rows, np.arange(0 if exact else len(rows)))


def weighted_gaussian(rows, weights):
    """Mean and covariance, biased, where each row counts as often as its weight says."""
    mean = weights @ rows / weights.sum()
    deviations = rows - mean
    return mean, deviations.T @ (deviations * weights[:, None]) / weights.sum()


def naive_distance(a, b):
    return ((a[0] - b[0]) ** 2).sum() + np.trace(a[1] + b[1] - 2 * sqrtm(a[1] @ b[1]).real)


def share_covered(estimates, truth):
    intervals = np.array([estimate.interval for estimate in estimates])
    return np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))


def assert_covered(estimates, truth=None):
    """Of a truth that is not known, the mean over the trials takes the place."""
    truth = fmean(estimate.value for estimate in estimates) if truth is None else truth
    assert 0.92 <= share_covered(estimates, truth) <= 0.98, share_covered(estimates, truth)


class Gaussians:
    """Two normal distributions with a known distance, of which pairs may be drawn."""

    def __init__(self, dimensions, shift=0.3, ratio=1.3):
        self.scales = np.arange(1, dimensions + 1.0) ** -0.5
        self.shift, self.ratio = shift * self.scales, ratio
        self.distance = (self.shift**2).sum() + ((self.scales * (ratio - 1)) ** 2).sum()

    def draw(self, rng, n, m, correlation=0.0):
        noise = rng.standard_normal((n, len(self.scales)))
        other = rng.standard_normal((m, len(self.scales)))
        if correlation:
            other = correlation * noise + (1 - correlation**2) ** 0.5 * other
        return self.shift + self.ratio * self.scales * noise, self.scales * other

    def exact(self):
        size = len(self.scales)
        gaussian = cloud(np.eye(size)).gaussian._replace(
            mu=torch.zeros(size).double(), sigma=torch.from_numpy(np.diag(self.scales**2))
        )
        return Cloud(gaussian, None, np.empty(0, int))


@pytest.mark.parametrize(("n", "dimensions"), [(60, 5), (6, 9)], ids=["full rank", "fewer images than features"])
def test_influence_is_the_change_of_the_distance_with_an_images_weight(n, dimensions):
    rng = np.random.default_rng(1)
    rows, others = rng.standard_normal((n, dimensions)), 1.5 * rng.standard_normal((40, dimensions)) + 0.5
    found = influences(torch.from_numpy(rows), cloud(rows).gaussian, cloud(others).gaussian)
    other = others.mean(0), np.cov(others, rowvar=False)
    step, changes = 1e-4, []
    for image in range(n):
        distances = []
        for change in (step, -step):
            weights = np.ones(n)
            weights[image] += change
            mean, covariance = weighted_gaussian(rows, weights)
            distances.append(naive_distance((mean, covariance * n / (n - 1)), other))
        changes.append(n * (distances[0] - distances[1]) / (2 * step))
    assert found - found.mean() == pytest.approx(np.array(changes), rel=1e-3, abs=1e-3)


def test_infinite_distance_lies_on_the_line_through_the_set_and_its_halves():
    rng = np.random.default_rng(2)
    rows, others = Gaussians(4).draw(rng, 101, 101)
    ours, theirs = cloud(rows), cloud(others)
    places = np.random.RandomState(2020).permutation(101)
    halves = [np.sort(np.argsort(places)[part]) for part in (slice(0, 51), slice(51, 101))]
    distances = [frechet_distance(cloud(rows[half]).gaussian, cloud(others[half]).gaussian) for half in halves]
    distance = FrechetDistance(ours, theirs, paired=False)
    plain, infinite = distance.estimate(), distance.infinite()
    assert plain.value == frechet_distance(ours.gaussian, theirs.gaussian)
    assert infinite.value == pytest.approx(2 * plain.value - fmean(distances), rel=1e-12)


def test_infinite_distance_needs_halves_that_span_the_space():
    rows, others = Gaussians(20).draw(np.random.default_rng(0), 59, 70)
    with pytest.raises(RestokError, match=r"fid-inf needs at least 60 images in each set with 20 features .*are 59"):
        FrechetDistance(cloud(rows), cloud(others), paired=False).infinite()


def test_interval_of_infinite_distance_takes_in_what_the_line_misses():
    """With hardly more images than features the bias bends: the interval says so, where the noise alone would not."""
    rng, gaussians = np.random.default_rng(3), Gaussians(40, shift=0.1, ratio=1.1)
    found = [
        FrechetDistance(cloud(gaussians.draw(rng, 130, 1)[0]), gaussians.exact(), False).infinite() for _ in range(100)
    ]
    assert share_covered(found, gaussians.distance) >= 0.92


def test_partners_that_move_together_make_the_variance_less():
    rng = np.random.default_rng(4)
    values = rng.standard_normal(50)
    ours = Influences(values, np.arange(50))
    theirs = Influences(-values[10:], np.arange(10, 50))  # the first ten could not be read
    apart = variance(ours) + variance(theirs)
    assert variance(ours, theirs) == pytest.approx(apart)
    a, b = (values - values.mean()) / 50, -(values[10:] - values[10:].mean()) / 40
    assert variance(ours, theirs, paired=True) == pytest.approx(apart + 2 * (a[10:] * b).sum())
    assert variance(ours) == pytest.approx(values.var(ddof=1) / 50)


def test_too_few_images_have_no_interval():
    assert around(1.0, 0.1, FEWEST - 1) == Estimate(1.0)
    assert around(1.0, 0.25, FEWEST).interval == pytest.approx((1 - 1.96 / 2, 1 + 1.96 / 2), abs=1e-4)
    rows, others = Gaussians(4).draw(np.random.default_rng(0), FEWEST - 1, 100)
    assert FrechetDistance(cloud(rows), cloud(others), False).infinite().interval is None
    assert kernel_inception_distance(torch.from_numpy(rows), torch.from_numpy(others)).interval is None
    assert precision_recall(torch.from_numpy(rows), torch.from_numpy(others)).recall.interval is None


def test_share_of_none_or_all_has_no_interval_and_others_stay_within_0_and_1():
    assert around_share(0.0, 0.0, 100).interval is around_share(1.0, 0.0, 100).interval is None
    low, high = around_share(0.99, 0.02**2, 100).interval
    assert 0 < low < 0.99 < high < 1


def test_each_group_of_balls_is_left_out_as_if_it_had_never_been_there(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 16)
    rng = torch.Generator().manual_seed(0)
    points, balls = (torch.randn(size, 3, generator=rng) for size in (50, 45))
    radii = neighbours.squared_radii(balls, 3)
    found, _ = neighbours._inside(points, balls, neighbours.squared_radii(points, 3), radii)
    groups = torch.from_numpy(np.random.RandomState(2020).permutation(45) % 20)
    for group in range(21):
        kept = balls[groups != group].double()
        nearest = torch.cdist(kept, kept).topk(4, largest=False).values[:, 3]
        assert torch.equal(found[:, group], (torch.cdist(points.double(), kept) <= nearest + 1e-9).any(1))


def test_interval_of_an_inception_score_is_by_the_divergences_of_its_splits(monkeypatch):
    monkeypatch.setattr("restok_cli.metrics.formulas.inception_score.SPLIT_SIZE", 40)
    logits = 2 * torch.randn(100, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    found, squares = inception_score(logits, torch.clone), 0.0
    for split in logits.split(40):
        p = split.softmax(1)
        divergences = (p * (p / p.mean(0)).log()).sum(1)
        squares += divergences.mean().exp().item() ** 2 * divergences.var().item() / len(split) / 9
    half = 1.959964 * squares**0.5
    assert found.interval == pytest.approx((found.value - half, found.value + half))


@pytest.mark.parametrize("largest", [0, 10**9], ids=["on the disk", "in memory"])
def test_rows_are_kept_in_order_and_leave_nothing_behind(tmp_path, monkeypatch, largest):
    monkeypatch.setattr("restok_cli.metrics.kept.LARGEST_IN_MEMORY", largest)
    rows = torch.randn(10, 3)
    kept = KeptRows(3, tmp_path / "cache")
    for part in rows.split(4):
        kept.add(part)
    assert torch.equal(kept.rows(), rows)
    kept.add(rows[:1])  # and it goes on
    assert torch.equal(kept.rows(), torch.cat([rows, rows[:1]]))
    assert list(tmp_path.glob("cache/*")) == []


def test_rows_go_elsewhere_where_the_cache_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr("restok_cli.metrics.kept.LARGEST_IN_MEMORY", 0)
    (tmp_path / "file").write_text("")
    kept = KeptRows(2, tmp_path / "file" / "cache")
    kept.add(torch.ones(3, 2))
    assert torch.equal(kept.rows(), torch.ones(3, 2))


def test_interval_of_infinite_distance_of_nearly_equal_pairs_is_as_narrow_as_they_vary():
    """What the line may miss is told by its slope, which pairs have hardly any of."""
    rng, gaussians = np.random.default_rng(5), Gaussians(32, shift=0.0, ratio=1.0)  # at a distance of 0
    sets = [map(cloud, gaussians.draw(rng, 250, 250, correlation=0.99)) for _ in range(40)]
    found = [FrechetDistance(*two, paired=True).infinite() for two in sets]
    width = fmean(high - low for low, high in (each.interval for each in found))
    assert 1 < width / (2 * 1.96 * np.std([each.value for each in found])) < 1.6  # it was 38, by the size of the sets
    assert share_covered(found, gaussians.distance) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [1.0, 1.3], ids=["near", "far"])
@pytest.mark.parametrize("m", [None, 250, "pairs"], ids=["statistics", "images", "pairs"])
def test_intervals_of_frechet_distances_cover(m, ratio):
    rng, gaussians = np.random.default_rng(10), Gaussians(8, ratio=ratio)
    found = []
    for _ in range(TRIALS):
        rows, others = gaussians.draw(rng, 250, 250, correlation=0.7 if m == "pairs" else 0.0)
        theirs = cloud(others) if m else gaussians.exact()
        distance = FrechetDistance(cloud(rows), theirs, m == "pairs")
        found.append((distance.estimate(), distance.infinite()))
    assert_covered([plain for plain, _ in found])
    assert_covered([infinite for _, infinite in found], gaussians.distance)


def test_given_a_reference_of_images_the_interval_is_as_if_it_were_exact():
    rows, others = Gaussians(4).draw(np.random.default_rng(6), 60, 50)
    found = FrechetDistance(cloud(rows), cloud(others), False)
    exact = FrechetDistance(cloud(rows), cloud(others, exact=True), False)
    assert found.estimate().given_reference == pytest.approx(exact.estimate().interval)
    assert exact.estimate().given_reference is None  # it is the interval itself
    low, high = found.infinite().given_reference
    assert found.infinite().interval[0] < low < found.infinite().value < high < found.infinite().interval[1]
    assert FrechetDistance(cloud(rows[:50]), cloud(others), paired=True).estimate().given_reference is None


@pytest.mark.slow
@pytest.mark.parametrize("shift", [1.1, -1.0], ids=["alike", "on the other side"])
def test_intervals_of_differences_from_one_reference_cover(shift):
    """Of two models. With the reference in each, as of independent numbers, they covered 100 and 86 %."""
    rng = np.random.default_rng(14)
    reference, found = cloud(rng.standard_normal((250, 8))), []
    for _ in range(200):
        sets = [cloud(rng.standard_normal((1000, 8)) + mean / 8**0.5) for mean in (1.0, shift)]
        a, b = (FrechetDistance(rows, reference, False).estimate() for rows in sets)
        interval = difference_interval(a.value, a.given_reference, b.value, b.given_reference)
        found.append(Estimate(b.value - a.value, interval))
    assert_covered(found)


@pytest.mark.slow
@pytest.mark.parametrize("subset", [60, 1000], ids=["subsets", "all"])
def test_intervals_of_kid_cover(monkeypatch, subset):
    """Images are drawn from two small populations, so that their distance is known."""
    monkeypatch.setattr(kid, "SUBSET_SIZE", subset)
    monkeypatch.setattr(kid, "SUBSETS", 20 if subset == 60 else 2)
    rng = torch.Generator().manual_seed(11)
    rows, others = torch.randn(2, 2000, 16, generator=rng, dtype=torch.float64) + torch.tensor([[[0.3]], [[0.0]]])
    truth = sum(kid._kernel(a, a).mean() for a in (rows, others)) - 2 * kid._kernel(rows, others).mean()

    def draw(population, size):
        return population[torch.randint(2000, (size,), generator=rng)]

    assert_covered([kernel_inception_distance(draw(rows, 400), draw(others, 300)) for _ in range(TRIALS)], truth.item())


@pytest.mark.slow
def test_intervals_of_precision_and_recall_cover():
    rng, gaussians = np.random.default_rng(12), Gaussians(5, shift=0.6, ratio=0.9)
    found = [precision_recall(*map(torch.from_numpy, gaussians.draw(rng, 200, 150))) for _ in range(TRIALS)]
    assert_covered([each.precision for each in found])
    assert_covered([each.recall for each in found])


@pytest.mark.slow
def test_intervals_of_inception_scores_and_of_means_cover():
    rng = torch.Generator().manual_seed(13)
    scores, means = [], []
    for _ in range(TRIALS):
        scores.append(inception_score(2 * torch.randn(300, 10, generator=rng), torch.clone))
        values = torch.empty(200).exponential_(generator=rng).tolist()
        means.append(mean_interval(values))
    assert_covered(scores)
    assert np.mean([low <= 1 <= high for low, high in means]) == pytest.approx(0.95, abs=0.03)
