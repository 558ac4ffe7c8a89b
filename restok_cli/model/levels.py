"""The hierarchy in plain integers (docs/algorithm.md section 1); everything else derives from it. No torch here.

Levels group the L latent tokens from coarse to fine. For L = 128 the prefix lengths are 1, 2, 4, …, 128
and the level sizes their differences with a leading 1: (1, 1, 2, 4, 8, 16, 32, 64).
"""

from itertools import accumulate


def is_power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


def prefix_lengths(num_latent_tokens: int) -> tuple[int, ...]:
    """The token counts after each level: (1, 2, 4, …, L)."""
    return tuple(1 << k for k in range(num_latent_tokens.bit_length()))


def level_sizes(num_latent_tokens: int) -> tuple[int, ...]:
    """The token counts of each level: (1, 1, 2, 4, …, L/2)."""
    lengths = prefix_lengths(num_latent_tokens)
    return (1, *lengths[:-1])


def level_grid(size: int) -> tuple[int, int]:
    """(rows, columns) of a level of `size` tokens: the width doubles first, then both in turn."""
    exponent = size.bit_length() - 1
    return 1 << exponent // 2, 1 << (exponent + 1) // 2


def stage_sizes(num_image_tokens: int, num_stages: int, merge_factor: int) -> tuple[int, ...]:
    """Image tokens of each encoder stage, finest first: 256, 128, 64, 32 for four stages of pairwise merging."""
    return tuple(num_image_tokens // merge_factor**i for i in range(num_stages))


def merging_blocks(num_layers: int, num_stages: int) -> tuple[int, ...]:
    """Indices of the encoder blocks inside which the image tokens are merged: (5, 11, 17) for 24 layers, 4 stages."""
    return tuple(i * num_layers // num_stages - 1 for i in range(1, num_stages))


def step_sizes(num_codes: int, num_sequential_codes: int) -> tuple[int, ...]:
    """Codes drawn by each sampling step of HAR: (1, 1, 1, 1, 4, 8, 16, 32, 64) for L = 128, A = 4.

    The first A codes come one by one, then every step draws a whole level. Plain AR is A = L.
    """
    sizes = [1] * num_sequential_codes
    while sum(sizes) < num_codes:
        sizes.append(sum(sizes))
    return tuple(sizes)


def step_lengths(num_codes: int, num_sequential_codes: int) -> tuple[int, ...]:
    """Codes that are there after each sampling step: (1, 2, 3, 4, 8, 16, 32, 64, 128)."""
    return tuple(accumulate(step_sizes(num_codes, num_sequential_codes)))
