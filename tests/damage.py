"""Damage as disks do it, the same in every run."""

from collections.abc import Iterator

import numpy as np

HOLE = 4096  # bytes that are zeroed together


def damages(data: bytes, number: int = 12, seed: int = 0) -> Iterator[bytes]:
    """The bytes of a file with a bit flipped, and with up to 4 kB zeroed, so many times each at places drawn anew."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        place, bit = int(rng.integers(len(data))), int(rng.integers(8))
        yield data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
    size = min(HOLE, len(data) // 2)
    for _ in range(number):
        start = int(rng.integers(len(data) - size))
        if any(data[start : start + size]):
            yield data[:start] + bytes(size) + data[start + size :]
