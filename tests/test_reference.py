"""Statistics in files: `--make-reference`, ADM's own layout, names in the cache."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from restok_cli.data.images import save_image
from restok_cli.metrics.networks.features import RandomNetwork


def draw_images(count, seed, size=16):
    return torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def write_folder(folder, images):
    for i, image in enumerate(images):
        save_image(image, folder / f"{i:06d}.png")
    return folder


@pytest.fixture
def samples(tmp_path):
    return write_folder(tmp_path / "samples", draw_images(20, seed=1))


@pytest.fixture
def originals(tmp_path):
    return write_folder(tmp_path / "originals", draw_images(30, seed=2))


@pytest.fixture
def values(restok):
    def call(*arguments):
        found = restok("evaluate", *arguments, "--features", "random", "--json")
        assert found.code == 0, found.err
        return {name: metric["value"] for name, metric in json.loads(found.out)["metrics"].items()}

    return call


SET_METRICS = [part for name in ("gfid", "sfid", "precision", "recall", "kid") for part in ("--metric", name)]


def make(restok, *arguments):
    found = restok("evaluate", "--make-reference", *arguments, "--features", "random")
    assert found.code == 0, found.err
    return found


def test_reference_file_stands_for_the_pictures_it_was_made_of(tmp_path, restok, values, samples, originals):
    found = make(restok, originals, "-o", tmp_path / "ref.npz")
    assert found.out == f"{tmp_path / 'ref.npz'}\n"
    expected = values(samples, "--reference", originals, *SET_METRICS)
    assert values(samples, "--reference", tmp_path / "ref.npz", *SET_METRICS) == expected


def test_what_a_reference_was_made_of_is_told_as_json(tmp_path, restok, originals):
    path = tmp_path / "ref.npz"
    found = json.loads(make(restok, originals, "-o", path, "--reference-images", 7, "--json").out)
    assert (found["path"], found["images"], found["images_kept"]) == (str(path), 30, 7)
    with np.load(path) as arrays:
        assert found["protocol"]["reference"]["fingerprint"] == str(arrays["fingerprint"])
        assert found["protocol"]["features"]["weights_sha256"] == str(arrays["network"])


def test_reference_file_is_laid_out_like_adms(tmp_path, restok, originals):
    make(restok, originals, "-o", tmp_path / "ref.npz", "--reference-images", 7)
    features = RandomNetwork()(draw_images(30, seed=2))
    with np.load(tmp_path / "ref.npz") as arrays:
        for mu, sigma, part in (("mu", "sigma", features.pool), ("mu_s", "sigma_s", features.spatial)):
            expected = part.double().numpy()
            np.testing.assert_allclose(arrays[mu], expected.mean(0), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(arrays[sigma], np.cov(expected, rowvar=False), rtol=1e-4, atol=1e-6)
        chosen = draw_images(30, seed=2)[[0, 4, 8, 12, 17, 21, 25]].permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(arrays["arr_0"], chosen)


def test_reference_without_pictures_has_only_statistics(tmp_path, restok, fails, values, samples, originals):
    make(restok, originals, "-o", tmp_path / "ref.npz", "--reference-images", 0)
    expected = values(samples, "--reference", originals, "--metric", "gfid")
    assert values(samples, "--reference", tmp_path / "ref.npz", "--metric", "gfid") == expected
    assert set(values(samples, "--reference", tmp_path / "ref.npz", "--metric", "all")) == {"gfid", "sfid", "is"}
    arguments = ("evaluate", samples, "--reference", tmp_path / "ref.npz", "--features", "random")
    assert "holds only statistics, and recall needs images" in fails(2, *arguments, "--metric", "recall")
    assert "psnr compares images with their originals" in fails(2, *arguments, "--metric", "psnr")


def test_fid_of_an_adm_file_is_taken_from_its_statistics_and_recall_from_its_pictures(tmp_path, values, samples):
    """Its images are only some of those that the statistics are of: here, of other ones altogether."""
    others, own = draw_images(40, seed=3), draw_images(10, seed=4)
    features = RandomNetwork()(others).pool.double().numpy()
    np.savez(
        tmp_path / "adm.npz",
        mu=features.mean(0),
        sigma=np.cov(features, rowvar=False),
        arr_0=own.permute(0, 2, 3, 1).numpy(),
    )
    by_statistics = values(samples, "--reference", tmp_path / "adm.npz", "--metric", "gfid", "--metric", "recall")
    assert by_statistics["gfid"] == pytest.approx(
        values(samples, "--reference", write_folder(tmp_path / "others", others))["gfid"], rel=1e-4
    )
    own_folder = write_folder(tmp_path / "own", own)
    assert by_statistics["recall"] == values(samples, "--reference", own_folder, "--metric", "recall")["recall"]


def test_sfid_needs_spatial_statistics(tmp_path, fails, samples):
    np.savez(tmp_path / "plain.npz", mu=np.zeros(128), sigma=np.eye(128))
    arguments = ("--reference", tmp_path / "plain.npz", "--metric", "sfid", "--features", "random")
    assert "holds no statistics for sfid (mu_s, sigma_s)" in fails(2, "evaluate", samples, *arguments)


def test_reference_can_be_kept_under_a_name(restok, fails, values, samples, originals):
    make(restok, originals, "-o", "my-images")
    expected = values(samples, "--reference", originals)
    assert values(samples, "--reference", "my-images") == expected
    line = fails(2, "evaluate", samples, "--reference", "my-image", "--features", "random")
    assert "(did you mean my-images?)" in line


def test_reference_made_with_other_weights_is_refused(tmp_path, restok, fails, samples, originals):
    make(restok, originals, "-o", tmp_path / "ref.npz")
    with np.load(tmp_path / "ref.npz") as arrays:
        changed = dict(arrays) | {"network": np.array("0" * 64)}
    np.savez(tmp_path / "ref.npz", **changed)
    line = fails(1, "evaluate", samples, "--reference", tmp_path / "ref.npz", "--features", "random")
    assert "made with other weights (00000000…)" in line


def test_pictures_of_several_sizes_make_a_reference_once_they_are_cropped(tmp_path, restok, fails, originals):
    save_image(draw_images(1, seed=5, size=24)[0], originals / "000010.png")
    arguments = ("evaluate", "--make-reference", originals, "-o", tmp_path / "ref.npz", "--features", "random")
    assert "--crop gives them" in fails(1, *arguments)
    assert not (tmp_path / "ref.npz").exists()
    assert restok(*arguments, "--crop", 16).code == 0


@pytest.mark.parametrize("name", ["ref.npz", "replaced"])
def test_a_reference_replaces_another_only_when_asked_to(tmp_path, restok, fails, originals, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = Path(make(restok, originals, "-o", name).out.strip())
    before = path.read_bytes()
    arguments = ("evaluate", "--make-reference", originals, "-o", name, "--features", "random", "--crop", 8)
    assert "already exists; give another file, or --overwrite" in fails(2, *arguments)
    assert path.read_bytes() == before
    assert restok(*arguments, "--overwrite").code == 0
    assert path.read_bytes() != before


def test_a_reference_never_replaces_the_pictures_it_is_made_of(tmp_path, fails, originals):
    np.savez(tmp_path / "samples.npz", np.zeros((3, 16, 16, 3), np.uint8))
    arguments = ("--make-reference", tmp_path / "samples.npz", "-o", tmp_path / "samples.npz", "--features", "random")
    assert "would replace what is read" in fails(2, "evaluate", *arguments, "--overwrite")


def test_single_picture_makes_no_reference(tmp_path, fails):
    one = write_folder(tmp_path / "one", draw_images(1, seed=5))
    arguments = ("--make-reference", one, "-o", tmp_path / "ref.npz", "--features", "random")
    assert "at least 2 images, here are 1" in fails(1, "evaluate", *arguments)
    assert not (tmp_path / "ref.npz").exists()
