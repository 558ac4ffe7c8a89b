"""The terms of the tokenizer's loss, and of its discriminator's. They know no optimizer.

All are means over the images given, in float32 but for what networks compute, and wait for no device. All chance
comes in `noise`, one row of NUM_NOISE numbers for each image, so that an image fares the same in whatever batch and
on whichever process. Who else is in the micro-batch matters to three terms only: the entropy loss, which is about
evenness over it; LeCam, which takes the mean of its logits; and what the heads on DINO say, which share statistics
among 8 (see VirtualBatchNorm).
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restok_cli.console import note
from restok_cli.metrics.networks.lpips import URL_VGG16, Lpips, open_lpips
from restok_cli.model.quantizer import Quantizer
from restok_cli.model.tokenizer import Reconstruction
from restok_cli.settings.training import DINO, AlignmentConfig, DiscriminatorConfig, TokenizerRunConfig
from restok_cli.training.adversarial.diff_augment import AUGMENT_NOISE, diff_augment
from restok_cli.training.adversarial.discriminator import FIT_NOISE, Discriminator, LeCam, held_still
from restok_cli.training.frozen import missing_download, weights_fingerprint
from restok_cli.training.resampling import bicubic_weights, resample
from restok_cli.training.teachers import Teacher, TeacherFeatures, open_teacher

CROP_NOISE = 4
LOOK_NOISE = AUGMENT_NOISE + FIT_NOISE
NOISE = (CROP_NOISE, LOOK_NOISE, LOOK_NOISE, LOOK_NOISE)  # LPIPS; the adversarial loss; real and fake to train with
NUM_NOISE = sum(NOISE)  # random numbers, uniform in [0, 1), that one image takes in one step
PADDING = 15  # pixels on each side, before LPIPS


class TokenizerLosses(NamedTuple):
    """The loss of the tokenizer, with the frozen networks that some of its terms look through."""

    config: TokenizerRunConfig
    lpips: Lpips | None
    teacher: Teacher | None
    fingerprints: Mapping[str, str] = MappingProxyType({})  # of these networks, as they were read

    def __call__(
        self,
        result: Reconstruction,
        images: Tensor,
        quantizer: Quantizer,
        noise: Tensor,
        discriminator: Discriminator | None = None,
    ) -> dict[str, Tensor]:
        """Scalars by name; `loss` is the one to minimise. images (B, 3, H, W) in [0, 1], noise (B, NUM_NOISE).

        `discriminator` is the module itself, not what DistributedDataParallel made of it, from the step on in which
        it takes part. It gets no gradients.
        """
        config, weighted = self.config, {}
        noise = noise.to(images.device, non_blocking=True)
        with torch.autocast(images.device.type, enabled=False):
            fakes = result.images.float()
            distance = F.mse_loss if config.loss.reconstruction == "l2" else F.l1_loss
            weighted["reconstruction_loss"] = config.loss.reconstruction_weight, distance(fakes, images)
            weighted["quantizer_loss"] = config.loss.quantizer_weight, result.quantized.loss
            if config.loss.entropy_weight > 0:
                weighted["entropy_loss"] = config.loss.entropy_weight, quantizer.entropy_loss(result.latents)
            if self.lpips is not None:
                seen, real = pad_and_crop(fakes, images, noise[:, :CROP_NOISE])
        if self.lpips is not None:
            distances = self.lpips(seen, real.detach())  # of which no graph is kept: nobody asks for its gradients
            weighted["perceptual_loss"] = config.loss.perceptual_weight, distances.mean()
        if self.teacher is not None:
            weighted |= alignment_losses(result, self.teacher(images), config.alignment)
        if discriminator is not None:
            with held_still(discriminator):
                logits = look(discriminator, fakes, noise.split(NOISE, 1)[1], config.discriminator)
            weighted["adversarial_loss"] = config.discriminator.weight, -logits.mean()
        total = torch.stack([weight * loss for weight, loss in weighted.values()]).sum()
        return {"loss": total, **{name: loss for name, (_, loss) in weighted.items()}}


def downloads(config: TokenizerRunConfig) -> list[str]:
    """Networks that a run would fetch, since they are not on this machine yet, each with what does without."""
    found = []
    vgg = Path(torch.hub.get_dir()) / "checkpoints" / URL_VGG16.rsplit("/", 1)[1]
    if config.loss.perceptual_weight > 0 and config.loss.lpips_weights is None and not vgg.exists():
        found.append(f"VGG-16 for LPIPS from {URL_VGG16} (or loss.lpips_weights=FILE, or loss.perceptual_weight=0)")
    alignment, judge = config.alignment, config.discriminator
    if alignment.is_used and alignment.weights is None and (url := missing_download(alignment.teacher)):
        without = " and ".join(
            f"alignment.{side}_weight=0" for side in ("encoder", "decoder") if getattr(alignment, f"{side}_weight") > 0
        )
        found.append(f"{alignment.teacher} for the alignment from {url} (or alignment.weights=FILE, or {without})")
    if judge.weight > 0 and judge.kind == "dino" and judge.weights is None and (url := missing_download(DINO)):
        found.append(
            f"{DINO} for the discriminator from {url} (or discriminator.weights=FILE, discriminator.kind=patch, or "
            "discriminator.weight=0)"
        )
    return found


def open_tokenizer_losses(config: TokenizerRunConfig, device: torch.device) -> TokenizerLosses:
    """The loss of a run, with the networks that its weights ask for. Raises RestokError where those cannot be had."""
    if wanted := downloads(config):  # all in one line, before the first is fetched
        note(f"this run needs weights that are not on this machine and are fetched once; by --set: {'; '.join(wanted)}")
    lpips = teacher = None
    if config.loss.perceptual_weight > 0:
        weights = config.loss.lpips_weights
        lpips = open_lpips(None if weights is None else Path(weights), device, "loss.lpips_weights")
    if config.alignment.is_used:
        teacher = open_teacher(config.alignment, config.model.grid, device)
    networks = {"loss.lpips_weights": lpips, "alignment.weights": teacher.network if teacher else None}
    found = {f"network of {key}": weights_fingerprint(network) for key, network in networks.items() if network}
    return TokenizerLosses(config, lpips, teacher, found)


def pad_and_crop(images: Tensor, others: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat the border of both images (B, 3, H, W) outwards, cut some of that off, scale back to H×W (bicubic).

    15 pixels come to each side, or an 8th of its length where that is less; from none to all of them are cut off, by a
    row of `noise` (B, 4): top, bottom, left, right. So nothing of an image is lost.
    """
    weights = []
    for length, cuts in zip(images.shape[-2:], noise.split(2, dim=1), strict=True):
        padding = min(PADDING, length // 8)
        start, end = (padding - (cuts * (padding + 1)).long()).split(1, dim=1)  # how far the window goes out (B, 1)
        middles = torch.arange(length, device=noise.device) + 0.5
        weights.append(bicubic_weights(middles * ((length + start + end) / length) - start - 0.5, length))
    return resample(images, *weights), resample(others, *weights)


def alignment_losses(
    result: Reconstruction, features: TeacherFeatures, config: AlignmentConfig
) -> dict[str, tuple[float, Tensor]]:
    """Weight and loss of each side that is aligned: mean(relu(1 − margin − cosine)) to the teacher's features."""
    weighted = {}
    for side, weight, ours, theirs in (
        ("encoder", config.encoder_weight, result.encoder_features, features.image),
        ("decoder", config.decoder_weight, result.decoder_features, features.patches),
    ):
        if weight > 0:
            if ours is None:
                raise ValueError(f"the tokenizer has no {side}_alignment_dim, and so nothing to align")
            weighted[f"{side}_alignment_loss"] = weight, misalignment(ours, theirs, config.margin)
    return weighted


def misalignment(ours: Tensor, theirs: Tensor, margin: float) -> Tensor:
    """Mean of how far the cosine between features (B, T, …) stays under 1 − margin."""
    return F.relu(1 - margin - F.cosine_similarity(ours.float(), theirs.float(), dim=1)).mean()


def look(
    discriminator: nn.Module, images: Tensor, noise: Tensor, config: DiscriminatorConfig, batches: int = 1
) -> Tensor:
    """Logits (B, n), float32, of images (B, 3, H, W), before DINO after DiffAugment; noise (B, LOOK_NOISE)."""
    for_augment, for_fit = noise.split((AUGMENT_NOISE, FIT_NOISE), dim=1)
    if config.kind == "dino":
        images = diff_augment(images, config.augment_probability, for_augment, config.augment_range)
    return discriminator(images, for_fit, batches).float()


def discriminator_losses(
    discriminator: nn.Module, images: Tensor, fakes: Tensor, lecam: LeCam, noise: Tensor, config: DiscriminatorConfig
) -> dict[str, Tensor]:
    """Scalars by name; `discriminator_loss` is the one to minimise. images and fakes (B, 3, H, W) get no gradients.

    `discriminator` is the module or what DistributedDataParallel made of it. `real_logits` and `fake_logits` are
    what `lecam.update` wants, once averaged over the batch of the optimizer's step.
    """
    _, _, *for_both = noise.to(images.device, non_blocking=True).split(NOISE, 1)
    both = torch.cat([images, fakes]).detach()  # in one pass, which starts half as many operations as two
    real, fake = look(discriminator, both, torch.cat(for_both), config, batches=2).chunk(2)
    hinge_loss = (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
    lecam_loss = lecam(real, fake)
    return {
        "discriminator_loss": hinge_loss + config.lecam_weight * lecam_loss,
        "lecam_loss": lecam_loss,
        "discriminator_accuracy": ((real > 0).float().mean() + (fake < 0).float().mean()) / 2,
        "real_logits": real.detach().mean(),
        "fake_logits": fake.detach().mean(),
    }
