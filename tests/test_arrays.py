"""Arrays are mapped as NumPy reads them."""

import zipfile

import numpy as np
import pytest

from restok_cli.data.arrays import map_array, read_npz


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4)])
def test_an_array_is_mapped_as_numpy_reads_it(tmp_path, order, shape):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    np.testing.assert_array_equal(map_array(tmp_path / "a.npy"), array)
    assert not map_array(tmp_path / "a.npy").flags.writeable


def test_headers_of_python_2_are_read_without_a_warning(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole.replace(b"(3,), ", b"(3L,),"))
    assert map_array(tmp_path / "a.npy").tolist() == [0, 1, 2]
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "a.npy")
    assert read_npz(tmp_path / "a.npz", ["a"])["a"].tolist() == [0, 1, 2]
