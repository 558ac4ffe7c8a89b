"""Learning rates, parameter groups and the moving average, against formulas and counting by hand."""

from itertools import pairwise

import pytest
import torch
from conftest import make_har
from torch import nn

from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import OptimizerConfig, TokenizerRunConfig
from restok_cli.training.optim import learning_rate, make_optimizer, seed_step, update_ema
from restok_cli.training.tokenizer_loop import TokenizerState


def rates(max_steps, **values):
    config = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.2, **values)
    return [learning_rate(step, max_steps, config) for step in range(max_steps + 2)]


def test_learning_rate_warms_up_then_follows_a_cosine():
    found = rates(110, warmup_steps=10)
    assert found[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert found[10] == 1.0 and found[60] == pytest.approx(0.6) and found[110] == pytest.approx(0.2)
    assert all(before > after for before, after in pairwise(found[10:111]))


def test_a_cosine_is_that_of_torch():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.2)
    for rate in rates(50, warmup_steps=0)[:51]:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()


def test_a_constant_rate_stays_after_its_warm_up():
    found = rates(20, schedule="constant", warmup_steps=4)
    assert found[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and set(found[4:]) == {1.0}


def test_wsd_warms_up_stays_and_falls_in_a_straight_line_to_the_last_rate():
    found = rates(20, schedule="wsd", warmup_steps=4, decay_steps=8)
    assert found[:4] == [0.25, 0.5, 0.75, 1.0] and set(found[4:13]) == {1.0}
    assert found[12:21] == pytest.approx([1.0 - 0.1 * i for i in range(9)])
    assert found[20] == pytest.approx(0.2) and found[21] == pytest.approx(0.2)


@pytest.mark.parametrize("schedule", ["cosine", "constant", "wsd"])
def test_schedules_start_at_their_highest_without_a_warm_up_and_end_at_any_length(schedule):
    for max_steps in (1, 2, 5):
        found = rates(max_steps, schedule=schedule, warmup_steps=0, decay_steps=1)
        assert found[0] == 1.0 and all(0.2 - 1e-9 <= rate <= 1.0 for rate in found)
    assert rates(3, schedule=schedule, warmup_steps=10, decay_steps=1)[:3] == pytest.approx([0.1, 0.2, 0.3])


def decayed_names(model: nn.Module) -> set[str]:
    optimizer = make_optimizer(model, OptimizerConfig(weight_decay=0.1))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in parameters}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(parameters)
    decayed = {id(p) for p in optimizer.param_groups[0]["params"]}
    return {name for name, p in model.named_parameters() if id(p) in decayed}


def test_weight_decay_spares_norms_biases_embeddings_and_learned_tokens(tiny_tokenizer):
    names = decayed_names(tiny_tokenizer)
    assert {"encoder.blocks.0.attn.qkv.weight", "pixel_encoder.conv_in.weight", "decoder.out.weight"} <= names
    assert all(name.endswith("weight") for name in names)
    for part in ("norm", "bias", "gamma", "embeddings", "mask_vector", "image_query", "codebook"):
        assert not any(part in name for name in names), part


def test_weight_decay_takes_exactly_the_matrices_and_kernels(tiny_config):
    """By shape and name: what has two dimensions or more and embeds nothing, and nothing else."""
    aligned = TokenizerConfig(**tiny_config.model_dump() | {"encoder_alignment_dim": 16, "decoder_alignment_dim": 16})
    tables = ("embed", "query", "mask_vector", "codebook")
    har = HarConfig(codebook_size=64, num_codes=32, num_classes=5, width=32, num_layers=2, num_heads=2)
    for model in (Tokenizer(aligned), make_har(har)):
        expected = {
            name for name, p in model.named_parameters() if p.ndim >= 2 and not any(part in name for part in tables)
        }
        assert decayed_names(model) == expected


def test_ema_follows_its_formula():
    model, ema = nn.Linear(2, 2), nn.Linear(2, 2)
    expected = ema.weight.detach().clone()
    for step, decay in ((0, 0), (1, 2 / 11), (5, 6 / 15), (10**6, 0.999)):
        update_ema(ema, model, step, 0.999)
        expected = decay * expected + (1 - decay) * model.weight.detach()
        assert torch.allclose(ema.weight, expected, atol=1e-6)


def test_randomness_of_a_step_depends_on_seed_and_step_alone():
    def numbers(seed, step):
        seed_step(seed, step)
        return tuple(torch.rand(3).tolist())

    assert numbers(0, 5) == numbers(0, 5)
    assert len({numbers(seed, step) for seed in (0, 1, 2) for step in (0, 1, 2)}) == 9


@pytest.mark.parametrize("initial", ["normal", "fan-in"])
def test_convolutions_start_as_released_or_as_pytorch_makes_them(initial):
    values = read_preset("tokenizer", "tiny")
    values["schedule"] |= {"initial_convolutions": initial}
    state = TokenizerState(TokenizerRunConfig.parse(values, "the test"), torch.device("cpu"), None)
    wide = max((m for m in state.tokenizer.modules() if isinstance(m, nn.Conv2d)), key=lambda m: m.weight.numel())
    inputs = wide.weight[0].numel()
    expected = 0.02 if initial == "normal" else (3 * inputs) ** -0.5  # of uniform numbers in ±1/√inputs
    assert wide.weight.std().item() == pytest.approx(expected, rel=0.1)
    for ours, averaged in zip(state.tokenizer.parameters(), state.ema.parameters(), strict=True):
        assert torch.equal(ours, averaged)
