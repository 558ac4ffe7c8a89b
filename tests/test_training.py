"""The parts of training, against something simpler."""

import math
import os
import resource
import signal
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from restok_cli.errors import Interrupted, RestokError, UsageError
from restok_cli.metrics.codebook import codebook_use
from restok_cli.model.quantizer import Quantizer
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.training.codebook import count_codes, draw_prefix_lengths, prefix_distribution, revive
from restok_cli.training.config import (
    HarRunConfig,
    OptimizerConfig,
    TokenizerRunConfig,
    merged,
    preset_names,
    read_config,
    read_preset,
    write_config,
)
from restok_cli.training.losses import NUM_DRAWS, TokenizerLosses
from restok_cli.training.optim import learning_rate, make_optimizer, seed_step, update_ema
from restok_cli.training.run import RunFolder, Window, stop_signals
from restok_cli.training.tokenizer_loop import batch_usage


@pytest.mark.parametrize("text", ["", "just words", "a: [", "\udcff"])
def test_a_damaged_config_of_a_run_is_named(tmp_path, text):
    RunFolder(tmp_path / "run", HarRunConfig(), resume=False, overwrite=False)
    (tmp_path / "run" / "config.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RestokError, match=r"config\.yaml .*; restore it, or start another run"):
        RunFolder(tmp_path / "run", HarRunConfig(), resume=True, overwrite=False)


@pytest.mark.parametrize("kind", ["tokenizer", "har"])
def test_every_preset_is_a_valid_config(kind):
    config = TokenizerRunConfig if kind == "tokenizer" else HarRunConfig
    names = preset_names(kind)
    assert {"sample", "tiny"} <= set(names)
    for name in names:
        config.parse(read_preset(kind, name), name)


def test_the_sample_preset_takes_nine_steps_and_has_all_parts_of_the_paper():
    config = TokenizerRunConfig.parse(read_preset("tokenizer", "sample"), "sample")
    model = config.model
    assert (model.image_size, model.grid, model.num_latent_tokens, model.num_stages) == ((64, 64), (8, 8), 128, 4)
    assert model.residual_image_tokens and model.residual_latent_tokens and model.merge == "average"
    assert model.latent_layout == "straight" and config.nested_dropout.probability == 0.2


def test_unknown_presets_are_refused_with_the_nearest_one():
    with pytest.raises(UsageError, match=r"no preset named sampel \(did you mean sample\?\); there are: "):
        read_preset("tokenizer", "sampel")


def test_unknown_keys_deep_in_a_config_are_refused():
    with pytest.raises(UsageError, match=r"unknown key optimizer\.lerning_rate \(did you mean learning_rate\?\)"):
        TokenizerRunConfig.parse({"optimizer": {"lerning_rate": 1}}, "test")


def test_a_prefix_that_cannot_be_shorter_is_refused(tiny_config):
    for min_tokens in (17, 32):
        values = {"model": tiny_config.model_dump(), "nested_dropout": {"min_tokens": min_tokens}}
        with pytest.raises(UsageError, match=rf"nested_dropout\.min_tokens = {min_tokens} leaves no shorter prefix"):
            TokenizerRunConfig.parse(values, "test")


def test_a_written_config_reads_back(tmp_path):
    config = TokenizerRunConfig.parse(read_preset("tokenizer", "sample"), "sample")
    write_config(config, tmp_path / "config.yaml")
    assert TokenizerRunConfig.parse(read_config(tmp_path / "config.yaml"), "file") == config


def test_a_generator_keeps_its_own_defaults_where_a_preset_says_nothing():
    config = HarRunConfig.parse({"optimizer": {"learning_rate": 1}, "schedule": {"seed": 1}}, "test")
    assert (config.optimizer.weight_decay, config.optimizer.max_grad_norm) == (0.05, 1.0)
    assert config.schedule.max_steps == 1_500_000


def test_merged_lays_changes_over_sections():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4}) == {"a": {"b": 1, "c": 3}, "d": 4}


