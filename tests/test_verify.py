"""Whatever happens to a data set on the disk, `restok prepare verify` finds it and says which sample it hit."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from pictures import noise, write_pictures

from restok_cli.data.shards.dataset import open_dataset


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Three shards of four samples each, two for training and one for validation."""
    from restok_cli.commands.preparing import prepare

    folder = tmp_path_factory.mktemp("verify")
    names = [f"train/{kind}/{i}.png" for kind in "ab" for i in range(4)]
    write_pictures(folder / "in", names + [f"val/{kind}/{i}.png" for kind in "ab" for i in range(2)])
    arguments = ["folder", str(folder / "in"), str(folder / "set"), "--samples-per-shard", "4", "--jobs", "1"]
    prepare.app(arguments, standalone_mode=False)
    return folder / "set"


@pytest.fixture
def data(prepared, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(prepared, tmp_path / "set")


@pytest.fixture
def problems(restok):
    """What verify says: (file, sample, what) of each problem."""

    def call(folder, *options):
        result = restok("prepare", "verify", folder, "--json", "--jobs", 1, *options)
        found = json.loads(result.out)["problems"]
        assert result.code == (1 if found else 0), result
        assert len([line for line in result.err.splitlines() if line.startswith("restok: ")]) == bool(found)
        return [(problem["file"], problem["sample"], problem["what"]) for problem in found]

    return call


def keys(folder, shard=0):
    split = open_dataset(folder).split("train")
    return [split.key(i) for i in range(4 * shard, 4 * shard + 4)]


def ends(index):
    """Where each sample ends in its tar."""
    return index["offset"].astype(int) + -(-index["length"].astype(int) // 512) * 512


def flip(path, position):
    contents = bytearray(path.read_bytes())
    contents[position] ^= 1 << position % 8
    path.write_bytes(contents)


def test_one_sample_is_told_as_one(restok, tmp_path):
    noise(1).save(tmp_path / "a.png")
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "a.png").rename(tmp_path / "in/a/a.png")
    assert "1 image, 1 class: train 1" in restok("prepare", "folder", tmp_path / "in", tmp_path / "one").err
    assert "1 sample in 1 shard is as it was prepared" in restok("prepare", "verify", tmp_path / "one").out


def change_manifest(folder, change):
    path = folder / "dataset.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_whole_data_set_has_no_problems(restok, data, jobs):
    result = restok("prepare", "verify", data, "--jobs", jobs)
    assert (result.code, result.out) == (0, "12 samples in 3 shards are as they were prepared\n")
    result = restok("prepare", "verify", data, "--jobs", jobs, "--json")
    assert json.loads(result.out) == {
        "path": str(data),
        "shards": 3,
        "samples": 12,
        "streamed": [],
        "problems": [],
    }


def test_the_data_set_that_comes_with_restok_is_whole(problems):
    assert problems("sample") == []


def test_a_bit_flipped_anywhere_in_a_sample_names_that_sample(data, problems):
    """In headers, class, json, image and padding: everywhere."""
    shard = data / "train-000001.tar"
    index = np.load(data / "train-000001.npy")
    bounds = ends(index)
    rng = np.random.default_rng(0)
    positions = [*rng.integers(0, bounds[-1], 40), 0, int(bounds[0]) - 1, int(bounds[0]), int(bounds[-1]) - 1]
    names = keys(data, 1)
    for position in map(int, positions):
        flip(shard, position)
        sample = int(np.searchsorted(bounds, position, side="right"))
        ((file, name, what),) = problems(data)
        assert (file, what) == ("train-000001.tar", "damaged"), position
        assert names[sample] in name and f"(number {sample})" in name, position
        assert not any(other in name for other in names if other != names[sample]), position
        flip(shard, position)
    assert problems(data) == []


def test_every_damaged_sample_is_named(data, problems):
    index = np.load(data / "train-000000.npy")
    for i in (0, 2, 3):
        flip(data / "train-000000.tar", int(index["offset"][i]) + 5)
    names = keys(data)
    assert [name for _, name, _ in problems(data)] == [f"{names[i]} (number {i})" for i in (0, 2, 3)]


def test_a_bit_flipped_after_the_last_sample_is_found(data, problems):
    shard = data / "train-000000.tar"
    flip(shard, shard.stat().st_size - 1)
    assert problems(data) == [("train-000000.tar", None, "is damaged after its last sample")]


def test_a_bit_flipped_anywhere_in_an_index_is_found(data, problems):
    path = data / "train-000000.npy"
    for position in range(0, path.stat().st_size, 3):
        flip(path, position)
        found = problems(data)
        assert found or position < 128, position  # nothing depends on the spaces in the header of a .npy file
        assert all(file in ("train-000000.npy", "train-000000.tar") for file, _, _ in found)
        flip(path, position)
    assert problems(data) == []


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.9])
def test_a_cut_shard_names_the_first_lost_sample(data, problems, part):
    shard = data / "train-000000.tar"
    index, names = np.load(data / "train-000000.npy"), keys(data)
    length = int(part * (index["offset"][3] + index["length"][3]))
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:length])
    size_problem, (file, name, what) = problems(data)
    assert size_problem == ("train-000000.tar", None, f"has {length} bytes instead of {size}")
    first = int(np.searchsorted(ends(index), length))
    assert file == "train-000000.tar" and f"number {first}" in name
    assert what.startswith(f"lost, with the {3 - first} after it")
    if length > index["offset"][first]:
        assert names[first] in name


