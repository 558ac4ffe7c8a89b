"""`restok reconstruct`: pictures to codes and back to pictures."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands.options import AsJson, Device, Overwrite, PictureOutput, open_device
from restok_cli.console import note, track
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import check_output_folder

if TYPE_CHECKING:
    from restok_cli.model.tokenizer import Tokenizer


def reconstruct(
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURES…", help="Picture files, or folders of them.", show_default=False)
    ],
    model: Annotated[Path, typer.Option(metavar="M", help="A tokenizer, or a generator with its tokenizer.")],
    output: PictureOutput,
    tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Decode the first N codes only: coarser. Default: all.")
    ] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Encode pictures to codes, decode them again, and say how near they come (PSNR).

    A picture of any size gets the centre crop of evaluation first. DIR gets a PNG of each picture's name; those that
    cannot be decoded are named and left out. Prints DIR.

    Example: what a picture looks like in all its codes, and in the first 16:

      restok reconstruct photo.jpg --model runs/tokenizer -o reconstructed
      restok reconstruct photo.jpg --model runs/tokenizer --tokens 16 -o reconstructed-16
    """
    from restok_cli.data.images import center_crop, find_images, read_image, save_image, to_tensor

    check_output_folder(output, overwrite)
    files = find_images(pictures)
    names = output_names(files)

    import torch

    from restok_cli.metrics.pixels import psnr
    from restok_cli.model.checkpoint import load_tokenizer

    tokenizer = load_tokenizer(model, open_device(device))
    check_tokens(tokens, tokenizer.config.num_latent_tokens)
    values, unreadable = [], 0
    for file, name in track(zip(files, names, strict=True), "reconstruct", len(files), "pictures"):
        try:
            image = read_image(file, str(file))
        except RestokError as error:
            note(f"left out: {error}")
            unreadable += 1
            continue
        original = to_tensor(center_crop(image, tokenizer.config.image_size))[None]
        with torch.inference_mode():
            made = reconstruct_batch(tokenizer, original, tokens)
        save_image(made[0], output / name)
        values.append(psnr(made, original).item())
    if not values:
        raise RestokError(f"none of the {len(files)} pictures could be decoded; nothing was written")
    mean = sum(values) / len(values)
    used = tokens or tokenizer.config.num_latent_tokens
    note(
        f"{len(values)} pictures from {used} tokens: mean PSNR {mean:.2f} dB"
        + f", {unreadable} left out" * (unreadable > 0)
    )
    result = {"path": str(output), "pictures": len(values), "unreadable": unreadable, "tokens": used, "psnr": mean}
    print(json.dumps(result) if as_json else output)


def reconstruct_batch(tokenizer: "Tokenizer", images, tokens: int | None):
    """uint8 images (B, 3, H, W) -> the same from their first `tokens` codes, on the CPU."""
    from restok_cli.data.images import to_float, to_uint8

    codes = tokenizer.encode(to_float(images.to(tokenizer.mean.device)))
    return to_uint8(tokenizer.decode(codes[:, :tokens])).cpu()


def check_tokens(tokens: int | None, length: int) -> None:
    """Raises UsageError where --tokens is not 1 … length."""
    if tokens is not None and not 1 <= tokens <= length:
        raise UsageError(f"--tokens {tokens}: this tokenizer makes {length} codes a picture; give 1 to {length}")


def output_names(files: list[Path]) -> list[str]:
    """A PNG name for each file: its own, with its folder's before it where two files share one."""
    names, taken = [], set()
    for file in files:
        name = file.stem
        for parent in file.resolve().parents:
            if name not in taken:
                break
            name = f"{parent.name}-{name}"
        if name in taken:
            raise UsageError(f"{file} is given twice; give each picture once")
        taken.add(name)
        names.append(f"{name}.png")
    return names
