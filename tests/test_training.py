"""The parts of training, against something simpler."""

import math
import os
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_har
from torch import nn

from restok_cli.data.image_files import center_crop
from restok_cli.data.images import to_tensor
from restok_cli.data.loading.batching import Batch
from restok_cli.errors import Interrupted
from restok_cli.inference.coding import decode_codes, encode_images
from restok_cli.metrics.formulas.codebook import count_codes, use_of_counts
from restok_cli.metrics.formulas.pixels import psnr
from restok_cli.model.quantizer import Quantizer
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import HarRunConfig, TokenizerRunConfig
from restok_cli.training import monitor, stopping, tokenizer_loop
from restok_cli.training.adversarial.discriminator import PatchDiscriminator
from restok_cli.training.code_source import Coded, EncodedImages
from restok_cli.training.codebook_use import (
    CodeCounts,
    draw_prefix_lengths,
    prefix_distribution,
    revive_everywhere,
    use_numbers,
)
from restok_cli.training.har_loop import HarState, cross_entropy, train_step
from restok_cli.training.har_loop import validate as validate_har
from restok_cli.training.losses import NUM_NOISE, TokenizerLosses
from restok_cli.training.monitor import Meter, mean_of
from restok_cli.training.optim import seed_step
from restok_cli.training.stopping import stop_signals
from restok_cli.training.tokenizer_loop import TokenizerState, validate
from restok_cli.training.update import DTYPES, Update


def test_prefix_distribution_of_the_paper():
    distribution = prefix_distribution(128, 0.2, 4)
    assert list(distribution) == [4, 8, 16, 32, 64, 128]
    assert distribution[128] == 0.8 and sum(distribution.values()) == pytest.approx(1)
    assert [distribution[n] / distribution[4] for n in (8, 16, 32, 64)] == pytest.approx([2, 4, 8, 16])


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.7, 1.0])
def test_drawn_prefixes_have_their_probabilities(probability):
    seed_step(0, 0)
    distribution = prefix_distribution(32, probability, 4)
    lengths = draw_prefix_lengths(20000, distribution)
    for length, expected in distribution.items():
        assert (lengths == length).float().mean().item() == pytest.approx(expected, abs=0.015)


def test_codes_are_counted_by_level_like_numpy_counts_them():
    counts, codes = CodeCounts(8, 12, torch.device("cpu")), torch.randint(10, (3, 8))
    counts.add(codes)
    assert np.array_equal(counts.close(), count_codes(codes.numpy(), 12, (1, 1, 2, 4)))
    assert not counts.close().any()


def test_revival_moves_only_unused_codewords_and_makes_them_used():
    torch.manual_seed(0)
    quantizer, latents = Quantizer(64, 4, normalize=True), torch.randn(8, 32, 4)
    nn.init.normal_(quantizer.codebook)
    with torch.no_grad():
        quantizer.codebook[8:] = quantizer.codebook[8]  # all but nine codewords stand in one place
    codes = quantizer(latents).codes
    counts, before = codes.flatten().bincount(minlength=64), quantizer.codebook.detach().clone()
    assert quantizer.revive(counts, latents) == (counts == 0).sum()
    used = counts > 0
    assert torch.equal(quantizer.codebook[used], before[used])
    after = use_of_counts(np.bincount(quantizer(latents).codes.numpy().ravel(), minlength=64)).usage
    assert after > 3 * use_of_counts(np.bincount(codes.numpy().ravel(), minlength=64)).usage

    seen = CodeCounts(32, 64, torch.device("cpu"))
    seen.add(codes)
    revive_everywhere(quantizer, seen, latents)
    assert not seen.counts.any()  # the next time goes by what comes from now on


def test_use_is_logged_in_all_and_by_level():
    found = use_numbers(np.array([[4, 0, 0, 0], [2, 2, 0, 0], [1, 1, 2, 0]]))
    perplexity = math.exp(-sum(n / 12 * math.log(n / 12) for n in (7, 3, 2)))
    expected = {"codebook_usage": 75, "codebook_perplexity": perplexity, "dead_codes": 1}
    expected |= {"usage_level_1": 25, "usage_level_2": 50, "usage_level_3": 75}
    expected |= {"perplexity_level_1": 1, "perplexity_level_2": 2, "perplexity_level_3": 2**1.5}
    assert found == pytest.approx(expected)


def test_window_gives_means_of_the_steps_that_moved_and_forgets_them():
    window = Meter(torch.device("cpu"))
    with window.step(4):
        for value, moved in ((1.0, True), (2.0, True), (6.0, True), (math.nan, False), (9.0, False), (math.inf, True)):
            window.add({"loss": torch.tensor(value)}, torch.tensor(moved))
    resumed = Meter(torch.device("cpu"))
    resumed.load_state_dict(window.state_dict())
    assert all(getattr(resumed, name) == getattr(window, name) > 0 for name in ("images", "seconds"))
    with pytest.raises(RuntimeError, match=r"the sum of loss is \(3,\) and not \(2,\)"):
        Meter(torch.device("cpu")).load_state_dict(window.state_dict() | {"sums": {"loss": torch.zeros(3)}})
    assert window.close()["loss"] == resumed.close()["loss"] == 3
    with window.step(4):
        window.add({"loss": torch.tensor(5.0)}, torch.tensor(True))
    assert window.close()["loss"] == 5


