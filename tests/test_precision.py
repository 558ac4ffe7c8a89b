"""The types of 16 bits in which a GPU encodes and draws, against float32, on the model that comes with restok."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from restok_cli.data.images import to_float, to_uint8
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.shards.layout import SAMPLE_FOLDER
from restok_cli.devices import PRECISIONS, chosen_dtype, open_device, set_tf32, tf32
from restok_cli.inference.coding import decode_codes
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained import modules
from restok_cli.pretrained.folder import open_har, open_tokenizer
from restok_cli.pretrained.modules import load_for_use, load_model

MODEL = SAMPLE_FOLDER.parent / "model"


def tokenizer(dtype: torch.dtype, pixel_decoder: torch.dtype) -> Tokenizer:
    module = load_model(open_tokenizer(MODEL), torch.device("cpu"))
    module.to_dtype(dtype, pixel_decoder)
    return module


@pytest.fixture(scope="module")
def images():
    split = open_dataset(SAMPLE_FOLDER).split("validation")
    return torch.from_numpy(np.stack([split.image(i) for i in range(16)])).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
@torch.inference_mode()
def exact(images):
    module = tokenizer(torch.float32, torch.float32)
    codes = module.encode(to_float(images))
    return codes, to_uint8(module.decode(codes))


def psnr(images: Tensor, others: Tensor) -> float:
    """dB, of uint8 images."""
    return -10 * (to_float(images) - to_float(others)).square().mean().log10().item()


@pytest.mark.parametrize(
    "device, dtype, expected",
    [("cuda", torch.bfloat16, True), ("cuda", torch.float32, False), ("cpu", torch.bfloat16, False)],
)
def test_weights_of_convolutions_lie_as_a_gpu_wants_them_in_16_bits(monkeypatch, device, dtype, expected):
    module = tokenizer(torch.bfloat16, torch.float16)  # on the CPU all the same
    monkeypatch.setattr(modules, "load_model", lambda *_: module)
    monkeypatch.setattr(modules, "can_rewrite", lambda *_: False)
    convolution = load_for_use(open_tokenizer(MODEL), torch.device(device), dtype).pixel_decoder.mid[0].conv1
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last) == expected


def test_where_torchs_own_default_gave_way_to_a_wider_setting_it_does_so_afterwards():
    code = """if True:  # of a fresh process, in which nothing has been set
        import torch
        from restok_cli.devices import PRECISIONS, tf32
        for place in (torch.backends.cudnn, torch.backends):
            place.fp32_precision = "ieee"
            before = [place.fp32_precision for place in PRECISIONS]
            with tf32(False):
                pass
            assert [place.fp32_precision for place in PRECISIONS] == before"""
    subprocess.run([sys.executable, "-c", code], check=True)


@torch.inference_mode()
def test_decoding(exact):
    codes, images = exact
    pairs = ((torch.float32, torch.float16), (torch.bfloat16, torch.float16), (torch.float32, torch.bfloat16))
    half, both, bfloat = (psnr(to_uint8(tokenizer(*pair).decode(codes)), images) for pair in pairs)
    assert half > 60  # one value in 30 changes, by one
    assert both > 55
    assert bfloat < half - 6  # which is why the pixel decoder does not take it


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_what_draws_in_16_bits_may_use_tf32(exact, dtype):
    module, seen = tokenizer(dtype, dtype), []
    hook = lambda *_: seen.append(torch.backends.cudnn.allow_tf32)  # noqa: E731
    module.pixel_decoder.conv_out.register_forward_hook(hook)
    with tf32(False):
        decode_codes(module, exact[0][:1])
        assert seen == [dtype != torch.float32] and not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("new", [("ieee", "tf32"), ("tf32", "tf32"), ("none", "none")])
def test_torchs_new_names_for_tf32_are_respected_and_left_as_they_were(new):
    cudnn = torch.backends.cudnn
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = new
    torch.backends.fp32_precision = "tf32"
    try:
        before = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
        for allowed in (True, False):
            with tf32(allowed):
                assert (cudnn.conv.fp32_precision == "tf32") == cudnn.allow_tf32 == allowed
        assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == before
    finally:
        torch.backends.fp32_precision = "none"
        set_tf32(False)


def test_products_of_matrices_may_use_it_where_they_are_measured():
    for products in (True, False):
        with tf32(True, products=products):
            assert torch.backends.cuda.matmul.allow_tf32 == products
        assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    "change",
    [
        partial(torch.set_float32_matmul_precision, "medium"),
        partial(torch.set_float32_matmul_precision, "high"),
        partial(setattr, torch.backends, "fp32_precision", "bf16"),
        partial(setattr, torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
    ],
)
def test_float32_is_float32_whatever_was_set_and_that_is_left_as_it_was(change):
    torch.manual_seed(0)
    factors = torch.randn(2, 256, 256)

    def settings() -> list[str]:
        """All as they count, and as they would if the widest were another: some are set, others follow it."""
        found, widest = [place.fp32_precision for place in PRECISIONS], torch.backends.fp32_precision
        torch.backends.fp32_precision = "ieee"
        found += [place.fp32_precision for place in PRECISIONS]
        torch.backends.fp32_precision = widest
        return found

    set_tf32(False)
    exact, at_start = factors[0] @ factors[1], settings()
    try:
        for place in PRECISIONS:
            place.fp32_precision = "none"
        change()
        before = settings()
        assert {"bf16", "tf32"} & {*before}
        with tf32(False):
            assert {*settings()} == {"none", "ieee"}
            assert torch.equal(factors[0] @ factors[1], exact)
        assert settings() == before
    finally:
        torch.backends.fp32_precision = "none"
        set_tf32(False)
        assert settings() == at_start


def test_a_command_computes_in_float32_where_the_environment_asks_for_less():
    torch.set_float32_matmul_precision("high")  # as TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 of NVIDIA's containers
    open_device("cpu")
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("has_bf16", [True, False])
def test_auto_is_bf16_where_a_gpu_has_it(monkeypatch, has_bf16):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 or including_emulation)
    gpu = torch.device("cuda", 0)
    assert chosen_dtype("auto", gpu) == ("bf16" if has_bf16 else "float32")
    assert chosen_dtype("auto", torch.device("cpu")) == chosen_dtype("float32", gpu) == "float32"


@torch.inference_mode()
def test_encoding(images, exact):
    codes, _ = exact
    assert (tokenizer(torch.bfloat16, torch.float32).encode(to_float(images)) == codes).float().mean() > 0.9


@torch.inference_mode()
def test_drawing(exact):
    """The likeliest code at each place of images that float32 encoded: in bf16 nearly always the one of float32."""
    codes, class_ids = exact[0], torch.arange(len(exact[0]))
    likeliest = [
        load_model(open_har(MODEL), torch.device("cpu"), dtype)(class_ids, codes).argmax(-1)
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert likeliest[0].unique().numel() > 100
    assert (likeliest[1] == likeliest[0]).float().mean() > 0.95
