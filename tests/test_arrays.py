"""Arrays are mapped as NumPy reads them."""

import numpy as np
import pytest

from restok_cli.data.arrays import map_array


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4)])
def test_an_array_is_mapped_as_numpy_reads_it(tmp_path, order, shape):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    np.testing.assert_array_equal(map_array(tmp_path / "a.npy"), array)
    assert not map_array(tmp_path / "a.npy").flags.writeable
