"""Initial weights, optimizers and averages, and the generator's steps, part by part, against golden vectors of the
released training (tests/golden/training, see its README)."""

from copy import deepcopy

import pytest
import torch
from golden_training import (
    assert_near,
    by_released_name,
    filled_discriminator,
    filled_model,
    inputs,
    load_training_case,
    picked_rows,
    released_discriminator_name,
)
from torch import Tensor, nn

from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.released import har_config, tokenizer_config
from restok_cli.pretrained.released_tensors import from_released, released_names, to_released
from restok_cli.settings.training import HarOptimizerConfig, HarScheduleConfig, OptimizerConfig, ScheduleConfig
from restok_cli.training.adversarial.discriminator import DinoDiscriminator
from restok_cli.training.codebook_use import prefix_distribution
from restok_cli.training.har_loop import cross_entropy
from restok_cli.training.optim import learning_rate, make_optimizer, update_ema
from restok_cli.training.update import Update


def new_model(kind: str) -> Tokenizer | Har:
    """Of the configuration that all golden vectors of training have."""
    if kind == "tokenizer":
        return Tokenizer(tokenizer_config(load_training_case("tokenizer_step")[0]["config"]))
    return Har(har_config(load_training_case("har_steps")[0]["args"]))


def filled(kind: str) -> nn.Module:
    return filled_discriminator() if kind == "discriminator" else filled_model(new_model(kind))


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """Copies of what is trained, by the names of the golden vectors."""
    if isinstance(model, DinoDiscriminator):
        trained = by_released_name((name, p) for name, p in model.named_parameters() if p.requires_grad)
        return {f"discriminator.{name}": p.detach().clone() for name, p in trained.items()}
    released = to_released(model.config, {name: p.detach() for name, p in model.named_parameters()})
    return {name: tensor.clone() for name, tensor in released.items()}


def give_gradients(model: nn.Module, step: int, scale: float) -> None:
    """The gradient of every tensor is noise of its name."""
    shapes = {name: tensor.shape for name, tensor in parameters(model).items()}
    gradients = {name: scale * inputs.noise(f"gradient/{step}/{name}", shape) for name, shape in shapes.items()}
    if isinstance(model, DinoDiscriminator):
        ours = by_released_name((name, p) for name, p in model.named_parameters() if p.requires_grad)
        gradients = {name: gradients[f"discriminator.{name}"] for name in ours}
    else:
        ours = dict(model.named_parameters())
        gradients = from_released(model.config, {name: p.shape for name, p in ours.items()}, gradients)
    for name, parameter in ours.items():
        parameter.grad = gradients[name]


@pytest.mark.parametrize("kind", ["tokenizer", "har"])
def test_initial_weights_have_the_released_means_and_deviations(kind):
    """Of one seed here, of four there: 6 standard errors of their difference are allowed."""
    facts, golden = load_training_case("initial_weights")
    torch.manual_seed(0)
    model = new_model(kind)
    ours = to_released(model.config, model.state_dict())
    if kind == "har":
        ours["spe_tok_embeddings.special_embeddings.weight"] = model.query_embedding  # the rows in use
    assert ours.keys() == set(facts["parameters"][kind])
    for name, (mean, deviation) in zip(facts["parameters"][kind], golden[kind].tolist(), strict=True):
        error = 6 * (1.25 / ours[name].numel()) ** 0.5 * deviation
        assert ours[name].mean().item() == pytest.approx(mean, abs=error), name
        assert ours[name].std().item() == pytest.approx(deviation, abs=error / 2**0.5), name