def test_a_shard_cut_behind_its_last_sample_has_lost_none(data, problems):
    shard = data / "train-000000.tar"
    size, end = shard.stat().st_size, int(ends(np.load(data / "train-000000.npy"))[-1])
    shard.write_bytes(shard.read_bytes()[:end])
    assert problems(data) == [("train-000000.tar", None, f"has {end} bytes instead of {size}")]


def test_missing_and_foreign_files_are_named(data, problems):
    (data / "train-000000.tar").unlink()
    (data / "train-000001.npy").unlink()
    shutil.copy(data / "validation-000000.tar", data / "train-000007.tar")
    (data / "._train-000000.tar").touch()  # hidden files, which macOS leaves, are nothing
    (data / ".partial").mkdir()
    assert sorted(problems(data)) == [
        (".partial", None, "left by a preparation that was stopped"),
        ("train-000000.tar", None, "is missing"),
        ("train-000001.npy", None, "is missing"),
        ("train-000007.tar", None, "dataset.json does not speak of it"),
    ]


def test_swapped_shards_are_found(data, problems):
    for suffix in ("tar", "npy"):
        one, two = (data / f"train-00000{i}.{suffix}" for i in range(2))
        contents = one.read_bytes(), two.read_bytes()
        one.write_bytes(contents[1])
        two.write_bytes(contents[0])
    assert {file for file, _, _ in problems(data)} == {"train-000000.tar", "train-000001.tar"}


def test_a_damaged_shard_without_its_index_cannot_name_the_sample(data, problems):
    flip(data / "train-000000.tar", 3000)
    (data / "train-000000.npy").write_bytes(b"nothing")
    (_, _, index), (_, sample, tar) = problems(data)
    assert index.startswith("is no index of train-000000.tar")
    assert (sample, tar) == (None, "is damaged; without its index it cannot be told which sample is")


def test_a_key_that_comes_twice_is_named_with_both_shards(data, problems):
    for suffix in ("tar", "npy"):
        shutil.copy(data / f"train-000000.{suffix}", data / f"train-000001.{suffix}")

    def both(manifest):
        shards = manifest["splits"]["train"]["shards"]
        shards[1] = shards[0] | {"file": shards[1]["file"]}

    change_manifest(data, both)
    found = problems(data)
    assert found[0][:2] == ("dataset.json", None) and "fingerprint" in found[0][2]
    expected = [("train-000001.tar", key, "the same key is in train-000000.tar already") for key in keys(data)]
    assert found[1:] == expected
    (data / "train-000001.npy").unlink()  # without which keys are read of the whole tar
    missing = ("train-000001.npy", None, "is missing")
    assert problems(data)[1:] == [missing, *expected]
    shutil.copy(data / "train-000000.npy", data / "train-000001.npy")
    flip(data / "train-000001.tar", 600)  # of the first sample, so that only the others have a key
    damaged = ("train-000001.tar", f"{keys(data)[0]} (number 0)", "damaged")
    assert problems(data)[1:] == [damaged, *expected[1:]]


def test_a_whole_tar_that_no_reader_takes_is_named(data, problems):
    shard = data / "train-000000.tar"
    shard.write_bytes(shard.read_bytes() + shard.read_bytes())
    facts = {"bytes": shard.stat().st_size, "sha256": hashlib.sha256(shard.read_bytes()).hexdigest()}
    change_manifest(data, lambda manifest: manifest["splits"]["train"]["shards"][0].update(facts))
    _, (file, sample, what) = problems(data)
    assert (file, sample) == ("train-000000.tar", None) and "goes on after its end" in what


def test_images_of_more_bytes_than_are_read_are_named(data, problems):
    index = np.load(data / "train-000000.npy")
    most = int(index["length"].max()) - 1
    what = f"has more than the {most:,} bytes that --max-member-bytes admits"
    expected = [("train-000000.tar", f"number {i}", what) for i in np.flatnonzero(index["length"] > most)]
    assert [found for found in problems(data, "--max-member-bytes", most) if found[0] == expected[0][0]] == expected


def test_classes_that_do_not_exist_are_named_by_sample(data, problems):
    change_manifest(data, lambda manifest: manifest.update(class_names=["a"]))
    found = problems(data)
    assert "fingerprint" in found[0][2]
    assert len(found) == 1 + 6
    assert all("b_" in key and what == "its class 1 is none of the 1 in dataset.json" for _, key, what in found[1:])


def test_counts_that_do_not_add_up_are_found(data, problems):
    change_manifest(data, lambda manifest: manifest["splits"]["train"].update(num_samples=9))
    assert problems(data) == [("dataset.json", None, "train is said to have 9 samples, its shards have 8")]


def test_problems_are_one_line_each_on_stdout(restok, data):
    flip(data / "train-000000.tar", 600)
    name = keys(data)[0]
    result = restok("prepare", "verify", data)
    assert result.code == 1
    assert result.out == f"train-000000.tar: {name} (number 0): damaged\n"
    assert result.err.splitlines()[-1] == f"restok: {data} has 1 problem; prepare or copy it again"


def test_damage_in_a_gzipped_shard_is_found(tmp_path, problems):
    from restok_cli.data.shards.layout import SAMPLE_FOLDER

    folder = shutil.copytree(SAMPLE_FOLDER, tmp_path / "sample")
    flip(folder / "validation-000000.tar.gz", 200_000)
    ((file, _, what),) = problems(folder)
    assert file == "validation-000000.tar.gz" and "cannot be read" in what


def test_what_is_no_data_set_is_refused(fails, tmp_path):
    noise(0).save(tmp_path / "a.png")
    assert "is not a data set" in fails(2, "prepare", "verify", tmp_path)
    assert "no such data set" in fails(2, "prepare", "verify", tmp_path / "nowhere")
