"""`restok evaluate` with several --features: every network sees the images in one reading."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from restok_cli.data.images import save_image
from restok_cli.errors import UsageError
from restok_cli.metrics import measure as measuring
from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.compare import read_results
from restok_cli.metrics.image_sets import ImageSet
from restok_cli.metrics.image_sources import open_images
from restok_cli.metrics.measure import Instruments, choose_metrics, measure
from restok_cli.metrics.networks.features import Features, RandomNetwork
from restok_cli.metrics.reference import Reference
from restok_cli.reports.results import Result, measured_alike

SMALL = "test_vit.r160_in1k"  # timm has it for tests: 160 pixels, 64 features
METRICS = ["gfid", "is", "cmmd", "psnr"]


class Clip(RandomNetwork):
    """Stands for CLIP: other features than those of the random network, without classes and places."""

    name, num_classes, spatial_dimensions = "clip", 0, 0

    def __call__(self, images):
        return Features(super().__call__(images).pool.square())


class Dinov2(Clip):
    name = "dinov2"


def write_folder(folder, seed, count=20):
    rng = torch.Generator().manual_seed(seed)
    for i in range(count):
        save_image(torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=rng), folder / f"{i:06d}.png")
    return folder


@pytest.fixture
def folders(tmp_path):
    return [write_folder(tmp_path / name, seed) for seed, name in enumerate(("samples", "reference"))]


@pytest.fixture
def opened(monkeypatch):
    """Counts the groups of images that are read."""
    groups = []
    group = ImageSet.group
    monkeypatch.setattr(ImageSet, "group", lambda images, number: groups.append(number) or group(images, number))
    return groups


def tools(*networks, folder=None):
    return Instruments([FeatureCache(folder, network) for network in networks], torch.device("cpu"), 64)


def measured(folders, metrics, instruments):
    samples, reference = (open_images(str(folder), "all") for folder in folders)
    return measure([samples], Reference("reference", None, reference), metrics, instruments)[0]


def test_each_network_measures_what_it_allows_as_if_alone_in_one_reading(folders, opened, tmp_path):
    random, clip = RandomNetwork(), Clip()
    found = measured(folders, METRICS, tools(random, clip, folder=tmp_path))
    assert list(found) == ["gfid[random]", "gfid[clip]", "is[random]", "cmmd[random]", "cmmd[clip]", "psnr"]
    assert len(opened) == 6  # two groups of each folder for features, and of the reference those of the pairs
    for network, metrics in ((random, METRICS), (clip, ["gfid", "cmmd"])):
        for metric, alone in measured(folders, metrics, tools(network)).items():
            together = found[metric if metric == "psnr" else f"{metric}[{network.name}]"]
            assert together.value == alone.value
    assert found["gfid[clip]"].label == "gFID-20 (clip)"
    kept = len(list(tmp_path.glob("features/*/*.npy")))
    assert kept == 8  # of each network, four groups
    found_again = measured(folders, ["gfid"], tools(Clip(), folder=tmp_path))
    assert found_again["gfid"].value == found["gfid[clip]"].value
    assert len(list(tmp_path.glob("features/*/*.npy"))) == kept


@pytest.mark.parametrize(
    ("networks", "metrics", "message"),
    [
        ([Clip, Dinov2], ["is"], "is needs a network with classes, which clip or dinov2 is not; use --features incep"),
        ([Dinov2], ["cmmd"], "cmmd is defined by CLIP alone, not by dinov2; use --features clip"),
        ([RandomNetwork, Dinov2], ["cmmd", "is"], "--features dinov2: it measures none of cmmd, is; leave it out"),
    ],
)
def test_a_metric_that_no_network_measures_and_a_network_that_measures_nothing_are_refused(
    folders, networks, metrics, message
):
    with pytest.raises(UsageError, match=message):
        measured(folders, metrics, tools(*(network() for network in networks)))


def test_all_is_all_that_any_of_the_networks_allows(folders, monkeypatch):
    def refuse(*_):
        raise measuring.RestokError("no weights")

    monkeypatch.setattr(measuring, "open_lpips", refuse)
    samples, reference = (open_images(str(folder), "all") for folder in folders)
    target = Reference("reference", None, reference)
    alone = choose_metrics(["all"], samples, target, tools(Dinov2()), None)
    assert not {"is", "sfid", "cmmd"} & set(alone)
    both = choose_metrics(["all"], samples, target, tools(Dinov2(), Clip()), None)
    assert set(both) == {*alone, "cmmd"}
    assert {"mind", "density", "coverage", "kid"} <= set(alone)


def test_keys_with_networks_go_through_json_table_limits_and_comparison(folders, tmp_path, restok, fails):
    torch.manual_seed(0)
    save_file(timm.create_model(SMALL).state_dict(), tmp_path / "small.safetensors")
    small = f"timm:{SMALL}"
    options = ("--features", "random", "--features", small, "--timm-weights", tmp_path / "small.safetensors")
    command = ("evaluate", folders[0], "--reference", folders[1], *options)
    found = restok(*command, "--metric", "kid", "--json")
    assert found.code == 0, found.err
    result = json.loads(found.out)
    assert list(result["metrics"]) == ["kid[random]", f"kid[{small}]"]
    assert result["metrics"][f"kid[{small}]"]["metric"] == "kid"
    assert {name: row["network"] for name, row in result["protocol"]["features"].items()} == {
        "random": "random",
        small: small,
    }
    file = tmp_path / "result.json"
    file.write_text(found.out)
    compared = restok("evaluate", "--compare", file, file)
    assert compared.code == 0, compared.err
    assert [line.split()[:2] for line in compared.out.splitlines()[1:]] == [
        ["KID-20", "(random)"],
        ["KID-20", f"({small})"],
    ]
    (row, other) = measured_alike([Result("result", read_results(file))])
    assert (row.name, other.name) == ("KID-20 (random)", f"KID-20 ({small})")
    worse = restok(*command, "--metric", "kid", "--fail-under", f"kid[{small}]=-9")
    assert worse.code == 4
    assert f"KID-20 ({small}) is" in worse.err
    assert [line.split()[1] for line in worse.out.splitlines()] == ["(random)", f"({small})"]
    said = fails(2, *command, "--metric", "kid", "--fail-under", "kid=1")
    assert f"--fail-under kid: give kid[random] or kid[{small}]" in said
    said = fails(2, "evaluate", "--make-reference", folders[1], "-o", tmp_path / "r.npz", *options)
    assert "--make-reference makes statistics of one network's features; give one --features" in said
    files = ("--features", "clip", "--features", "dinov2", "--timm-weights", tmp_path / "small.safetensors")
    said = fails(2, "evaluate", folders[0], "--reference", folders[1], *files)
    assert "--timm-weights: 1 file for clip, dinov2; give one for each in this order, or none" in said
