"""The whole recipe in one step, and what a step must not do: wait for the device, or let one model's trouble be
another's."""

import math
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from training_runs import HAR, TOKENIZER, break_steps, equal, log, state

from restok_cli.devices import open_device
from restok_cli.errors import RestokError
from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.levels import level_sizes
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import HarRunConfig, HealthConfig, OptimizerConfig, TokenizerHealthConfig
from restok_cli.training import tokenizer_loop
from restok_cli.training.adversarial.discriminator import PatchDiscriminator
from restok_cli.training.codebook_use import UseOfPossible
from restok_cli.training.har_loop import HarState
from restok_cli.training.monitor import Health
from restok_cli.training.optim import learning_rate
from restok_cli.training.update import Update, autocast

CPU = torch.device("cpu")

# TOKENIZER with all that the paper adds: LPIPS, and a teacher on both sides
EVERYTHING = (
    *(*TOKENIZER, "--set", "schedule.log_every=3", "--set", "discriminator.start_step=1"),
    *("--set", "loss.perceptual_weight=1", "--set", "alignment.teacher=test_vit", "--set", "alignment.weights=random"),
    *("--set", "alignment.encoder_weight=1", "--set", "alignment.decoder_weight=1"),
)


class Waits(TorchDispatchMode):
    """Notes what would make the host wait for a GPU: numbers taken from tensors, and shapes that depend on them."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        name = operation.overloadpacket.__name__
        picks = name == "index" and any(i is not None and i.dtype == torch.bool for i in arguments[1])
        if picks or name.startswith(self.WAITING):
            self.seen.add(name)
        return operation(*arguments, **(options or {}))


@pytest.fixture
def waits(monkeypatch) -> dict[int, set[str]]:
    """What each step of a tokenizer's run waited for."""
    seen, train_step = {}, tokenizer_loop.train_step

    def watched(step, *arguments):
        *others, batches = arguments
        both = iter([next(batches), next(batches)])  # unwatched: the loader works on the host
        with Waits() as mode:
            train_step(step, *others, both)
        seen[step] = mode.seen

    monkeypatch.setattr(tokenizer_loop, "train_step", watched)
    return seen


@pytest.fixture
def narrow(monkeypatch) -> None:
    """A narrow discriminator: the usual one takes a CPU seconds, under fp16 tens of them."""

    def narrow_discriminator(_config, device):
        return PatchDiscriminator(channels=32).to(device)

    monkeypatch.setattr("restok_cli.training.adversarial.adversary.open_discriminator", narrow_discriminator)


@pytest.fixture
def lpips(monkeypatch) -> None:
    """Of random weights."""
    torch.manual_seed(0)
    network = Lpips()
    for i in range(5):
        network.get_buffer(f"lin{i}").uniform_()
    network.requires_grad_(False).eval()
    monkeypatch.setattr("restok_cli.training.losses.open_lpips", lambda _weights, device, _field: network.to(device))


@pytest.mark.usefixtures("narrow", "lpips")
def test_the_whole_recipe_resumes_exactly_and_waits_for_the_device_only_to_revive(restok, tmp_path, waits):
    """LPIPS, teacher, adversary, entropy, nested dropout, averages, revival after the third step, two micro-batches."""
    assert restok(*EVERYTHING, "-o", tmp_path / "whole", "--stop-at", 3).code == 0
    assert waits == {0: set(), 1: set(), 2: {"nonzero", "index"}}
    terms = ("reconstruction", "quantizer", "entropy", "perceptual", "encoder_alignment", "decoder_alignment")
    terms += ("adversarial", "discriminator", "lecam")
    assert all(math.isfinite(log(tmp_path / "whole")[0][f"{term}_loss"]) for term in terms)

    assert restok(*EVERYTHING, "-o", tmp_path / "cut", "--stop-at", 1).code == 0
    assert restok(*EVERYTHING, "-o", tmp_path / "cut", "--resume", "--stop-at", 3).code == 0
    assert equal(state(tmp_path / "cut", 3), state(tmp_path / "whole", 3))
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


