"""`restok reconstruct`: pictures to codes and back to pictures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restok_cli.commands.options import (
    PICTURE_MANIFEST,
    AsJson,
    Device,
    Dtype,
    Overwrite,
    PictureOutput,
    check_picture_folder,
    open_device,
    torch_dtype,
)
from restok_cli.console import note, track
from restok_cli.errors import PictureError, RestokError, UsageError
from restok_cli.files import check_apart, whole_folder

if TYPE_CHECKING:
    from PIL.Image import Image


def reconstruct(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURES…", help="Picture files, folders of them, or one data set.", show_default=False
        ),
    ],
    model: Annotated[Path, typer.Option(metavar="M", help="A tokenizer, or a generator with its tokenizer.")],
    output: PictureOutput,
    tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Decode the first N codes only: coarser. Default: all.")
    ] = None,
    split: Annotated[
        Literal["validation", "train"], typer.Option(help="The split to take of a data set.")
    ] = "validation",
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Encode pictures to codes, decode them again, and say how near they come (PSNR).

    A picture of any size gets the centre crop of evaluation first. DIR gets a
    PNG of each picture's name; those that cannot be decoded are named and left
    out. manifest.jsonl holds the PSNR of each. Prints DIR.

    Examples: a picture from all its codes, and from the first 16; the held-out
    emoji, to be measured:

      restok reconstruct photo.jpg --model runs/tokenizer -o photo-128
      restok reconstruct photo.jpg --model runs/tokenizer --tokens 16 -o photo-16
      restok reconstruct sample --model runs/tokenizer -o reconstructed
      restok evaluate reconstructed --metric psnr --reference sample
    """
    check_picture_folder(output, overwrite)
    check_apart(output, model, *map(Path, pictures))
    readers = find_pictures(pictures, split)

    import torch

    from restok_cli.data.images import center_crop, save_image, to_float, to_tensor, to_uint8
    from restok_cli.metrics.pixels import psnr
    from restok_cli.model.checkpoint import load_tokenizer

    torch_device = open_device(device)
    tokenizer = load_tokenizer(model, torch_device, torch_dtype(dtype))
    length = tokenizer.config.num_latent_tokens
    if tokens is not None and not 1 <= tokens <= length:
        raise UsageError(f"--tokens {tokens}: this tokenizer makes {length} codes a picture; give 1 to {length}")
    values, lines = [], []
    with whole_folder(output) as folder:
        for name, read in track(readers.items(), "reconstruct", len(readers), "pictures"):
            try:
                original = to_tensor(center_crop(read(), tokenizer.config.image_size))[None]
            except PictureError as error:
                note(f"left out: {error}")
                continue
            with torch.inference_mode():
                codes = tokenizer.encode(to_float(original.to(torch_device)))
                decoded = to_uint8(tokenizer.decode(codes[:, :tokens])).cpu()
            save_image(decoded[0], folder / f"{name}.png")
            values.append(psnr(decoded, original).item())
            lines.append(json.dumps({"file": f"{name}.png", "psnr": values[-1]}) + "\n")
        if not values:
            raise RestokError(f"none of the {len(readers)} pictures could be decoded; nothing was written")
        (folder / PICTURE_MANIFEST).write_text("".join(lines), encoding="utf-8")
    mean, used, unreadable = sum(values) / len(values), tokens or length, len(readers) - len(values)
    left_out = f", {unreadable} left out" if unreadable else ""
    note(f"{len(values)} pictures from {used} of {length} codes: mean PSNR {mean:.2f} dB{left_out}")
    result = {"path": str(output), "pictures": len(values), "unreadable": unreadable, "tokens": used, "psnr": mean}
    print(json.dumps(result) if as_json else output)


def find_pictures(pictures: list[str], split: str) -> "dict[str, Callable[[], Image]]":
    """What reads each picture, by the name that its output gets. Reading raises RestokError for a broken picture."""
    from restok_cli.data.images import read_image
    from restok_cli.data.shards import is_dataset, open_dataset

    if len(pictures) == 1 and is_dataset(pictures[0]):
        part = open_dataset(pictures[0]).split(split)
        return {part.key(i): lambda i=i: part.image(i) for i in range(len(part))}
    return {
        name: lambda file=file: read_image(file, str(file))
        for name, file in named_files([Path(picture) for picture in pictures]).items()
    }


def named_files(paths: list[Path]) -> dict[str, Path]:
    """Picture files by the names that their outputs get: their path in the folder that was given, without suffix.

    Raises UsageError where two would get the same name.
    """
    from restok_cli.data.images import find_images

    names: dict[str, Path] = {}
    for path in paths:
        for file in find_images([path]):
            relative = file.relative_to(path) if path.is_dir() else Path(file.name)
            name = relative.with_suffix("").as_posix()
            if name in names:
                raise UsageError(
                    f"{names[name]} and {file} would both become {name}.png; give them one after the other"
                )
            names[name] = file
    return names
