import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from restok_cli.errors import RestokError
from restok_cli.metrics.formulas.frechet import Gaussian, GaussianStatistics, frechet_distance
from restok_cli.metrics.reference import read_statistics


def draw_features(count, dimensions, seed, mean=0.0):
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=rng, dtype=torch.float64)
    return mean + torch.randn(count, dimensions, generator=rng, dtype=torch.float64) @ mixing


def fit(features, batch_size=50):
    statistics = GaussianStatistics(features.shape[1])
    for batch in features.split(batch_size):
        statistics.add(batch)
    return statistics.gaussian()


def test_diagonal_gaussians_have_the_distance_of_the_closed_form():
    mu_a, mu_b = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([0.0, 2.0, 5.0]).double()
    std_a, std_b = torch.tensor([1.0, 0.5, 2.0]).double(), torch.tensor([3.0, 0.5, 0.0]).double()
    expected = (mu_a - mu_b).square().sum() + (std_a - std_b).square().sum()
    distance = frechet_distance(Gaussian(mu_a, std_a.square().diag()), Gaussian(mu_b, std_b.square().diag()))
    assert distance == pytest.approx(expected.item(), rel=1e-12)


def test_a_device_adds_up_what_numpy_adds_up():
    features = draw_features(1500, 24, seed=1, mean=3.0)
    statistics = GaussianStatistics(24, torch.device("cpu"))
    for batch in features.split(128):
        statistics.add(batch)
    torch.testing.assert_close(statistics.gaussian(), fit(features), rtol=1e-12, atol=1e-12)


def test_distance_equals_torch_fidelitys():
    a, b = draw_features(500, 64, seed=1), draw_features(400, 64, seed=2, mean=0.3)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), verbose=False)
    assert frechet_distance(fit(a), fit(b)) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


@pytest.mark.parametrize("count", [500, 20], ids=["many images", "fewer images than features"])
def test_distance_of_a_set_to_itself_is_zero(count):
    gaussian = fit(draw_features(count, 64, seed=1))
    assert frechet_distance(gaussian, gaussian) == pytest.approx(0, abs=1e-6)


def test_pictures_that_are_all_alike_have_a_distance():
    alike, spread = fit(torch.ones(10, 4)), Gaussian(torch.zeros(4).double(), torch.eye(4).double())
    assert frechet_distance(alike, spread) == pytest.approx(8)
    assert frechet_distance(spread, alike) == pytest.approx(8)


def test_distance_is_the_same_both_ways():
    many, few = fit(draw_features(500, 64, seed=1)), fit(draw_features(20, 64, seed=2))
    assert frechet_distance(many, few) == pytest.approx(frechet_distance(few, many), rel=1e-6)


def test_distance_of_singular_covariances_equals_that_of_the_same_in_more_dimensions():
    """Features that are always 0 add nothing; the way by Cholesky must give way where they make sigma singular."""
    a, b = draw_features(500, 16, seed=1), draw_features(400, 16, seed=2, mean=0.3)
    wide = [fit(torch.nn.functional.pad(features, (0, 9))) for features in (a, b)]
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(fit(a), fit(b)), rel=1e-9)


@pytest.mark.parametrize("batch_size", [1, 7, 1300])
@pytest.mark.parametrize("count", [100, 1300])  # fewer than are added up at once, and more
def test_streamed_statistics_equal_numpys(count, batch_size):
    features = draw_features(count, 8, seed=3, mean=2.0)
    gaussian = fit(features, batch_size)
    np.testing.assert_allclose(gaussian.mu, features.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(gaussian.sigma, np.cov(features.numpy(), rowvar=False), rtol=1e-10, atol=1e-12)


def test_features_far_from_zero_lose_no_digits():
    features = draw_features(1300, 4, seed=3)
    np.testing.assert_allclose(fit(features + 1e6, 10).sigma, fit(features, 10).sigma, rtol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 16, 700])
def test_statistics_do_not_depend_on_how_features_are_cut_into_batches(batch_size):
    features = draw_features(1300, 6, seed=4)
    gaussian, expected = fit(features, batch_size), fit(features, 1300)
    assert torch.equal(gaussian.mu, expected.mu)
    assert torch.equal(gaussian.sigma, expected.sigma)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_are_refused(value):
    with pytest.raises(RestokError, match="gives NaN or infinity"):
        GaussianStatistics(3).add(torch.tensor([[1.0, value, 2.0]]))


def test_one_picture_has_no_covariance():
    with pytest.raises(RestokError, match="at least 2 images, here are 1"):
        fit(draw_features(1, 4, seed=1))


def test_statistics_of_different_networks_are_refused():
    with pytest.raises(RestokError, match="of 4 and of 8 features"):
        frechet_distance(fit(draw_features(10, 4, seed=1)), fit(draw_features(10, 8, seed=1)))


def test_statistics_file_is_read_in_double_precision(tmp_path):
    gaussian = fit(draw_features(50, 8, seed=1))
    np.savez(tmp_path / "reference.npz", mu=gaussian.mu.float(), sigma=gaussian.sigma.float(), arr_0=np.zeros(3))
    read = read_statistics(tmp_path / "reference.npz").gaussian
    assert read.mu.dtype == read.sigma.dtype == torch.float64
    torch.testing.assert_close(read.sigma, gaussian.sigma, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(3)}, "holds no statistics"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, r"mu \(3,\) and sigma \(4, 4\) do not fit"),
        ({"mu": np.zeros(2), "sigma": np.array([[1, 2], [3, 4]])}, "no covariance"),
        ({"mu": np.zeros(2), "sigma": np.full((2, 2), np.nan)}, "no covariance"),
    ],
    ids=["no sigma", "shapes", "not symmetric", "NaN"],
)
def test_statistics_that_are_none_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "reference.npz", **arrays)
    with pytest.raises(RestokError, match=message):
        read_statistics(tmp_path / "reference.npz")
