"""Images through a tokenizer, in batches: what generate, reconstruct, encode, decode and the Python interface share.

On a CPU the tokenizer takes one image at a time. That costs nothing, since one keeps it busy, and lets no image depend
on its neighbours: convolutions round differently for other batch sizes.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from restok_cli.console import note
from restok_cli.cpu.rewrite import can_rewrite
from restok_cli.data.images import Pixels, decode_pixels, png_bytes, to_float
from restok_cli.data.inputs import Inputs, find_inputs
from restok_cli.devices import chosen_dtype, open_device, tf32, to_device, torch_dtype
from restok_cli.model.size import check_model_memory
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import TokenizerFolder
from restok_cli.pretrained.modules import load_for_use
from restok_cli.processes import connect, local_device
from restok_cli.room import check_memory
from restok_cli.settings.launcher import say_precision


class ImageSource(NamedTuple):
    """The images that a command is to read, as its options name them."""

    paths: list[str]
    split: str
    crop: bool  # to the tokenizer's size
    max_pixels: int
    max_bytes: int

    def open(self) -> Inputs:
        """Raises UsageError and RestokError as `find_inputs` does."""
        return find_inputs(self.paths, self.split, sys.stdin.buffer, self.max_pixels, self.max_bytes)


class Computation(NamedTuple):
    """Where and how a command computes, as its options name it."""

    device: str
    dtype: str
    batch_size: int  # 0: as many as the device holds
    deterministic: bool = False  # the same bits each time on a GPU, too

    def open(self) -> tuple[torch.device, str]:
        """The device of this process, which has joined the others, and the precision there.

        A line says where that makes things slower.
        """
        device = local_device(open_device(self.device, self.deterministic))
        dtype = chosen_dtype(self.dtype, device)
        if self.dtype == "auto":
            say_precision("--dtype", dtype, "--dtype float32")
        if device.type == "cpu" and not can_rewrite(device, torch_dtype(dtype)):
            note(f"--dtype {dtype}: this CPU does not multiply in 16 bits, so that float32 is faster")
        connect(device)
        return device, dtype

    def is_deterministic_on(self, device: torch.device) -> bool:
        """Whether that was asked for where it changes something."""
        return self.deterministic and device.type == "cuda"

    def load(self, folder: TokenizerFolder) -> tuple[Tokenizer, int]:
        """The tokenizer in `folder`, ready to use there, and how many images it takes at a time."""
        device, dtype = self.open()
        tokenizer = load_for_use(folder, device, torch_dtype(dtype))
        return tokenizer, choose_batch_size(self.batch_size, tokenizer, device)


def sized(tokenizer: Tokenizer, images: Tensor) -> Tokenizer:
    """The tokenizer for images (B, 3, H, W) of their size. Raises UsageError where it cannot take that."""
    height, width = images.shape[2:]
    if (height, width) == tokenizer.config.image_size:
        return tokenizer
    config = tokenizer.config.model_copy(update={"image_height": height, "image_width": width})
    check_model_memory(config, f"images of {width}x{height}: ")
    return tokenizer.for_size(height, width)


@torch.inference_mode()
def encode_images(tokenizer: Tokenizer, images: Tensor) -> Tensor:
    """Images (B, 3, H, W), uint8 or float in [0, 1] -> codes (B, L), where the tokenizer is."""
    images = to_device(images, tokenizer.device)
    floats = (part if part.is_floating_point() else to_float(part) for part in _split(images))
    return torch.cat([tokenizer.encode(part) for part in floats])


@torch.inference_mode()
def decode_codes(tokenizer: Tokenizer, codes: Tensor) -> Pixels:
    """codes (B, n) on the tokenizer's device, all or the first n -> images there."""
    with tf32(tokenizer.dtype != torch.float32):  # for the last convolution, all others then have 16 bits
        parts = [decode_pixels(tokenizer.decode, part) for part in _split(codes)]
        return Pixels(*map(torch.cat, zip(*parts, strict=True)))


def _split(batch: Tensor) -> tuple[Tensor, ...]:
    return batch.split(1 if batch.device.type == "cpu" else len(batch))


def png_files(images: Tensor) -> list[bytes]:
    """uint8 images (B, 3, H, W) on the CPU as PNG files, on all cores."""
    with ThreadPoolExecutor() as pool:  # zlib lets other threads run
        return list(pool.map(png_bytes, images))


def choose_batch_size(asked: int, tokenizer: Tokenizer | None, device: torch.device) -> int:
    """As many images at a time as are asked for, or for 0 as `device` holds.

    That is 16 on a CPU, on a GPU as many as fit into half of its free memory. Raises UsageError where memory holds not
    even the images.
    """
    height, width = tokenizer.config.image_size if tokenizer else (256, 256)
    if asked:
        if tokenizer:
            check_memory("--batch-size", asked, 3 * height * width * 4)
        return asked
    if device.type != "cuda":
        return 16
    free, _ = torch.cuda.mem_get_info(device)
    # the pixel decoder holds some three maps of 128 channels of float32 at full size; caches and logits are smaller
    needed = 4 * height * width * 128 * 4
    return min(max(free // 2 // needed, 1), 256)