OPTIMIZERS = {"tokenizer": OptimizerConfig(), "discriminator": OptimizerConfig(), "har": HarOptimizerConfig()}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_weight_decay_has_the_released_groups(kind):
    model = filled_discriminator() if kind == "discriminator" else new_model(kind)
    names = {id(p): name for name, p in model.named_parameters()}
    theirs = load_training_case("optimizers")[0]["groups"][kind]
    for group in make_optimizer(model, OPTIMIZERS[kind]).param_groups:
        ours = [names[id(p)] for p in group["params"]]
        if kind == "discriminator":
            found = {f"discriminator.{released_discriminator_name(name)}" for name in ours}
        else:
            found = {part for name in ours for part in released_names(name, model.config)}
        assert found == set(theirs[str(group["weight_decay"])])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizers_and_averages_take_the_released_steps_with_given_gradients(kind):
    facts, golden = load_training_case("optimizers")
    rates, watched = facts["rates"], facts["watched"][kind]
    config = OPTIMIZERS[kind].model_copy(update={"learning_rate": rates[-1], "warmup_steps": len(rates)})
    model = filled(kind)
    ema, before = deepcopy(model), parameters(model)
    update = Update(model, config, 1000, "float32")
    for step, scale in enumerate(facts["scales"][kind]):
        give_gradients(model, step, scale)
        norm, _ = update.step(step)
        assert update.learning_rate == pytest.approx(rates[step])
        assert norm.item() == pytest.approx(golden[f"{kind}_norms"][step], rel=1e-5)
        update_ema(ema, model, step, ScheduleConfig().ema_decay)
        for part, moved in {"step": model, "ema": ema}.items():
            if kind == "discriminator" and part == "ema":
                continue  # it has none
            after = parameters(moved)
            changes = [after[name] - before[name] for name in watched]
            norms = [change.double().norm().item() for change in changes]  # in float32 off by 5e-4
            assert norms == pytest.approx(golden[f"{kind}_{part}_{step}_change"].tolist(), rel=1e-5)
            assert_near(picked_rows(changes, 12), golden[f"{kind}_{part}_{step}_values"], 1e-5)


def test_learning_rates_are_the_released_ones_a_step_earlier_in_the_warm_up():
    """Theirs starts at 0, so that the first step does nothing."""
    facts, golden = load_training_case("optimizers")
    constant = OptimizerConfig(schedule="constant")
    lengths = {"tokenizer": 1_000_000, "discriminator": 980_000, "har": 1_500_000, "constant": 1_000_000}
    for kind, num_steps in lengths.items():
        config = OPTIMIZERS.get(kind, constant)
        for step, theirs in zip(facts["steps"], golden[f"rates_{kind}"], strict=True):
            if 0 < step < num_steps:
                ours = learning_rate(step - (step < config.warmup_steps), num_steps, config)
                assert ours == pytest.approx(theirs, rel=1e-5), (kind, step)


def test_averages_and_prefixes_have_the_released_decays_and_probabilities():
    _, golden = load_training_case("optimizers")
    late = (100, 1000, 10_000, 89_990, 89_991, 89_992, 100_000)
    updates = dict(zip(range(1, 21), golden["ema_decays"], strict=True)) | dict(
        zip(late, golden["ema_decays_late"], strict=True)
    )
    for number, decay in updates.items():
        model, ema = (nn.ParameterList([torch.full((), value, dtype=torch.float64)]) for value in (0.0, 1.0))
        update_ema(ema, model, number - 1, HarScheduleConfig().ema_decay)
        assert ema[0].item() == pytest.approx(decay, rel=1e-6), number
    assert list(prefix_distribution(128, 0.2, 4).values()) == pytest.approx(golden["prefix_probabilities"], rel=1e-5)


def test_the_generators_parts_take_the_released_steps():
    """One by one; test_training_parity_loops.py has the loop take them, and looks at gradients and changes."""
    facts, golden = load_training_case("har_steps")
    har = filled("har")
    config = HarOptimizerConfig(learning_rate=facts["rates"][-1], warmup_steps=len(facts["rates"]))
    update = Update(har, config, 1000, "float32")
    for step in range(len(facts["rates"])):
        codes, labels, hidden = (torch.from_numpy(golden[f"{name}_{step}"]) for name in ("codes", "labels", "hidden"))
        logits = har(torch.where(hidden, har.class_embedding.null_class, labels.long()), codes.long())
        loss = cross_entropy(logits, codes.long()).mean()
        if step == 0:
            assert_near(torch.stack([logits.mean(2), logits.std(2)]), golden["logits"], 1e-5)
        expected = golden["losses"][step]
        assert loss.item() == pytest.approx(expected[0], rel=1e-5 if step == 0 else 3e-3)
        hits = (logits.argmax(2) == codes).float().mean().item()
        assert hits == pytest.approx(expected[1], abs=1e-6 if step == 0 else 2 / codes.numel())
        update.backward(loss)
        norm, _ = update.step(step)
        assert norm.item() == pytest.approx(golden["norms"][step], rel=3e-4 if step == 0 else 5e-3)
