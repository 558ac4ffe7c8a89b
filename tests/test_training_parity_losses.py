"""Our losses, discriminator and augmentations compute what the authors' released implementation computes while it
trains (tests/golden/training, see its README, whose tolerances are these).

Where we differ on purpose, the released behaviour is put in from outside, for the arrays that need it:
- DINO's GELU by its tanh approximation: all of `discriminator` but its first activations, `sigma` and `vectors_*`, and
  `real_path_*` of `adversarial_losses`;
- a power iteration in every pass in training: all of `discriminator` but its activations, and `real_path_moving*`.
"""

import pytest
import torch
import torch.nn.functional as F
from golden_training import (
    assert_near,
    assert_near_norms,
    augment_draws,
    by_released_name,
    crop_noise,
    discriminator_state,
    filled_discriminator,
    inputs,
    load_training_case,
    picked_rows,
    released_lpips,
    step_draws,
    summary,
)
from torch import nn

from restok_cli.model.tokenizer import Reconstruction
from restok_cli.settings.training import AlignmentConfig, DiscriminatorConfig
from restok_cli.training.adversarial.diff_augment import diff_augment
from restok_cli.training.adversarial.discriminator import DinoDiscriminator, LeCam, follow_weights
from restok_cli.training.losses import NUM_NOISE, alignment_losses, discriminator_losses, pad_and_crop
from restok_cli.training.teachers import TeacherFeatures

CPU = torch.device("cpu")
NO_CROP = [15, 15, 15, 15]


@pytest.fixture(scope="module")
def lpips():
    return released_lpips()


def assert_near_gradient(gradient, golden, name, tolerance=1e-2):
    """Mean, standard deviation and norm to 2e-3, and picked values to `tolerance`."""
    mean, deviation, norm = golden[f"{name}_gradient"].tolist()
    assert summary(gradient).tolist() == [
        pytest.approx(mean, abs=2e-3 * deviation),
        pytest.approx(deviation, rel=2e-3),
        pytest.approx(norm, rel=2e-3),
    ]
    values = golden[f"{name}_gradient_values"]
    assert_near(inputs.picked(gradient, len(values)), values, tolerance)


def value_and_gradient_of_lpips(lpips, images, fakes, offsets):
    fakes = fakes.requires_grad_()
    cropped = pad_and_crop(fakes, images, crop_noise(offsets, len(images)))
    values = lpips(*cropped)
    return cropped, values, torch.autograd.grad(values.mean(), fakes)[0]


@pytest.mark.parametrize(("case", "contrast"), [("in_range", 0.9), ("out_of_range", 1.3)])
def test_lpips_and_its_gradient(lpips, case, contrast):
    _, golden = load_training_case("lpips")
    images = inputs.pictures(2, 128, "lpips")
    fakes = inputs.blurred(images, f"lpips/{case}", contrast)
    _, values, gradient = value_and_gradient_of_lpips(lpips, images, fakes, NO_CROP)
    assert values.tolist() == pytest.approx(golden[f"{case}_value"].tolist(), rel=1e-5)
    assert_near_gradient(gradient, golden, case, 2e-2)


@pytest.mark.parametrize("i", range(3))
def test_lpips_through_pad_and_crop(lpips, i):
    facts, golden = load_training_case("lpips")
    images = inputs.pictures(2, 256, "lpips/256")
    fakes = inputs.blurred(images, "lpips/256")
    cropped, values, gradient = value_and_gradient_of_lpips(lpips, images, fakes, facts["offsets"][i])
    for name, pictures in zip(("fakes", "images"), cropped, strict=True):
        first = pictures[:1]
        ends = (slice(6), slice(-6, None))
        corners = torch.stack([first[..., rows, columns] for rows in ends for columns in ends], 1)
        assert_near(corners, golden[f"crop_{i}_{name}_corners"])
        assert_near(first[..., 8::17, 8::17], golden[f"crop_{i}_{name}_grid"])
    assert values.tolist() == pytest.approx(golden[f"crop_{i}_value"].tolist(), rel=1e-5)
    assert_near_gradient(gradient, golden, f"crop_{i}", 2e-2)


@pytest.mark.parametrize("size", [256, 128])
@pytest.mark.parametrize("change", ["brightness", "saturation", "contrast", "shift", "hole", "all", "none"])
def test_diff_augment(size, change):
    facts, golden = load_training_case("diff_augment")
    given = dict(facts[str(size)])
    if change != "all":
        given["happens"] = [change in ("brightness", "saturation", "contrast"), change == "shift", change == "hole"]
        given |= {name: [0.5] * 3 for name in ("brightness", "saturation", "contrast") if name != change}
    images = inputs.pictures(3, size, f"augment/{size}")
    changed = diff_augment(images, 0.5, augment_draws(given, size), "unit")
    assert_near(changed[..., 5::19, 5::19], golden[f"{change}_{size}_grid"])
    assert_near(changed[..., :4, :4], golden[f"{change}_{size}_corner"])
    assert_near(changed.mean((2, 3)), golden[f"{change}_{size}_means"])


