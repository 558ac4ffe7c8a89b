"""The passes over images: several processes, the feature cache, forms of input, order, and the networks together."""

import errno
import io
import json
import re
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from damage import damages
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from restok_cli.data.images import save_image
from restok_cli.data.streams import StreamWriter
from restok_cli.errors import ImageError
from restok_cli.metrics import cache, image_sets, kept
from restok_cli.metrics import measure as measuring
from restok_cli.metrics.cache import FeatureCache, prune
from restok_cli.metrics.formulas import kid
from restok_cli.metrics.formulas.frechet import GaussianStatistics
from restok_cli.metrics.formulas.frechet_intervals import Cloud, FrechetDistance
from restok_cli.metrics.formulas.neighbours import precision_recall
from restok_cli.metrics.image_sets import GROUP_SIZE, ImageSet
from restok_cli.metrics.image_sources import open_images
from restok_cli.metrics.measure import Instruments, choose_metrics, measure
from restok_cli.metrics.networks.features import RandomNetwork
from restok_cli.metrics.networks.inception import Inception, load_inception
from restok_cli.metrics.reference import Reference

ALL_METRICS = ("gfid", "sfid", "is", "precision", "recall", "kid", "psnr", "ssim", "mse")


def draw_images(count, seed, size=16):
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=rng)
    return (torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear") * 255).to(torch.uint8)


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def png_bytes(image):
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "PNG")
    return buffer.getvalue()


def in_memory(images, keys=None):
    keys = keys or [f"{i:06d}" for i in range(len(images))]
    return ImageSet("memory", len(images), keys.__getitem__, lambda i: to_pil(images[i]))


def write_folder(folder, images):
    for i, image in enumerate(images):
        save_image(image, folder / f"{i:06d}.png")
    return folder


class Counting(RandomNetwork):
    """Counts the images that really go through it."""

    calls = 0

    def __call__(self, images):
        self.calls += 1
        return super().__call__(images)


def instruments(network=None, folder=None, batch_size=64):
    network = network or RandomNetwork()
    return Instruments([FeatureCache(folder, network)], torch.device("cpu"), batch_size)


def narrow(folder=None):
    return instruments(Narrow(), folder)


def reference_of(images):
    return Reference("memory", None, in_memory(images))


def values(measurements):
    return {name: measurement.value for name, measurement in measurements.items()}


def measure_one(samples, reference, metrics=ALL_METRICS, tools=None):
    (found,) = measure([samples], Reference("memory", None, reference), list(metrics), tools or instruments())
    return values(found)


@pytest.fixture(scope="module")
def sets():
    return draw_images(40, seed=1), draw_images(40, seed=2)


def naive_distance(a, b):
    """The definition, of all features at once."""
    (mu_a, sigma_a), (mu_b, sigma_b) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a.double(), b.double()))
    root = np.sqrt(np.linalg.eigvals(sigma_a @ sigma_b).astype(complex)).real.sum()
    return float(((mu_a - mu_b) ** 2).sum()) + np.trace(sigma_a) + np.trace(sigma_b) - 2 * root


def test_metrics_of_features_equal_naive_ones_of_all_features_at_once(sets):
    network = RandomNetwork()
    ours, theirs = (network(images) for images in sets)
    found = measure_one(*map(in_memory, sets))
    assert found["gfid"] == pytest.approx(naive_distance(ours.pool, theirs.pool), rel=1e-5)
    assert found["sfid"] == pytest.approx(naive_distance(ours.spatial, theirs.spatial), rel=1e-5)
    expected = precision_recall(ours.pool, theirs.pool)
    assert (found["precision"], found["recall"]) == (expected.precision.value, expected.recall.value)


class Narrow(RandomNetwork):
    dimensions = 8


def test_numbers_of_enough_images_carry_intervals_wherever_features_lie(tmp_path, sets, monkeypatch):
    metrics = [*ALL_METRICS, "fid-inf", "density", "coverage", "mind", "cmmd"]
    found = measure([in_memory(sets[0])], reference_of(sets[1]), metrics, narrow())[0]
    for measurement in found.values():
        if measurement.value in (0, 1):
            continue  # a share of none or all
        assert measurement.interval[0] <= measurement.value <= measurement.interval[1], measurement.metric
    monkeypatch.setattr(kept, "LARGEST_IN_MEMORY", 0)
    assert measure([in_memory(sets[0])], reference_of(sets[1]), metrics, narrow(tmp_path / "cache"))[0] == found
    few = measure([in_memory(sets[0][:29])], reference_of(sets[1][:29]), metrics, narrow())[0]
    assert [measurement.interval for measurement in few.values()] == [None] * len(metrics)