@pytest.mark.parametrize("command", [TOKENIZER, HAR], ids=["tokenizer", "har"])
def test_a_compiled_model_trains_as_the_same_model_does(restok, tmp_path, tiny_models, monkeypatch, command):
    """What is captured is run as it is, which costs no minutes: so not one bit may differ, nor a name in a checkpoint.

    What a compiler then makes of it is torch's.
    """
    graphs = []

    def run_as_it_is(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=run_as_it_is))
    command = (*command, *(("--tokenizer", tiny_models / "tokenizer") if command is HAR else ()), "--stop-at", 1)
    assert restok(*command, "-o", tmp_path / "plain").code == 0 and not graphs
    assert restok(*command, "--set", "compute.compile=true", "-o", tmp_path / "compiled").code == 0 and graphs
    assert equal(state(tmp_path / "compiled", 1), state(tmp_path / "plain", 1))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_convolutions_may_use_tf32_only_while_a_step_computes_in_16_bits(precision):
    device, seen = open_device("cpu"), []
    weight = nn.Linear(1, 1)
    update = Update(weight, OptimizerConfig(), 1, precision)
    with autocast(device, precision):
        seen.append(torch.backends.cudnn.allow_tf32)
        loss = weight(torch.ones(1, 1)).sum()
    loss.register_hook(lambda _: seen.append(torch.backends.cudnn.allow_tf32))
    update.backward(loss)
    assert seen == [precision == "bf16"] * 2
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_a_step_that_one_optimizer_skips_leaves_the_other_and_its_loss_scale_alone():
    torch.manual_seed(0)
    models = [nn.Linear(4, 1), nn.Linear(4, 1)]
    before = [model.weight.detach().clone() for model in models]
    updates = [Update(model, OptimizerConfig(warmup_steps=0), 10, "fp16") for model in models]
    scale = updates[0].scaler.get_scale()
    for update, model, factor in zip(updates, models, (math.inf, 1.0), strict=True):
        update.backward(model(torch.ones(2, 4)).square().mean() * factor)
    moved = [bool(update.step(0)[1]) for update in updates]
    assert moved == [False, True]
    assert torch.equal(models[0].weight, before[0]) and not torch.equal(models[1].weight, before[1])
    assert [update.scaler.get_scale() for update in updates] == [scale / 2, scale]
    assert [update.look() for update in updates] == [(1, 1), (0, 0)]


def test_a_step_is_that_of_adamw_and_what_is_not_finite_leaves_no_trace():
    """Neither a loss with finite gradients, nor gradients of a finite loss; rows of such steps are counted."""
    config = OptimizerConfig(learning_rate=0.1, warmup_steps=3, max_grad_norm=0.5, weight_decay=0.1)
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    plain = deepcopy(model)
    groups = {"params": [plain.weight], "weight_decay": 0.1}, {"params": [plain.bias], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW(groups, betas=(config.beta1, config.beta2))
    update, looks = Update(model, config, 10, "float32"), []
    for step, broken in enumerate((None, "loss", "gradient", None, "loss", None, None)):
        inputs = torch.randn(2, 4)
        loss = model(inputs).square().mean() + (math.inf if broken == "loss" else 0.0)
        if broken == "gradient":
            loss.register_hook(lambda gradient: gradient * math.inf)
        update.backward(loss)
        _, moved = update.step(step)
        assert moved == (broken is None)
        if broken is None:
            optimizer.zero_grad()
            plain(inputs).square().mean().backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, 10, config)
            optimizer.step()
        assert torch.allclose(model.weight, plain.weight, atol=1e-6) and torch.allclose(model.bias, plain.bias)
        if step in (2, 5, 6):
            looks.append(update.look())
    assert looks == [(2, 2), (3, 2), (3, 0)]


@pytest.mark.usefixtures("narrow")
def test_under_fp16_the_adversary_learns_while_the_tokenizer_skips_a_step(restok, tmp_path, monkeypatch):
    break_steps(monkeypatch, {3})  # the second micro-batch of the second step
    small = ("--stop-at", 2, "--batch-size", 4, "--set", "schedule.micro_batch_size=2")
    options = (
        "--set",
        "compute.precision=fp16",
        "--set",
        "discriminator.start_step=0",
        "--set",
        "schedule.save_every=1",
    )
    assert restok(*TOKENIZER, *small, *options, "-o", tmp_path / "run").code == 0
    before, after = (state(tmp_path / "run", step) for step in (1, 2))
    assert equal(before["model"], after["model"])
    assert not equal(before["adversary"]["network"], after["adversary"]["network"])
    assert after["update"]["scaler"]["scale"] == before["update"]["scaler"]["scale"] / 2
    assert after["adversary"]["update"]["scaler"]["scale"] == before["adversary"]["update"]["scaler"]["scale"]
    assert int(after["update"]["skipped"]) == 1 and int(after["adversary"]["update"]["skipped"]) == 0


