"""How well a codebook is used, from nothing but the codes."""

from typing import NamedTuple

import numpy as np

from restok_cli.errors import RestokError


class CodebookUse(NamedTuple):
    usage: float  # percent of the codebook that occurs at all
    entropy: float  # H_C = -Σ p log2 p in bits, at most log2(codebook size)
    perplexity: float  # 2^H_C: as many codes, used evenly, would carry as much


def use_of_counts(counts: np.ndarray) -> CodebookUse:
    """From how often each code occurs: counts (V,), not all zero."""
    shares = counts[counts > 0] / counts.sum()
    entropy = float((shares * np.log2(1 / shares)).sum())
    return CodebookUse(100 * len(shares) / len(counts), entropy, 2**entropy)


def count_codes(codes: np.ndarray, codebook_size: int, level_sizes: tuple[int, ...]) -> np.ndarray:
    """How often each code occurs in each level (K, V), in integer codes (n, L), levels being neighbouring columns.

    Raises RestokError where a code lies outside 0 … codebook_size - 1, or the levels do not add up to L.
    """
    if codes.ndim != 2 or codes.shape[1] != sum(level_sizes):
        raise RestokError(
            f"codes of shape {codes.shape} do not fit levels of {level_sizes}; expected (n, {sum(level_sizes)})"
        )
    if codes.size and (codes.min() < 0 or codes.max() >= codebook_size):
        raise RestokError(
            f"codes run from {codes.min()} to {codes.max()}, outside a codebook of {codebook_size}"
            f" (0 to {codebook_size - 1}); they belong to another tokenizer"
        )
    levels = np.split(codes, np.cumsum(level_sizes)[:-1], axis=1)
    return np.stack([np.bincount(level.reshape(-1), minlength=codebook_size) for level in levels])