def fit_draws(how, crop, batch_size):
    """The rows of `fit` that shrink or crop images of 256 pixels."""
    place = (torch.tensor(crop) + 0.5) / (256 - 224 + 1)
    return torch.tensor([0.25 if how == "crop" else 0.75, *place]).expand(batch_size, -1)


DISCRIMINATOR_CASES = [
    *((how, size, batch) for how, size in (("as_is", 224), ("area", 256)) for batch in (8, 16, 3)),
    ("crop", 256, 8),
    ("crop", 256, 16),
    ("bicubic", 128, 3),
]


@pytest.fixture(scope="module")
def discriminator():
    """With the released tanh GELU, which every array behind DINO's first block needs."""
    return filled_discriminator()


@pytest.fixture
def at_rest(discriminator):
    """Its vectors after 20 rounds."""
    discriminator.load_state_dict(discriminator_state(discriminator))
    discriminator.zero_grad()
    return discriminator


@pytest.mark.slow
@pytest.mark.parametrize(("how", "size", "batch"), DISCRIMINATOR_CASES)
def test_discriminator_and_its_gradients(request, at_rest, how, size, batch):
    facts, golden = load_training_case("discriminator")
    case = f"{how}_{size}_{batch}"
    images = inputs.pictures(batch, size, f"discriminator/{size}").requires_grad_()
    activations = []
    for head in at_rest.heads:
        request.addfinalizer(
            head.register_forward_pre_hook(lambda _, given: activations.append(given[0].detach())).remove
        )
    follow_weights(at_rest)  # the released iteration of a pass
    logits = at_rest(images, fit_draws(how, facts["crop"], batch))
    found = torch.stack([torch.stack([a.mean(), a.std()]) for a in activations])
    assert_near(found, golden[f"{case}_activations"])
    assert_near(picked_rows(activations, 24), golden[f"{case}_activation_values"])
    by_head = logits.detach().view(batch, 5, 196)
    assert_near(torch.stack([by_head.mean(2), by_head.std(2)]), golden[f"{case}_logits"])
    assert_near(by_head[..., ::28], golden[f"{case}_logit_values"])
    (logits * inputs.noise("discriminator/judge", logits.shape)).mean().backward()
    assert_near_gradient(images.grad, golden, case, 2e-2)
    gradients = by_released_name((name, p.grad) for name, p in at_rest.named_parameters())
    assert_near_norms(gradients, facts["parameters"], golden[f"{case}_head_gradients"])


def test_spectral_norms_move_as_the_released_ones(discriminator):
    facts, golden = load_training_case("discriminator")
    discriminator.load_state_dict(discriminator_state(discriminator, rounds=0))
    for passes in range(4):
        state = by_released_name(discriminator.state_dict().items())
        sigmas = []
        for u, v in zip(facts["vectors"][::2], facts["vectors"][1::2], strict=True):
            sigmas.append(state[u] @ state[u.removesuffix("u") + "orig"].flatten(1) @ state[v])
        assert_near(torch.stack(sigmas), golden["sigma"][passes])
        if passes > 0:
            vectors = [inputs.picked(state[name], 8).expand(8) for name in facts["vectors"]]  # some of one number
            assert_near(torch.stack(vectors), golden[f"vectors_after_{passes}"])
        follow_weights(discriminator)


