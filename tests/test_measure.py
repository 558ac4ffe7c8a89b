"""The passes over images: order, batches, partners and intervals, and the networks together."""

import numpy as np
import pytest
import torch
from measurements import ALL_METRICS, SETS, Counting, draw_images, in_memory, instruments, measure_one
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from restok_cli.errors import ImageError
from restok_cli.metrics import cache, image_sets, kept
from restok_cli.metrics import measure as measuring
from restok_cli.metrics.formulas import kid
from restok_cli.metrics.formulas.frechet import GaussianStatistics
from restok_cli.metrics.formulas.frechet_intervals import Cloud, FrechetDistance
from restok_cli.metrics.formulas.neighbours import precision_recall
from restok_cli.metrics.image_sets import GROUP_SIZE
from restok_cli.metrics.measure import choose_metrics, measure
from restok_cli.metrics.networks.features import RandomNetwork
from restok_cli.metrics.networks.inception import Inception, load_inception
from restok_cli.metrics.reference import Reference


def narrow(folder=None):
    return instruments(Narrow(), folder)


def reference_of(images):
    return Reference("memory", None, in_memory(images))


def naive_distance(a, b):
    """The definition, of all features at once."""
    (mu_a, sigma_a), (mu_b, sigma_b) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a.double(), b.double()))
    root = np.sqrt(np.linalg.eigvals(sigma_a @ sigma_b).astype(complex)).real.sum()
    return float(((mu_a - mu_b) ** 2).sum()) + np.trace(sigma_a) + np.trace(sigma_b) - 2 * root


def test_metrics_of_features_equal_naive_ones_of_all_features_at_once():
    network = RandomNetwork()
    ours, theirs = (network(images) for images in SETS)
    found = measure_one(*map(in_memory, SETS))
    assert found["gfid"] == pytest.approx(naive_distance(ours.pool, theirs.pool), rel=1e-5)
    assert found["sfid"] == pytest.approx(naive_distance(ours.spatial, theirs.spatial), rel=1e-5)
    expected = precision_recall(ours.pool, theirs.pool)
    assert (found["precision"], found["recall"]) == (expected.precision.value, expected.recall.value)


class Narrow(RandomNetwork):
    dimensions = 8


def test_numbers_of_enough_images_carry_intervals_wherever_features_lie(tmp_path, monkeypatch):
    metrics = [*ALL_METRICS, "fid-inf", "density", "coverage", "mind", "cmmd"]
    found = measure([in_memory(SETS[0])], reference_of(SETS[1]), metrics, narrow())[0]
    for measurement in found.values():
        if measurement.value in (0, 1):
            continue  # a share of none or all
        assert measurement.interval[0] <= measurement.value <= measurement.interval[1], measurement.metric
    monkeypatch.setattr(kept, "LARGEST_IN_MEMORY", 0)
    assert measure([in_memory(SETS[0])], reference_of(SETS[1]), metrics, narrow(tmp_path / "cache"))[0] == found
    few = measure([in_memory(SETS[0][:29])], reference_of(SETS[1][:29]), metrics, narrow())[0]
    assert [measurement.interval for measurement in few.values()] == [None] * len(metrics)


def test_infinite_distance_is_part_of_all_where_images_suffice_for_the_features(monkeypatch):
    monkeypatch.setattr(measuring, "open_lpips", lambda *_: None)

    def chosen(count, tools):
        return choose_metrics(["all"], in_memory(SETS[0][:count]), reference_of(SETS[1]), tools, None)

    assert "fid-inf" in chosen(24, narrow())
    assert "fid-inf" not in chosen(23, narrow())
    assert "fid-inf" not in chosen(40, instruments())


def test_partners_are_drawn_together_also_where_one_cannot_be_read():
    """The interval of rFID, from the influences of what is left of either side."""
    network, broken = RandomNetwork(), in_memory(SETS[0])
    read = broken.open

    def read_all_but_the_first(index):
        if index == 0:
            raise ImageError("image 0")
        return read(index)

    broken.open = read_all_but_the_first
    (found,) = measure([broken], reference_of(SETS[1]), ["rfid"], instruments())
    clouds = []
    for images, start in ((SETS[0], 1), (SETS[1], 0)):
        rows = network(images[start:]).pool
        statistics = GaussianStatistics(rows.shape[1])
        statistics.add(rows)
        clouds.append(Cloud(statistics.gaussian(), rows, np.arange(start, 40)))
    expected = FrechetDistance(*clouds, paired=True).estimate()
    assert found["rfid"].interval == pytest.approx(expected.interval, rel=1e-5)
    apart = FrechetDistance(*clouds, paired=False).estimate()
    assert found["rfid"].interval != pytest.approx(apart.interval, rel=1e-3)


