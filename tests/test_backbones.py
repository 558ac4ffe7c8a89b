"""Feature networks other than Inception, with random weights: none of them is downloaded."""

import pickle

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from restok_cli.errors import RestokError, UsageError
from restok_cli.metrics.networks import backbones
from restok_cli.metrics.networks.backbones import Backbone, open_network

CPU = torch.device("cpu")
SMALL = "test_vit.r160_in1k"  # timm has it for tests: 160 pixels, 64 features


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def small(tmp_path):
    """The weights file of a small network, as timm keeps it, classifier and all; and its features of an image."""
    torch.manual_seed(0)
    network = timm.create_model(SMALL).eval()
    save_file(network.state_dict(), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors", network


def test_features_of_timm_are_those_in_front_of_its_classifier(small, images):
    path, network = small
    found = open_network(f"timm:{SMALL}", CPU, timm_weights=path)
    config = network.pretrained_cfg
    size = config["input_size"][1:]
    resized = torch.nn.functional.interpolate(images / 255, size, mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features((resized - mean) / std), pre_logits=True)
    features = found(images)
    assert features.pool.std() > 0.01
    torch.testing.assert_close(features.pool, expected)
    assert features.spatial is None
    assert found.dimensions == expected.shape[1]
    assert len(found.weights_sha256) == 64
    assert "160x160" in found.resize


def test_dinov2_is_opened_at_224_pixels_and_clip_with_its_projection(small, images, monkeypatch):
    path, _ = small
    monkeypatch.setattr(backbones, "TIMM_NAMES", {"dinov2": SMALL, "clip": SMALL})
    dinov2, clip = (open_network(name, CPU, timm_weights=path) for name in ("dinov2", "clip"))
    assert "224x224" in dinov2.resize
    assert dinov2(images).pool.shape == (2, 64)
    assert clip(images).pool.shape == (2, 1000)  # of this small one the projection is a classifier
    assert (dinov2.name, clip.name) == ("dinov2", "clip")


def test_names_stand_for_networks_that_timm_has():
    assert all(timm.is_model(name) for name in backbones.TIMM_NAMES.values())


def test_weights_of_another_network_are_refused(tmp_path, small):
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(RestokError, match=r"other\.safetensors|--timm-weights FILE"):
        open_network(f"timm:{SMALL}", CPU, timm_weights=tmp_path / "other.safetensors")
    (tmp_path / "program.pth").write_bytes(pickle.dumps(print))
    with pytest.raises(
        RestokError, match=r"program\.pth cannot be read as weights \(it is none, or holds more than tensors\)"
    ):
        open_network(f"timm:{SMALL}", CPU, timm_weights=tmp_path / "program.pth")


def test_unknown_networks_are_refused():
    with pytest.raises(UsageError, match=r"--features dinov3: no such network \(did you mean dinov2\?\)"):
        open_network("dinov3", CPU)
    with pytest.raises(UsageError, match="timm has no such network"):
        open_network("timm:vit_of_nobody", CPU)


def test_without_a_network_the_error_says_which_file_to_fetch(monkeypatch):
    def fail(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(RestokError, match=r"no route to host.*huggingface\.co/timm/vit_large_patch14_dinov2"):
        open_network("dinov2", CPU)


def test_vgg16_gives_the_second_fully_connected_layer(tmp_path, images, monkeypatch):
    def narrow():
        """The layers of VGG-16, an eighth as wide: the whole takes 528 MB."""
        network = real()
        network.features = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=16), torch.nn.ReLU())
        network.classifier = torch.nn.Sequential(
            *(torch.nn.Linear(8 * 49, 32), torch.nn.ReLU(), torch.nn.Dropout()),
            *(torch.nn.Linear(32, 16), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(16, 10)),
        )
        return network

    real = torchvision.models.vgg16
    with torch.device("meta"):
        assert [type(layer).__name__ for layer in real().classifier] == [
            *("Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear")
        ]
        skeleton = narrow()
    network = skeleton.to_empty(device="cpu").eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    monkeypatch.setattr(torchvision.models, "vgg16", narrow)
    torch.save(network.state_dict(), tmp_path / "vgg.pth")
    found = open_network("vgg16", CPU, vgg_weights=tmp_path / "vgg.pth")
    seen = []
    network.classifier[4].register_forward_hook(lambda module, inputs, output: seen.append(output))
    normalised = (
        torch.nn.functional.interpolate(images / 255, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
        - found.mean
    ) / found.std
    with torch.inference_mode():
        network(normalised)
    assert seen[0].std() > 0.01
    torch.testing.assert_close(found(images).pool, seen[0], rtol=1e-4, atol=1e-5)


def test_metrics_that_only_inception_has_are_refused_for_others(tmp_path, small, fails, monkeypatch):
    path, _ = small
    for metric, message in (("is", "needs a network with classes"), ("sfid", "is defined by Inception alone")):
        arguments = ("--features", f"timm:{SMALL}", "--timm-weights", path, "--metric", metric)
        reference = ("--reference", "sample") if metric == "sfid" else ()
        assert message in fails(2, "evaluate", "sample", *arguments, *reference)


def test_backbone_measures_pictures(small, restok):
    path, _ = small
    arguments = ("--features", f"timm:{SMALL}", "--timm-weights", path, "--reference", "sample")
    found = restok("evaluate", "sample", *arguments, "--metric", "all")
    assert found.code == 0, found.err
    assert [line.split()[0] for line in found.out.splitlines()][:5] == [
        *("rFID-202", "FID∞-202", "precision-202", "recall-202", "KID-202")
    ]


def test_backbone_is_what_the_metrics_ask_of_a_network():
    for name in ("name", "dimensions", "spatial_dimensions", "num_classes", "weights_sha256", "resize", "published"):
        network = Backbone("x", torch.nn.Flatten(), 4, (0.5,) * 3, (0.5,) * 3, "0" * 64)
        assert hasattr(network, name)
