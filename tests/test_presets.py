"""Presets: every one is valid, and each ablation changes its part of the design and nothing else."""

import json

import pytest
from conftest import GOLDEN

from restok_cli.errors import UsageError
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.planning import preset_table
from restok_cli.pretrained.released import tokenizer_config
from restok_cli.settings.changes import differences
from restok_cli.settings.presets import preset_chain, preset_names, read_preset
from restok_cli.settings.training import RUN_CONFIGS, HarRunConfig, TokenizerRunConfig
from restok_cli.settings.yaml_file import flatten

PAPER = "restok-l-128"
# What each changes of the paper's model; alignment dimensions are filled in by training.
ABLATIONS = {
    "no-residuals": {"model.residual_image_tokens": False, "model.residual_latent_tokens": False},
    "image-residuals": {"model.residual_latent_tokens": False},
    "latent-residuals": {"model.residual_image_tokens": False},
    "1-stage": {"model.num_stages": 1},
    "2-stages": {"model.num_stages": 2},
    "3-stages": {"model.num_stages": 3},
    "no-alignment": {"alignment.encoder_weight": 0, "alignment.decoder_weight": 0},
    "no-nested-dropout": {"nested_dropout.probability": 0},
    "released": {"model.cnn_shortcut": "output", "model.merge": "nearest", "model.latent_layout": "scrambled"},
}


def tokenizer_preset(name: str) -> TokenizerRunConfig:
    return TokenizerRunConfig.parse(read_preset("tokenizer", name), name)


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_every_preset_is_a_valid_config(kind):
    names = preset_names(kind)
    assert {"sample", "tiny"} <= set(names)
    for name in names:
        RUN_CONFIGS[kind].parse(read_preset(kind, name), name)


def test_no_preset_of_a_tokenizer_states_what_holds_without_it():
    """Each line says something: without it, the preset would be another."""
    for name in preset_names("tokenizer"):
        *below, (_, values) = preset_chain("tokenizer", name)
        base = tokenizer_preset(below[-1][0]) if below else TokenizerRunConfig()
        assert differences(base, tokenizer_preset(name)).keys() == flatten(values).keys(), name


def test_the_paper_has_its_recipe():
    config = tokenizer_preset(PAPER)
    assert (config.model.encoder_width, config.model.encoder_layers, config.model.num_stages) == (1024, 24, 4)
    assert (config.model.num_latent_tokens, config.model.codebook_size, config.model.merge) == (128, 8192, "average")
    assert config.model.residual_image_tokens and config.model.residual_latent_tokens
    recipe = {
        "optimizer.schedule": "cosine",
        "optimizer.learning_rate": 1e-4,
        "optimizer.final_learning_rate": 1e-5,
        "optimizer.warmup_steps": 5000,
        "optimizer.beta1": 0.9,
        "optimizer.beta2": 0.95,
        "optimizer.weight_decay": 1e-4,
        "optimizer.max_grad_norm": 10,
        "schedule.batch_size": 256,
        "schedule.max_steps": 1_000_000,
        "schedule.ema_decay": 0.9999,
        "data.crop": "random",
        "data.random_zoom": [1.0, 1.25],
        "nested_dropout.probability": 0.2,
        "nested_dropout.min_tokens": 4,
        "loss.reconstruction": "l2",
        "loss.reconstruction_weight": 1,
        "loss.perceptual_weight": 1,
        "loss.entropy_weight": 0,
        "discriminator.kind": "dino",
        "discriminator.weight": 0.5,
        "discriminator.start_step": 20_000,
        "discriminator.lecam_weight": 0.001,
        "discriminator.optimizer.learning_rate": 1e-4,
        "alignment.encoder_weight": 1,
        "alignment.decoder_weight": 1,
        "alignment.margin": 0.25,
        "alignment.teacher": "vit_large_patch16_dinov3.lvd1689m",
    }
    values = flatten(config.model_dump(mode="json"))
    assert {key: values[key] for key in recipe} == recipe


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_it_is_named_for_and_nothing_else(name):
    changed = differences(tokenizer_preset(PAPER), tokenizer_preset(f"{PAPER}-{name}"))
    assert {key: new for key, (_, new) in changed.items()} == ABLATIONS[name]


@pytest.mark.parametrize(("name", "width", "layers"), [("s", 512, 6), ("b", 768, 12)])
def test_sizes_change_widths_and_layers_alone(name, width, layers):
    changed = differences(tokenizer_preset(PAPER), tokenizer_preset(f"restok-{name}-128"))
    sizes = {"model.encoder_width": width, "model.decoder_width": width}
    sizes |= {"model.encoder_layers": layers, "model.decoder_layers": layers}
    assert {key: new for key, (_, new) in changed.items()} == sizes


