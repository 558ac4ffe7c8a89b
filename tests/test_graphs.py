"""All that is recorded as a CUDA graph (cuda/graphs.py) happens on the device: the host waits for nothing of it."""

from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from restok_cli.inference.coding import decode_codes
from restok_cli.model.sampling import SamplingOptions, sample, sampling_cache

# A device that has no numbers: whoever asks for one, or for a shape that depends on them, gets an error.
DEVICE = torch.device("meta")
OPTIONS = {
    "plain": SamplingOptions(),
    "greedy": SamplingOptions(cfg_scale=3, temperature=0),
    "cuts": SamplingOptions(cfg_scale=2, cfg_schedule="rectangular", cfg_stop=0.7, temperature=0.8, top_k=3, top_p=0.9),
}


class Devices(TorchDispatchMode):
    """The devices of all tensors that operations take and give, by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[torch.device, set[str]] = {}

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        made = operation(*arguments, **(options or {}))
        for tensor in tree_leaves((arguments, options, made)):
            if isinstance(tensor, torch.Tensor):
                self.seen.setdefault(tensor.device, set()).add(operation.overloadpacket.__name__)
        return made


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_drawing_stays_on_the_device(tiny_har, options):
    har = tiny_har.to(DEVICE)
    class_ids, uniforms = torch.zeros(2, dtype=torch.int64, device=DEVICE), torch.rand(2, 32, device=DEVICE)
    cache, kept = sampling_cache(har, options, 2), torch.zeros(3, dtype=torch.int64, device=DEVICE)
    with Devices() as devices:
        codes = sample(har, class_ids, uniforms, options, cache=cache, kept=kept)
    assert codes.shape == uniforms.shape and devices.seen.keys() == {DEVICE}


@pytest.mark.parametrize("num_codes", [8, 32])
def test_decoding_stays_on_the_device(tiny_tokenizer, num_codes, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which the meta device has not
    tokenizer = tiny_tokenizer.to(DEVICE)
    with Devices() as devices:
        images, finite = decode_codes(tokenizer, torch.zeros(2, num_codes, dtype=torch.int64, device=DEVICE))
    assert len(images) == len(finite) == 2 and devices.seen.keys() == {DEVICE}
