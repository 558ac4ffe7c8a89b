"""Images and their originals find each other by name."""

import json
import shutil
import tarfile
from unicodedata import normalize

import pytest
from pictures import write_pictures

from restok_cli.data.image_folders import check_image_folder


@pytest.fixture
def accented(tmp_path):
    """Two folders of the same images, whose names write one é each in one of Unicode's two ways."""
    for form in ("NFC", "NFD"):
        write_pictures(tmp_path / form, ["a.png", normalize(form, "café.png"), normalize(form, "Zoë/ï.png")])
    return tmp_path / "NFC", tmp_path / "NFD"


@pytest.fixture
def measure(restok):
    def call(samples, *options):
        result = restok("evaluate", samples, *options, "--features", "random", "--json")
        assert result.code == 0, result.err
        return json.loads(result.out)

    return call


def test_pairs_are_of_one_name_however_its_accents_are_written(measure, accented):
    options = ("--metric", "psnr", "--metric", "rfid")
    for samples, reference in (accented, accented[::-1]):
        result = measure(samples, "--reference", reference, *options)
        assert result["metrics"]["psnr"]["value"] == 100 and result["metrics"]["psnr"]["n"] == 3
    assert "psnr" in measure(accented[0], "--reference", accented[1], "--metric", "all")["metrics"]


def test_two_names_that_differ_only_so_are_refused(accented, fails):
    composed, decomposed = accented
    shutil.copy(composed / "café.png", decomposed)
    line = fails(1, "evaluate", composed, "--reference", decomposed, "--metric", "psnr")
    assert r"called café ('caf\xe9' and 'cafe\u0301'); pairs need unique names" in line


def test_a_key_in_two_splits_is_two_pictures(measure, fails, restok, tmp_path):
    write_pictures(tmp_path / "in", ["train/0.png", "train/1.png", "validation/0.png", "validation/1.png"])
    for split in ("train", "validation"):
        with tarfile.open(tmp_path / f"{split}-0.tar", "w") as tar:
            for name in ("0.png", "1.png"):
                tar.add(tmp_path / "in" / split / name, name)
    assert restok("prepare", "shards", tmp_path, tmp_path / "data").code == 0
    data, folder, options = tmp_path / "data", tmp_path / "in", ("--metric", "psnr", "--split", "all")
    for samples, reference in ((data, data), (data, folder), (folder, data)):
        result = measure(samples, "--reference", reference, *options)
        assert (result["metrics"]["psnr"]["value"], result["metrics"]["psnr"]["n"]) == (100, 4)
    (folder / "train/1.png").unlink()
    line = fails(1, "evaluate", folder, "--reference", data, *options)
    assert "train/1 of" in line and "has no partner in" in line


def test_a_manifest_lists_pictures_however_their_accents_are_written(measure, accented):
    composed, decomposed = accented
    lines = [
        json.dumps({"file": file.relative_to(composed).as_posix()}) + "\n" for file in sorted(composed.rglob("*.png"))
    ]
    (decomposed / "manifest.jsonl").write_text("".join(lines))
    result = measure(decomposed, "--reference", composed, "--metric", "psnr")
    assert result["metrics"]["psnr"]["n"] == 3 and result["protocol"]["samples"]["unreadable"] == 0
    check_image_folder(decomposed, overwrite=True)  # holds nothing but what is listed
