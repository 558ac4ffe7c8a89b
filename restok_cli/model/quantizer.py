"""Vectors to codes and back (docs/algorithm.md section 2, quantizer)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Codewords × vectors compared at once, whatever the batch: 4 Mi float32 are 16 MB. So what one operation writes is
# still in a cache when the next one reads it, without which a CPU would take twice to five times as long.
MAX_DISTANCES = 1 << 22


class Quantized(NamedTuple):
    """Code vectors (B, L, D) with the straight-through gradient, codes (B, L), and the quantizer's own losses."""

    vectors: Tensor
    codes: Tensor
    codebook_loss: Tensor  # pulls codewords towards the latents
    commitment_loss: Tensor  # pulls latents towards their codewords

    @property
    def loss(self) -> Tensor:
        """Scalar that training minimises for the quantizer's sake."""
        return self.codebook_loss + self.commitment_loss


class Quantizer(nn.Module):
    """Nearest codeword, compared on the unit sphere where `normalize` is true. Always in float32."""

    def __init__(self, codebook_size: int, codebook_dim: int, normalize: bool):
        super().__init__()
        self.normalize = normalize
        self.codebook = nn.Parameter(torch.empty(codebook_size, codebook_dim))
        nn.init.uniform_(self.codebook, -1 / codebook_size, 1 / codebook_size)

    def codewords(self) -> Tensor:
        """(V, D) vectors that codes stand for."""
        codebook = self.codebook.float()
        return F.normalize(codebook, dim=-1) if self.normalize else codebook

    def prepare(self, latents: Tensor) -> Tensor:
        """Latents as they are compared with codewords: float32, on the unit sphere if so configured."""
        latents = latents.float()
        return F.normalize(latents, dim=-1) if self.normalize else latents

    def forward(self, latents: Tensor) -> Quantized:
        """latents (B, L, D) -> their nearest codewords."""
        with torch.autocast(latents.device.type, enabled=False):
            latents, codewords = self.prepare(latents), self.codewords()
            codes = nearest(latents.detach().flatten(0, -2), codewords.detach()).view(latents.shape[:-1])
            chosen = F.embedding(codes, codewords)
            return Quantized(
                vectors=latents + (chosen - latents).detach(),
                codes=codes,
                codebook_loss=F.mse_loss(chosen, latents.detach()),
                commitment_loss=0.25 * F.mse_loss(latents, chosen.detach()),
            )

    def entropy_loss(self, latents: Tensor, temperature: float = 0.01) -> Tensor:
        """How unsure single latents (B, L, D) are of their codeword, minus how evenly all of them use the codebook.

        In nats, from −log V to log V; lower is better. Each latent belongs to codewords by the softmax of
        −squared distance / temperature. Costs a (B·L, V) matrix with gradient, which nothing else here does.
        """
        with torch.autocast(latents.device.type, enabled=False):
            latents, codewords = self.prepare(latents).flatten(0, -2), self.codewords()
            distances = latents.square().sum(1, keepdim=True) + codewords.square().sum(1) - 2 * latents @ codewords.T
            log_shares = (-distances / temperature).log_softmax(1)
            shares = log_shares.exp()
            sample_entropy = -(shares * log_shares).sum(1).mean()
            mean_shares = shares.mean(0)
            # far codewords have a share of exactly 0, where the logarithm has no gradient
            return sample_entropy + (mean_shares * mean_shares.clamp_min(torch.finfo(torch.float32).tiny).log()).sum()

    @torch.no_grad()
    def revive(self, counts: Tensor, latents: Tensor) -> int:
        """Move each codeword that was not used, of `counts` (V,), to a latent of its own out of (B, L, D).

        Exactly there, without noise: when a codebook collapses the latents lie close together, and codewords beside
        them would never be chosen. Latents that are not finite are left out. Returns how many codewords moved.
        """
        dead = (counts == 0).nonzero().squeeze(1)  # waits for the device, once every so many steps
        candidates = self.prepare(latents).flatten(0, 1)
        candidates = candidates[candidates.isfinite().all(1)]  # of a step that was skipped, they need not be
        chosen = torch.randperm(len(candidates))[: len(dead)].to(candidates.device)
        dead = dead[: len(chosen)]
        moved = candidates[chosen]
        if self.normalize:  # only the direction counts, but the optimizer's steps are relative to the length
            moved = moved * self.codebook.norm(dim=1).mean()
        self.codebook[dead] = moved.to(self.codebook.dtype)
        return len(dead)

    def lookup(self, codes: Tensor) -> Tensor:
        """codes (B, L) -> code vectors (B, L, D), float32."""
        return F.embedding(codes, self.codewords())


def nearest(vectors: Tensor, codewords: Tensor) -> Tensor:
    """Index of the codeword (V, D) nearest to each vector (T, D): codes (T,).

    Minimising ‖v − e‖² is maximising v·e − ‖e‖²/2, which is one product of (v, 1) and (e, −‖e‖²/2). The (T, V) matrix
    is only ever made in chunks.
    """
    half_squares = codewords.square().sum(1, keepdim=True) / 2
    vectors, codewords = F.pad(vectors, (0, 1), value=1.0), torch.cat([codewords, -half_squares], dim=1)
    rows = max(1, MAX_DISTANCES // len(codewords))
    # max is twice as fast as argmax on a CPU
    return torch.cat([(part @ codewords.T).max(1).indices for part in vectors.split(rows)])
