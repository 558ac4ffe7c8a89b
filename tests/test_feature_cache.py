"""The cache of features: it spares the network, and changes no number."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import damages
from measurements import SETS, Counting, in_memory, instruments, measure_one, write_folder

from restok_cli.metrics import cache
from restok_cli.metrics.cache import prune
from restok_cli.metrics.image_sets import GROUP_SIZE, Group
from restok_cli.metrics.networks.features import Features, RandomNetwork
from restok_cli.metrics.reference import open_reference


def test_second_metric_needs_no_network(tmp_path, monkeypatch):
    """Nor does the first wait for the disk at each group."""
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("waits for the disk"))
    network = Counting()
    first = measure_one(*map(in_memory, SETS), ["gfid"], instruments(network, tmp_path))
    assert network.calls == 2 * -(-40 // GROUP_SIZE)
    network.calls = 0
    second = measure_one(*map(in_memory, SETS), ["gfid", "sfid", "is", "recall"], instruments(network, tmp_path))
    assert network.calls == 0
    assert second["gfid"] == first["gfid"]
    assert second == measure_one(*map(in_memory, SETS), ["gfid", "sfid", "is", "recall"])


def test_killed_evaluation_goes_on_where_it_was(tmp_path):
    class Killed(Exception):
        pass

    class Dying(Counting):
        def __call__(self, images):
            if self.calls == 4:
                raise Killed
            return super().__call__(images)

    with pytest.raises(Killed):
        measure_one(*map(in_memory, SETS), ["gfid"], instruments(Dying(), tmp_path))
    network = Counting()
    found = measure_one(*map(in_memory, SETS), ["gfid"], instruments(network, tmp_path))
    assert network.calls == 2
    assert found == measure_one(*map(in_memory, SETS), ["gfid"])


@pytest.mark.parametrize("damage", ["cut", "empty", "other shape"])
def test_damaged_cache_files_are_made_again(tmp_path, damage):
    expected = measure_one(*map(in_memory, SETS), ["gfid"], instruments(folder=tmp_path))
    for path in tmp_path.glob("features/*/*.npy"):
        if damage == "other shape":
            np.save(path, np.zeros((3, 5), np.float32))
        else:
            path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"")
    network = Counting()
    assert measure_one(*map(in_memory, SETS), ["gfid"], instruments(network, tmp_path)) == expected
    assert network.calls == 6


def test_no_damage_to_the_cache_changes_a_number(tmp_path):
    expected = measure_one(*map(in_memory, SETS), ["gfid"], instruments(folder=tmp_path))
    paths = sorted(tmp_path.glob("features/*/*.npy"))
    for damaged in damages(paths[0].read_bytes()):
        paths[0].write_bytes(damaged)
        network = Counting()
        assert measure_one(*map(in_memory, SETS), ["gfid"], instruments(network, tmp_path)) == expected
        assert network.calls == 1  # for that entry alone, which is whole again
    first, last = paths[0].read_bytes(), paths[1].read_bytes()
    paths[0].write_bytes(last)
    paths[1].write_bytes(first)
    assert measure_one(*map(in_memory, SETS), ["gfid"], instruments(network, tmp_path)) == expected
    assert network.calls == 3 and [path.read_bytes() for path in paths[:2]] == [first, last]


def test_features_of_other_pictures_or_weights_are_not_taken(tmp_path):
    measure_one(*map(in_memory, SETS), ["gfid"], instruments(folder=tmp_path))
    changed = SETS[0].clone()
    changed[0, 0, 0, 0] += 1
    network = Counting()
    measure_one(in_memory(changed), in_memory(SETS[1]), ["gfid"], instruments(network, tmp_path))
    assert network.calls == 1
    other = Counting()
    other.weights_sha256 = "0" * 64
    measure_one(*map(in_memory, SETS), ["gfid"], instruments(other, tmp_path))
    assert other.calls == 6


def test_images_of_the_same_bytes_in_another_form_have_features_of_their_own(tmp_path):
    """Wide and high ones, 16 bits and pairs of 8: digests of bytes are the same."""
    kept = cache.FeatureCache(tmp_path, RandomNetwork())
    wide = torch.zeros(1, 3, 2, 4, dtype=torch.uint8)
    forms = [wide, wide.view(1, 3, 4, 2), wide.view(torch.int16), wide.view(1, 24)]
    for number, images in enumerate(forms):
        group = Group([0], images, [b"the same"], {}, 0)
        assert kept.find(group) is None
        features = Features(torch.full((1, 128), float(number)), torch.zeros(1, 112))
        kept.keep(group, features)
        assert torch.equal(kept.find(group).pool, features.pool)


@pytest.mark.parametrize("reason", ["Not a directory", "No space left on device"])
def test_a_cache_that_cannot_be_written_is_said_once_and_done_without(tmp_path, capsys, monkeypatch, reason):
    """A file in its place stands for a folder that is read only, which root could write to."""
    folder = tmp_path / "cache"
    if reason == "Not a directory":
        folder.write_text("")
    else:

        def write(file, _array):
            raise OSError(errno.ENOSPC, reason)

        monkeypatch.setattr(np, "save", write)
    found = measure_one(*map(in_memory, SETS), tools=instruments(folder=folder))
    assert found == measure_one(*map(in_memory, SETS))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "cannot be kept" in line]
    assert f"features cannot be kept in {folder / 'features'} ({reason})" in line
    prune(folder)


def test_cache_that_is_too_large_loses_what_nobody_asked_for_longest(tmp_path, monkeypatch):
    measure_one(*map(in_memory, SETS), ["gfid"], instruments(folder=tmp_path))
    files = sorted(tmp_path.glob("features/*/*.npy"), key=lambda path: path.stat().st_mtime)
    monkeypatch.setattr(cache, "LARGEST_CACHE", sum(path.stat().st_size for path in files[2:]))
    prune(tmp_path)
    assert [path.exists() for path in files] == [False, False, True, True, True, True]


def test_cache_goes_where_it_is_told_and_nowhere_else(tmp_path, restok, monkeypatch):
    samples = write_folder(tmp_path / "samples", SETS[0][:4])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    arguments = ("evaluate", samples, "--metric", "is", "--features", "random")
    assert restok(*arguments, "--no-cache").code == 0
    assert restok(*arguments, "--cache", tmp_path / "here").code == 0
    assert not (tmp_path / "xdg").exists()
    assert len(list((tmp_path / "here").glob("features/*/*.npy"))) == 1
    assert restok(*arguments).code == 0
    assert len(list((tmp_path / "xdg/restok").glob("features/*/*.npy"))) == 1


def test_a_cache_that_another_user_keeps_closed_is_done_without(tmp_path, monkeypatch):
    def closed(folder, _pattern):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "glob", closed)  # root could look in
    prune(tmp_path)
    assert open_reference("sample", "validation", tmp_path).statistics is None