@pytest.mark.parametrize(
    ("numbers", "warning"),
    [
        ({"data_wait": 0.31}, "31% of the time is spent waiting for data: raise data.num_workers"),
    ],
)
def test_trouble_is_told_once_with_its_remedy_and_again_when_it_comes_back(capsys, numbers, warning):
    health = Health(TokenizerHealthConfig(), None, "raise data.num_workers")
    well = {"codebook_usage": 10.0, "data_wait": 0.3}
    said = []
    for line in (well, well | numbers, well | numbers, well, well | numbers):
        health.judge(line)
        said.append(capsys.readouterr().err)
    assert [bool(text) for text in said] == [False, True, False, False, True]
    assert said[1] == said[4] and said[1].startswith(f"warning: {warning}") and said[1].count("\n") == 1


def test_as_many_skipped_steps_in_a_row_as_may_be_end_nothing():
    health = Health(TokenizerHealthConfig(max_skipped_steps=5), None, "")
    health.rows = {"tokenizer": 5}
    health.judge({"data_wait": 0.0})
    health.rows = {"tokenizer": 0, "discriminator": 6}
    told = r"of the discriminator were not finite for 6 .* no checkpoint was written yet"
    with pytest.raises(RestokError, match=told):
        health.judge({"data_wait": 0.0})


def test_a_level_that_hardly_uses_its_codebook_is_warned_of_though_all_together_use_it(capsys):
    health, numbers = Health(TokenizerHealthConfig(), None, ""), {"data_wait": 0.0}
    said = []
    for use in ({0: 0.9, 1: 0.1, 2: 0.09}, {1: 0.5}, {2: 0.05}, {2: 0.5}, {2: 0.05, 3: 0.01}, {0: 0.09, 2: 0.05}):
        health.judge(numbers, use)
        said.append(capsys.readouterr().err)
    assert [bool(text) for text in said] == [True, False, False, False, True, True]
    assert said[0].startswith("warning: the codebook collapses: codes use only 9.0% (level 2) of the codewords that as")
    assert "would; a higher loss.entropy_weight" in said[0] and all(text.count("\n") == 1 for text in said if text)
    assert "codes use only 5.0% (level 2), 1.0% (level 3) of the codewords" in said[4]
    rest = "codes use only 9.0% (all levels together) of the codewords that as many evenly drawn ones would\n"
    assert said[5] == f"warning: the codebook collapses further: {rest}"


def test_use_is_told_against_what_so_many_codes_could_use_once_that_can_be_told():
    sizes, rng = level_sizes(8), np.random.default_rng(0)

    def counts(images, collapsed):
        levels = [rng.integers(0, 3 if level == collapsed else 64, (images, n)) for level, n in enumerate(sizes, 1)]
        return np.stack([np.bincount(level.ravel(), minlength=64) for level in levels])

    use = UseOfPossible(8, 64, math.inf)
    assert set(use.add(counts(8, 2))) == {0}  # 8 images of 8 codes could use all 64
    rest = [use.add(counts(8, 2)) for _ in range(7)]
    shares = {level: share for each in rest for level, share in each.items()}
    assert set(shares) == {0, 1, 2, 3, 4} and set(rest[6]) >= {1, 2}  # one code an image: after 64 of them
    assert shares[2] == pytest.approx(3 / (64 * (1 - (1 - 1 / 64) ** 64)))
    assert all(0.8 < share < 1.2 for level, share in shares.items() if level != 2)
    few = UseOfPossible(8, 64, 5)  # of 5 images the first level can use no more than 5 codewords, seen however often
    many = np.zeros((len(sizes), 64), int)
    for level, n in enumerate(sizes):
        many[level, : 5 * n] = 20
    assert all(0.9 < share < 1.6 for level, share in few.add(many).items() if level)


def test_a_generator_is_not_asked_for_its_codebook(capsys):
    Health(HealthConfig(warn_data_wait=1), None, "").judge({"data_wait": 1.0})
    assert not capsys.readouterr().err


def test_shards_of_one_process_are_said_to_be_none(capsys):
    config = HarRunConfig.parse(read_preset("har", "tiny") | {"compute": {"sharding": "fsdp"}}, "tiny")
    HarState(config, CPU, None)
    assert "this run has one process; give --num-processes 2 or more" in capsys.readouterr().err
