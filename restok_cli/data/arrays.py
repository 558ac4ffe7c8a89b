"""Arrays in .npy files, read where they lie on the disk, and what may be wrong with .npz files."""

import math
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

# what zipfile and NumPy raise for a damaged .npz, or one that they cannot read, such as an encrypted one
NPZ_ERRORS = (
    ArithmeticError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def map_array(path: Path) -> np.ndarray:
    """The array in a .npy file, read-only, mapped from the disk: it takes no memory of its own.

    Unlike NumPy's own mapping it keeps no file open, of which a process may have only about a thousand, and large data
    sets have more shards than that.

    Raises OSError where there is no such file, ValueError where it is none of ours or is cut short.
    """
    with open(path, "rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("not version 1.0 of the format")
        try:
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        except (SyntaxError, TypeError, IndexError, RecursionError, MemoryError, tokenize.TokenError) as error:
            # it parses Python
            raise ValueError("its header is damaged") from error
        start = file.tell()
    end = start + math.prod(shape) * dtype.itemsize
    if dtype.hasobject or path.stat().st_size != end:
        raise ValueError(f"not {end} bytes of plain numbers")
    contents = torch.from_file(str(path), shared=False, size=end, dtype=torch.uint8).numpy()
    array = contents[start:].view(dtype).reshape(shape, order="F" if fortran_order else "C")
    array.flags.writeable = False
    return array
