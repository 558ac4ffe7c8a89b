"""Images that restok wrote, and that were changed since, are not taken for what they were."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import damages
from PIL import Image

from restok_cli.data.image_folders import known_digests, manifest_line
from restok_cli.files import file_crc32


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Six images with their manifest."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    rng, lines = np.random.default_rng(0), []
    for i in range(6):
        file = tmp_path / "made" / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(file)
        lines.append(manifest_line(file.name, file_crc32(file), {"psnr": 30.5}))
    (tmp_path / "made" / "manifest.jsonl").write_text("".join(lines))
    shutil.copytree(tmp_path / "made", tmp_path / "reference")
    return tmp_path / "made"


def swap(one: Path, other: Path) -> None:
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


EVALUATE = ("evaluate", "made", "--reference", "reference", "--metric", "mse", "--json")


def test_a_changed_picture_is_not_measured(folder, restok, fails):
    assert json.loads(restok(*EVALUATE).out)["metrics"]["mse"]["value"] == 0
    file = folder / "3.png"
    whole = file.read_bytes()
    for damaged in damages(whole, number=4):
        file.write_bytes(damaged)
        line = fails(1, *EVALUATE)
        assert "made/3.png: is not as restok wrote it; make it again, or delete manifest.jsonl" in line
    file.write_bytes(whole)
    swap(file, folder / "4.png")
    assert "made/3.png: is not as restok wrote it" in fails(1, *EVALUATE)
    (folder / "manifest.jsonl").unlink()  # then they are anybody's
    assert json.loads(restok(*EVALUATE).out)["metrics"]["mse"]["value"] > 0


def test_a_damaged_manifest_is_refused_or_changes_nothing(folder, restok):
    manifest = folder / "manifest.jsonl"
    expected = restok(*EVALUATE).out
    refused = 0
    for damaged in damages(manifest.read_bytes(), number=8):
        manifest.write_bytes(damaged)
        result = restok(*EVALUATE)
        if result.code:
            assert result.code == 1 and "made/manifest.jsonl" in result.err
            refused += 1
        else:
            assert json.loads(result.out)["metrics"] == json.loads(expected)["metrics"]
    assert refused > 12


def test_a_changed_picture_is_named_and_left_out_of_codes_and_of_data_sets(folder, restok):
    swap(folder / "3.png", folder / "4.png")
    result = restok("encode", "made", "-o", "codes.jsonl")
    assert result.code == 0
    assert [json.loads(line)["key"] for line in Path("codes.jsonl").read_text().splitlines()] == ["0", "1", "2", "5"]
    assert all(f"left out: made/{i}.png: is not as restok wrote it" in result.err for i in (3, 4))
    assert restok("prepare", "folder", "made", "data").code == 0
    bad = [json.loads(line) for line in Path("data/bad.jsonl").read_text().splitlines()]
    assert [(line["file"], "is not as restok wrote it" in line["reason"]) for line in bad if "png" in line["file"]] == [
        ("3.png", True),
        ("4.png", True),
    ]


def test_of_lines_without_digests_and_of_what_is_no_line_nothing_is_known(folder):
    manifest = folder / "manifest.jsonl"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([lines[0], '{"file": "1.png"}', '{"file": 3}', "[]", "{", "3"]))
    assert known_digests(folder) == {"0.png": file_crc32(folder / "0.png")}
    assert known_digests(folder / "0.png") == known_digests(folder / "nowhere") == {}
