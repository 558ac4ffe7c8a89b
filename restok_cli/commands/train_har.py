"""`restok train-har`: the codes of a tokenizer to a generator."""

from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands.options import (
    Assignments,
    BatchSize,
    ConfigFile,
    DataArgument,
    Device,
    Init,
    MaxSteps,
    Overwrite,
    Preset,
    Resume,
    RunOutput,
    RunSeed,
    StopAt,
    Track,
    check_resume,
    check_stop_at,
    open_device,
    run_layers,
)
from restok_cli.files import check_apart


def train_har(
    data: DataArgument,
    tokenizer: Annotated[
        Path, typer.Option(metavar="M", help="A tokenizer: a run of train-tokenizer, or its model folder.")
    ],
    output: RunOutput,
    preset: Preset = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    seed: RunSeed = None,
    init: Init = None,
    stop_at: StopAt = None,
    track: Track = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Train a HAR generator, which draws the codes of a picture level by level: 9 steps for 128 codes.

    Pictures are encoded by the tokenizer while training. RUN gets the same files
    as with train-tokenizer; its model/ holds the tokenizer too, so that generate
    needs nothing else. Prints the folder of the model.

    Examples:

      restok train-har sample --tokenizer runs/tokenizer -o runs/har
      restok train-har sample --tokenizer runs/tokenizer -o runs/har --resume
    """
    from restok_cli.training.settings import Layer, resolve, with_model
    from restok_cli.training.trackers import check_trackers

    check_resume(resume, overwrite)
    check_trackers(track or [])
    options = {
        "--max-steps": ("schedule.max_steps", max_steps),
        "--batch-size": ("schedule.batch_size", batch_size),
        "--seed": ("schedule.seed", seed),
    }
    layers = run_layers("har", output, resume, preset, config, assignments, options)
    check_stop_at(stop_at, resolve("har", layers).config.schedule.max_steps)

    from restok_cli.data.shards import open_dataset
    from restok_cli.model.checkpoint import open_har, open_tokenizer
    from restok_cli.training import har_loop
    from restok_cli.training.run import RunFolder

    dataset = open_dataset(data)
    dataset.split("train")
    tokenizer_folder = open_tokenizer(tokenizer)
    codes = tokenizer_folder.config
    facts = {
        "codebook_size": codes.codebook_size,
        "num_codes": codes.num_latent_tokens,
        "num_classes": dataset.num_classes,
    }
    places = {"model": f"the tokenizer {tokenizer}", "model.num_classes": f"the data set {data}"}
    start = open_har(init) if init else None
    if start is not None:  # the classes are those of the data set, whatever the model knew before
        layers = with_model(layers, f"--init {init}", start.config.model_dump(exclude={"num_classes"}))
    settings = resolve("har", layers, Layer("facts", {"model": facts}, places))
    if not resume:
        check_apart(output, tokenizer, *([init] if init else []))
    torch_device = open_device(device)
    run = RunFolder(output, settings.config, resume=resume, overwrite=overwrite, track=track or [])
    with run.logging():
        model = har_loop.train_har(
            settings.config, dataset, tokenizer_folder, run, torch_device, init=start, stop_at=stop_at
        )
    print(model)
