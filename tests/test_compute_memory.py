"""What a step keeps for its backward pass, counted on tensors without numbers; keeping less changes no gradient."""

import weakref
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import ComputeConfig, HarRunConfig, TokenizerRunConfig
from restok_cli.training.warm_start import recompute_activations


class Counted(TorchDispatchMode):
    """Bytes of all storages that live."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, weakref.ref] = {}
        self.bytes = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        made = operation(*arguments, **(options or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.count(tensor.untyped_storage())
        return made

    def count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        known = self.alive.get(key)
        if known is not None and known() is storage:
            return

        def gone(reference: weakref.ref) -> None:
            if self.alive.get(key) is reference:
                del self.alive[key]
            self.bytes -= size

        self.alive[key] = weakref.ref(storage, gone)
        self.bytes += size


def kept(memory: str) -> float:
    """GiB that a forward pass of one image through restok-l-128 keeps, in float32, for the backward pass."""
    config = TokenizerRunConfig.parse(read_preset("tokenizer", "restok-l-128"), "test").model
    with torch.device("meta"):
        tokenizer = Tokenizer(config)
        recompute_activations(tokenizer, memory)
    with FakeTensorMode(), Counted() as counted:
        for module in tokenizer.modules():
            for name, tensor in module._parameters.items():
                module._parameters[name] = None if tensor is None else nn.Parameter(torch.empty(tensor.shape))
            for name, tensor in module._buffers.items():
                module._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype)
        before = counted.bytes
        result = tokenizer(torch.empty(1, 3, 256, 256))
        assert result.images.requires_grad
        return (counted.bytes - before) / 2**30


def test_each_choice_keeps_so_much_less():
    fast = kept("fast")
    assert fast == pytest.approx(3.11, rel=0.01)
    assert kept("balanced") / fast == pytest.approx(0.57, abs=0.01)
    assert kept("small") / fast == pytest.approx(0.30, abs=0.01)


@pytest.mark.parametrize("memory", ["balanced", "small"])
def test_what_is_computed_again_leaves_gradients_as_they_are(memory):
    run = HarRunConfig.parse(read_preset("har", "tiny"), "test")
    torch.manual_seed(0)
    har = Har(run.model)
    nn.init.normal_(har.head.weight)
    inputs = torch.tensor([0, 1]), torch.randint(run.model.codebook_size, (2, run.model.num_codes))

    def gradients(model: Har) -> list[Tensor]:
        torch.manual_seed(1)  # of its dropout
        model(*inputs).square().mean().backward()
        return [parameter.grad for parameter in model.parameters()]

    expected = gradients(deepcopy(har))
    recompute_activations(har, memory)
    for found, gradient in zip(gradients(har), expected, strict=True):
        assert torch.equal(found, gradient)


def test_auto_computes_again_on_a_gpu_alone():
    assert [ComputeConfig().memory_on(device) for device in ("cpu", "cuda")] == ["fast", "balanced"]
    assert ComputeConfig(memory="small").memory_on("cpu") == "small"
