"""Arrays that stay mapped for as long as their data set is in use."""

from pathlib import Path

import numpy as np
import torch

from restok_cli.data.arrays import find_numbers, view_numbers


def map_shard(path: Path) -> np.ndarray:
    """The array in a .npy file, read-only, mapped from the disk as by `map_array`, but without a file kept open.

    A process may have only about a thousand files open, and large data sets have more shards than that.

    Raises OSError where there is no such file, ValueError where it is none of ours or is cut short.
    """
    header, start = find_numbers(path)
    contents = torch.from_file(str(path), shared=False, size=start + header.num_bytes, dtype=torch.uint8)
    return view_numbers(contents.numpy(), header, start)