def test_infinite_distance_is_part_of_all_where_images_suffice_for_the_features(sets, monkeypatch):
    monkeypatch.setattr(measuring, "open_lpips", lambda *_: None)

    def chosen(count, tools):
        return choose_metrics(["all"], in_memory(sets[0][:count]), reference_of(sets[1]), tools, None)

    assert "fid-inf" in chosen(24, narrow())
    assert "fid-inf" not in chosen(23, narrow())
    assert "fid-inf" not in chosen(40, instruments())


def test_partners_are_drawn_together_also_where_one_cannot_be_read(sets):
    """The interval of rFID, from the influences of what is left of either side."""
    network, broken = RandomNetwork(), in_memory(sets[0])
    read = broken.open

    def read_all_but_the_first(index):
        if index == 0:
            raise ImageError("image 0")
        return read(index)

    broken.open = read_all_but_the_first
    (found,) = measure([broken], reference_of(sets[1]), ["rfid"], instruments())
    clouds = []
    for images, start in ((sets[0], 1), (sets[1], 0)):
        rows = network(images[start:]).pool
        statistics = GaussianStatistics(rows.shape[1])
        statistics.add(rows)
        clouds.append(Cloud(statistics.gaussian(), rows, np.arange(start, 40)))
    expected = FrechetDistance(*clouds, paired=True).estimate()
    assert found["rfid"].interval == pytest.approx(expected.interval, rel=1e-5)
    apart = FrechetDistance(*clouds, paired=False).estimate()
    assert found["rfid"].interval != pytest.approx(apart.interval, rel=1e-3)


@pytest.mark.parametrize("batch_size", [1, 16, 33, 1000])
def test_results_are_the_same_to_the_last_digit_for_any_batch_size(sets, batch_size):
    expected = measure_one(*map(in_memory, sets))
    assert measure_one(*map(in_memory, sets), tools=instruments(batch_size=batch_size)) == expected


@pytest.mark.parametrize("processes", [1, 2])
def test_groups_that_go_through_the_network_together_give_the_same_numbers(tmp_path, sets, monkeypatch, processes):
    """As on a GPU, also where one of the set's groups is known and one holds nothing that can be read."""
    broken = in_memory(sets[0])
    read = broken.open

    def read_all_but_the_second_group(index):
        if GROUP_SIZE <= index < 2 * GROUP_SIZE:
            raise ImageError(f"image {index}")
        return read(index)

    broken.open = read_all_but_the_second_group
    reference, metrics = in_memory(sets[1]), [*ALL_METRICS[:6]]
    expected = measure_one(broken, reference, metrics, instruments(folder=tmp_path / "one"))
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


def test_results_do_not_depend_on_the_order_of_files(sets):
    """But for IS and KID, whose definitions take images by their place."""
    metrics = [metric for metric in ALL_METRICS if metric not in ("is", "kid")]
    expected = measure_one(*map(in_memory, sets), metrics)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    found = measure_one(*(in_memory(images[order]) for images in sets), metrics)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found["psnr"] == expected["psnr"]


def test_fingerprint_is_that_of_the_pixels_whatever_order_and_form(tmp_path, sets):
    folder = write_folder(tmp_path / "folder", sets[0])
    np.savez(tmp_path / "set.npz", sets[0].flip(0).permute(0, 2, 3, 1).numpy())
    fingerprints = set()
    for source in ("folder", "set.npz"):
        pictures = open_images(str(tmp_path / source), "all")
        measure_one(pictures, in_memory(sets[1]), ["gfid"])
        fingerprints.add(pictures.fingerprint)
    assert len(fingerprints) == 1
    save_image(sets[1][0], folder / "000000.png")
    pictures = open_images(str(folder), "all")
    measure_one(pictures, in_memory(sets[1]), ["gfid"])
    assert pictures.fingerprint not in fingerprints


# --- forms of input ----------------------------------------------------------------------------------------------


