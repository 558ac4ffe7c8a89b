"""Devices and precisions by the names that people give them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from restok_cli.errors import UsageError
from restok_cli.machine import check_device_name

# Any, as torch's types do not know what their modules hold
CUDNN: Any = torch.backends.cudnn
ONEDNN: Any = torch.backends.mkldnn
CUBLAS = torch.backends.cuda.matmul
# Torch's new names for what float32 may be rounded to, first those that count where a later one is not set.
PRECISIONS: tuple[Any, ...] = (torch.backends, CUDNN)
PRECISIONS += (CUDNN.conv, CUDNN.rnn, CUBLAS, ONEDNN.conv, ONEDNN.rnn, ONEDNN.matmul)
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def open_device(name: str, deterministic: bool = False) -> torch.device:
    """The device called `name`, where float32 is float32; `auto` is CUDA where there is any, else the CPU.

    A GPU's convolutions would else round what they multiply to 10 bits (TF32), and means of features come out up to a
    thousandth different; in NVIDIA's containers, whose environment asks for it, products of matrices too. What trains
    or draws in 16 bits allows it (`tf32`). With `deterministic`, a GPU gives the same bits each time; a CPU does so
    anyway. Raises UsageError where this machine has no such device.
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
    set_tf32(False)
    if deterministic and device.type == "cuda":
        take_deterministic_algorithms()
    return device


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`, which is a GPU that fetches it in its turn: the host does not wait for what runs before.

    For that it is pinned here; DataLoader would do so in a thread, which prints a traceback where a worker was killed.
    """
    pinned = tensor.pin_memory() if (tensor.device.type, device.type) == ("cpu", "cuda") else tensor
    return pinned.to(device, non_blocking=True)


@contextmanager
def tf32(convolutions: bool, products: bool = False) -> Iterator[None]:
    """Whether float32 convolutions, and products of matrices, on a GPU may use TF32, of 10 bits, in all threads.

    All else that is float32 is computed as such, whatever somebody has set. That is after the block as it was before.
    """
    old_convolutions, old_products = CUDNN.conv.fp32_precision == "tf32", "highest"
    with suppress(RuntimeError):  # torch's old name cannot be read after somebody has set a new one
        old_products = torch.get_float32_matmul_precision()
    counted, before = [place.fp32_precision for place in PRECISIONS], []
    for place in PRECISIONS:
        before.append(place.fp32_precision)
        place.fp32_precision = "none"  # so that the narrower ones show what is set for them alone
    set_tf32(convolutions, products)
    try:
        yield
    finally:
        CUDNN.allow_tf32 = old_convolutions
        torch.set_float32_matmul_precision(old_products)
        for place, precision in zip(PRECISIONS, before, strict=True):
            place.fp32_precision = precision
        for place, precision in zip(PRECISIONS, counted, strict=True):
            if place.fp32_precision != precision:  # set now, where torch's default gave way to a wider setting
                place.fp32_precision = precision


def set_tf32(convolutions: bool, products: bool = False) -> None:
    """From here on, whether float32 on a GPU may use TF32, and that nothing else is less than float32 anywhere.

    Old and new names must agree, or torch refuses to read the old ones.
    """
    torch.set_float32_matmul_precision("high" if products else "highest")
    CUDNN.allow_tf32 = convolutions
    if not convolutions:  # the old name leaves it to what is set for all operations
        CUDNN.conv.fp32_precision = CUDNN.rnn.fp32_precision = "ieee"
    ONEDNN.conv.fp32_precision = ONEDNN.rnn.fp32_precision = ONEDNN.matmul.fp32_precision = "ieee"  # else bf16


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