class Given(nn.Module):
    """A discriminator that says what it was told to, whatever it looks at."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = logits

    def forward(self, images, noise, batches):
        assert batches == len(self.logits)
        return torch.cat(self.logits)


class InTurn(nn.Module):
    """A discriminator that looks at each of several batches in a pass of its own, as the released one does."""

    def __init__(self, judge):
        super().__init__()
        self.judge = judge

    def forward(self, images, noise, batches):
        return torch.cat([self.judge(*pair) for pair in zip(images.chunk(batches), noise.chunk(batches), strict=True)])


@pytest.mark.parametrize("decay", [0.999, 0.5])
def test_adversarial_losses_of_given_logits(decay):
    facts, golden = load_training_case("adversarial_losses")
    config = DiscriminatorConfig(kind="patch", lecam_weight=facts["lecam_weight"])
    lecam, images, noise = LeCam(decay), torch.zeros(8, 3, 1, 1), torch.zeros(8, NUM_NOISE)
    for step in (1, 2, 3):
        case = f"given_{decay}_{step}"
        real = (0.4 + 1.2 * inputs.noise(f"logits/real/{step}", (8, 980))).requires_grad_()
        fake = (-0.3 + 1.2 * inputs.noise(f"logits/fake/{step}", (8, 980))).requires_grad_()
        terms = discriminator_losses(Given(real, fake), images, images, lecam, noise, config)
        terms["discriminator_loss"].backward()
        for name, logits in (("real", real), ("fake", fake)):
            assert_near(inputs.picked(logits.grad, 24), golden[f"{case}_gradient_{name}"])
        total, lecam_loss = terms["discriminator_loss"], config.lecam_weight * terms["lecam_loss"]
        means = [terms["real_logits"], terms["fake_logits"]]
        lecam.update(*means)
        found = [total, total - lecam_loss, lecam_loss, *means, lecam.real, lecam.fake, -means[1]]
        assert torch.stack(found).tolist() == pytest.approx(golden[case].tolist(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["still", "moving", "augmented"])
def test_adversarial_losses_of_pictures(request, at_rest, case):
    facts, golden = load_training_case("adversarial_losses")
    config = DiscriminatorConfig(lecam_weight=facts["lecam_weight"])
    judge = at_rest
    if case == "moving":  # the released iteration in every pass
        judge = InTurn(at_rest)
        request.addfinalizer(at_rest.register_forward_pre_hook(lambda *_: follow_weights(at_rest)).remove)
    lecam, nothing = LeCam(facts["lecam_decay"]), {"happens": [False, False, False]}
    for step in (1, 2):
        images = inputs.pictures(8, 128, f"adversarial/{step}")
        fakes = inputs.blurred(images, f"adversarial/{step}")
        given = facts["real_path"][str(step)]
        looks = [given[side] | ({} if case == "augmented" else nothing) for side in ("real", "real", "fake")]
        noise = step_draws({"offsets": NO_CROP, "augment": looks}, 128, 8)
        at_rest.zero_grad()
        terms = discriminator_losses(judge, images, fakes, lecam, noise, config)
        terms["discriminator_loss"].backward()
        means = [terms["real_logits"], terms["fake_logits"]]
        lecam.update(*means)
        found = [terms["discriminator_loss"], config.lecam_weight * terms["lecam_loss"], *means, lecam.real, lecam.fake]
        assert torch.stack(found).tolist() == pytest.approx(golden[f"real_path_{case}"][step - 1].tolist(), rel=1e-5)
        gradients = by_released_name((name, p.grad) for name, p in at_rest.named_parameters())
        assert_near_norms(gradients, facts["parameters"], golden[f"real_path_{case}_{step}_gradients"])


@pytest.mark.parametrize("sides", ["both", "encoder", "decoder"])
def test_alignment_losses(sides):
    facts, golden = load_training_case("alignment_losses")
    shares = torch.tensor(facts["shares"]).view(6, 1, 1, 1)
    classes = inputs.noise("alignment/cls", (6, 1024, 1, 1))
    theirs = inputs.noise("alignment/patches", (6, 1024, 8, 8))
    tokens = inputs.near(classes.expand(6, 1024, 1, 8), "alignment/ours_cls", shares).requires_grad_()
    ours = inputs.near(theirs, "alignment/ours_patches", shares).requires_grad_()

    weights = {f"{side}_weight": float(sides in (side, "both")) for side in ("encoder", "decoder")}
    result = Reconstruction(None, None, None, encoder_features=tokens.mean((2, 3)), decoder_features=ours)
    losses = alignment_losses(result, TeacherFeatures(classes.flatten(1), theirs), AlignmentConfig(**weights))
    total = sum(weight * loss for weight, loss in losses.values())
    total.backward()
    assert total.item() == pytest.approx(golden[f"{sides}_loss"].item(), rel=1e-5)
    if sides in ("encoder", "both"):
        cosine = F.cosine_similarity(result.encoder_features, classes.flatten(1))
        assert_near(cosine, golden[f"{sides}_encoder_cosine"])
        assert_near_gradient(tokens.grad, golden, f"{sides}_encoder")
    if sides in ("decoder", "both"):
        cosine = F.cosine_similarity(ours, theirs).flatten(1)
        assert_near(cosine.mean(1), golden[f"{sides}_decoder_cosine_mean"])
        assert_near(cosine.std(1), golden[f"{sides}_decoder_cosine_std"])
        assert_near_gradient(ours.grad, golden, f"{sides}_decoder")


def test_initial_weights_of_the_heads(discriminator):
    facts, golden = load_training_case("initial_weights")
    torch.manual_seed(0)
    heads = by_released_name(DinoDiscriminator(discriminator.dino).named_parameters())
    names = facts["parameters"]["discriminator"]
    assert heads.keys() == set(names)
    for name, (mean, deviation) in zip(names, golden["discriminator"].tolist(), strict=True):
        tensor = heads[name].detach()
        if name.endswith("2.bias"):  # a single uniform number of ±1/√384: the mean over seeds says only that
            assert tensor.abs().item() < 384**-0.5 and abs(mean) < 384**-0.5
            continue
        margin = 5 * deviation / tensor.numel() ** 0.5  # of chance
        assert tensor.mean().item() == pytest.approx(mean, abs=margin), name
        assert tensor.std().item() == pytest.approx(deviation, abs=margin), name
