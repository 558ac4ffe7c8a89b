"""Memory that a run takes, counted before it is taken, and what is advised where it was not enough."""

import pytest
import torch
from training_runs import TOKENIZER

from restok_cli import room
from restok_cli.errors import RestokError, UsageError
from restok_cli.model.config import BLOCK_OBJECTS, HarConfig, TokenizerConfig
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.training import memory
from restok_cli.training.config import HarRunConfig, TokenizerRunConfig, read_preset
from restok_cli.training.memory import check_memory, num_parameters, remedies, telling_what_helps

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
        ({"codebook_size": 10**10}, "model.codebook_size = 10000000000 makes 298 GiB of weights"),
        ({"codebook_size": 10**30}, "model.codebook_size = 10{30} makes inf GiB of weights"),
        ({"decoder_layers": 10**6}, "model.decoder_layers = 1000000 makes "),
        ({"feature_channels": 4 * 10**9}, "model.feature_channels = 4000000000 makes "),
        ({"codebook_dim": 2 * 10**12}, "model.codebook_dim = 2000000000000 makes "),
    ],
)
def test_a_model_that_cannot_fit_is_refused_with_the_setting_that_makes_it_so_large(monkeypatch, size, culprit):
    monkeypatch.setattr(memory, "total_memory", lambda: 100 << 30)
    with pytest.raises(UsageError, match=f"^{culprit}.* and this machine has 100 GiB; lower {culprit.split()[0]}$"):
        check_memory(Tokenizer, tokenizer_run(**size), CPU)


@pytest.mark.parametrize(
    ("size", "culprit"),
    [
        ({"num_latent_tokens": 2**24}, "num_latent_tokens = 16777216 needs at least 844,431.5 GB"),
        ({"num_latent_tokens": 2**80}, f"num_latent_tokens = {2**80} needs"),
        ({"image_height": 16 * 10**6}, "image_height = 16000000 needs"),
        ({"image_width": 2**24, "num_stages": 1}, "image_width = 16777216 needs"),
        ({"decoder_layers": 10**9}, "decoder_layers = 1000000000 needs"),
        ({"head_width": 2**40, "encoder_width": 2**41, "decoder_width": 2**40}, "head_width = 1099511627776 needs"),
    ],
)
def test_tokens_and_pictures_that_no_memory_holds_are_refused_before_the_model_is_made(monkeypatch, size, culprit):
    monkeypatch.setattr(room, "total_memory", lambda: 100 * 10**9)
    monkeypatch.setattr(memory, "num_parameters", lambda *_: pytest.fail("a model was made"))
    with pytest.raises(UsageError, match=rf"^model\.{culprit}.* beside its weights, and here are 100\.0 GB; lower "):
        check_memory(Tokenizer, tokenizer_run(**size), CPU)


@pytest.mark.parametrize(
    ("size", "culprit"),
    [
        ({"num_codes": 2**24}, "num_codes"),
        ({"num_codes": 2**40, "num_sequential_codes": 2**40}, "num_codes"),
        ({"width": 2**40, "num_heads": 1}, "width"),
        ({"num_layers": 10**9}, "num_layers"),
    ],
)
def test_the_same_of_a_generator(monkeypatch, size, culprit):
    monkeypatch.setattr(room, "total_memory", lambda: 100 * 10**9)
    monkeypatch.setattr(memory, "num_parameters", lambda *_: pytest.fail("a model was made"))
    with pytest.raises(UsageError, match=rf"^model\.{culprit} = {size[culprit]} needs at least"):
        check_memory(Har, HarRunConfig.parse({"model": size}, "test"), CPU)


def test_memory_beside_the_weights_is_no_less_than_counted(tiny_config):
    """As far as tensors go: masks and tables, which is all that grows with tokens."""
    for module in (Tokenizer(tiny_config), Har(HarConfig(width=32, num_heads=2, num_layers=1, num_codes=64))):
        buffers = sum(buffer.nbytes for name, buffer in module.named_buffers() if name not in ("mean", "std"))
        counted = [name for name in type(module.config).model_fields if name.endswith("layers")]
        blocks = BLOCK_OBJECTS * sum(getattr(module.config, name) for name in counted)
        pictures = getattr(module.config, "image_height", 0) * getattr(module.config, "image_width", 0) * 3
        assert module.config.least_memory - blocks - pictures == buffers


def test_micro_batches_that_memory_cannot_hold_are_refused():
    run = tokenizer_run()
    huge = run.model_copy(update={"schedule": run.schedule.model_copy(update={"micro_batch_size": 10**12})})
    with pytest.raises(UsageError, match=r"^schedule\.micro_batch_size 1000000000000 needs at least"):
        check_memory(Tokenizer, huge, CPU)


def test_the_same_by_the_command_line_before_anything_is_made(fails, tmp_path):
    message = fails(2, *TOKENIZER, "--set", "model.codebook_size=1000000000000", "-o", tmp_path / "run")
    assert "model.codebook_size = 1000000000000 makes 2.98e+04 GiB of weights" in message
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
        "a micro-batch is one picture already, set compute.gradient_checkpointing=true or compute.sharding=fsdp over "
        "several processes, or take a smaller model"
    )
    values["compute"] |= {"gradient_checkpointing": True, "sharding": "fsdp"}
    assert remedies(HarRunConfig.parse(values, "test")) == (
        "a micro-batch is one picture already: take a smaller model"
    )


def test_memory_that_runs_out_in_training_is_told_with_what_helps_there():
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("you tried: can't allocate memory")):
        told = r"out of memory; set schedule\.micro_batch_size below 16"
        with pytest.raises(RestokError, match=told), telling_what_helps(tokenizer_run()):
            raise error
    with pytest.raises(RuntimeError, match="another"), telling_what_helps(tokenizer_run()):
        raise RuntimeError("another")


def test_the_defaults_can_be_counted():
    assert num_parameters(Tokenizer, TokenizerConfig()) > 1e8