def test_the_preset_of_the_released_weights_is_the_model_that_they_say_they_are():
    released = tokenizer_config(json.loads((GOLDEN / "released_restok_l_128.json").read_text())["config"])
    config = tokenizer_preset(f"{PAPER}-released")
    assert config.alignment.encoder_weight > 0 and config.alignment.decoder_weight > 0
    dims = {"encoder_alignment_dim": 1024, "decoder_alignment_dim": 1024}  # of the teacher, filled in by training
    assert config.model.model_copy(update=dims) == released


def test_the_sample_preset_takes_nine_steps_and_has_all_parts_of_the_paper():
    config = tokenizer_preset("sample")
    model = config.model
    assert (model.image_size, model.grid, model.num_latent_tokens, model.num_stages) == ((64, 64), (8, 8), 128, 4)
    assert model.residual_image_tokens and model.residual_latent_tokens and model.merge == "average"
    assert model.latent_layout == "straight" and config.nested_dropout.probability == 0.2


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_presets_for_emoji_compute_in_float32_and_the_others_in_bf16(kind):
    for name in preset_names(kind):
        precision = RUN_CONFIGS[kind].parse(read_preset(kind, name), name).compute.precision
        assert precision == ("float32" if name in ("sample", "sample-gpu", "tiny") else "bf16"), name


def test_generators_train_by_the_recipe_of_the_paper():
    for name in ("har-b", "har-l", "har-xl", "har-xxl", "ar-l"):
        config = HarRunConfig.parse(read_preset("har", name), name)
        optimizer, schedule = config.optimizer, config.schedule
        assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.max_grad_norm) == (1e-4, 0.05, 1), name
        assert (schedule.max_steps, schedule.batch_size, config.model.class_dropout) == (1_500_000, 256, 0.1), name


def test_unknown_presets_are_refused_with_the_nearest_one():
    with pytest.raises(UsageError, match=r"no preset named sampel \(did you mean sample\?\); there are: "):
        read_preset("tokenizer", "sampel")
    with pytest.raises(UsageError, match=r"har-l is a preset of train-har; train-tokenizer has: "):
        read_preset("tokenizer", "har-l")


def test_the_table_of_presets_says_what_each_takes(restok, monkeypatch):
    rows = {
        (row["kind"], row["preset"]): row for row in json.loads(restok("models", "presets", "--json").out)["presets"]
    }
    assert rows.keys() == {(kind, name) for kind in RUN_CONFIGS for name in preset_names(kind)}
    assert all(row["purpose"] for row in rows.values())
    tiny = rows["tokenizer", "tiny"]
    assert (tiny["image_size"], tiny["codes"], tiny["networks"]) == ("32x32", 32, [])
    module = Tokenizer(TokenizerRunConfig.parse(read_preset("tokenizer", "tiny"), "tiny").model)
    assert tiny["parameters"] == sum(weight.numel() for weight in module.parameters())
    assert tiny["state_bytes"] == 20 * tiny["parameters"]  # five float32 of each
    drawn = rows["har", "tiny"]  # of the tokenizer's codes, which no preset of a generator states
    codes = {"codebook_size": module.config.codebook_size, "num_codes": 32}
    generator = Har(HarRunConfig.parse(read_preset("har", "tiny"), "tiny").model.model_copy(update=codes))
    assert (drawn["codes"], drawn["parameters"]) == (32, sum(weight.numel() for weight in generator.parameters()))
    needs = [len(rows["tokenizer", f"restok-l-128{end}"]["networks"]) for end in ("", "-no-alignment")]
    assert needs == [3, 2] and rows["har", "har-l"]["networks"] == []

    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    lines = restok("models", "presets", "--kind", "tokenizer").out.splitlines()
    assert lines[0] == "train-tokenizer" and len(lines) == 2 + len(preset_names("tokenizer"))

    monkeypatch.setenv("COLUMNS", "60")
    narrow = restok("models", "presets").out.splitlines()
    assert max(map(len, narrow)) <= 60
    told = (
        "restok-b-128 images 256x256 · codes 128 · parameters 226.5 M · state 4.5 GB · from the net LPIPS, alignment,"
    )
    assert narrow[1] == "restok-b-128" and told in " ".join(line.strip() for line in narrow)


def test_one_preset_comes_with_the_memory_of_a_step(restok, fails):
    both = json.loads(restok("models", "presets", "tiny", "--json").out)["presets"]
    assert [row["kind"] for row in both] == ["tokenizer", "har"]
    assert all(row["batch"] == 16 and row["memory_bytes"] > row["state_bytes"] for row in both)
    assert "no preset of train-har named restok-s-128" in fails(2, "models", "presets", "restok-s-128", "--kind", "har")


def test_the_memory_of_a_step_of_all_presets_is_a_column(restok, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    monkeypatch.setattr(preset_table, "step_memory", lambda kind, name: (8, 10**9 * len(name)))
    for line in restok("models", "presets", "--memory").out.splitlines():
        name = line.partition(" ")[0]
        if name and not name.startswith("train-"):
            assert ("  a step  " if name == "preset" else f"  {len(name)}.0 GB for 8 images  ") in line
    assert "a step" not in restok("models", "presets").out