def test_learning_rate_warms_up_then_follows_a_cosine():
    config = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.2, warmup_steps=10)
    rates = [learning_rate(step, 110, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1.0 and rates[60] == pytest.approx(0.6) and rates[110] == pytest.approx(0.2)
    assert all(before > after for before, after in pairwise(rates[10:]))


def test_weight_decay_spares_norms_biases_embeddings_and_learned_tokens(tiny_tokenizer):
    optimizer = make_optimizer(tiny_tokenizer, OptimizerConfig(weight_decay=0.1))
    decayed = {id(p) for p in optimizer.param_groups[0]["params"]}
    names = {name for name, p in tiny_tokenizer.named_parameters() if id(p) in decayed}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(tiny_tokenizer.parameters()))
    assert {"encoder.blocks.0.attn.qkv.weight", "pixel_encoder.conv_in.weight", "decoder.out.weight"} <= names
    assert all(name.endswith("weight") for name in names)
    for part in ("norm", "bias", "gamma", "embeddings", "mask_vector", "image_query", "codebook"):
        assert not any(part in name for name in names), part


def test_ema_follows_its_formula():
    model, ema = nn.Linear(2, 2), nn.Linear(2, 2)
    expected = ema.weight.detach().clone()
    for step, decay in ((0, 0.1), (5, 6 / 15), (10**6, 0.999)):
        update_ema(ema, model, step, 0.999)
        expected = decay * expected + (1 - decay) * model.weight.detach()
        assert torch.allclose(ema.weight, expected, atol=1e-6)


def test_randomness_of_a_step_depends_on_seed_and_step_alone():
    def numbers(seed, step):
        seed_step(seed, step)
        return tuple(torch.rand(3).tolist())

    assert numbers(0, 5) == numbers(0, 5)
    assert len({numbers(seed, step) for seed in (0, 1, 2) for step in (0, 1, 2)}) == 9


def test_prefix_distribution_of_the_paper():
    distribution = prefix_distribution(128, 0.2, 4)
    assert list(distribution) == [4, 8, 16, 32, 64, 128]
    assert distribution[128] == 0.8 and sum(distribution.values()) == pytest.approx(1)
    assert [distribution[n] / distribution[4] for n in (8, 16, 32, 64)] == pytest.approx([2, 4, 8, 16])


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.7, 1.0])
def test_drawn_prefixes_have_their_probabilities(probability):
    seed_step(0, 0)
    distribution = prefix_distribution(32, probability, 4)
    lengths = draw_prefix_lengths(20000, distribution, torch.device("cpu"))
    for length, expected in distribution.items():
        assert (lengths == length).float().mean().item() == pytest.approx(expected, abs=0.015)


def test_codes_are_counted_like_numpy_counts_them():
    codes = torch.randint(10, (3, 7))
    assert np.array_equal(count_codes(codes, 12), np.bincount(codes.flatten(), minlength=12))
    assert batch_usage(codes).item() == pytest.approx(len(codes.unique()) / 21)


def test_revival_moves_only_unused_codewords_and_makes_them_used():
    torch.manual_seed(0)
    quantizer, latents = Quantizer(64, 4, normalize=True), torch.randn(8, 32, 4)
    nn.init.normal_(quantizer.codebook)
    with torch.no_grad():
        quantizer.codebook[8:] = quantizer.codebook[8]  # all but nine codewords stand in one place
    codes = quantizer(latents).codes
    counts, before = count_codes(codes, 64), quantizer.codebook.detach().clone()
    assert revive(quantizer, counts, latents) == (counts == 0).sum()
    used = counts > 0
    assert torch.equal(quantizer.codebook[used], before[used])
    after = codebook_use(quantizer(latents).codes.numpy(), 64).usage
    assert after > 3 * codebook_use(codes.numpy(), 64).usage


def test_window_gives_means_and_forgets_them():
    window = Window()
    window.start_step()
    for value in (1.0, 2.0, 6.0):
        window.add(4, loss=torch.tensor(value))
    resumed = Window()
    resumed.load_state_dict(window.state_dict())
    assert window.close()["loss"] == resumed.close()["loss"] == 3
    window.add(4, loss=torch.tensor(5.0))
    assert window.close()["loss"] == 5


