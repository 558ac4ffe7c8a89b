"""The search behind `restok tune`: a planted best is found, and nothing is drawn twice."""

import random

import numpy as np
import pytest
import torch

from restok_cli.errors import UsageError
from restok_cli.inference import tune
from restok_cli.inference.sampling_options import sampling_options
from restok_cli.inference.tune_search import (
    DEFAULT_SPACE,
    Grid,
    canonical,
    conclude,
    guidance_strength,
    options_text,
    rung_counts,
    search,
)
from restok_cli.metrics.formulas.frechet import Gaussian, GaussianStatistics, frechet_distance
from restok_cli.metrics.formulas.frechet_intervals import influences
from restok_cli.metrics.networks.backbones import open_network
from restok_cli.metrics.numbers import Compared, Sums, numbers
from restok_cli.model.guidance import SamplingOptions

NONE = SamplingOptions()
PLANTED = SamplingOptions(2.0, "step", 0.5, temperature=0.75, top_p=0.95)


class Noisy:
    """A metric whose true value is known, the mean of a noisy number for each image, which is drawn once and kept."""

    def __init__(self, seed: int, stop_after: float = float("inf")):
        self.seed, self.stop_after = seed, stop_after
        self.kept: dict[tuple[SamplingOptions, int], float] = {}
        self.num_drawn = 0

    def truth(self, options: SamplingOptions) -> float:
        """Distance of PLANTED, a tenth for each value away from it."""
        grid = {name: sorted(values, key=str) for name, values in DEFAULT_SPACE.items()}
        pairs = ((name, getattr(options, name), getattr(PLANTED, name)) for name in grid)
        return 1 + 0.1 * sum(abs(grid[name].index(a) - grid[name].index(b)) for name, a, b in pairs)

    def __call__(self, candidates: list[SamplingOptions], count: int) -> list[float]:
        return [sum(self.image(options, i) for i in range(count)) / count for options in candidates]

    def image(self, options: SamplingOptions, index: int) -> float:
        if (options, index) not in self.kept:
            if self.num_drawn >= self.stop_after:
                raise KeyboardInterrupt
            self.num_drawn += 1
            noise = random.Random(f"{self.seed} {options} {index}").gauss(0, 0.3)
            self.kept[options, index] = self.truth(options) + noise
        return self.kept[options, index]


def test_a_planted_best_is_found_for_a_fraction_of_all_images():
    candidates, counts = Grid(DEFAULT_SPACE, NONE).candidates, rung_counts(16, 250, 1)
    assert PLANTED in candidates and len(candidates) > 200
    for seed in range(3):
        noisy = Noisy(seed)
        rungs = search(candidates, counts, noisy)
        assert rungs[-1].best() == [PLANTED]
        assert noisy.num_drawn < 0.2 * len(candidates) * counts[-1]


def test_a_stopped_search_goes_on_to_the_same_end_and_draws_nothing_twice():
    candidates, counts = Grid(DEFAULT_SPACE, NONE).candidates[::4], [4, 12, 36]
    whole = Noisy(0)
    expected = search(candidates, counts, whole)
    for stop_after in range(1, whole.num_drawn, 97):
        noisy = Noisy(0, stop_after)
        with pytest.raises(KeyboardInterrupt):
            search(candidates, counts, noisy)
        noisy.stop_after = float("inf")
        assert search(candidates, counts, noisy) == expected
        assert noisy.num_drawn == whole.num_drawn


def test_a_third_goes_on_and_never_fewer_than_three():
    rungs = search(Grid({"top_k": list(range(20))}, NONE).candidates, [1, 2, 3, 4], lambda c, n: [o.top_k for o in c])
    assert [len(rung.scores) for rung in rungs] == [20, 7, 3, 3]
    assert [options.top_k for options in rungs[-1].best(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        ((64, 1000, 1), [64, 160, 400, 1000]),
        ((64, 192, 1), [64, 192]),
        ((16, 16, 16), [16]),
        ((10, 33, 16), [16, 32, 48]),
    ],
)
def test_rungs_grow_at_most_threefold_in_whole_blocks(arguments, counts):
    assert rung_counts(*arguments) == counts


def test_of_options_that_draw_the_same_images_one_is_left():
    grid = Grid({"cfg_scale": [1, 2], "cfg_schedule": ["constant", "step"], "cfg_start": [0.25, 0.5]}, NONE)
    assert set(map(options_text, grid.candidates)) == {
        "cfg_scale=1",
        "cfg_scale=2",
        "cfg_scale=2 cfg_schedule=step",
        "cfg_scale=2 cfg_schedule=step cfg_start=0.5",
    }
    assert canonical(SamplingOptions(temperature=0, top_k=5, top_p=0.5)) == SamplingOptions(temperature=0)
    base = sampling_options({}, "sample")
    assert Grid({"top_k": [0, 5]}, base).candidates == [base, base._replace(top_k=5)]


