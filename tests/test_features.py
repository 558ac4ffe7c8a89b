import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_isc import isc_features_to_metric

from restok_cli.errors import RestokError
from restok_cli.metrics.formulas import inception_score as formula
from restok_cli.metrics.formulas.inception_score import inception_score
from restok_cli.metrics.networks.backbones import open_network
from restok_cli.metrics.networks.features import RandomNetwork
from restok_cli.metrics.networks.inception import Inception, load_inception

RANDOM_WEIGHTS_SHA256 = "486afdf17192de12b593956630ad74f83e67c67ac87911f3561b1a0eb7b3a2a1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with seeded random weights for the whole of Inception, scaled so that its features do not vanish."""
    rng = torch.Generator().manual_seed(0)
    state = Inception().state_dict()
    for name, tensor in state.items():
        if name.endswith("conv.weight"):
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=rng)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


def draw_images(count, size=32):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def draw_logits(count):
    return 3 * torch.randn(count, 10, generator=torch.Generator().manual_seed(2))


def test_inception_equals_torch_fidelitys_with_the_same_weights(weights):
    theirs = FeatureExtractorInceptionV3(
        "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
    )
    images = draw_images(2)
    pool, logits = theirs(images)
    features = load_inception(weights)(images)
    assert features.pool.std() > 0.01  # or the comparison would say nothing
    torch.testing.assert_close(features.pool, pool, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(load_inception(weights).logits(features.pool), logits, rtol=1e-4, atol=1e-5)


def test_spatial_features_are_the_first_channels_of_mixed_6_with_channels_last(weights):
    """By hand, from the input of the block on: TensorFlow's mixed_6/conv:0 after its ReLU, NHWC."""
    network, seen = load_inception(weights), []
    network.Mixed_6d.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    spatial = network(draw_images(2)).spatial
    block = network.Mixed_6d.branch1x1
    maps = torch.relu(block.bn(block.conv(seen[0])))
    assert maps.shape == (2, 192, 17, 17)
    expected = [maps[:, channel, row, column] for row in range(17) for column in range(17) for channel in range(7)]
    assert maps[:, :7].std() > 0.01
    torch.testing.assert_close(spatial, torch.stack(expected, 1))


def test_only_the_published_weights_count_as_published(weights):
    network = load_inception(weights)
    assert not network.published
    assert len(network.weights_sha256) == 64


@pytest.mark.parametrize("state", [{"fc.weight": torch.zeros(3, 3)}, {}, []], ids=["other names", "none", "a list"])
def test_weights_of_another_network_are_refused(tmp_path, state):
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(RestokError, match=r"other\.pth does not hold the weights of torch-fidelity's Inception"):
        load_inception(tmp_path / "other.pth")


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path(Bomb.target),)


def test_a_program_in_a_weights_file_is_not_run(tmp_path):
    Bomb.target = str(tmp_path / "exploded")
    bomb = pickle.dumps(Bomb(), protocol=2)
    pickle.loads(bomb)
    (tmp_path / "exploded").unlink()  # so it works, when it is let
    (tmp_path / "bomb.pth").write_bytes(bomb)
    with pytest.raises(RestokError, match="does not hold the weights"):
        load_inception(tmp_path / "bomb.pth")
    assert not (tmp_path / "exploded").exists()


def test_without_a_network_the_error_says_how_to_get_the_weights(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(RestokError, match=r"no route to host.*--inception-weights FILE.*--features random"):
        open_network("inception", torch.device("cpu"))


def test_weights_in_the_hub_cache_are_found(tmp_path, monkeypatch, weights):
    cache = tmp_path / "checkpoints"
    cache.mkdir()
    (cache / "weights-inception-2015-12-05-6726825d.pth").symlink_to(weights)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert open_network("inception", torch.device("cpu")).weights_sha256 == load_inception(weights).weights_sha256


def test_random_network_is_the_same_everywhere():
    assert RandomNetwork().weights_sha256 == RANDOM_WEIGHTS_SHA256


@pytest.mark.parametrize("size", [8, 31, 64])
def test_random_network_takes_pictures_of_any_size(size):
    features = RandomNetwork()(draw_images(2, size))
    assert features.pool.shape == (2, 128)
    assert features.pool.std() > 0.1


def test_features_of_a_picture_do_not_depend_on_its_batch():
    network, images = RandomNetwork(), draw_images(5)
    together = network(images).pool
    alone = torch.cat([network(image[None]).pool for image in images])
    torch.testing.assert_close(together, alone)


def test_inception_score_equals_torch_fidelitys_in_file_order(monkeypatch):
    monkeypatch.setattr(formula, "SPLIT_SIZE", 10)
    logits = draw_logits(30)
    theirs = isc_features_to_metric(logits, splits=3, shuffle=False)
    assert inception_score(logits, torch.clone).value == pytest.approx(theirs["inception_score_mean"], rel=1e-12)


def test_last_split_of_an_inception_score_may_be_shorter(monkeypatch):
    monkeypatch.setattr(formula, "SPLIT_SIZE", 20)
    logits = draw_logits(30)
    parts = [isc_features_to_metric(part, splits=1, shuffle=False)["inception_score_mean"] for part in logits.split(20)]
    assert inception_score(logits, torch.clone).value == pytest.approx(sum(parts) / 2, rel=1e-12)
