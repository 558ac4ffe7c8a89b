"""What training does to codes: nested dropout, counting use, and reviving codewords that nothing chooses."""

import torch
from torch import Tensor

from restok_cli.model.levels import prefix_lengths
from restok_cli.model.quantizer import Quantizer


def prefix_distribution(num_latent_tokens: int, probability: float, min_tokens: int) -> dict[int, float]:
    """Probability of each prefix length: all codes with 1 − p; the shorter ones from `min_tokens` on share p.

    Each is twice as likely as the next shorter one (1 : 2 : 4 : …).
    """
    shorter = [length for length in prefix_lengths(num_latent_tokens)[:-1] if length >= min_tokens]
    total = 2 ** len(shorter) - 1
    shares = {length: probability * 2**i / total for i, length in enumerate(shorter)}
    return {**shares, num_latent_tokens: 1 - probability}


def draw_prefix_lengths(batch_size: int, distribution: dict[int, float], device: torch.device) -> Tensor:
    """(batch_size,) lengths drawn from `distribution` by the global generator of the CPU."""
    choice = torch.multinomial(torch.tensor(list(distribution.values())), batch_size, replacement=True)
    return torch.tensor(list(distribution))[choice].to(device, non_blocking=True)


def count_codes(codes: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs: (V,) int64, without waiting for the device."""
    return torch.zeros(codebook_size, dtype=torch.int64, device=codes.device).scatter_add_(
        0, codes.flatten(), torch.ones_like(codes.flatten())
    )


@torch.no_grad()
def revive(quantizer: Quantizer, counts: Tensor, latents: Tensor) -> int:
    """Move every codeword with count 0 to a latent of the batch (B, L, D), each to another one; return how many.

    Exactly there, without noise: when a codebook collapses the latents lie close together, and codewords beside them
    would never be chosen.
    """
    dead = (counts == 0).nonzero().squeeze(1)
    candidates = quantizer.prepare(latents).flatten(0, 1)
    chosen = torch.randperm(len(candidates))[: len(dead)].to(candidates.device)
    dead = dead[: len(chosen)]
    moved = candidates[chosen]
    if quantizer.normalize:  # only the direction counts, but the optimizer's steps are relative to the length
        moved = moved * quantizer.codebook.norm(dim=1).mean()
    quantizer.codebook[dead] = moved.to(quantizer.codebook.dtype)
    return len(dead)
