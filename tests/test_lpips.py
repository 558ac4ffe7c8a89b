from copy import deepcopy
from pathlib import Path
from urllib.error import URLError

import lpips as package
import pytest
import torch
from safetensors.torch import load_file, save_file

from restok_cli.errors import RestokError
from restok_cli.metrics.networks.lpips import HEADS, STAGES, Lpips, open_lpips

CPU = torch.device("cpu")


def random_vgg(seed=0):
    """Random convolutions by torchvision's names; those of `Lpips` are only the 13."""
    rng = torch.Generator().manual_seed(seed)
    weights = {}
    for name, parameter in Lpips().named_parameters():
        bound = (6 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1  # He: keeps the variance
        weights[name] = (2 * torch.rand(parameter.shape, generator=rng) - 1) * bound
    return weights


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    save_file(random_vgg(), path)
    return path


@pytest.fixture(scope="module")
def theirs():
    """The lpips package with the same convolutions, its own heads, and no download."""
    network = package.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    weights = random_vgg()
    for name, tensor in network.net.named_parameters():  # slice1.0.weight: the second part is torchvision's place
        tensor.data = weights["features." + name.split(".", 1)[1]]
    return network


@pytest.fixture
def pair():
    rng = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, 40, 33, generator=rng)
    return images, (images + 0.2 * torch.randn(images.shape, generator=rng)).clamp(0, 1)


def test_distances_equal_those_of_the_lpips_package(vgg_file, theirs, pair):
    expected = theirs(*pair, normalize=True).flatten()
    found = open_lpips(vgg_file, CPU)(*pair)
    assert expected.min() > 1e-3  # or the comparison would say nothing
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_gradients_equal_those_of_the_lpips_package(vgg_file, theirs, pair):
    gradients = []
    ours, theirs = open_lpips(vgg_file, CPU).double(), deepcopy(theirs).double()  # in float32, ReLUs near 0 may differ
    for distance in (ours, lambda a, b: theirs(a, b, normalize=True)):
        images = pair[0].double().requires_grad_()
        distance(images, pair[1].double()).sum().backward()
        gradients.append(images.grad)
    assert gradients[0].abs().max() > 1e-5
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-10)


def test_heads_are_those_of_the_lpips_package():
    weights = torch.load(Path(package.__file__).parent / "weights/v0.1/vgg.pth", "cpu", weights_only=True)
    heads = load_file(HEADS)
    assert len(heads) == len(STAGES)
    for name, head in heads.items():
        assert torch.equal(head, weights[f"{name}.model.1.weight"].flatten())


def test_equal_pictures_have_no_distance_and_a_gradient(vgg_file, pair):
    images = pair[0].requires_grad_()
    distances = open_lpips(vgg_file, CPU)(images, pair[0])
    assert distances.tolist() == [0, 0, 0]
    distances.sum().backward()
    assert images.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_only_the_convolutions_are_rounded(vgg_file, pair, dtype):
    lpips = open_lpips(vgg_file, CPU)
    with torch.autocast("cpu", dtype):
        found, same = lpips(*pair), lpips(pair[0], pair[0])
    torch.testing.assert_close(found, lpips(*pair), rtol=0.01, atol=0)  # and so float32
    assert same.tolist() == [0, 0, 0]


def test_gradient_is_finite_where_all_features_are_zero():
    lpips = Lpips()  # its heads are zero, its biases not: so set both
    for name, tensor in lpips.state_dict().items():
        tensor.fill_(1.0 if name.startswith("lin") else -1.0)
    images = torch.rand(1, 3, 16, 16).requires_grad_()
    lpips(images, torch.zeros(1, 3, 16, 16)).sum().backward()
    assert images.grad.isfinite().all()


def test_lpips_is_frozen(vgg_file):
    lpips = open_lpips(vgg_file, CPU)
    assert not lpips.training
    assert not any(parameter.requires_grad for parameter in lpips.parameters())


@pytest.mark.parametrize("form", ["pth", "names without features", "float16", "whole vgg16"])
def test_weights_are_read_in_every_form(tmp_path, vgg_file, pair, form):
    weights = random_vgg()
    if form == "names without features":
        weights = {name.removeprefix("features."): tensor for name, tensor in weights.items()}
    if form == "float16":
        weights = {name: tensor.half() for name, tensor in weights.items()}
    if form == "whole vgg16":
        weights["classifier.0.weight"] = torch.zeros(4, 4)
    torch.save(weights, tmp_path / "vgg.pth")
    tolerance = 1e-2 if form == "float16" else 1e-6
    found = open_lpips(tmp_path / "vgg.pth", CPU)(*pair)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, open_lpips(vgg_file, CPU)(*pair), rtol=tolerance, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("features.28.bias"), r"features\.28\.bias is missing, expected \(512,\)"),
        (
            lambda weights: weights.update({"features.0.weight": torch.zeros(2)}),
            r"is of shape \(2,\), expected \(64, 3",
        ),
        (lambda weights: weights.update(epoch=3), "holds no weights"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, change, message):
    weights = random_vgg()
    change(weights)
    torch.save(weights, tmp_path / "vgg.pth")
    with pytest.raises(RestokError, match=message):
        open_lpips(tmp_path / "vgg.pth", CPU)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_file_that_is_cut_short_is_refused(tmp_path, suffix):
    path = tmp_path / f"vgg.{suffix}"
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(RestokError, match="cannot be read as weights"):
        open_lpips(path, CPU)


def test_without_a_network_the_error_says_what_to_fetch(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(RestokError, match=r"no route to host.*vgg16-397923af\.pth.*--vgg-weights FILE"):
        open_lpips(None, CPU)


def test_pictures_too_small_for_the_last_stage_are_refused(vgg_file):
    with pytest.raises(RestokError, match="at least 16 pixels a side, not 40x15"):
        open_lpips(vgg_file, CPU)(torch.zeros(1, 3, 15, 40), torch.zeros(1, 3, 15, 40))
