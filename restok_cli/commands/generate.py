"""`restok generate`: classes to pictures."""

import json
import math
from collections.abc import Iterator
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
    Seed,
    check_picture_folder,
    open_device,
    torch_dtype,
)
from restok_cli.console import Progress
from restok_cli.errors import UsageError, did_you_mean
from restok_cli.files import check_apart, whole_file, whole_folder

if TYPE_CHECKING:
    import torch

    from restok_cli.model.checkpoint import Generator
    from restok_cli.model.sampling import SamplingOptions

GRID_COLUMNS = 8


def generate(
    model: Annotated[Path, typer.Option(metavar="M", help="A generator: a run of train-har, or its model folder.")],
    output: PictureOutput,
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps; fewer than all stop at a coarser level. Default: all.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 16,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="C", help="A class by name or number; may be repeated. Default: all in turn."),
    ] = None,
    seed: Seed = 0,
    cfg_scale: Annotated[float, typer.Option(min=0, help="Classifier-free guidance; 1 = none.")] = 1.0,
    cfg_schedule: Annotated[
        Literal[
            "constant",
            "linear",
            "linear-reversed",
            "linear-constant",
            "triangular",
            "rectangular",
            "step",
            "cosine",
            "cosine-reversed",
        ],
        typer.Option(help="How guidance goes from 1 to its scale, or back, over the steps."),
    ] = "constant",
    cfg_start: Annotated[float, typer.Option(min=0, max=1, help="Where step and rectangular begin.")] = 0.25,
    cfg_stop: Annotated[float, typer.Option(min=0, max=1, help="Where rectangular ends.")] = 1.0,
    cfg_peak: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Where triangular and linear-constant are at their scale.")
    ] = 0.5,
    temperature: Annotated[float, typer.Option(min=0, help="Below 1: safer, 0: always the likeliest code.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from the K likeliest codes; 0 = all.")] = 0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Draw from the likeliest codes that reach P.")] = 1.0,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="M", help="Decode with this copy of the generator's tokenizer.")
    ] = None,
    grid: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write all pictures as one PNG.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 16,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Draw pictures: each in 9 steps where an autoregressive model would take 128.

    DIR gets 000000.png, 000001.png, … and manifest.jsonl with the class and seed
    of each. Picture i depends on the model, the seed, i, its class and the
    sampling options. Prints DIR.

    Example:

      restok generate --model runs/har --steps 9 --grid emoji.png -o pictures
      restok generate --model runs/har --class heart --cfg-scale 2 -o hearts
    """
    check_picture_folder(output, overwrite)
    check_apart(output, model, *([tokenizer] if tokenizer else []))
    check_grid(grid, overwrite)

    from restok_cli.model.checkpoint import load_generator
    from restok_cli.model.sampling import SamplingOptions, check_num_steps

    for name, value in (("--cfg-scale", cfg_scale), ("--temperature", temperature)):
        if not math.isfinite(value):
            raise UsageError(f"{name} {value}: give a finite number")
    options = SamplingOptions(cfg_scale, cfg_schedule, cfg_start, cfg_stop, cfg_peak, temperature, top_k, top_p)
    torch_device = open_device(device)
    generator = load_generator(model, torch_device, torch_dtype(dtype), tokenizer)
    num_steps = check_num_steps(generator.har.config, steps)
    class_ids = choose_classes(class_, generator.class_names, count)

    import torch

    from restok_cli.data.images import make_grid, save_image

    pictures, lines = [], []
    with whole_folder(output) as folder, Progress("generate", count, "pictures") as progress:
        for images in draw_pictures(generator, class_ids, seed, options, num_steps, batch_size, torch_device):
            for image in images:
                index = len(lines)
                record = {"file": f"{index:06d}.png", "class_id": class_ids[index], "seed": seed, "index": index}
                save_image(image, folder / record["file"])
                lines.append(json.dumps(record) + "\n")
            if grid is not None:
                pictures.append(images)
            progress.advance(len(images))
        (folder / PICTURE_MANIFEST).write_text("".join(lines), encoding="utf-8")
    if grid is not None:
        captions = [generator.class_names[i] for i in class_ids] if generator.class_names else None
        with whole_file(grid) as temporary:
            save_image(make_grid(torch.cat(pictures), GRID_COLUMNS, captions), temporary)
    result = {"path": str(output), "pictures": count, "steps": num_steps, "seed": seed}
    print(json.dumps(result) if as_json else output)


def draw_pictures(
    generator: "Generator",
    class_ids: list[int],
    seed: int,
    options: "SamplingOptions",
    num_steps: int,
    batch_size: int,
    device: "torch.device",
) -> "Iterator[torch.Tensor]":
    """Draw a picture of each class, in batches uint8 (B, 3, H, W) on the CPU. Picture i has its own random numbers."""
    import torch

    from restok_cli.data.images import to_uint8
    from restok_cli.model.sampling import sample, seeded_uniforms

    for first in range(0, len(class_ids), batch_size):
        batch = torch.tensor(class_ids[first : first + batch_size], device=device)
        uniforms = seeded_uniforms(seed, first, len(batch), generator.har.config.num_codes).to(device)
        codes = sample(generator.har, batch, uniforms, options, num_steps)
        with torch.inference_mode():
            images = to_uint8(generator.tokenizer.decode(codes))
        yield images.cpu()


def check_grid(grid: Path | None, overwrite: bool) -> None:
    """Raises UsageError where the grid cannot be written, or would replace a file unasked."""
    if grid is None:
        return
    if grid.suffix.lower() != ".png":
        raise UsageError(f"--grid {grid}: the grid is a PNG; give a file name that ends in .png")
    if grid.is_dir() or (grid.exists() and not overwrite):
        raise UsageError(f"--grid {grid} already exists; give another file, or --overwrite to replace a picture")


def choose_classes(wanted: list[str] | None, names: list[str], count: int) -> list[int]:
    """A class id for each picture: those wanted in turn, or all in turn. Raises UsageError for an unknown class."""
    if not names:
        if wanted:
            raise UsageError("this model was trained without classes; leave --class out")
        return [0] * count
    ids = [find_class(name, names) for name in wanted] if wanted else range(len(names))
    return [ids[i % len(ids)] for i in range(count)]


def find_class(wanted: str, names: list[str]) -> int:
    """The id of a class given by name or number."""
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    near = did_you_mean(wanted, names)
    raise UsageError(f"--class {wanted}: no such class{near}; give a name, or a number from 0 to {len(names) - 1}")