def test_neighbours_are_one_value_away():
    space = {"cfg_scale": [1.0, 2.0, 3.0], "cfg_schedule": ["constant", "linear", "step"], "temperature": [0.5, 1.0]}
    grid = Grid(space, NONE)
    assert set(grid.neighbours(SamplingOptions(2.0, "linear"))) == {
        NONE,
        SamplingOptions(3.0, "linear"),
        SamplingOptions(2.0),
        SamplingOptions(2.0, "step"),
        SamplingOptions(2.0, "linear", temperature=0.5),
    }
    schedules = {SamplingOptions(2.0, schedule) for schedule in space["cfg_schedule"]}
    assert set(grid.neighbours(NONE)) == {*schedules, NONE._replace(temperature=0.5)}
    assert grid.neighbours(SamplingOptions(9.0)) == []


def test_guidance_that_never_begins_is_no_candidate():
    space = {"cfg_scale": [2], "cfg_schedule": ["rectangular"], "cfg_start": [0.25, 0.5], "cfg_stop": [0.5]}
    assert len(Grid(space, NONE).places) == 1
    with pytest.raises(UsageError, match="in no combination does guidance begin"):
        Grid(space | {"cfg_start": [0.5]}, NONE)


def strength(options: SamplingOptions) -> float:
    return guidance_strength(options, 9)


def test_where_differences_are_inconclusive_the_mildest_guidance_is_chosen():
    mild, medium, strong = (SamplingOptions(scale) for scale in (1.5, 2.0, 3.0))
    sure = conclude({mild: 9, medium: 8, strong: 7}, lambda a, b: 0.5, strength)
    assert (sure.chosen, sure.tied, sure.is_known) == (strong, [strong], True)
    tied = conclude({mild: 9, medium: 7.1, strong: 7}, lambda a, b: 0.5, strength)
    assert (tied.chosen, tied.best, tied.tied) == (medium, strong, [strong, medium])
    unknown = conclude({mild: 9, strong: 7}, lambda a, b: None, strength)
    assert (unknown.chosen, unknown.is_known) == (strong, False)


def test_the_strength_of_guidance_can_be_told_of_any_schedule():
    schedules = ("constant", "step", "linear", "cosine")
    assert list(map(strength, (SamplingOptions(3, schedule) for schedule in schedules))) == pytest.approx(
        [2, 2 * 7 / 9, 1, 1]
    )
    assert strength(NONE) == 0 and strength(SamplingOptions(0.5)) == 0.5


def test_equal_candidates_are_called_different_in_at_most_a_twentieth_of_all_comparisons():
    rng, candidates, wrong = random.Random(0), [SamplingOptions(scale) for scale in range(8)], 0
    for _ in range(400):
        scores = {options: rng.gauss(0, 1) for options in candidates}
        wrong += len(conclude(scores, lambda a, b: 1.96 * 2**0.5, strength).tied) < len(candidates)
    assert 0.01 < wrong / 400 < 0.05


def test_differences_of_distances_in_pairs_cover_the_truth_and_are_surer_than_alone():
    """Two ways to draw, by the same random numbers of 200 images, 300 times, against one reference."""
    rng = np.random.default_rng(0)
    reference = Gaussian(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    a, b = SamplingOptions(1.0), SamplingOptions(2.0)
    differences, reaches, alone = [], [], []
    for _ in range(300):
        numbers, own = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
        distances, known = [], {}
        for options, rows in ((a, 1.3 * numbers), (b, 1.2 * numbers + 0.3 * own + 0.1)):
            statistics, features = GaussianStatistics(3), torch.from_numpy(rows).float()
            statistics.add(features)
            distances.append(frechet_distance(statistics.gaussian(), reference))
            known[options] = influences(features, statistics.gaussian(), reference)
        differences.append(distances[1] - distances[0])
        reaches.append(tune.reach_in_pairs(known)(a, b))
        alone.append(1.96 * np.hypot(*(values.std() for values in known.values())) / 200**0.5)
    covered = np.abs(np.array(differences) - np.mean(differences)) < reaches
    assert 0.92 < covered.mean() < 0.98
    assert np.mean(reaches) < 0.7 * np.mean(alone)
    few = {options: values[:29] for options, values in known.items()}
    assert tune.reach_in_pairs(few)(a, b) is None


@pytest.mark.parametrize("metric", tune.IN_PAIRS)
def test_the_influences_that_pairs_are_compared_by_are_those_of_the_numbers_own_interval(metric):
    network, rng = open_network("random", torch.device("cpu")), torch.Generator().manual_seed(0)
    ours, theirs = Sums(network, [metric]), Sums(network, [metric], with_intervals=False)  # which counts as exact
    for sums, number in ((ours, 40), (theirs, 50)):
        images = torch.randint(0, 256, (number, 3, 16, 16), dtype=torch.uint8, generator=rng)
        sums.add(network(images), list(range(number)))
    low, high = numbers([metric], [Compared(ours, theirs)], {}, "")[metric].interval
    a, b = SamplingOptions(1.0), SamplingOptions(2.0)
    known = {a: tune.IN_PAIRS[metric](ours, theirs), b: np.zeros(40)}
    assert tune.reach_in_pairs(known)(a, b) == pytest.approx((high - low) / 2)
    assert tune.reach_in_pairs(known | {b: known[a]})(a, b) == 0
