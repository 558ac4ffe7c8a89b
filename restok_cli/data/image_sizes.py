"""Sizes of the images of a data set, in words; no torch here."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from restok_cli.console import counted

WARN_FROM = 0.1  # share of images that are too small


class ShorterEdges(NamedTuple):
    """The shorter edges of images, in pixels."""

    least: int
    middle: int
    most: int

    def __str__(self) -> str:
        if self.least == self.most:
            return f"the shorter edge has {self.least} pixels"
        return f"the shorter edge has {self.least} to {self.most} pixels, {self.middle} in the middle"


def shorter_edges(edges: Iterable[int]) -> ShorterEdges | None:
    """The range of these edges; None of no image."""
    found = sorted(edges)
    return ShorterEdges(found[0], int(median(found)), found[-1]) if found else None


def enlarged(sizes: Sequence[tuple[int, int]], size: tuple[int, int]) -> str:
    """A warning where many images of these sizes (height, width) are enlarged to fill `size`, or ""."""
    small = [each for each in sizes if each[0] < size[0] or each[1] < size[1]]
    if not small or len(small) < WARN_FROM * len(sizes):
        return ""
    return (
        f"{len(small)} of {counted(len(sizes), 'image')} looked at are smaller than {size[1]}x{size[0]} and are "
        f"enlarged, which adds pixels and no detail; {shorter_edges(map(min, sizes))}"
    )


def width_by_height(size: tuple[int, int]) -> str:
    """(height, width) as people write it, width first."""
    return f"{size[1]}x{size[0]}"