def test_rates_are_over_the_time_within_steps_and_that_of_reading_the_means(monkeypatch):
    clock = SimpleNamespace(now=100.0)

    def pass_by(seconds, value=None):
        clock.now += seconds
        return value

    monkeypatch.setattr(monitor, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(monitor, "all_reduce", partial(pass_by, 2))
    window = Meter(torch.device("cpu"))
    for _ in range(2):  # the second time as if there had been no first
        for seconds in (1, 4):
            with window.step(8):
                with window.waiting():
                    pass_by(1)
                pass_by(seconds)
                window.add({"loss": torch.tensor(1.0)}, torch.tensor(True))
            pass_by(50)  # a validation
        assert window.close() == {"loss": 1.0, "images_per_second": 16 / 9, "data_wait": 2 / 9}


def test_a_step_is_the_mean_of_its_micro_batches():
    terms = [{"loss": torch.tensor(i), "other": torch.tensor(3 * i)} for i in (1.0, 2.0, 6.0)]
    assert mean_of(terms) == {"loss": 3.0, "other": 9.0}


@pytest.fixture
def heard():
    """A process that a hang-up ends, however these tests were started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_signals_are_held_until_the_block_looks_at_them(heard):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        with stop_signals() as stop:
            assert not stop.number
            for _ in range(1 if number == signal.SIGINT else 2):  # from SLURM to all, from torchrun to those it started
                os.kill(os.getpid(), number)
            assert stop.number == number
            with pytest.raises(Interrupted) as error:
                os.kill(os.getpid(), signal.SIGINT)
            assert error.value.signal_number == signal.SIGINT
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_run_that_is_to_outlive_its_terminal_hears_no_hang_up(heard):
    """As `nohup` starts it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.number


@pytest.mark.parametrize(("processes", "patience"), [(1, 3), (2, 20)])
def test_who_was_told_to_stop_waits_so_long_for_a_batch_since_both(monkeypatch, processes, patience):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(stopping, "world_size", lambda: processes)
    stop = stopping.Stop()

    def batches(seconds: float):
        clock.now += seconds
        stop.tick(signal.SIGALRM, None)
        yield "batch"

    for told, late in ((100.0, 0), (300.0, 100)):  # before it waits, and 100 seconds after that
        clock.now, stop.told_at = 200.0, told
        assert [*stop.arriving(batches(late + patience - 0.01))] == ["batch"]
        clock.now = 200.0
        with pytest.raises(stopping.Stalled):
            next(stop.arriving(batches(late + patience + 0.01)))
        stop.tick(signal.SIGALRM, None)  # in a step, however long


def test_gradients_reach_every_part_of_the_tokenizer(tiny_config):
    torch.manual_seed(0)
    tokenizer = Tokenizer(tiny_config)
    images = torch.rand(4, 3, 32, 32)
    result = tokenizer(images, torch.tensor([4, 8, 16, 32]))
    objective = TokenizerLosses(TokenizerRunConfig(model=tiny_config), lpips=None, teacher=None)
    objective(result, images, tokenizer.quantizer, torch.rand(4, NUM_NOISE))["loss"].backward()
    dead = [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


@pytest.mark.parametrize(("precision", "num_classes"), [("float32", 9), ("bf16", 9), ("float32", 0)])
def test_a_generators_step_is_that_of_its_whole_batch_however_it_is_cut(precision, num_classes):
    """The classes that are dropped, too: by the numbers of the step. The model computes in the run's precision."""
    preset, size = read_preset("har", "tiny"), 8
    none = {"residual_dropout": 0.0, "ffn_dropout": 0.0, "token_dropout": 0.0, "class_dropout": 0.5}
    sizes = {"codebook_size": 64, "num_codes": 32, "num_classes": num_classes}
    preset |= {"model": preset["model"] | sizes | none, "compute": {"precision": precision}}
    class_ids, codes = torch.arange(size), torch.randint(64, (size, 32), generator=torch.Generator().manual_seed(0))
    seen = []
    for micro_batch_size in (8, 2):
        config = HarRunConfig.parse(
            preset | {"schedule": {"batch_size": size, "micro_batch_size": micro_batch_size}}, "tiny"
        )
        state = HarState(config, torch.device("cpu"), make_har(config.model))
        har, step = state.har, state.update.step

        def in_training(*inputs, har=har):
            logits = har(*inputs)
            assert logits.dtype == DTYPES[precision]
            return logits

        def watched(number, har=har, step=step):
            seen.append([parameter.grad.clone() for parameter in har.parameters()])
            return step(number)

        state.update.step = watched
        train_step(
            3, config, state, in_training, map(Coded, class_ids.split(micro_batch_size), codes.split(micro_batch_size))
        )

    plain = make_har(config.model)
    seed_step(config.schedule.seed, 3)
    is_dropped = torch.rand(size) < 0.5
    assert is_dropped.unique().numel() == 2
    dropped = torch.where(is_dropped | (num_classes == 0), num_classes, class_ids)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = plain(dropped, codes)
    F.cross_entropy(logits.float().flatten(0, 1), codes.flatten()).backward()
    for gradients in zip(*seen, plain.parameters(), strict=True):
        *found, parameter = gradients
        for gradient in found:
            torch.testing.assert_close(gradient, parameter.grad, rtol=0.02, atol=5e-3 if precision == "bf16" else 1e-6)


def test_each_micro_batch_of_a_generators_step_drops_something_else():
    """Also on different processes, since their numbers count all of a step."""
    preset = read_preset("har", "tiny")
    sizes = {"codebook_size": 64, "num_codes": 32, "num_classes": 9, "class_dropout": 0.0}
    preset |= {"model": preset["model"] | sizes, "schedule": {"batch_size": 4, "micro_batch_size": 2}}
    config = HarRunConfig.parse(preset, "tiny")
    state = HarState(config, torch.device("cpu"), make_har(config.model))
    alike, seen = Coded(torch.zeros(2, dtype=torch.int64), torch.zeros(2, 32, dtype=torch.int64)), []

    def in_training(*inputs):
        seen.append(state.har(*inputs))
        return seen[-1]

    train_step(3, config, state, in_training, iter([alike, alike]))
    assert not torch.equal(*seen)


def test_a_tokenizers_step_is_that_of_its_whole_batch_however_it_is_cut(monkeypatch):
    """Prefix lengths, augmentations and what is logged, too: but for LeCam, which takes means of its micro-batches."""
    judge = partial(PatchDiscriminator, channels=32)
    monkeypatch.setattr("restok_cli.training.adversarial.adversary.open_discriminator", lambda *_: judge())
    seen, step = [], Update.step

    def watched(update, number):
        seen[-1] += [parameter.grad.clone() for parameter in update.model.parameters()]
        return step(update, number)

    monkeypatch.setattr(Update, "step", watched)
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sections = {"loss": {}, "nested_dropout": {"probability": 0.5}}
    sections |= {"discriminator": {"weight": 0.5, "start_step": 0, "lecam_weight": 0.0}}
    logged = []
    for micro_batch_size in (8, 2):
        schedule = {"batch_size": 8, "micro_batch_size": micro_batch_size}
        config = TokenizerRunConfig.parse(read_preset("tokenizer", "tiny") | sections | {"schedule": schedule}, "tiny")
        state = TokenizerState(config, torch.device("cpu"), None)
        seen.append([])
        parts = (Batch(part, torch.zeros(len(part))) for part in images.split(micro_batch_size))
        tokenizer_loop.train_step(3, config, state, state.tokenizer, TokenizerLosses(config, None, None), parts)
        assert state.adversary is not None
        means = {name: total for name, (total, _) in state.meter.sums.items() if name != "lecam_loss"}
        logged.append(means | dict(state.adversary.lecam.named_buffers()))
    torch.testing.assert_close(logged[1], logged[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(seen[1], seen[0], rtol=0.02, atol=1e-5)


@torch.inference_mode()
def test_validation_takes_the_first_images_of_the_split_that_are_wanted(tiny_tokenizer, tiny_har, sample_data):
    """And gives, of 5 in batches of 4, the means over those 5, whatever follows."""
    cpu, split = torch.device("cpu"), sample_data.held_out
    images = torch.stack([to_tensor(center_crop(split.image(i), (32, 32))) for i in range(5)])
    codes = encode_images(tiny_tokenizer, images)
    found = validate(tiny_tokenizer, sample_data, 4, cpu, 5, None, iter)
    values = psnr(decode_codes(tiny_tokenizer, codes).images, images)
    assert found["validation_psnr"] == pytest.approx(values.mean().item(), rel=1e-6)
    counts = codes.flatten().bincount(minlength=tiny_tokenizer.config.codebook_size)
    assert found["validation_codebook_usage"] == use_of_counts(counts.numpy()).usage

    class_ids = torch.tensor([split.class_id(i) for i in range(5)])
    losses = cross_entropy(tiny_har(class_ids, codes), codes)
    found = validate_har(tiny_har, EncodedImages(sample_data, tiny_tokenizer, cpu), 4, 5, None, iter)
    assert found["validation_loss"] == pytest.approx(losses.mean().item(), rel=1e-6)
