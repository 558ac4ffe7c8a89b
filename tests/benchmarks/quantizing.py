"""How much faster the quantizer is than one that computes what the released code does: forward and backward, as ratios.

    python tests/benchmarks/quantizing.py

4096 latents (32 images of 128 tokens) among 8192 codewords, on the GPU where there is one. The released code keeps
the matrix of all distances with its gradient, and computes the entropy loss also where its weight is 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from restok_cli.model.quantizer import Quantizer
from restok_cli.planning.rates import seconds


def distances_of(latents: Tensor, codewords: Tensor) -> Tensor:
    return latents.square().sum(1, keepdim=True) + codewords.square().sum(1) - 2 * latents @ codewords.T


def from_distances(latents: Tensor, codebook: Tensor, entropy_weight: float | None) -> Tensor:
    """The same loss from the full matrix of distances; the entropy loss is left out only where its weight is None."""
    latents, codewords = F.normalize(latents.flatten(0, 1), dim=1), F.normalize(codebook, dim=1)
    distances = distances_of(latents, codewords)
    chosen = F.embedding(distances.argmin(1), codewords)
    loss = F.mse_loss(chosen, latents.detach()) + 0.25 * F.mse_loss(latents, chosen.detach())
    if entropy_weight is not None:
        affinity = -distances / 0.01
        shares, log_shares = affinity.softmax(1), (affinity + 1e-5).log_softmax(1)
        mean_shares = shares.mean(0)
        entropy = -(shares * log_shares).sum(1).mean() + (mean_shares * (mean_shares + 1e-5).log()).sum()
        loss = loss + entropy_weight * entropy
    return loss + (latents + (chosen - latents).detach()).sum()


def main() -> None:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    quantizer = Quantizer(8192, 8, normalize=True).to(device)
    latents = torch.randn(32, 128, 8, device=device, requires_grad=True)

    def ours() -> Tensor:
        result = quantizer(latents)
        return result.codebook_loss + result.commitment_loss + result.vectors.sum()

    same = torch.allclose(ours(), from_distances(latents, quantizer.codebook, 0.0), rtol=1e-4)
    own = min(seconds(lambda: ours().backward(), device))
    print(f"{device}: restok takes {1000 * own:.1f} ms; the same loss: {same}")
    for name, weight in (("distances and entropy loss of weight 0", 0.0), ("distances alone", None)):

        def theirs(weight: float | None = weight) -> None:
            from_distances(latents, quantizer.codebook, weight).backward()

        print(f"{name}: {min(seconds(theirs, device)) / own:.1f} times as long")


if __name__ == "__main__":
    main()
