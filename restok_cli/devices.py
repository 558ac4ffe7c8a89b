"""Devices and precisions by the names that people give them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from restok_cli.errors import UsageError
from restok_cli.machine import check_device_name

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def open_device(name: str, deterministic: bool = False) -> torch.device:
    """The device called `name`, where float32 is float32; `auto` is CUDA where there is any, else the CPU.

    A GPU's convolutions would else round what they multiply to 10 bits (TF32), and means of features come out up to a
    thousandth different. What trains or draws in 16 bits allows it (`tf32`). With `deterministic`, a GPU gives the same
    bits each time; a CPU does so anyway. Raises UsageError where this machine has no such device.
    """
    if check_device_name(name) == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name} cannot be used here ({reason}); take cpu, or auto") from error
    if device.type == "cpu":
        device = torch.device("cpu")  # cpu:0 is the same one, and safetensors does not know it
    set_tf32(False)  # for products of matrices, it is torch's default
    if deterministic and device.type == "cuda":
        take_deterministic_algorithms()
    return device


@contextmanager
def tf32(convolutions: bool, products: bool = False) -> Iterator[None]:
    """Whether float32 convolutions on a GPU, in all threads, may use TF32, of 10 bits. Products of matrices do only
    where they are measured.

    Torch's old names for it cannot be read after somebody has set a new one.
    """
    cudnn, cublas = torch.backends.cudnn, torch.backends.cuda.matmul
    before, products_before = (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision), cublas.fp32_precision == "tf32"
    set_tf32(convolutions)
    if products:
        cublas.allow_tf32 = True
    try:
        yield
    finally:
        set_tf32(before[0] == "tf32")
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before
        if products:
            cublas.allow_tf32 = products_before


def set_tf32(allowed: bool) -> None:
    """From here on, whether float32 convolutions on a GPU may use TF32."""
    cudnn = torch.backends.cudnn
    cudnn.allow_tf32 = allowed  # the old name, which must agree with the new ones
    if not allowed:  # of which it leaves it to what is set for all operations
        cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "ieee"  # pyright: ignore[reportAttributeAccessIssue]


def take_deterministic_algorithms() -> None:
    """Compute on GPUs, in this process, by algorithms alone that give the same bits each time.

    An operation that has none raises a RuntimeError. To be called before the first product.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # which cuBLAS looks for when it starts
    torch.use_deterministic_algorithms(True)
    # else every result's memory is filled once more, for nothing
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def chosen_dtype(name: str, device: torch.device) -> str:
    """The precision that --dtype asks for: `auto` is bf16 where the GPU computes with it."""
    if name != "auto":
        return name
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if on_gpu else "float32"


def torch_dtype(name: str) -> torch.dtype:
    """The dtype that --dtype names, as `chosen_dtype` gives it. Raises UsageError for another name."""
    if name not in DTYPES:
        raise UsageError(f"--dtype {name}: no such precision; take one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]
