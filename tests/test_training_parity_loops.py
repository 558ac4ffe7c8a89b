"""The loops of both trainings do what the released ones did: on golden vectors (tests/golden/training, see its README),
and on small models what their parts do when plain code calls them one by one."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from golden_training import (
    assert_near,
    assert_near_norms,
    filled_discriminator,
    filled_model,
    inputs,
    load_training_case,
    picked_rows,
    released_discriminator_name,
    released_lpips,
    summary,
)
from torch import Tensor, nn
from training_runs import equal

from restok_cli.data.loading.batching import Batch
from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.released import har_config, tokenizer_config
from restok_cli.pretrained.released_tensors import to_released
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import DINO, HarRunConfig, TokenizerRunConfig
from restok_cli.settings.yaml_file import merged
from restok_cli.training import har_loop, loop, tokenizer_loop
from restok_cli.training.adversarial import adversary
from restok_cli.training.adversarial.discriminator import Dino, DinoDiscriminator, LeCam, follow_weights
from restok_cli.training.code_source import Coded
from restok_cli.training.losses import NUM_NOISE, TokenizerLosses, discriminator_losses
from restok_cli.training.optim import make_optimizer, update_ema
from restok_cli.training.run_folder.run import RunFolder
from restok_cli.training.teachers import TeacherFeatures
from restok_cli.training.update import Update

CPU = torch.device("cpu")
NO_CHANCE = 0.999  # as every draw: no augmentation takes place, and before LPIPS all that was padded is cut off


class Recorded(TokenizerLosses):
    """The loss, which keeps the reconstruction that it judges, and its gradient."""

    def __call__(self, result, *arguments):
        result.images.retain_grad()
        self.result = result
        return super().__call__(result, *arguments)


class StartedLeCam(LeCam):
    """With the means that the golden step starts from."""

    def __init__(self, decay: float):
        super().__init__(decay)
        self.real.fill_(0.1)
        self.fake.fill_(-0.05)


class PlainTeacher(NamedTuple):
    """A teacher whose features are computed by hand."""

    features: Callable[[Tensor], TeacherFeatures]
    network: nn.Module = nn.Identity()

    def __call__(self, images: Tensor) -> TeacherFeatures:
        return self.features(images)


def record_gradients(patch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The gradients of every step of an optimizer that follows, before they are clipped."""
    seen, step = [], Update.step

    def recorded(update, number):
        seen.append({name: p.grad.clone() for name, p in update.model.named_parameters()})
        return step(update, number)

    patch.setattr(Update, "step", recorded)
    return seen


def record_states(patch: pytest.MonkeyPatch) -> dict[int, dict]:
    """The state after each step at which a loop saves it, in the place of checkpoints."""
    saved = {}

    def save_run(done, trainee, _run):
        saved[done] = deepcopy(trainee.state.state_dict())

    patch.setattr(loop, "save_run", save_run)
    return saved


def run_config(kind: type, model: dict, **sections) -> TokenizerRunConfig | HarRunConfig:
    """A run that logs and saves every step."""
    schedule = {"max_steps": 1000, "log_every": 1, "save_every": 1} | sections.pop("schedule")
    return kind.parse({"model": model, "compute": {"precision": "float32"}, "schedule": schedule, **sections}, "test")


