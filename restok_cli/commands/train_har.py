"""`restok train-har`: the codes of a tokenizer to a generator."""

from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands.options import (
    BatchSize,
    DataArgument,
    Device,
    MaxSteps,
    Overwrite,
    Preset,
    Resume,
    RunOutput,
    Seed,
    check_resume,
    open_device,
)
from restok_cli.files import check_apart


def train_har(
    data: DataArgument,
    tokenizer: Annotated[
        Path, typer.Option(metavar="M", help="A tokenizer: a run of train-tokenizer, or its model folder.")
    ],
    output: RunOutput,
    preset: Preset = "sample",
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Train a HAR generator, which draws the codes of a picture level by level: 9 steps for 128 codes.

    Pictures are encoded by the tokenizer while training. RUN gets the same files
    as with train-tokenizer; its model/ holds the tokenizer too, so that generate
    needs nothing else. Prints the folder of the model.

    Example:

      restok train-har sample --tokenizer runs/tokenizer -o runs/har
    """
    check_resume(resume, overwrite)

    from restok_cli.training.config import HarRunConfig, merged, read_preset

    values = read_preset("har", preset)

    from restok_cli.data.shards import open_dataset
    from restok_cli.model.checkpoint import open_tokenizer
    from restok_cli.training import har_loop
    from restok_cli.training.run import RunFolder

    dataset = open_dataset(data)
    dataset.split("train")
    tokenizer_folder = open_tokenizer(tokenizer)
    codes = tokenizer_folder.config
    model = {
        "codebook_size": codes.codebook_size,
        "num_codes": codes.num_latent_tokens,
        "num_classes": dataset.num_classes,
    }
    schedule = {"max_steps": max_steps, "batch_size": batch_size, "seed": seed}
    schedule = {key: value for key, value in schedule.items() if value is not None}
    config = HarRunConfig.parse(merged(values, {"model": model, "schedule": schedule}), f"preset {preset}")
    if not resume:
        check_apart(output, tokenizer)
    torch_device = open_device(device)
    run = RunFolder(output, config, resume=resume, overwrite=overwrite)
    print(har_loop.train_har(config, dataset, tokenizer_folder, run, torch_device))
