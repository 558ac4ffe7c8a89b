"""Arrays are mapped as NumPy reads them."""

import os
import zipfile

import numpy as np
import pytest

from restok_cli.data.arrays import map_array, read_npz
from restok_cli.data.shards.mapping import map_shard


@pytest.mark.parametrize("mapped", [map_array, map_shard])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4), (0, 2)])
def test_an_array_is_mapped_as_numpy_reads_it(tmp_path, order, shape, mapped):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    np.testing.assert_array_equal(mapped(tmp_path / "a.npy"), array)
    assert not mapped(tmp_path / "a.npy").flags.writeable


@pytest.mark.parametrize("mapped", [map_array, map_shard])
def test_a_file_that_is_cut_short_or_goes_on_is_refused(tmp_path, mapped):
    np.save(tmp_path / "a.npy", np.arange(3))
    whole = (tmp_path / "a.npy").read_bytes()
    for contents in (whole[:-1], whole + b"0", whole[:20], b""):
        (tmp_path / "a.npy").write_bytes(contents)
        with pytest.raises(ValueError):
            mapped(tmp_path / "a.npy")


def test_shards_that_stay_mapped_keep_no_file_open(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    before = len(os.listdir("/dev/fd"))
    arrays = [map_shard(tmp_path / "a.npy") for _ in range(5)]
    assert len(os.listdir("/dev/fd")) == before
    assert all(array.tolist() == [0, 1, 2] for array in arrays)


def test_headers_of_python_2_are_read_without_a_warning(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole.replace(b"(3,), ", b"(3L,),"))
    assert map_array(tmp_path / "a.npy").tolist() == [0, 1, 2]
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "a.npy")
    assert read_npz(tmp_path / "a.npz", ["a"])["a"].tolist() == [0, 1, 2]