def write_tar(path, images, start=0):
    with tarfile.open(path, "w") as tar:
        for i, image in enumerate(images, start):
            for suffix, data in (("json", b"{}"), ("png", png_bytes(image))):
                info = tarfile.TarInfo(f"{i:06d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def test_tar_files_and_streams_measure_like_a_folder(tmp_path, sets):
    expected = measure_one(open_images(str(write_folder(tmp_path / "folder", sets[0])), "all"), in_memory(sets[1]))
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards/0.tar", sets[0][:25])
    write_tar(tmp_path / "shards/1.tar", sets[0][25:], start=25)
    write_tar(tmp_path / "one.tar", sets[0])
    stream = io.BytesIO()
    with StreamWriter(stream) as writer:
        for i, image in enumerate(sets[0]):
            writer.write(f"{i:06d}", png_bytes(image), {"class_id": 3})
    stream.seek(0)
    for pictures in (
        open_images(str(tmp_path / "shards"), "all"),
        open_images(str(tmp_path / "one.tar"), "all"),
        open_images("-", "all", stdin=stream),
    ):
        assert measure_one(pictures, in_memory(sets[1])) == expected


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGBA", (16, 16)), "has transparency"),
        (Image.new("L", (16, 16)), "has mode L"),
        (Image.new("I;16", (16, 16)), "has 16 bits per channel"),
        (Image.new("LA", (16, 16)), "has transparency"),
    ],
    ids=["RGBA", "gray", "16-bit", "gray with alpha"],
)
def test_samples_that_are_not_8_bit_rgb_are_refused(tmp_path, fails, sets, image, message):
    folder = write_folder(tmp_path / "folder", sets[0][:4])
    image.save(folder / "000002.png")
    line = fails(1, "evaluate", folder, "--metric", "is", "--features", "random")
    assert "000002.png" in line
    assert message in line
    assert "8-bit RGB" in line


