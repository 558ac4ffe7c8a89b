"""The terms of the losses, against their formulas, and that no cut of a batch changes them."""

from contextlib import nullcontext

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.config import TokenizerConfig
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.run_config import with_alignment_dims
from restok_cli.settings.training import AlignmentConfig, DiscriminatorConfig, TokenizerLossConfig, TokenizerRunConfig
from restok_cli.training.adversarial.discriminator import DINO, Dino, DinoDiscriminator, LeCam, PatchDiscriminator
from restok_cli.training.losses import (
    CROP_NOISE,
    LOOK_NOISE,
    NOISE,
    NUM_NOISE,
    PADDING,
    TokenizerLosses,
    discriminator_losses,
    look,
    misalignment,
    open_tokenizer_losses,
    pad_and_crop,
)
from restok_cli.training.teachers import Teacher, open_teacher, teacher_width

CPU = torch.device("cpu")
TEACHER = {"teacher": "test_vit", "weights": "random"}


def run_config(**sections) -> TokenizerRunConfig:
    """The tiny preset without its entropy loss, changed; its model has the projections that it then needs."""
    preset = read_preset("tokenizer", "tiny") | {"loss": {}} | sections
    return with_alignment_dims(TokenizerRunConfig.parse(preset, "test"), teacher_width)


@pytest.fixture
def lpips() -> Lpips:
    torch.manual_seed(0)
    network = Lpips()
    for buffer in (network.get_buffer(f"lin{i}") for i in range(5)):
        buffer.uniform_()
    return network


