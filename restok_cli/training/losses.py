"""The terms of the tokenizer's loss. They know no optimizer."""

import torch.nn.functional as F
from torch import Tensor

from restok_cli.model.quantizer import Quantizer
from restok_cli.model.tokenizer import Reconstruction
from restok_cli.training.config import TokenizerLossConfig


def tokenizer_losses(
    result: Reconstruction, images: Tensor, quantizer: Quantizer, config: TokenizerLossConfig
) -> dict[str, Tensor]:
    """Scalars by name; `loss` is the one to minimise. images (B, 3, H, W) in [0, 1]."""
    distance = F.mse_loss if config.reconstruction == "l2" else F.l1_loss
    reconstruction_loss = distance(result.images, images)
    quantizer_loss = result.quantized.codebook_loss + result.quantized.commitment_loss
    losses = {
        "loss": config.reconstruction_weight * reconstruction_loss + config.quantizer_weight * quantizer_loss,
        "reconstruction_loss": reconstruction_loss,
        "quantizer_loss": quantizer_loss,
    }
    if config.entropy_weight > 0:
        losses["entropy_loss"] = quantizer.entropy_loss(result.latents)
        losses["loss"] = losses["loss"] + config.entropy_weight * losses["entropy_loss"]
    return losses
