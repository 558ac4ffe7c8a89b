"""Batches of a code cache, in the order in which `loader.batches` shows the images."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from restok_cli.data.shards.code_cache import CodeSplit


class CodeBatch(NamedTuple):
    """Codes, and what their images show."""

    codes: torch.Tensor  # int64 (B, L)
    class_ids: torch.Tensor  # int64 (B,), -1 where the data set has no classes


def code_batches(split: CodeSplit, visits: Iterable[list[tuple[int, int]]], seed: int) -> Iterator[CodeBatch]:
    """Training batches of the (epoch, sample) pairs of `micro_batches`.

    Of each sample comes one view an epoch, drawn by seed, epoch and sample alone. Raises RestokError, at the step that
    needs it, for a damaged shard.
    """
    drawn_epoch, views = -1, np.zeros(0)
    for batch in visits:
        codes = []
        for epoch, sample in batch:
            if epoch != drawn_epoch:
                drawn_epoch, views = epoch, draw_views(len(split), split.num_views, seed, epoch)
            codes.append(split.codes(sample, views[sample]))
        yield _batch(codes, [split.class_id(sample) for _, sample in batch])


def draw_views(num_samples: int, num_views: int, seed: int, epoch: int) -> np.ndarray:
    """The view of each sample that an epoch shows: uint8 (num_samples,)."""
    # the counter sets these numbers apart from the ones that shuffle the epoch
    numbers = np.random.Philox(key=[seed, epoch], counter=[0, 0, 1, 0]).random_raw(num_samples)
    return (numbers % num_views).astype(np.uint8)


def evaluation_code_batches(
    split: CodeSplit, batch_size: int, *, rank: int = 0, world_size: int = 1, limit: int | None = None
) -> Iterator[CodeBatch]:
    """View 0 of every sample once, or of the first `limit`, in order; the last batch may be shorter.

    Of several processes, each gets every `world_size`-th batch, from number `rank` on. Raises RestokError as above.
    """
    end = len(split) if limit is None else min(limit, len(split))
    for start in range(rank * batch_size, end, world_size * batch_size):
        samples = range(start, min(start + batch_size, end))
        yield _batch([split.codes(i, 0) for i in samples], [split.class_id(i) for i in samples])


def _batch(codes: list[np.ndarray], class_ids: list[int]) -> CodeBatch:
    return CodeBatch(torch.from_numpy(np.stack(codes).astype(np.int64)), torch.tensor(class_ids))