@pytest.fixture
def images():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def noise():
    return torch.rand(4, NUM_NOISE, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def adversary() -> PatchDiscriminator:
    torch.manual_seed(1)
    return PatchDiscriminator(channels=32)


def reconstruct(config: TokenizerRunConfig, images, align=False):
    torch.manual_seed(2)
    tokenizer = Tokenizer(config.model)
    return tokenizer, tokenizer(images, align=align)


@pytest.mark.parametrize(("kind", "distance"), [("l2", F.mse_loss), ("l1", F.l1_loss)])
def test_what_is_on_by_default_is_reconstruction_and_quantizer(images, noise, kind, distance):
    config = run_config(loss={"reconstruction": kind, "reconstruction_weight": 2.0, "quantizer_weight": 0.5})
    tokenizer, result = reconstruct(config, images)
    losses = open_tokenizer_losses(config, CPU)(result, images, tokenizer.quantizer, noise)
    quantizer_loss = result.quantized.codebook_loss + result.quantized.commitment_loss
    expected = 2 * distance(result.images, images) + 0.5 * quantizer_loss
    assert losses["loss"].item() == pytest.approx(expected.item())
    assert set(losses) == {"loss", "reconstruction_loss", "quantizer_loss"}  # not asked for, not computed


def test_the_loss_is_the_sum_of_all_its_terms_by_their_weights(images, noise, lpips, adversary):
    config = run_config(
        loss={"entropy_weight": 0.1, "perceptual_weight": 0.7},
        alignment={"encoder_weight": 0.3, "decoder_weight": 0.2, **TEACHER},
        discriminator={"kind": "patch", "weight": 0.5},
    )
    tokenizer, result = reconstruct(config, images, align=True)
    teacher = open_teacher(config.alignment, config.model.grid, CPU)
    losses = TokenizerLosses(config, lpips, teacher)(result, images, tokenizer.quantizer, noise, adversary)

    quantizer_loss = result.quantized.codebook_loss + result.quantized.commitment_loss
    moved = pad_and_crop(result.images, images, noise[:, :CROP_NOISE])
    features = teacher(images)
    logits = look(adversary, result.images, noise[:, CROP_NOISE : CROP_NOISE + LOOK_NOISE], config.discriminator)
    expected = {
        "reconstruction_loss": (1, F.mse_loss(result.images, images)),
        "quantizer_loss": (1, quantizer_loss),
        "entropy_loss": (0.1, tokenizer.quantizer.entropy_loss(result.latents)),
        "perceptual_loss": (0.7, lpips(*moved).mean()),
        "encoder_alignment_loss": (0.3, misalignment(result.encoder_features, features.image, 0.25)),
        "decoder_alignment_loss": (0.2, misalignment(result.decoder_features, features.patches, 0.25)),
        "adversarial_loss": (0.5, -logits.mean()),
    }
    assert set(losses) == {"loss", *expected}
    for name, (_, loss) in expected.items():
        assert losses[name].item() == pytest.approx(loss.item(), abs=1e-5), name
    assert losses["loss"].item() == pytest.approx(sum(weight * loss.item() for weight, loss in expected.values()), 1e-5)

    losses["loss"].backward()
    dead = [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == ["decoder.mask_vector"]  # nothing was dropped
    assert all(p.grad is None for network in (lpips, adversary, teacher.network) for p in network.parameters())


def test_only_the_networks_that_a_weight_asks_for_are_opened():
    objective = open_tokenizer_losses(
        run_config(loss={"lpips_weights": "nowhere"}, alignment={"weights": "nowhere"}), CPU
    )
    assert objective.lpips is None and objective.teacher is None
    assert open_tokenizer_losses(run_config(alignment={"decoder_weight": 1, **TEACHER}), CPU).teacher is not None


def test_lpips_keeps_no_graph_of_real_pictures_and_its_gradients_are_the_same(images, noise, lpips):
    config = run_config(loss={"perceptual_weight": 1.0})
    crop_noise = noise[:, :CROP_NOISE]

    def gradient(distances, result):
        return torch.autograd.grad(distances.mean(), result.images)[0]

    tokenizer, result = reconstruct(config, images)
    with_graph = gradient(lpips(*pad_and_crop(result.images, images, crop_noise)), result)
    seen = []
    lpips.register_forward_pre_hook(lambda _, pictures: seen.extend(pictures))
    terms = TokenizerLosses(config, lpips, None)(result, images, tokenizer.quantizer, noise)
    assert [pictures.requires_grad for pictures in seen] == [True, False]
    assert torch.equal(gradient(terms["perceptual_loss"], result), with_graph)


def in_parts(compute, batch_size, *tensors):
    """Mean over micro-batches of each scalar that `compute` gives for a slice of `tensors`."""
    parts = [compute(*slices) for slices in zip(*(tensor.split(batch_size) for tensor in tensors), strict=True)]
    return {name: sum(part[name].item() for part in parts) / len(parts) for name in parts[0]}


def test_losses_of_micro_batches_average_to_those_of_the_batch(images, noise, lpips, adversary):
    config = run_config(
        loss={"perceptual_weight": 1},
        alignment={"encoder_weight": 1, "decoder_weight": 1, **TEACHER},
        discriminator={"kind": "patch", "weight": 0.5},
    )
    objective = TokenizerLosses(config, lpips, open_teacher(config.alignment, config.model.grid, CPU))
    torch.manual_seed(2)
    tokenizer = Tokenizer(config.model)

    def compute(images, noise):
        return objective(tokenizer(images, align=True), images, tokenizer.quantizer, noise, adversary)

    assert in_parts(compute, 2, images, noise) == pytest.approx(in_parts(compute, 4, images, noise), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", ["patch", "dino"])
def test_discriminator_losses_of_micro_batches_average_to_those_of_the_batch(kind, adversary):
    if kind == "dino":
        network = timm.create_model(DINO, pretrained=False, embed_dim=32, num_heads=2)
        adversary = DinoDiscriminator(Dino(network.requires_grad_(False).eval()))
    size = 8 if kind == "dino" else 4  # the heads on DINO share statistics in groups of 8
    rng = torch.Generator().manual_seed(0)
    images, fakes = torch.rand(2, 2 * size, 3, 32, 32, generator=rng)
    noise = torch.rand(2 * size, NUM_NOISE, generator=rng)
    lecam = LeCam(0.9)
    lecam.update(torch.tensor(1.0), torch.tensor(-1.0))

    def compute(images, fakes, noise):
        config = DiscriminatorConfig(kind=kind, lecam_weight=0)  # which takes the mean logits of a micro-batch
        losses = discriminator_losses(adversary, images, fakes, lecam, noise, config)
        return {name: loss for name, loss in losses.items() if name != "lecam_loss"}

    whole = in_parts(compute, 2 * size, images, fakes, noise)
    assert in_parts(compute, size, images, fakes, noise) == pytest.approx(whole, rel=1e-4, abs=1e-5)


class Verdicts(nn.Module):
    """A discriminator whose logits are the images' values, where DiffAugment leaves those alone."""

    def forward(self, images, noise, batches):
        return images.flatten(1)


def test_discriminator_losses_follow_their_formulas():
    config = DiscriminatorConfig(augment_probability=0, lecam_weight=0.1)
    real, fake = 2 * torch.randn(2, 4, 3, 8, 8)
    lecam = LeCam(0.5)
    lecam.update(torch.tensor(0.6), torch.tensor(-0.4))
    losses = discriminator_losses(Verdicts(), real, fake, lecam, torch.rand(4, NUM_NOISE), config)
    hinge = sum(max(0, 1 - x) for x in real.flatten().tolist()) + sum(max(0, 1 + x) for x in fake.flatten().tolist())
    penalty = max(0, real.mean().item() + 0.2) ** 2 + max(0, 0.3 - fake.mean().item()) ** 2
    right = (real > 0).sum().item() + (fake < 0).sum().item()
    assert losses["lecam_loss"].item() == pytest.approx(penalty, rel=1e-4)
    expected = hinge / 2 / real.numel() + 0.1 * penalty
    assert losses["discriminator_loss"].item() == pytest.approx(expected, rel=1e-4)
    assert losses["discriminator_accuracy"].item() == pytest.approx(right / (2 * real.numel()))
    assert losses["real_logits"].item() == pytest.approx(real.mean().item(), abs=1e-5)
    assert losses["fake_logits"].item() == pytest.approx(fake.mean().item(), abs=1e-5)


def test_the_discriminators_step_gives_the_tokenizer_no_gradients(images, noise, adversary):
    real, fake = images.clone().requires_grad_(), images.clone().requires_grad_()
    losses = discriminator_losses(adversary, real, fake, LeCam(0.9), noise, DiscriminatorConfig(kind="patch"))
    losses["discriminator_loss"].backward()
    assert real.grad is None and fake.grad is None
    assert all(p.grad is not None for p in adversary.parameters())
    assert [name for name, loss in losses.items() if name.endswith("_logits") and loss.requires_grad] == []


def test_the_adversarial_loss_pulls_pictures_towards_real(images, noise, adversary):
    config = run_config(discriminator={"kind": "patch", "weight": 1, "augment_probability": 0})
    tokenizer, result = reconstruct(config, images)
    fakes = images.clone().requires_grad_()
    result = result._replace(images=fakes)
    objective = TokenizerLosses(config, None, None)
    before = objective(result, images, tokenizer.quantizer, noise, adversary)["adversarial_loss"]
    (gradient,) = torch.autograd.grad(before, fakes)
    moved = result._replace(images=fakes - 0.1 * gradient.sign())
    assert objective(moved, images, tokenizer.quantizer, noise, adversary)["adversarial_loss"] < before


@pytest.mark.parametrize(("size", "padding"), [((256, 240), PADDING), ((32, 64), None)])
def test_pad_and_crop_is_a_pad_a_crop_and_a_bicubic_resize_of_both_pictures(size, padding):
    images, others = torch.rand(2, 6, 3, *size, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(6, CROP_NOISE, generator=torch.Generator().manual_seed(1))
    noise[0], noise[1] = 0.0, 1 - 2**-24  # all of the padding stays, none of it
    cropped, others_cropped = pad_and_crop(images, others, noise)
    torch.testing.assert_close(cropped[1], images[1], atol=1e-4, rtol=0)
    rows, columns = (padding or length // 8 for length in size)
    for i, row in enumerate(noise.tolist()):
        top, bottom = (int((rows + 1) * draw) for draw in row[:2])
        left, right = (int((columns + 1) * draw) for draw in row[2:])
        for found, image in ((cropped[i], images[i]), (others_cropped[i], others[i])):
            padded = F.pad(image[None], (columns, columns, rows, rows), mode="replicate")
            height, width = padded.shape[-2:]
            window = padded[..., top : height - bottom, left : width - right]
            expected = F.interpolate(window, size, mode="bicubic", align_corners=False)[0]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_misalignment_follows_its_formula():
    ours, theirs = torch.randn(2, 3, 5, 2, 2)
    total = 0.0
    for i in range(3):
        for row in range(2):
            for column in range(2):
                a, b = ours[i, :, row, column], theirs[i, :, row, column]
                total += max(0.0, 1 - 0.25 - (a @ b / (a.norm() * b.norm())).item())
    assert misalignment(ours, theirs, 0.25).item() == pytest.approx(total / 12, rel=1e-5)
    assert misalignment(ours, 3 * ours, 0.25) == 0 and misalignment(ours, -ours, 0.0).item() == pytest.approx(2)


def test_alignment_of_a_side_without_a_weight_is_not_computed(images, noise):
    config = run_config(alignment={"encoder_weight": 1, **TEACHER})
    assert config.model.decoder_alignment_dim is None
    tokenizer, result = reconstruct(config, images, align=True)
    losses = open_tokenizer_losses(config, CPU)(result, images, tokenizer.quantizer, noise)
    assert "encoder_alignment_loss" in losses and "decoder_alignment_loss" not in losses


def test_losses_are_float32_under_autocast(images, noise, lpips, adversary):
    config = run_config(
        loss={"perceptual_weight": 1, "entropy_weight": 0.1},
        alignment={"encoder_weight": 1, "decoder_weight": 1, **TEACHER},
        discriminator={"kind": "patch", "weight": 0.5},
    )
    objective = TokenizerLosses(config, lpips, open_teacher(config.alignment, config.model.grid, CPU))
    with torch.autocast("cpu", torch.bfloat16):
        tokenizer, result = reconstruct(config, images, align=True)
        losses = objective(result, images, tokenizer.quantizer, noise, adversary)
        fakes = result.images.detach()
        losses |= discriminator_losses(adversary, images, fakes, LeCam(0.9), noise, config.discriminator)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())
    losses["loss"].backward()
    losses["discriminator_loss"].backward()


class Uploads(TorchDispatchMode):
    """Notes copies from the CPU to another device that the host would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.all = self.blocking = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        made = operation(*arguments, **(options or {}))
        if operation.overloadpacket is torch.ops.aten._to_copy and arguments[0].device != made.device:
            self.all += 1
            self.blocking += not (options or {}).get("non_blocking")
        return made


def test_no_part_of_a_step_uploads_anything_that_the_host_waits_for(lpips, monkeypatch):
    """On a device that is not the CPU, and computes nothing."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which the meta device has not
    meta = torch.device("meta")
    alignment = {"encoder_weight": 1.0, "decoder_weight": 1.0}
    config = run_config(alignment=alignment, loss={"perceptual_weight": 1.0, "entropy_weight": 1.0})
    tokenizer = Tokenizer(config.model).to(meta)
    network = timm.create_model(config.alignment.teacher, embed_dim=1024, depth=1, img_size=(32, 32)).to(meta)
    dino = timm.create_model(DINO, embed_dim=32, num_heads=2).requires_grad_(False).to(meta)
    judge = DinoDiscriminator(Dino(dino)).to(meta)
    lecam = LeCam(0.9).to(meta)
    losses = TokenizerLosses(config, lpips.to(meta), Teacher(network.eval(), config.model.grid))
    images, noise = torch.rand(4, 3, 32, 32, device=meta), torch.rand(4, NUM_NOISE)
    with Uploads() as uploads:
        result = tokenizer(images, torch.tensor([1, 2, 4, 8]).to(meta, non_blocking=True), align=True)
        losses(result, images, tokenizer.quantizer, noise, judge)["loss"].backward()
        fakes = result.images.detach()
        discriminator_losses(judge, images, fakes, lecam, noise, config.discriminator)["discriminator_loss"].backward()
    assert (uploads.all, uploads.blocking) == (3, 0)  # prefix lengths, and noise twice


def test_every_use_of_chance_has_draws_of_its_own(images, noise, lpips):
    config = run_config(loss={"perceptual_weight": 1.0}, discriminator={"weight": 1.0, "augment_probability": 1.0})
    tokenizer, result = reconstruct(config, images)
    objective = TokenizerLosses(config, lpips, None)

    def uses(noise) -> list[float]:
        losses = objective(result, images, tokenizer.quantizer, noise, Verdicts())
        losses |= discriminator_losses(Verdicts(), images, result.images, LeCam(0.9), noise, config.discriminator)
        return [losses[name].item() for name in ("perceptual_loss", "adversarial_loss", "real_logits", "fake_logits")]

    before = uses(noise)
    for number in range(len(NOISE)):
        other = noise.clone()
        draws = other.split(NOISE, 1)[number]
        draws.copy_(1 - draws)
        assert [a != b for a, b in zip(uses(other), before, strict=True)] == [i == number for i in range(len(NOISE))]


def test_the_new_terms_are_off_until_a_preset_or_the_user_asks_for_them():
    assert TokenizerLossConfig().perceptual_weight == 0 and DiscriminatorConfig().weight == 0
    assert not AlignmentConfig().is_used and TokenizerConfig().encoder_alignment_dim is None
