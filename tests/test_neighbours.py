import pytest
import torch
from torch_fidelity.metric_prc import calculate_precision_recall_full

from restok_cli.errors import RestokError
from restok_cli.metrics.formulas import neighbours
from restok_cli.metrics.formulas.density import density_coverage
from restok_cli.metrics.formulas.neighbours import precision_recall


def draw_sets(n=60, m=45, dimensions=6):
    rng = torch.Generator().manual_seed(0)
    samples = torch.randn(n, dimensions, generator=rng)
    return samples, 0.8 * torch.randn(m, dimensions, generator=rng) + 0.5


def shares(samples, reference):
    return tuple(found.value for found in precision_recall(samples, reference))


def naive(samples, reference):
    """Image by image: the ball of an image reaches to its third nearest neighbour but itself."""

    def share_inside(points, centres):
        radii = []
        for i, centre in enumerate(centres):
            distances = sorted(((centre - other) ** 2).sum().item() for j, other in enumerate(centres) if j != i)
            radii.append(distances[2])
        hits = [
            any(((point - centre) ** 2).sum().item() <= radius for centre, radius in zip(centres, radii, strict=True))
            for point in points
        ]
        return sum(hits) / len(hits)

    samples, reference = samples.double(), reference.double()
    return share_inside(samples, reference), share_inside(reference, samples)


@pytest.mark.parametrize("block", [7, 16, 4096])
def test_precision_and_recall_equal_naive_ones_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    sets = draw_sets()
    precision, recall = shares(*sets)
    assert (precision, recall) == pytest.approx(naive(*sets))
    assert 0.1 < precision < 0.95
    assert precision != recall


def test_precision_and_recall_equal_torch_fidelitys():
    samples, reference = draw_sets(500, 400)
    assert shares(samples, reference) == pytest.approx(
        calculate_precision_recall_full(samples.double(), reference.double())
    )


def test_sets_far_apart_share_nothing_and_equal_sets_everything():
    samples, reference = draw_sets()
    assert shares(samples, reference + 100) == (0, 0)
    assert shares(samples, samples) == (1, 1)


def test_samples_in_one_place_are_precise_but_recall_little():
    """Which of the two is which: all samples at one reference image."""
    reference = draw_sets()[1]
    precision, recall = shares(reference[:1].repeat(20, 1), reference)
    assert precision == 1
    assert recall < 0.1


def test_order_of_pictures_does_not_matter():
    samples, reference = draw_sets()
    rng = torch.Generator().manual_seed(1)
    shuffled = (features[torch.randperm(len(features), generator=rng)] for features in (samples, reference))
    assert shares(*shuffled) == shares(samples, reference)


@pytest.mark.parametrize(("n", "m", "name"), [(3, 10, "samples"), (10, 3, "reference")])
def test_too_few_pictures_for_three_neighbours_are_refused(n, m, name):
    with pytest.raises(RestokError, match=f"more than 3 images, the {name} have 3"):
        precision_recall(*draw_sets(n, m))


def naive_density_and_coverage(samples, reference):
    """Image by image, in the words of Naeem et al.: the ball of an image reaches to its fifth nearest neighbour."""
    samples, reference = samples.double(), reference.double()
    radii = [sorted((centre - other).norm().item() for other in reference)[5] for centre in reference]
    hits = [
        [(sample - centre).norm().item() < radius for centre, radius in zip(reference, radii, strict=True)]
        for sample in samples
    ]
    density = sum(map(sum, hits)) / (5 * len(samples))
    return density, sum(any(of_reference) for of_reference in zip(*hits, strict=True)) / len(reference)


@pytest.mark.parametrize("block", [7, 4096])
def test_density_and_coverage_equal_naive_ones_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    density, coverage = (found.value for found in density_coverage(*draw_sets()))
    assert (density, coverage) == pytest.approx(naive_density_and_coverage(*draw_sets()), rel=1e-6)
    assert 0.1 < coverage < 0.95
    assert density > 0.1


def test_a_set_has_a_density_of_1_against_itself():
    """Its balls are open: each image lies in its own, and in as many others' as there are neighbours but one."""
    samples = 0.1 * draw_sets()[0]
    assert [found.value for found in density_coverage(samples, samples)] == pytest.approx([1, 1])


def test_an_outlier_among_the_reference_hardly_moves_density():
    """For which it was made: precision takes a sample in any ball, also in the wide one of an outlier."""
    _, reference = draw_sets()
    far = torch.cat([reference, torch.full((1, 6), 30.0)])
    samples = reference + 15
    assert precision_recall(samples, reference).precision.value == 0
    assert precision_recall(samples, far).precision.value > 0.5
    assert density_coverage(samples, far).density.value < 0.25
    assert density_coverage(reference, reference).coverage.value == 1
    with pytest.raises(RestokError, match="need a reference of more than 5 images, this one has 5"):
        density_coverage(samples, reference[:5])
