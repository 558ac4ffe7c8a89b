"""Nested dropout, the use of the codebook over all processes, and reviving codewords in all of them."""

import numpy as np
import torch
from torch import Tensor

from restok_cli.metrics.formulas.codebook import use_of_counts
from restok_cli.model.levels import level_sizes, prefix_lengths
from restok_cli.model.quantizer import Quantizer
from restok_cli.processes import rank
from restok_cli.training.parallel import all_reduce, broadcast, check_shape


def prefix_distribution(num_latent_tokens: int, probability: float, min_tokens: int) -> dict[int, float]:
    """Probability of each prefix length: all codes with 1 − p; the shorter ones from `min_tokens` on share p.

    Each is twice as likely as the next shorter one (1 : 2 : 4 : …).
    """
    shorter = [length for length in prefix_lengths(num_latent_tokens)[:-1] if length >= min_tokens]
    total = 2 ** len(shorter) - 1
    shares = {length: probability * 2**i / total for i, length in enumerate(shorter)}
    return {**shares, num_latent_tokens: 1 - probability}


def draw_prefix_lengths(batch_size: int, distribution: dict[int, float]) -> Tensor:
    """(batch_size,) lengths drawn from `distribution` by the global generator of the CPU."""
    choice = torch.multinomial(torch.tensor(list(distribution.values())), batch_size, replacement=True)
    return torch.tensor(list(distribution))[choice]


class CodeCounts:
    """How often each code occurs at each level, over all processes, without waiting for the device until read."""

    def __init__(self, num_latent_tokens: int, codebook_size: int, device: torch.device):
        sizes = level_sizes(num_latent_tokens)
        self.counts = torch.zeros(len(sizes), codebook_size, dtype=torch.int64, device=device)  # of this process
        level = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes), output_size=sum(sizes))
        self.first = (level * codebook_size).to(device)  # of each position's level, in the counts laid end to end

    def add(self, codes: Tensor) -> None:
        """Count codes (B, L)."""
        flat = (codes + self.first).flatten()
        self.counts.view(-1).scatter_add_(0, flat, torch.ones_like(flat))

    def state_dict(self) -> Tensor:
        """(K, V) over all processes, each of which must call it."""
        return all_reduce(self.counts)

    def load_state_dict(self, state: Tensor) -> None:
        """Go on from there; the counts of all processes are with the first."""
        check_shape("counts of codes", state, self.counts.shape)
        self.counts.copy_(state if rank() == 0 else torch.zeros_like(state))

    def close(self) -> np.ndarray:
        """(K, V) over all processes, and a fresh start. Waits for the device."""
        counts = self.state_dict().cpu().numpy()
        self.counts.zero_()
        return counts


def use_numbers(counts: np.ndarray) -> dict[str, float]:
    """Use of the codebook for the log, in all and by level, from counts (K, V)."""
    use = use_of_counts(counts.sum(0))
    numbers = {"codebook_usage": use.usage, "codebook_perplexity": use.perplexity}
    numbers["dead_codes"] = int((counts.sum(0) == 0).sum())
    for level, level_counts in enumerate(counts, start=1):
        use = use_of_counts(level_counts)
        numbers |= {f"usage_level_{level}": use.usage, f"perplexity_level_{level}": use.perplexity}
    return numbers


WHOLE = 0  # instead of a level: all codes


class UseOfPossible:
    """How many codewords occur, of those that as many codes drawn evenly would use: in all, and at each level.

    Told of a level once enough images were seen for it to have used the whole codebook, or all that there are, of
    which more would show nothing new; then it starts afresh, as it does when a run resumes.
    """

    def __init__(self, num_latent_tokens: int, codebook_size: int, num_images: float):
        levels = level_sizes(num_latent_tokens)
        self.sizes = np.array([num_latent_tokens, *levels])  # codes of an image
        self.used = np.zeros((len(self.sizes), codebook_size), bool)
        self.images = np.zeros(len(self.sizes))
        self.num_images = num_images

    def add(self, counts: np.ndarray) -> dict[int, float]:
        """Of the levels of which enough was seen with these counts (K, V): the share, 1 where codes fall evenly."""
        self.used |= np.concatenate([counts.sum(0, keepdims=True), counts]) > 0
        self.images += counts.sum() / self.sizes[WHOLE]
        size = self.used.shape[1]
        found = {}
        for level, per_image in enumerate(self.sizes):
            if self.images[level] < min(size / per_image, self.num_images):
                continue
            codes = per_image * min(self.images[level], self.num_images)
            possible = size * (1 - (1 - 1 / size) ** codes)
            found[level] = float(self.used[level].sum() / possible)
            self.used[level], self.images[level] = False, 0
        return found


@torch.no_grad()
def revive_everywhere(quantizer: Quantizer, code_counts: CodeCounts, latents: Tensor) -> None:
    """Revive by the counts of all processes and the latents of the first; all must call it. Counts start afresh."""
    counts = code_counts.state_dict().sum(0)
    code_counts.counts.zero_()
    if rank() == 0:
        quantizer.revive(counts, latents)
    for parameter in quantizer.parameters():
        broadcast(parameter.data)
