"""The forward passes compute nothing needless: no float64, no wait for the device, no graph breaks."""

import subprocess
import sys

import pytest
import torch
from conftest import make_har
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from restok_cli.model.config import HarConfig
from restok_cli.model.empty import without_weights
from restok_cli.model.har import Har, KVCache
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.settings.presets import preset_names, read_preset
from restok_cli.settings.training import HarRunConfig

HAR = HarConfig(codebook_size=64, num_codes=32, num_classes=5, width=32, num_layers=2, num_heads=2)


class NoFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        found = [leaf.dtype for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        assert torch.float64 not in found, function
        return result


def test_forward_passes_use_no_float64(tiny_tokenizer):
    images, codes = torch.rand(2, 3, 32, 32), torch.zeros(2, 32, dtype=torch.int64)
    with NoFloat64():
        with pytest.raises(AssertionError):  # so float64 would be seen
            torch.zeros(2, dtype=torch.float64)
        tiny_tokenizer(images, torch.tensor([4, 32]))
        make_har(HAR)(torch.tensor([0, 1]), codes)


def test_forward_passes_read_nothing_back_from_the_device(tiny_tokenizer):
    """Fake tensors have shapes and no values: any .item(), nonzero or `if tensor` raises."""
    har = make_har(HAR)
    with FakeTensorMode(allow_non_fake_inputs=True):
        codes, class_ids = torch.zeros(2, 32, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
        assert tiny_tokenizer(torch.rand(2, 3, 32, 32), torch.tensor([4, 32])).images.shape == (2, 3, 32, 32)
        assert har(class_ids, codes).shape == (2, 32, 64)
        cache = KVCache(HAR, 2, torch.device("cpu"), torch.float32)
        assert har.step(class_ids, codes, cache, 8, 16).shape == (2, 8, 64)
        with pytest.raises(DataDependentOutputException):
            codes.sum().item()


def test_short_commands_start_without_what_only_long_ones_need(tmp_path):
    """torch's compiler, torchvision and torch-fidelity take a second or two, each of which a person waits for."""
    heavy = ("torch._dynamo", "torchvision", "torch_fidelity", "timm", "scipy.stats", "matplotlib")
    script = f"""if True:
        import sys
        from restok_cli.cli import run
        assert run(["generate", "--count", "1", "-o", "drawn"]) == 0
        assert run(["reconstruct", "drawn", "--model", "sample", "-o", "back"]) == 0
        import restok_cli.training.tokenizer_loop, restok_cli.training.har_loop, restok_cli.planning.preflight
        print([name for name in {heavy} if name in sys.modules])
    """
    result = subprocess.run((sys.executable, "-c", script), cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stderr


def test_modules_without_weights_have_the_shapes_of_those_with(tiny_tokenizer):
    with without_weights():
        empty = Tokenizer(tiny_tokenizer.config)
    shapes = {name: (value.shape, value.dtype) for name, value in tiny_tokenizer.state_dict().items()}
    assert {name: (value.shape, value.dtype) for name, value in empty.state_dict().items()} == shapes
    assert all(value.is_meta for value in empty.parameters())


@pytest.mark.parametrize("name", [name for name in preset_names("har") if name.startswith(("har-", "ar-"))])
def test_preset_sizes_have_the_parameters_that_their_widths_and_layers_make(name):
    config = HarRunConfig.parse(read_preset("har", name), name).model
    with torch.device("meta"):
        count = sum(p.numel() for p in Har(config).parameters())
    hidden = {768: 2048, 1024: 2816, 1280: 3584, 1536: 4096, 2048: 5632, 2560: 6912, 3200: 8704}[config.width]
    block = 4 * config.width**2 + 3 * config.width * hidden + 2 * config.width
    queries = 63 if name.startswith("har-") else 0
    assert count == config.num_layers * block + (2 * 8192 + 1001 + queries + 1) * config.width
    if name == "har-l":
        assert round(count / 1e6) == 326  # as released


@pytest.mark.slow
@torch.no_grad()
def test_compiled_models_have_no_graph_breaks_and_compute_the_same(tiny_tokenizer):
    """As traced whole; nothing is compiled for real, which test_generate.py does."""
    torch.compiler.reset()
    images, codes = torch.rand(2, 3, 32, 32), torch.randint(64, (2, 32))
    options = {"fullgraph": True, "backend": "aot_eager"}
    encode = torch.compile(tiny_tokenizer.encode_latents, **options)
    assert torch.allclose(encode(images).latents, tiny_tokenizer.encode_latents(images).latents, atol=1e-4)
    decode = torch.compile(tiny_tokenizer.decode, **options)
    assert torch.allclose(decode(codes), tiny_tokenizer.decode(codes), atol=1e-4)

    har, class_ids = make_har(HAR), torch.tensor([0, 1])
    step = torch.compile(har.step, **options)
    caches = [KVCache(HAR, 2, torch.device("cpu"), torch.float32) for _ in range(2)]
    for cache in caches:
        har.fill(class_ids, codes, cache, 0, 4)
    compiled, plain = step(class_ids, codes, caches[0], 4, 8), har.step(class_ids, codes, caches[1], 4, 8)
    assert torch.allclose(compiled, plain, atol=1e-4)
    assert torch.allclose(caches[0].keys[:, :, :, :8], caches[1].keys[:, :, :, :8], atol=1e-4)
