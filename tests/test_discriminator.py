"""The discriminators and what regularises them, against something simpler."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from restok_cli.settings.training import DiscriminatorConfig, OptimizerConfig
from restok_cli.training.adversarial.discriminator import (
    DINO,
    DINO_DEPTHS,
    FIT_NOISE,
    Blur,
    Dino,
    DinoDiscriminator,
    LeCam,
    PatchDiscriminator,
    VirtualBatchNorm,
    convolution,
    fit,
    follow_weights,
    held_still,
    open_discriminator,
)
from restok_cli.training.optim import make_optimizer

CPU = torch.device("cpu")


@pytest.fixture
def dino() -> Dino:
    """DINO ViT-S/16 with all its blocks, but narrow and of random weights."""
    torch.manual_seed(0)
    network = timm.create_model(DINO, pretrained=False, embed_dim=32, num_heads=2)
    return Dino(network.requires_grad_(False).eval())


@pytest.fixture
def discriminator(dino) -> DinoDiscriminator:
    return DinoDiscriminator(dino)


@pytest.mark.parametrize("kind", ["dino", "patch"])
def test_weight_decay_takes_the_kernels_and_nothing_else(kind, dino):
    network = DinoDiscriminator(dino) if kind == "dino" else PatchDiscriminator(channels=32)
    groups = make_optimizer(network, OptimizerConfig(weight_decay=0.1)).param_groups
    decayed, spared = ({id(p) for p in group["params"]} for group in groups)
    parameters = dict(network.named_parameters())
    assert decayed == {id(p) for p in parameters.values() if p.ndim > 1} != set()
    assert spared == {id(p) for p in parameters.values() if p.ndim == 1} != set()


@torch.no_grad()
def test_features_are_those_before_the_first_block_and_after_every_third(dino):
    images, vit = torch.rand(2, 3, 224, 224), dino.network
    inputs = []
    vit.blocks[0].register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    normalised = (images - dino.mean) / dino.std
    _, outputs = vit.forward_intermediates(normalised, [2, 5, 8, 11], return_prefix_tokens=True, output_fmt="NLC")
    expected = [(inputs[0][:, :1], inputs[0][:, 1:]), *((prefix, patches) for patches, prefix in outputs)]
    for found, (class_token, patches) in zip(dino(images), expected, strict=True):
        assert found.shape == (2, 32, 196)
        torch.testing.assert_close(found, (patches + class_token).mT)


@pytest.mark.parametrize("batch_size", [*range(1, 26), 36, 50, 100])
def test_virtual_batch_norm_takes_every_batch_size(batch_size):
    torch.manual_seed(0)
    norm, features = VirtualBatchNorm(3), torch.randn(batch_size, 3, 5, requires_grad=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    groups = -(-batch_size // 8)
    sizes = [batch_size // groups + (i < batch_size % groups) for i in range(groups)]
    assert max(sizes) <= 8
    expected = []
    for group in features.split(sizes):
        mean = group.mean((0, 2), keepdim=True)
        variance = (group - mean).square().mean((0, 2), keepdim=True)
        normalised = (group - mean) / (variance + 1e-6).sqrt()
        expected.append(normalised * norm.weight[:, None] + norm.bias[:, None])
    found = norm(features)
    torch.testing.assert_close(found, torch.cat(expected))
    found.square().sum().backward()
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("batch_size", [1, 3, 8, 9])
def test_dino_discriminator_is_trained_with_every_batch_size(discriminator, batch_size):
    logits = discriminator(torch.rand(batch_size, 3, 64, 64), torch.rand(batch_size, FIT_NOISE))
    assert logits.shape == (batch_size, len(DINO_DEPTHS) * 196)
    logits.square().mean().backward()
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_micro_batches_of_8_are_judged_as_in_one_batch(discriminator):
    images, noise = torch.rand(16, 3, 64, 64), torch.rand(16, FIT_NOISE)
    parts = [discriminator(i, d) for i, d in zip(images.split(8), noise.split(8), strict=True)]
    torch.testing.assert_close(torch.cat(parts), discriminator(images, noise), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["dino", "patch"])
@pytest.mark.parametrize("size", [3, 8, 20])
def test_two_batches_in_one_pass_are_judged_as_in_two(discriminator, size, kind):
    judge = discriminator if kind == "dino" else PatchDiscriminator(channels=32)
    images, noise = torch.rand(2 * size, 3, 32, 32), torch.rand(2 * size, FIT_NOISE)
    parts = [judge(i, d) for i, d in zip(images.split(size), noise.split(size), strict=True)]
    torch.testing.assert_close(judge(images, noise, batches=2), torch.cat(parts), rtol=1e-4, atol=1e-4)


def test_the_backbone_is_frozen_and_in_no_state_and_never_in_train_mode(discriminator):
    vit = discriminator.dino.network
    discriminator.train()
    assert not vit.training and not any(p.requires_grad for p in vit.parameters())
    assert all(name.startswith("heads.") for name in discriminator.state_dict())
    assert {id(p) for p in discriminator.parameters()}.isdisjoint(id(p) for p in vit.parameters())
    real = torch.rand(2, 3, 64, 64)
    features = discriminator.dino(fit(real, torch.rand(2, FIT_NOISE)))
    assert not any(f.requires_grad for f in features)  # so real images cost no pass back through it


def test_state_of_the_heads_goes_into_another_discriminator(dino, discriminator):
    follow_weights(discriminator)
    other = DinoDiscriminator(dino)
    other.load_state_dict(discriminator.state_dict())
    images, noise = torch.rand(2, 3, 64, 64), torch.rand(2, FIT_NOISE)
    assert torch.equal(other(images, noise), discriminator(images, noise))


def test_passes_forward_change_nothing_and_following_the_weights_does(discriminator):
    def state():
        return {name: tensor.clone() for name, tensor in discriminator.state_dict().items()}

    before = state()
    discriminator.train()
    discriminator(torch.rand(2, 3, 64, 64), torch.rand(2, FIT_NOISE))
    assert all(torch.equal(before[name], tensor) for name, tensor in state().items())
    follow_weights(discriminator)
    changed = {name.rsplit(".", 1)[1] for name, tensor in state().items() if not torch.equal(before[name], tensor)}
    assert changed == {"_u", "_v"}
    assert all(p.requires_grad for p in discriminator.parameters())


def test_convolutions_of_the_heads_stretch_nothing(discriminator):
    for parameter in discriminator.parameters():
        nn.init.normal_(parameter)
    for _ in range(50):
        follow_weights(discriminator)
    convolutions = [module for module in discriminator.modules() if isinstance(module, nn.Conv1d)]
    assert len(convolutions) == 15
    for layer in convolutions:
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item()
        assert norm == pytest.approx(1, abs=0.02)


def test_spectral_norm_is_torchs_by_name_and_value():
    """So that the heads of runs from before we had our own can be taken up."""
    torch.manual_seed(0)
    ours, theirs = convolution(6, 4, 3), spectral_norm(nn.Conv1d(6, 4, 3, padding=1, padding_mode="circular")).eval()
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.state_dict()["parametrizations.weight.0._u"], theirs.parametrizations.weight[0]._u)
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_larger_pictures_are_shrunk_or_cropped_half_each():
    noise = torch.rand(60, FIT_NOISE, generator=torch.Generator().manual_seed(0))
    images = torch.rand(1, 3, 256, 240).expand(60, -1, -1, -1)
    fitted = fit(images, noise)
    shrunk = F.adaptive_avg_pool2d(images[:1], 224)[0]
    crops = 0
    for found, (choice, row, column) in zip(fitted, noise.tolist(), strict=True):
        if choice < 0.5:
            top, left = int(row * 33), int(column * 17)
            assert torch.equal(found, images[0, :, top : top + 224, left : left + 224])
            crops += 1
        else:
            torch.testing.assert_close(found, shrunk)
    assert 20 < crops < 40


@pytest.mark.parametrize("size", [(32, 64), (200, 300)])
def test_smaller_pictures_are_stretched(size):
    images = torch.rand(2, 3, *size)
    expected = F.interpolate(images, (224, 224), mode="bicubic", align_corners=False)
    torch.testing.assert_close(fit(images, torch.rand(2, FIT_NOISE)), expected, rtol=0, atol=3e-5)


def test_pictures_of_the_right_size_stay_as_they_are():
    images = torch.rand(2, 3, 224, 224)
    assert torch.equal(fit(images, torch.rand(2, FIT_NOISE)), images)


def test_blur_is_a_weighted_mean_of_four_neighbours_in_rows_and_columns():
    features = torch.rand(2, 3, 6, 8)
    padded = F.pad(features, (1, 1, 1, 1))
    weights = torch.tensor([1, 3, 3, 1]) / 8
    expected = torch.zeros(2, 3, 3, 4)
    for y in range(3):
        for x in range(4):
            patch = padded[:, :, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4]
            expected[:, :, y, x] = (patch * weights[:, None] * weights).sum((2, 3))
    torch.testing.assert_close(Blur()(features), expected)
    assert not Blur().state_dict()


def naive_patch_discriminator(state, image):
    """ALGORITHM sections 2 and 6, of one image (3, H, W) in [0, 1]."""
    weights = iter(state.values())

    def convolve(features):
        kernel = next(weights)
        return F.conv2d(features, kernel, next(weights), padding=kernel.shape[-1] // 2)

    def leak(features):
        return torch.where(features > 0, features, 0.1 * features)

    def blur(features):
        line = torch.tensor([1, 3, 3, 1]) / 8
        around = F.pad(features, (1, 1, 1, 1))  # zeros
        rows = sum(weight * around[:, :, i : i + features.shape[2] : 2] for i, weight in enumerate(line))
        return sum(weight * rows[..., i : i + features.shape[3] : 2] for i, weight in enumerate(line))

    def normalise(features):
        groups = features.reshape(32, -1)
        groups = (groups - groups.mean(1, keepdim=True)) / (groups.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        return groups.view_as(features) * next(weights)[:, None, None] + next(weights)[:, None, None]

    features = leak(convolve(image[None]))
    for _ in range(3):
        features = leak(normalise(blur(convolve(features))))
    rows, columns = (side // 16 for side in features.shape[2:])
    features = features.reshape(1, -1, 16, rows, 16, columns).amax((3, 5))
    logits = convolve(leak(convolve(features)))
    assert not list(weights)
    return logits.flatten()


@pytest.mark.parametrize("size", [(128, 128), (256, 384)])
def test_patch_discriminator_is_that_of_the_algorithm_and_judges_each_image_by_itself(size):
    torch.manual_seed(0)
    discriminator, noise = PatchDiscriminator(channels=32), torch.rand(2, FIT_NOISE)
    for parameter in discriminator.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
    images = torch.rand(2, 3, *size)
    logits = discriminator(images, noise)
    assert logits.shape == (2, 16 * 16)
    expected = torch.stack([naive_patch_discriminator(discriminator.state_dict(), image) for image in images])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_patch_discriminator_takes_images_of_less_than_16_patches():
    assert PatchDiscriminator(channels=32)(torch.rand(2, 3, 32, 64), torch.rand(2, FIT_NOISE)).shape == (2, 16 * 16)


@pytest.mark.parametrize("kind", ["dino", "patch"])
def test_a_discriminator_learns_to_tell_two_kinds_of_pictures(kind, dino):
    torch.manual_seed(0)
    discriminator = DinoDiscriminator(dino) if kind == "dino" else PatchDiscriminator(channels=32)
    rate, patch_size = (1e-2, 16) if kind == "dino" else (1e-3, 4)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=rate)
    noise = torch.rand(4, FIT_NOISE)
    for _ in range(20):
        spots, noise = torch.rand(4, 3, 14, 14) < 0.03, torch.rand(4, 3, 14, 14)
        real, fake = F.interpolate(torch.cat([spots, noise]), scale_factor=patch_size).split(4)
        loss = (F.relu(1 - discriminator(real, noise)).mean() + F.relu(1 + discriminator(fake, noise)).mean()) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        follow_weights(discriminator)
    assert loss.item() < 0.6  # 1 where nothing is known


def test_held_still_lets_gradients_through_to_pictures_alone(discriminator):
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    with held_still(discriminator):
        logits = discriminator(images, torch.rand(2, FIT_NOISE))
    logits.sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())


def test_gradients_under_distributed_data_parallel_are_the_same(discriminator, tmp_path):
    images, noise = torch.rand(4, 3, 32, 32), torch.rand(4, FIT_NOISE)
    state = {name: tensor.clone() for name, tensor in discriminator.state_dict().items()}

    def gradients(module):
        """Of a real and a fake pass, after a generator's step that held the discriminator still."""
        discriminator.load_state_dict(state)
        discriminator.zero_grad()
        with held_still(discriminator):
            discriminator(images, noise)
        (module(images, noise).mean() - module(1 - images, noise).square().mean()).backward()
        return [p.grad.clone() for p in discriminator.parameters()]

    alone = gradients(discriminator)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(discriminator)
        for _ in range(2):
            together = gradients(parallel)
    finally:
        torch.distributed.destroy_process_group()
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_lecam_follows_its_formula_and_its_state_goes_on():
    torch.manual_seed(0)
    lecam, real_mean, fake_mean = LeCam(0.9), 0.0, 0.0
    for _ in range(5):
        real, fake = 1 + torch.randn(4, 6), torch.randn(4, 6) - 1
        expected = max(0, real.mean().item() - fake_mean) ** 2 + max(0, real_mean - fake.mean().item()) ** 2
        assert lecam(real, fake).item() == pytest.approx(expected, rel=1e-5)
        lecam.update(real.mean(), fake.mean())
        real_mean = 0.9 * real_mean + 0.1 * real.mean().item()
        fake_mean = 0.9 * fake_mean + 0.1 * fake.mean().item()
    other = LeCam(0.9)
    other.load_state_dict(lecam.state_dict())
    assert torch.equal(other(real, fake), lecam(real, fake))


def test_open_discriminator_gives_the_kind_asked_for():
    assert isinstance(open_discriminator(DiscriminatorConfig(kind="patch"), CPU), PatchDiscriminator)
    found = open_discriminator(DiscriminatorConfig(weights="random"), CPU)
    assert isinstance(found, DinoDiscriminator) and found.training
    assert found.dino.network.num_features == 384
    assert sum(p.numel() for p in found.parameters()) == 5 * (384 * 384 * 10 + 3 * 384 * 2 + 384 + 1)
