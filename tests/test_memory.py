"""Memory that a run takes, counted before it is taken, and what is advised where it was not enough."""

import pytest
import torch
from training_runs import TOKENIZER

from restok_cli.errors import RestokError, UsageError
from restok_cli.model import size as model_size
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.planning import memory, preflight
from restok_cli.planning.memory import check_memory, num_parameters, remedies, telling_what_helps
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import HarRunConfig, TokenizerRunConfig

CPU = torch.device("cpu")


def tokenizer_run(**model):
    values = read_preset("tokenizer", "tiny")
    values["schedule"] |= {"micro_batch_size": values["schedule"]["batch_size"]}
    return TokenizerRunConfig.parse(values | {"model": values["model"] | model}, "test")


def test_counted_weights_are_those_of_the_model_also_of_many_layers(tiny_config, monkeypatch):
    expected = sum(parameter.numel() for parameter in Tokenizer(tiny_config).parameters())
    assert num_parameters(Tokenizer, tiny_config) == expected
    deep = HarConfig(width=32, num_heads=2, num_layers=7, codebook_size=64, num_codes=8, num_classes=3)
    monkeypatch.setattr(memory, "MANY_LAYERS", 3)
    assert num_parameters(Har, deep) == sum(parameter.numel() for parameter in Har(deep).parameters())


@pytest.mark.parametrize(
    ("size", "culprit"),
    [
        ({"codebook_size": 2**24, "codebook_dim": 2048}, "model.codebook_size = 16777216 makes 128 GiB of weights"),
        ({"decoder_layers": 1000, "decoder_width": 2**14}, "model.decoder_width = 16384 makes "),
        ({"feature_channels": 2**20, "encoder_width": 2**17}, "model.encoder_width = 131072 makes "),
        ({"codebook_dim": 2**20, "codebook_size": 2**20}, "model.codebook_dim = 1048576 makes "),
    ],
)
def test_a_model_that_cannot_fit_is_refused_with_the_setting_that_makes_it_so_large(monkeypatch, size, culprit):
    monkeypatch.setattr(memory, "total_memory", lambda: 100 << 30)
    with pytest.raises(UsageError, match=f"^{culprit}.* and this machine has 100 GiB; lower {culprit.split()[0]}$"):
        check_memory(Tokenizer, tokenizer_run(**size), CPU)


@pytest.mark.parametrize(
    ("size", "culprit"),
    [
        ({"num_latent_tokens": 2**20}, "num_latent_tokens = 1048576 needs at least 3,299.5 GB"),
        ({"image_height": 2**20}, "image_height = 1048576 needs"),
        ({"image_width": 2**20, "num_stages": 1}, "image_width = 1048576 needs"),
        (
            {"head_width": 2**20, "encoder_width": 2**20, "decoder_width": 2**20},
            "head_width = 1048576 needs",
        ),
    ],
)
def test_tokens_and_pictures_that_no_memory_holds_are_refused_before_the_model_is_made(monkeypatch, size, culprit):
    monkeypatch.setattr(model_size, "total_memory", lambda: 10**8)
    monkeypatch.setattr(memory, "num_parameters", lambda *_: pytest.fail("a model was made"))
    with pytest.raises(UsageError, match=rf"^model\.{culprit}.* beside its weights, and here are 0\.1 GB; lower "):
        check_memory(Tokenizer, tokenizer_run(**size), CPU)


@pytest.mark.parametrize(
    ("size", "culprit"),
    [
        ({"num_codes": 2**20}, "num_codes"),
        ({"num_codes": 2**20, "num_sequential_codes": 2**20}, "num_codes"),
        ({"width": 2**20, "num_heads": 1, "num_codes": 2**12}, "width"),
    ],
)
def test_the_same_of_a_generator(monkeypatch, size, culprit):
    monkeypatch.setattr(model_size, "total_memory", lambda: 10**8)
    monkeypatch.setattr(memory, "num_parameters", lambda *_: pytest.fail("a model was made"))
    with pytest.raises(UsageError, match=rf"^model\.{culprit} = {size[culprit]} needs at least"):
        check_memory(Har, HarRunConfig.parse({"model": size}, "test"), CPU)


def test_memory_beside_the_weights_is_no_less_than_counted(tiny_config):
    """As far as tensors go: masks and tables, which is all that grows with tokens."""
    for module in (Tokenizer(tiny_config), Har(HarConfig(width=32, num_heads=2, num_layers=1, num_codes=64))):
        buffers = sum(buffer.nbytes for name, buffer in module.named_buffers() if name not in ("mean", "std"))
        pictures = getattr(module.config, "image_height", 0) * getattr(module.config, "image_width", 0) * 3
        assert module.config.least_memory - pictures == buffers


def test_micro_batches_that_memory_cannot_hold_are_refused():
    run = tokenizer_run()
    huge = run.model_copy(update={"schedule": run.schedule.model_copy(update={"micro_batch_size": 10**12})})
    with pytest.raises(UsageError, match=r"^schedule\.micro_batch_size 1000000000000 needs at least"):
        check_memory(Tokenizer, huge, CPU)


def test_the_same_by_the_command_line_before_anything_is_made(fails, tmp_path):
    sizes = ("--set", "model.codebook_size=16777216", "--set", "model.codebook_dim=1048576")
    message = fails(2, *TOKENIZER, *sizes, "-o", tmp_path / "run")
    assert "model.codebook_dim = 1048576 makes 6.554e+04 GiB of weights" in message
    assert not (tmp_path / "run").exists()


def test_what_fits_is_not_refused():
    assert check_memory(Tokenizer, tokenizer_run(), CPU) is None  # nothing is raised


def test_only_a_remedy_that_can_help_is_advised():
    run = HarRunConfig()
    assert "schedule.micro_batch_size below 256" in remedies(run)
    values = run.model_dump()
    values["schedule"]["micro_batch_size"] = 1
    said = remedies(HarRunConfig.parse(values, "test"))
    assert said == (
        "a micro-batch is one image already, set compute.memory=small or compute.sharding=fsdp over several "
        "processes, or take a smaller model"
    )
    values["compute"] |= {"memory": "small", "sharding": "fsdp"}
    assert remedies(HarRunConfig.parse(values, "test")) == ("a micro-batch is one image already: take a smaller model")


def test_memory_that_runs_out_in_training_is_told_with_what_helps_there():
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("you tried: can't allocate memory")):
        told = r"out of memory; set schedule\.micro_batch_size below 16"
        with pytest.raises(RestokError, match=told), telling_what_helps(tokenizer_run()):
            raise error
    with pytest.raises(RuntimeError, match="another"), telling_what_helps(tokenizer_run()):
        raise RuntimeError("another")


def test_the_defaults_can_be_counted():
    assert num_parameters(Tokenizer, TokenizerConfig()) > 1e8


def test_a_step_of_very_many_images_is_counted_before_it_is_tried(monkeypatch):
    """On a CPU the system would end the process without a word."""
    run = tokenizer_run()
    monkeypatch.setattr(preflight, "memory_of_step", lambda *_: 3e10)
    monkeypatch.setattr(preflight, "memory_of", lambda _: 2e10)
    preflight.check_step(run, CPU)  # of few images, the two steps show it
    monkeypatch.setattr(preflight, "MANY_IMAGES", 1)
    with pytest.raises(UsageError, match=r"a step of \d+ images needs 30.0 GB of memory, and there is 20.0 GB; set"):
        preflight.check_step(run, CPU)