@pytest.mark.parametrize("batch_size", [1, 16, 33, 1000])
def test_results_are_the_same_to_the_last_digit_for_any_batch_size(batch_size):
    expected = measure_one(*map(in_memory, SETS))
    assert measure_one(*map(in_memory, SETS), tools=instruments(batch_size=batch_size)) == expected


@pytest.mark.parametrize("processes", [1, 2])
def test_groups_that_go_through_the_network_together_give_the_same_numbers(tmp_path, monkeypatch, processes):
    """As on a GPU, also where one of the set's groups is known and one holds nothing that can be read."""
    broken = in_memory(SETS[0])
    read = broken.open

    def read_all_but_the_second_group(index):
        if GROUP_SIZE <= index < 2 * GROUP_SIZE:
            raise ImageError(f"image {index}")
        return read(index)

    broken.open = read_all_but_the_second_group
    reference, metrics = in_memory(SETS[1]), [*ALL_METRICS[:6]]
    expected = measure_one(broken, reference, metrics, instruments(folder=tmp_path / "one"))
    assert [GROUP_SIZE * image_sets.groups_at_once(torch.device(name)) for name in ("cpu", "cuda")] == [16, 128]
    for module in (measuring, cache):
        monkeypatch.setattr(module, "groups_at_once", lambda device: 4)
    if processes == 2:  # whose second one is played by the first
        see, turns = measuring._see, []

        def see_for_both(groups, *others):
            turns.append(see(groups[::2], *others))
            return see(groups[1::2], *others)

        monkeypatch.setattr(measuring, "_see", see_for_both)
        monkeypatch.setattr(image_sets, "gather", lambda mine: [turns.pop(), mine])
    network = Counting()
    tools = instruments(network, tmp_path / "together")
    if processes == 1:
        tools.caches[0].keep(reference.group(0), RandomNetwork()(reference.group(0).images))
    found = measure_one(broken, reference, metrics, tools)
    assert network.calls == {1: 2, 2: 3}[processes]
    assert found == pytest.approx(expected, rel=1e-6)


def test_results_do_not_depend_on_the_order_of_files():
    """But for IS and KID, whose definitions take images by their place."""
    metrics = [metric for metric in ALL_METRICS if metric not in ("is", "kid")]
    expected = measure_one(*map(in_memory, SETS), metrics)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    found = measure_one(*(in_memory(images[order]) for images in SETS), metrics)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found["psnr"] == expected["psnr"]


# --- the whole, with Inception -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """A file of seeded random weights of full size, scaled so that features do not vanish."""
    rng = torch.Generator().manual_seed(0)
    state = Inception().state_dict()
    for name, tensor in state.items():
        if name.endswith("conv.weight"):
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=rng)
        if name == "fc.weight":
            tensor.mul_(20)  # else all images would be of one class
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


@pytest.mark.slow
def test_fid_is_and_kid_equal_torch_fidelitys_on_the_same_pictures_and_weights(inception, monkeypatch):
    monkeypatch.setattr(kid, "SUBSET_SIZE", 4)
    images = [draw_images(6, seed=seed, size=32) for seed in (1, 2)]
    images[1] //= 2
    theirs = FeatureExtractorInceptionV3(
        "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(inception)
    )
    (pool, logits), (reference, _) = (theirs(part) for part in images)
    # turned into the few directions in which they lie, where their eigenvalues take no minute; FID stays the same
    directions = torch.linalg.qr(torch.cat([pool, reference]).double().T).Q
    statistics = [fid_features_to_statistics(features.double() @ directions) for features in (pool, reference)]
    fid = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    score = isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    distance = kid_features_to_metric(pool.double(), reference.double(), kid_subset_size=4, verbose=False)
    expected = {"gfid": fid, "is": score, "kid": distance["kernel_inception_distance_mean"]}
    found = measure_one(*map(in_memory, images), expected, instruments(load_inception(inception)))
    assert score > 1.01
    assert found == pytest.approx(expected, rel=1e-6)
