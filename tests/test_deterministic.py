"""`--deterministic`: what it asks of torch, and that a step needs nothing that torch can only do otherwise."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from restok_cli import devices
from restok_cli.data.loading.loader import Batch
from restok_cli.devices import open_device, take_deterministic_algorithms
from restok_cli.errors import UsageError
from restok_cli.inference import coding
from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import TokenizerRunConfig
from restok_cli.settings.yaml_file import merged
from restok_cli.training.adversarial.discriminator import FIT_NOISE, fit
from restok_cli.training.har_loop import cross_entropy
from restok_cli.training.losses import TokenizerLosses
from restok_cli.training.tokenizer_loop import TokenizerState, train_step

# Those of torch.use_deterministic_algorithms's list that raise an error on a GPU, by their names inside torch.
WITHOUT = {
    *("grid_sampler_2d_backward", "upsample_linear1d_backward", "upsample_bilinear2d_backward", "nll_loss2d_forward"),
    *("upsample_bicubic2d_backward", "_upsample_bicubic2d_aa_backward", "_adaptive_avg_pool2d_backward"),
    *("adaptive_max_pool2d_backward", "reflection_pad1d_backward", "reflection_pad2d_backward", "put_", "histc"),
    *("bincount", "median", "kthvalue", "_embedding_bag", "max_unpool2d", "fractional_max_pool2d_backward"),
}


class Recorder(TorchDispatchMode):
    """The names of all operations in the block."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        self.names.add(operation.overloadpacket.__name__)
        return operation(*arguments, **(options or {}))


@pytest.fixture
def torch_as_before(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    before = torch.backends.cudnn.deterministic, torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.utils.deterministic.fill_uninitialized_memory = before


def test_torch_and_cublas_are_told(torch_as_before):
    take_deterministic_algorithms()
    assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_cpu_needs_nothing_of_it(monkeypatch):
    monkeypatch.setattr(devices, "take_deterministic_algorithms", lambda: pytest.fail("on a CPU"))
    assert open_device("cpu", deterministic=True).type == "cpu"


@pytest.mark.parametrize(
    "command",
    [
        "generate --deterministic",
        "reconstruct sample --deterministic",
        "encode sample --deterministic",
        "decode codes.jsonl --deterministic",
        "prepare codes sample codes --tokenizer sample --deterministic",
        "tune --features random --deterministic",
        "train-tokenizer sample -o run --set compute.deterministic=true",
        "train-har sample --tokenizer sample -o run --set compute.deterministic=true",
    ],
)
def test_every_command_that_is_told_hands_it_on(command, fails, tmp_path, monkeypatch):
    def refuse(name, deterministic=False):
        raise UsageError(f"deterministic: {deterministic}")

    monkeypatch.chdir(tmp_path)
    line = {"key": "a", "class_id": 0, "codes": [0] * 128, "codebook_size": 1024, "tokenizer": ""}
    Path("codes.jsonl").write_text(json.dumps(line))
    for module in (devices, coding):
        monkeypatch.setattr(module, "open_device", refuse)
    assert "deterministic: True" in fails(2, *command.split())


def test_training_a_tokenizer_needs_no_operation_that_is_never_deterministic():
    changes = {
        "schedule": {"batch_size": 2, "micro_batch_size": 2},
        "discriminator": {"weight": 0.5, "start_step": 0, "kind": "patch"},
        "loss": {"perceptual_weight": 1.0},
        "compute": {"deterministic": True},
        "revival": {"every": 1, "until": 9},
    }
    config = TokenizerRunConfig.parse(merged(read_preset("tokenizer", "tiny"), changes), "test")
    state = TokenizerState(config, torch.device("cpu"), None)
    images = torch.randint(0, 256, (2, 3, *config.model.image_size), dtype=torch.uint8)
    with Recorder() as recorder:
        losses = TokenizerLosses(config, Lpips(), None)
        train_step(0, config, state, state.tokenizer, losses, iter([Batch(images, torch.zeros(2))]))
        for side in (32, 232):  # as a discriminator with DINO sees them
            pixels = torch.rand(2, 3, side, side, requires_grad=True)
            fit(pixels, torch.rand(2, FIT_NOISE)).sum().backward()
    assert {"convolution_backward", "avg_pool2d_backward"} <= recorder.names
    assert not recorder.names & WITHOUT


def test_training_a_generator_needs_no_such_operation_either(tiny_har):
    codes = torch.randint(tiny_har.config.codebook_size, (2, tiny_har.config.num_codes))
    with Recorder() as recorder:
        cross_entropy(tiny_har.train()(torch.tensor([1, 2]), codes), codes).mean().backward()
    assert "embedding_dense_backward" in recorder.names and not recorder.names & WITHOUT


def test_levels_that_do_not_divide_the_grid_are_refused():
    """Their means have no deterministic gradient."""
    values = merged(read_preset("tokenizer", "tiny"), {"model": {"image_height": 48}})
    TokenizerRunConfig.parse(values, "test")
    with pytest.raises(
        UsageError, match=r"compute\.deterministic: the level of 16 codes has 4x4 places, .* grid is 6x4"
    ):
        TokenizerRunConfig.parse(merged(values, {"compute": {"deterministic": True}}), "test")
