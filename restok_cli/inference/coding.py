"""Pictures through a tokenizer, in batches: what generate, reconstruct, encode and decode share.

On a CPU the tokenizer takes one picture at a time. That costs nothing, since one keeps it busy, and lets no picture
depend on its neighbours: convolutions round differently for other batch sizes.
"""

from typing import TYPE_CHECKING

from restok_cli.room import check_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from restok_cli.model.tokenizer import Tokenizer


def sized(tokenizer: "Tokenizer", images: "Tensor") -> "Tokenizer":
    """The tokenizer for images (B, 3, H, W) of their size. Raises UsageError where it cannot take that."""
    height, width = images.shape[2:]
    if (height, width) == tokenizer.config.image_size:
        return tokenizer
    from restok_cli.model.size import check_model_memory

    config = tokenizer.config.model_copy(update={"image_height": height, "image_width": width})
    check_model_memory(config, f"pictures of {width}x{height}: ")
    return tokenizer.for_size(height, width)


def encode_images(tokenizer: "Tokenizer", images: "Tensor") -> "Tensor":
    """uint8 images (B, 3, H, W) -> codes (B, L), where the tokenizer is."""
    import torch

    from restok_cli.data.images import to_float

    device = tokenizer.quantizer.codebook.device
    with torch.inference_mode():
        parts = _split(images.to(device, non_blocking=True))
        return torch.cat([tokenizer.encode(to_float(part)) for part in parts])


def decode_codes(tokenizer: "Tokenizer", codes: "Tensor") -> "Tensor":
    """codes (B, n) on the tokenizer's device, all or the first n -> uint8 images (B, 3, H, W) there."""
    import torch

    from restok_cli.data.images import to_uint8

    with torch.inference_mode():
        return torch.cat([to_uint8(tokenizer.decode(part)) for part in _split(codes)])


def _split(batch: "Tensor") -> "tuple[Tensor, ...]":
    return batch.split(1 if batch.device.type == "cpu" else len(batch))


def png_files(images: "Tensor") -> list[bytes]:
    """uint8 images (B, 3, H, W) on the CPU as PNG files, on all cores."""
    from concurrent.futures import ThreadPoolExecutor

    from restok_cli.data.images import png_bytes

    with ThreadPoolExecutor() as pool:  # zlib lets other threads run
        return list(pool.map(png_bytes, images))


def choose_batch_size(asked: int, tokenizer: "Tokenizer | None", device: "torch.device") -> int:
    """As many pictures at a time as are asked for, or for 0 as `device` holds.

    Raises UsageError where memory holds not even the pictures.
    """
    if asked and tokenizer:
        height, width = tokenizer.config.image_size
        check_memory("--batch-size", asked, 3 * height * width * 4)
    return asked or auto_batch_size(tokenizer, device)


def auto_batch_size(tokenizer: "Tokenizer | None", device: "torch.device") -> int:
    """Pictures at a time that `device` holds: 16 on a CPU, on a GPU as many as fit into half of its free memory."""
    import torch

    if device.type != "cuda":
        return 16
    free, _ = torch.cuda.mem_get_info(device)
    pixels = tokenizer.config.image_height * tokenizer.config.image_width if tokenizer else 256 * 256
    # the pixel decoder holds some three maps of 128 channels of float32 at full size; caches and logits are smaller
    needed = 4 * pixels * 128 * 4
    return min(max(free // 2 // needed, 1), 256)
