"""Arrays that stay mapped for as long as their data set is in use."""

from pathlib import Path

import numpy as np

from restok_cli.data.arrays import map_array


def map_shard(path: Path) -> np.ndarray:
    """The array in a .npy file, read-only, mapped from the disk as by `map_array`, but without a file kept open.

    A process may have only about a thousand files open, and large data sets have more shards than that.

    Raises OSError where there is no such file, ValueError where it is none of ours or is cut short.
    """
    import torch  # which takes seconds, and not all that open a data set need it

    return map_array(path, lambda path, size: torch.from_file(str(path), False, size, dtype=torch.uint8).numpy())
