"""Features that are kept until all have been seen; many of them on the disk, so that memory does not grow."""

import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from restok_cli.files import naming

LARGEST_IN_MEMORY = 64 << 20  # bytes


class KeptRows:
    """Rows of float32 in the order in which they came; more than LARGEST_IN_MEMORY go to a file in `folder`.

    Where there is none, or it cannot be written to, that is the system's for temporary files. The file has no name, so
    that it disappears with the process, however that ends.
    """

    def __init__(self, width: int, folder: Path | None = None):
        self.width, self.folder, self.count, self.file = width, folder, 0, None
        self.waiting: list[np.ndarray] = []
        self.num_waiting = 0

    def add(self, rows: Tensor) -> None:
        self.waiting.append(rows.numpy())
        self.num_waiting += len(rows)
        self.count += len(rows)
        if self.num_waiting * self.width * 4 > LARGEST_IN_MEMORY:
            self._write()

    def rows(self) -> Tensor:
        """All of them, (n, width); those in the file are read when they are looked at."""
        if self.file is None:
            whole = np.concatenate([np.empty((0, self.width), np.float32), *self.waiting])
            self.waiting = [whole]
            return torch.from_numpy(whole)
        self._write()
        # "c": what torch asks for is an array that may be written to; nothing is
        return torch.from_numpy(np.memmap(self.file, np.float32, "c", shape=(self.count, self.width)))

    def _write(self) -> None:
        if self.file is None:
            self.file = self._open()
        with naming(self.folder or Path(tempfile.gettempdir())):
            for rows in self.waiting:
                self.file.write(np.ascontiguousarray(rows).data)
            self.file.flush()
        self.waiting, self.num_waiting = [], 0

    def _open(self) -> IO[bytes]:
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                return tempfile.TemporaryFile(dir=self.folder)
            except OSError:  # a cache that can only be read
                self.folder = None
        return tempfile.TemporaryFile()