def test_16_bit_colour_is_refused(tmp_path, fails):
    """Pillow would read it as if it had 8."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(6 * 8)) for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    assert Image.open(tmp_path / "a.png").mode == "RGB"
    assert "a.png has 16 bits per channel" in fails(1, "evaluate", tmp_path, "--metric", "is", "--features", "random")


def test_names_pair_pictures_dots_and_odd_characters_included(tmp_path, sets, capsys):
    names = ["photo.v1", "photo.v2", "2024.01.02", "x\u2028y", "x\x85y"]
    (tmp_path / "folder").mkdir()
    stream = io.BytesIO()
    with StreamWriter(stream) as writer:
        for name, image in zip(names, sets[0], strict=False):
            save_image(image, tmp_path / "folder" / f"{name}.png")
            writer.write(name, (tmp_path / "folder" / f"{name}.png").read_bytes(), {})
    lines = [json.dumps({"file": f"{name}.png"}, ensure_ascii=False) + "\n" for name in names]
    (tmp_path / "folder/manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "one.tar").write_bytes(stream.getvalue())
    with tarfile.open(tmp_path / "one.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("README.md"))
        tar.addfile(tarfile.TarInfo("._photo.v1.png"))
    stream.seek(0)
    for source in ("folder", "one.tar", "-"):
        pictures = open_images(source if source == "-" else str(tmp_path / source), "all", stdin=stream)
        assert [pictures.key(i) for i in range(pictures.count)] == names
    assert "2 files of" in (said := capsys.readouterr().err) and "passed over as no image, or hidden: README.md" in said


@pytest.mark.parametrize("where", ["in an image", "between two"])
def test_tar_file_that_is_cut_short_is_refused(tmp_path, fails, sets, where):
    write_tar(tmp_path / "one.tar", sets[0])
    with tarfile.open(tmp_path / "one.tar") as tar:
        ends = {"in an image": tar.getmembers()[21].offset_data + 9, "between two": tar.getmembers()[20].offset}
    with open(tmp_path / "one.tar", "rb+") as file:
        file.truncate(ends[where])
    line = fails(1, "evaluate", tmp_path / "one.tar", "--metric", "is", "--features", "random")
    assert re.search(r"one\.tar is (a damaged tar|cut short).*copy or download it again", line)


def test_crop_brings_samples_of_several_sizes_to_one(tmp_path, restok, sets):
    folder = write_folder(tmp_path / "folder", sets[0][:4])
    save_image(draw_images(1, seed=3, size=40)[0], folder / "000009.png")
    result = restok("evaluate", folder, "--metric", "is", "--features", "random", "--crop", 16, "--json")
    samples = json.loads(result.out)["protocol"]["samples"]
    assert samples["n"] == 5
    assert samples["size"] == "16x16"
    assert samples["crop"].startswith("ADM centre crop to 16x16")


def test_pairs_without_names_are_matched_by_order(tmp_path, restok, fails, sets):
    np.savez(tmp_path / "samples.npz", sets[0][:6].permute(0, 2, 3, 1).numpy())
    folder = tmp_path / "originals"
    for name, image in zip("abcdef", sets[0][:6], strict=True):
        save_image(image, folder / f"{name}.png")
    result = restok("evaluate", tmp_path / "samples.npz", "--reference", folder, "--metric", "mse", "--json")
    assert json.loads(result.out)["metrics"]["mse"]["value"] == 0
    (folder / "f.png").unlink()
    line = fails(1, "evaluate", tmp_path / "samples.npz", "--reference", folder, "--metric", "mse")
    assert "samples.npz holds 6 images and" in line


def test_originals_of_pictures_that_reconstruct_left_out_are_left_out_too(tmp_path, restok, sets):
    originals = write_folder(tmp_path / "originals", sets[0][:6])
    samples = write_folder(tmp_path / "samples", sets[0][:6])
    (originals / "000002.png").write_bytes(b"no image")
    (samples / "000002.png").unlink()
    lines = [json.dumps({"file": path.name}) for path in sorted(samples.iterdir())]
    (samples / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    metrics = ("--metric", "rfid", "--metric", "mse", "--features", "random")
    result = restok("evaluate", samples, "--reference", originals, *metrics, "--json")
    found = json.loads(result.out)["metrics"]
    assert {metric["n"] for metric in found.values()} == {metric["n_reference"] for metric in found.values()} == {5}
    assert found["mse"]["value"] == 0
    assert "1 of 6 images" in result.err


# --- processes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_measure_exactly_what_one_measures(tmp_path, restok, sets):
    samples, reference = (write_folder(tmp_path / name, images) for name, images in zip("ab", sets, strict=True))
    (samples / "000003.png").write_bytes(b"no image")
    command = ["evaluate", str(samples), "--reference", str(reference), "--features", "random", "--json", "--no-cache"]
    command += [part for metric in ALL_METRICS for part in ("--metric", metric)]
    two = (sys.executable, "-m", "restok_cli", *command, "--num-processes", "2")
    texts = restok(*command).out, subprocess.run(two, capture_output=True, check=True, timeout=120).stdout
    results = [json.loads(text) for text in texts]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["metrics"]["mse"]["n"] == 39
    for name in ("samples", "reference", "features"):
        assert results[0]["protocol"][name] == results[1]["protocol"][name]


def test_stream_is_not_for_several_processes(fails):
    line = fails(2, "evaluate", "-", "--metric", "is", "--features", "random", "--num-processes", "2")
    assert "leave --num-processes out" in line


# --- the cache ---------------------------------------------------------------------------------------------------


def test_second_metric_needs_no_network(tmp_path, sets):
    network = Counting()
    first = measure_one(*map(in_memory, sets), ["gfid"], instruments(network, tmp_path))
    assert network.calls == 2 * -(-40 // GROUP_SIZE)
    network.calls = 0
    second = measure_one(*map(in_memory, sets), ["gfid", "sfid", "is", "recall"], instruments(network, tmp_path))
    assert network.calls == 0
    assert second["gfid"] == first["gfid"]
    assert second == measure_one(*map(in_memory, sets), ["gfid", "sfid", "is", "recall"])


def test_killed_evaluation_goes_on_where_it_was(tmp_path, sets):
    class Killed(Exception):
        pass

    class Dying(Counting):
        def __call__(self, images):
            if self.calls == 4:
                raise Killed
            return super().__call__(images)

    with pytest.raises(Killed):
        measure_one(*map(in_memory, sets), ["gfid"], instruments(Dying(), tmp_path))
    network = Counting()
    found = measure_one(*map(in_memory, sets), ["gfid"], instruments(network, tmp_path))
    assert network.calls == 2
    assert found == measure_one(*map(in_memory, sets), ["gfid"])


@pytest.mark.parametrize("damage", ["cut", "empty", "other shape"])
def test_damaged_cache_files_are_made_again(tmp_path, sets, damage):
    expected = measure_one(*map(in_memory, sets), ["gfid"], instruments(folder=tmp_path))
    for path in tmp_path.glob("features/*/*.npy"):
        if damage == "other shape":
            np.save(path, np.zeros((3, 5), np.float32))
        else:
            path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"")
    network = Counting()
    assert measure_one(*map(in_memory, sets), ["gfid"], instruments(network, tmp_path)) == expected
    assert network.calls == 6


def test_no_damage_to_the_cache_changes_a_number(tmp_path, sets):
    expected = measure_one(*map(in_memory, sets), ["gfid"], instruments(folder=tmp_path))
    paths = sorted(tmp_path.glob("features/*/*.npy"))
    for damaged in damages(paths[0].read_bytes()):
        paths[0].write_bytes(damaged)
        network = Counting()
        assert measure_one(*map(in_memory, sets), ["gfid"], instruments(network, tmp_path)) == expected
        assert network.calls == 1  # for that entry alone, which is whole again
    first, last = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(last)
    paths[1].write_bytes(first)
    assert measure_one(*map(in_memory, sets), ["gfid"], instruments(network, tmp_path)) == expected
    assert network.calls == 3 and [path.read_bytes() for path in paths[:2]] == [first, last]


def test_features_of_other_pictures_or_weights_are_not_taken(tmp_path, sets):
    measure_one(*map(in_memory, sets), ["gfid"], instruments(folder=tmp_path))
    changed = sets[0].clone()
    changed[0, 0, 0, 0] += 1
    network = Counting()
    measure_one(in_memory(changed), in_memory(sets[1]), ["gfid"], instruments(network, tmp_path))
    assert network.calls == 1
    other = Counting()
    other.weights_sha256 = "0" * 64
    measure_one(*map(in_memory, sets), ["gfid"], instruments(other, tmp_path))
    assert other.calls == 6


@pytest.mark.parametrize("reason", ["Not a directory", "No space left on device"])
def test_a_cache_that_cannot_be_written_is_said_once_and_done_without(tmp_path, sets, capsys, monkeypatch, reason):
    """A file in its place stands for a folder that is read only, which root could write to."""
    folder = tmp_path / "cache"
    if reason == "Not a directory":
        folder.write_text("")
    else:

        def write(file, _array):
            raise OSError(errno.ENOSPC, reason)

        monkeypatch.setattr(np, "save", write)
    found = measure_one(*map(in_memory, sets), tools=instruments(folder=folder))
    assert found == measure_one(*map(in_memory, sets))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "cannot be kept" in line]
    assert f"features cannot be kept in {folder / 'features'} ({reason})" in line
    prune(folder)


def test_cache_that_is_too_large_loses_what_nobody_asked_for_longest(tmp_path, sets, monkeypatch):
    measure_one(*map(in_memory, sets), ["gfid"], instruments(folder=tmp_path))
    files = sorted(tmp_path.glob("features/*/*.npy"), key=lambda path: path.stat().st_mtime)
    monkeypatch.setattr(cache, "LARGEST_CACHE", sum(path.stat().st_size for path in files[2:]))
    prune(tmp_path)
    assert [path.exists() for path in files] == [False, False, True, True, True, True]


def test_cache_goes_where_it_is_told_and_nowhere_else(tmp_path, restok, sets, monkeypatch):
    samples = write_folder(tmp_path / "samples", sets[0][:4])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    arguments = ("evaluate", samples, "--metric", "is", "--features", "random")
    assert restok(*arguments, "--no-cache").code == 0
    assert restok(*arguments, "--cache", tmp_path / "here").code == 0
    assert not (tmp_path / "xdg").exists()
    assert len(list((tmp_path / "here").glob("features/*/*.npy"))) == 1
    assert restok(*arguments).code == 0
    assert len(list((tmp_path / "xdg/restok").glob("features/*/*.npy"))) == 1


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
    monkeypatch.setattr(kid, "SUBSET_SIZE", 8)
    images = [draw_images(12, seed=seed, size=32) for seed in (1, 2)]
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
    distance = kid_features_to_metric(pool.double(), reference.double(), kid_subset_size=8, verbose=False)
    expected = {"gfid": fid, "is": score, "kid": distance["kernel_inception_distance_mean"]}
    found = measure_one(*map(in_memory, images), expected, instruments(load_inception(inception)))
    assert score > 1.01
    assert found == pytest.approx(expected, rel=1e-6)