def logged(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def inject(patch: pytest.MonkeyPatch, images: list[Tensor], kept: list[Tensor], noise: list[Tensor]) -> None:
    """Let the tokenizer's loop draw these, one of each for every step."""
    of_step = [iter(values) for values in (images, kept, noise)]
    patch.setattr(tokenizer_loop, "batches", lambda *_, **__: (Batch(i, None) for i in of_step[0]))
    patch.setattr(tokenizer_loop, "to_float", lambda images: images)  # which they are
    patch.setattr(tokenizer_loop, "draw_prefix_lengths", lambda *_: next(of_step[1]))
    patch.setattr(torch, "rand", lambda *_: next(of_step[2]))


@pytest.fixture(scope="module")
def released_step(tmp_path_factory, sample_data) -> SimpleNamespace:
    """The golden step of the tokenizer and of its discriminator, taken by the loop, and what was seen of it.

    Put in from outside: DINO's tanh GELU, by `filled_discriminator`. All gradients need it, the terms total_loss and
    (weighted_)gan_loss, and all that is the discriminator's.
    """
    facts, golden = load_training_case("tokenizer_step")
    model, size = tokenizer_config(facts["config"]), facts["batch"]
    config = run_config(
        TokenizerRunConfig,
        model.model_dump(),
        schedule={"batch_size": size},
        loss={"perceptual_weight": 1},
        alignment={"encoder_weight": 1, "decoder_weight": 1},
        discriminator={"weight": 0.5, "start_step": 0},
    )
    images = inputs.pictures(size, facts["image_size"], "step/0")
    features = TeacherFeatures(
        inputs.noise("teacher/cls/0", (size, 1024, 1, 1)).flatten(1),
        inputs.noise("teacher/patches/0", (size, 1024, *model.grid)),
    )
    losses = Recorded(config, released_lpips(), PlainTeacher(lambda _images: features))
    folder, judged = tmp_path_factory.mktemp("released") / "run", []
    run = RunFolder(folder, config, resume=False, overwrite=False)

    def recorded(*arguments):
        judged.append(discriminator_losses(*arguments))
        return judged[-1]

    with pytest.MonkeyPatch.context() as patch:
        inject(patch, [images], [torch.tensor(facts["keep"])], [torch.full((size, NUM_NOISE), NO_CHANCE)])
        patch.setattr(adversary, "open_discriminator", lambda _config, _device: filled_discriminator())
        patch.setattr(adversary, "LeCam", StartedLeCam)
        patch.setattr(adversary, "discriminator_losses", recorded)
        gradients, states = record_gradients(patch), record_states(patch)
        tokenizer = filled_model(Tokenizer(model))
        tokenizer_loop.train_tokenizer(config, run, sample_data, losses, CPU, init=tokenizer, stop_at=1)
    return SimpleNamespace(
        facts=facts,
        golden=golden,
        numbers=logged(folder)[0],
        result=losses.result,
        features=features,
        judged=judged[0],
        lecam=states[1]["adversary"]["lecam"],
        gradients=to_released(model, gradients[0]),
        discriminator_gradients={released_discriminator_name(name): grad for name, grad in gradients[1].items()},
    )


@pytest.mark.slow
def test_the_tokenizers_loop_takes_the_released_step(released_step):
    facts, golden, numbers = released_step.facts, released_step.golden, released_step.numbers
    result, features = released_step.result, released_step.features
    assert np.array_equal(result.quantized.codes, golden["codes"])
    assert_near(F.avg_pool2d(result.images, 16), golden["fakes_pooled"], 1e-3)  # kept as float16
    assert_near(result.images[..., :4, :4], golden["fakes_corner"], 1e-4)
    ours = {
        "total_loss": numbers["loss"],
        "reconstruction_loss": numbers["reconstruction_loss"],
        "perceptual_loss": numbers["perceptual_loss"],
        "quantizer_loss": numbers["quantizer_loss"],
        "weighted_gan_loss": 0.5 * numbers["adversarial_loss"],
        "gan_loss": numbers["adversarial_loss"],
        "commitment_loss": result.quantized.commitment_loss.item(),
        "codebook_loss": result.quantized.codebook_loss.item(),
        "vf_loss": numbers["encoder_alignment_loss"] + numbers["decoder_alignment_loss"],
        "vf_cos": F.cosine_similarity(result.encoder_features, features.image, dim=1).mean().item(),
        "vf_cos_dec": F.cosine_similarity(result.decoder_features, features.patches, dim=1).mean().item(),
        "dropout_remain": sum(facts["keep"]) / facts["batch"],
    }
    theirs = dict(zip(facts["terms"], golden["quiet_terms"].tolist(), strict=True))
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    assert_near(summary(result.images.grad), golden["quiet_fakes_gradient"], 1e-3)
    assert_near(inputs.picked(result.images.grad, 64), golden["quiet_fakes_gradient_values"], 2e-2)
    assert numbers["grad_norm"] == pytest.approx(golden["quiet_gradient_norm"], rel=3e-4)
    assert_near_norms(released_step.gradients, facts["parameters"], golden["quiet_gradient_norms"])
    assert_near_values(released_step.gradients, facts["parameters"], golden["quiet_gradient_values"])


@pytest.mark.slow
def test_the_tokenizers_loop_takes_the_released_step_of_the_discriminator(released_step):
    facts, golden, numbers = released_step.facts, released_step.golden, released_step.numbers
    judged, lecam, gradients = released_step.judged, released_step.lecam, released_step.discriminator_gradients
    ours = {
        "discriminator_loss": numbers["discriminator_loss"],
        "logits_real": judged["real_logits"].item(),
        "logits_fake": judged["fake_logits"].item(),
        "lecam_loss": 0.001 * numbers["lecam_loss"],
    }
    theirs = dict(zip(facts["discriminator_terms"], golden["quiet_discriminator_terms"].tolist(), strict=True))
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert_near(torch.stack([lecam["real"], lecam["fake"]]), golden["quiet_lecam_means"], 1e-6)
    assert numbers["discriminator_grad_norm"] == pytest.approx(golden["quiet_discriminator_gradient_norm"], rel=3e-4)
    names = facts["discriminator_parameters"]
    assert_near_norms(gradients, names, golden["quiet_discriminator_gradient_norms"])
    assert_near_values(gradients, names, golden["quiet_discriminator_gradient_values"])


def assert_near_values(gradients: dict[str, Tensor], names: list[str], theirs: np.ndarray) -> None:
    """Picked values of each tensor, by the largest of it; what is far below those of all tensors is rounding."""
    ours = picked_rows([gradients[name] for name in names], theirs.shape[1])
    largest = torch.stack([gradients[name].abs().max() for name in names])
    far = (ours - torch.from_numpy(theirs)).abs().amax(1) / largest.clamp_min(1e-4 * largest.max().item())
    assert far.max() < 1e-2, names[far.argmax()]


def test_the_tokenizers_loop_is_its_parts_one_after_the_other(tmp_path, monkeypatch, sample_data):
    """Three steps of the smallest model, the adversary from the second on. Clipping is torch's, and the rates are
    written out."""
    tiny = read_preset("tokenizer", "tiny")
    steps, size = 3, 4
    config = TokenizerRunConfig.parse(
        merged(
            tiny,
            {
                "model": {"encoder_alignment_dim": 24, "decoder_alignment_dim": 24},
                "schedule": {"batch_size": size, "log_every": 1, "save_every": 1},
                "loss": {"perceptual_weight": 1},
                "alignment": {"encoder_weight": 1, "decoder_weight": 1},
                "discriminator": {"weight": 0.5, "start_step": 1, "optimizer": {"warmup_steps": 2}},
            },
        ),
        "test",
    )
    torch.manual_seed(0)
    images, noise = torch.rand(steps, size, 3, 32, 32), torch.rand(steps, size, NUM_NOISE)
    kept = torch.tensor([[32, 4, 16, 32], [8, 32, 32, 4], [32, 32, 16, 8]])
    tokenizer = Tokenizer(config.model).train()
    ema = deepcopy(tokenizer)
    vit = timm.create_model(DINO, pretrained=False, embed_dim=32, num_heads=2).requires_grad_(False).eval()
    network, lecam = DinoDiscriminator(Dino(vit)), LeCam(config.discriminator.lecam_decay)
    lpips = Lpips()
    for i in range(5):
        lpips.get_buffer(f"lin{i}").uniform_()

    def teacher(images: Tensor) -> TeacherFeatures:
        patches = F.adaptive_avg_pool2d(images, config.model.grid).repeat(1, 8, 1, 1)
        return TeacherFeatures(patches.mean((2, 3)), patches)

    losses = TokenizerLosses(config, lpips, PlainTeacher(teacher))
    with monkeypatch.context() as patch:
        states = record_states(patch)
        inject(patch, list(images), list(kept), list(noise))
        judge = deepcopy(network)
        patch.setattr(adversary, "open_discriminator", lambda _config, _device: judge)
        run = RunFolder(tmp_path, config, resume=False, overwrite=False)
        tokenizer_loop.train_tokenizer(config, run, sample_data, losses, CPU, init=tokenizer, stop_at=steps)

    optimizer = make_optimizer(tokenizer, config.optimizer)
    of_heads = make_optimizer(network, config.discriminator.optimizer)
    for step, rate in enumerate((0.0006, 0.0012, 0.0018)):
        result = tokenizer(images[step], kept[step], True)
        judge = network if step >= 1 else None
        term = losses(result, images[step], tokenizer.quantizer, noise[step], judge)
        term["loss"].backward()
        move(optimizer, rate, 1.0)
        update_ema(ema, tokenizer, step, config.schedule.ema_decay)
        if step >= 1:
            parts = discriminator_losses(
                network, images[step], result.images.detach(), lecam, noise[step], config.discriminator
            )
            parts["discriminator_loss"].backward()
            move(of_heads, (0.00005, 0.0001)[step - 1], 10.0)
            follow_weights(network)
            lecam.update(parts["real_logits"], parts["fake_logits"])
        ours = states[step + 1]
        assert equal(dict(ours["model"]), dict(tokenizer.state_dict()))
        assert equal(dict(ours["ema"]), dict(ema.state_dict()))
        assert equal(dict(ours["adversary"]["network"]), dict(network.state_dict()))
        assert equal(dict(ours["adversary"]["lecam"]), dict(lecam.state_dict()))


def move(optimizer: torch.optim.Optimizer, rate: float, max_grad_norm: float) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()


def test_the_generators_loop_takes_the_released_steps(tmp_path, monkeypatch, tiny_models):
    facts, golden = load_training_case("har_steps")
    model, size, steps = har_config(facts["args"]), facts["batch"], len(facts["rates"])
    config = run_config(
        HarRunConfig,
        model.model_dump(),
        schedule={"batch_size": size},
        optimizer={"learning_rate": facts["rates"][-1], "warmup_steps": steps},
    )

    def numbered(name: str) -> Iterator[Tensor]:
        return (torch.from_numpy(golden[f"{name}_{i}"]) for i in range(steps))

    source = SimpleNamespace(
        name="golden",
        fingerprint="",
        remedy="",
        training=lambda *_: (
            Coded(labels.long(), codes.long())
            for labels, codes in zip(numbered("labels"), numbered("codes"), strict=True)
        ),
    )
    hidden = numbered("hidden")
    gradients, states = record_gradients(monkeypatch), record_states(monkeypatch)
    monkeypatch.setattr(torch, "rand", lambda _count: torch.where(next(hidden), 0.0, 1.0))
    run = RunFolder(tmp_path, config, resume=False, overwrite=False)
    har = filled_model(Har(model))
    before = {name: tensor.clone() for name, tensor in har.state_dict().items()}
    tokenizer = open_tokenizer(tiny_models / "tokenizer")
    har_loop.train_har(config, run, source, tokenizer, None, CPU, init=har, stop_at=steps)

    lines = logged(tmp_path)
    assert [line["learning_rate"] for line in lines] == pytest.approx(facts["rates"])
    assert lines[0]["loss"] == pytest.approx(golden["losses"][0, 0], rel=1e-5)
    assert [line["loss"] for line in lines] == pytest.approx(golden["losses"][:, 0].tolist(), rel=3e-3)
    assert lines[0]["grad_norm"] == pytest.approx(golden["norms"][0], rel=3e-4)
    assert [line["grad_norm"] for line in lines] == pytest.approx(golden["norms"].tolist(), rel=5e-3)
    first = to_released(model, gradients[0])
    assert_near_norms(first, facts["parameters"], golden["gradient_norms"])
    assert_near_values(first, facts["parameters"], golden["gradient_values"])
    for step in range(steps):
        for ours, theirs in (("model", "step"), ("ema", "ema")):
            after = states[step + 1][ours]
            changes = to_released(model, {name: after[name] - tensor for name, tensor in before.items()})
            assert_near_norms(changes, facts["watched"], golden[f"{theirs}_{step}_change"], 5e-3)
            values = picked_rows([changes[name] for name in facts["watched"]], 12)
            assert_near(values, golden[f"{theirs}_{step}_values"], 5e-2)