def test_a_loss_that_is_not_finite_stops_the_run_with_advice():
    window = Window()
    window.start_step()
    window.add(4, loss=torch.tensor(math.nan))
    with pytest.raises(RestokError, match="loss became nan: training diverged; start another run"):
        window.close()


def test_signals_are_held_until_the_block_looks_at_them():
    with stop_signals() as received:
        assert not received
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
        with pytest.raises(Interrupted) as error:
            os.kill(os.getpid(), signal.SIGTERM)
        assert error.value.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_only_the_last_checkpoints_are_kept_and_later_log_lines_forgotten(tmp_path):
    run = RunFolder(tmp_path / "run", HarRunConfig(), resume=False, overwrite=False)
    assert run.load() is None
    for step in (9, 10, 100):
        run.log(step, {"loss": step / 10})
        run.save(step, {"model": {"weight": torch.full((2,), step)}}, keep=2)
    run.log(101, {"loss": 0.0})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('no JSON\n{"step": 10')  # cut short by a kill
    (run.path / "checkpoints" / "step-final.pt").touch()  # somebody else's
    assert [file.name for file in run._checkpoints()] == ["step-000010.pt", "step-000100.pt"]
    state = run.load()
    assert state["step"] == 100 and torch.equal(state["model"]["weight"], torch.full((2,), 100))
    assert (run.path / "metrics.jsonl").read_text().splitlines()[-1] == '{"step": 100, "loss": 10.0}'


def test_a_damaged_checkpoint_is_named(tmp_path):
    run = RunFolder(tmp_path / "run", HarRunConfig(), resume=False, overwrite=False)
    run.save(5, {"model": torch.zeros(1000)}, keep=2)
    file = run.path / "checkpoints" / "step-000005.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RestokError, match=r"step-000005\.pt cannot be read .* delete it to resume from the one before"):
        run.load()


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half_written(tmp_path):
    run = RunFolder(tmp_path / "run", HarRunConfig(), resume=False, overwrite=False)
    run.save(1, {"model": torch.zeros(10)}, keep=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"too large|cannot write"):
            run.save(2, {"model": torch.zeros(1_000_000)}, keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in (run.path / "checkpoints").iterdir()] == ["step-000001.pt"]


def test_resuming_with_another_config_says_what_changed(tmp_path):
    RunFolder(tmp_path / "run", HarRunConfig(), resume=False, overwrite=False)
    changed = HarRunConfig.parse({"schedule": {"batch_size": 8}}, "test")
    with pytest.raises(UsageError, match=r"--resume: schedule\.batch_size was 256 in .*config\.yaml and is now 8"):
        RunFolder(tmp_path / "run", changed, resume=True, overwrite=False)
    with pytest.raises(UsageError, match="holds no run to resume"):
        RunFolder(tmp_path / "other", changed, resume=True, overwrite=False)


def test_overwriting_a_run_removes_what_could_be_taken_for_the_new_one(tmp_path):
    run = RunFolder(tmp_path / "run", HarRunConfig(), resume=False, overwrite=False)
    run.save(7, {}, keep=2)
    run.log(7, {"loss": 1.0})
    run.model_folder.mkdir()
    run = RunFolder(tmp_path / "run", HarRunConfig(), resume=False, overwrite=True)
    assert run.load() is None and not (run.path / "metrics.jsonl").exists() and not run.model_folder.exists()


def test_gradients_reach_every_part_of_the_tokenizer(tiny_config):
    torch.manual_seed(0)
    tokenizer = Tokenizer(tiny_config)
    images = torch.rand(4, 3, 32, 32)
    result = tokenizer(images, torch.tensor([4, 8, 16, 32]))
    objective = TokenizerLosses(TokenizerRunConfig(model=tiny_config), lpips=None, teacher=None)
    objective(result, images, tokenizer.quantizer, torch.rand(4, NUM_DRAWS))["loss"].backward()
    dead = [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
