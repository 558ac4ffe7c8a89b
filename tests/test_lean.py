"""The forward passes compute nothing needless: no float64, no wait for the device, no graph breaks."""

import shutil

import pytest
import torch
from conftest import make_har
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from restok_cli.model.config import HarConfig
from restok_cli.model.har import Har, KVCache
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.training.config import HarRunConfig, preset_names, read_preset

HAR = HarConfig(codebook_size=64, num_codes=32, num_classes=5, width=32, num_layers=2, num_heads=2)
# millions; ALGORITHM section 3 gives B and L, with 8,192 codes and 1,000 classes
HAR_SIZES = {
    "har-b": 111,
    "har-l": 326,
    "har-xl": 760,
    "har-xxl": 1384,
    "har-xxxl": 3857,
    "har-1b": 1233,
    "har-3b": 3090,
}


class NoFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        found = [leaf.dtype for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        assert torch.float64 not in found, function
        return result


def test_forward_passes_use_no_float64(tiny_tokenizer):
    images, codes = torch.rand(2, 3, 32, 32), torch.zeros(2, 32, dtype=torch.int64)
    with NoFloat64():
        tiny_tokenizer(images, torch.tensor([4, 32]))
        make_har(HAR)(torch.tensor([0, 1]), codes)


def test_forward_passes_read_nothing_back_from_the_device(tiny_config):
    """On the meta device there is nothing to read: any .item(), nonzero or `if tensor` raises."""
    with torch.device("meta"):
        tokenizer, har = Tokenizer(tiny_config).to("meta"), Har(HAR).to("meta")
        images, lengths = torch.empty(2, 3, 32, 32), torch.empty(2, dtype=torch.int64)
        codes, class_ids = torch.empty(2, 32, dtype=torch.int64), torch.empty(2, dtype=torch.int64)
        assert tokenizer(images, lengths).images.shape == (2, 3, 32, 32)
        assert har(class_ids, codes).shape == (2, 32, 64)
        cache = KVCache(HAR, 2, torch.device("meta"), torch.float32)
        assert har.step(class_ids, codes, cache, 8, 16, 8).shape == (2, 8, 64)


@pytest.mark.parametrize("name", [name for name in preset_names("har") if name.startswith(("har-", "ar-"))])
def test_preset_sizes_have_the_known_numbers_of_parameters(name):
    config = HarRunConfig.parse(read_preset("har", name), name).model
    with torch.device("meta"):
        har = Har(config)
    millions = sum(p.numel() for p in har.parameters()) / 1e6
    assert millions == pytest.approx(HAR_SIZES[name if config.is_har else "har-l"], abs=1)
    assert config.is_har == name.startswith("har-")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@torch.no_grad()
def test_compiled_models_compute_the_same_without_graph_breaks(tiny_tokenizer):
    images, codes = torch.rand(2, 3, 32, 32), torch.randint(64, (2, 32))
    encode = torch.compile(tiny_tokenizer.encode_latents, fullgraph=True)
    assert torch.allclose(encode(images).latents, tiny_tokenizer.encode_latents(images).latents, atol=1e-4)
    decode = torch.compile(tiny_tokenizer.decode, fullgraph=True)
    assert torch.allclose(decode(codes), tiny_tokenizer.decode(codes), atol=1e-4)

    har, class_ids = make_har(HAR), torch.tensor([0, 1])
    step = torch.compile(har.step, fullgraph=True)
    caches = [KVCache(HAR, 2, torch.device("cpu"), torch.float32) for _ in range(2)]
    for cache in caches:
        har.step(class_ids, codes, cache, 0, 4, 1)
    compiled, plain = step(class_ids, codes, caches[0], 4, 8, 4), har.step(class_ids, codes, caches[1], 4, 8, 4)
    assert torch.allclose(compiled, plain, atol=1e-4)
    assert torch.allclose(caches[0].keys[:, :, :, :8], caches[1].keys[:, :, :, :8], atol=1e-4)
