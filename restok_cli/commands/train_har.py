"""`restok train-har`: the codes of a tokenizer to a generator."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from restok_cli.commands.options import (
    AllowPipe,
    Assignments,
    BatchSize,
    ConfigFile,
    DataArgument,
    Device,
    DryRun,
    Init,
    MaxSteps,
    NumProcesses,
    Overwrite,
    Preset,
    Resume,
    RunOutput,
    RunSeed,
    SkipPreflight,
    StopAt,
    Track,
    check_resume,
    parse_model,
)
from restok_cli.commands.runs import carry_out, check_stop_at, first_weights, run_layers
from restok_cli.files import check_apart
from restok_cli.processes import connect, local_device, run_in_processes


def train_har(
    data: DataArgument,
    tokenizer: Annotated[
        Path,
        typer.Option(
            parser=parse_model, metavar="M", help="A tokenizer: a run of train-tokenizer, its model folder, or sample."
        ),
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
    allow_pipe: AllowPipe = False,
    num_processes: NumProcesses = 1,
    dry_run: DryRun = False,
    skip_preflight: SkipPreflight = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Train a HAR generator, which draws the codes of a picture level by level: 9 steps for 128 codes.

    DATA is a data set, which the tokenizer then encodes while training, or what
    `restok prepare codes` made of it. RUN gets the same files as with
    train-tokenizer; its model/ holds the tokenizer too, so that generate
    needs nothing else. Prints the folder of the model.

    Examples:

      restok train-har sample --tokenizer runs/tokenizer -o runs/har
      restok train-har sample --tokenizer runs/tokenizer -o runs/har --resume
    """
    from restok_cli.settings.layers import Layer, resolve, with_model
    from restok_cli.training.trackers import check_trackers

    check_resume(resume, overwrite)
    check_trackers(track or [])
    layers, rescaling = run_layers("har", output, resume, preset, config, assignments, max_steps, batch_size, seed)
    stated = resolve("har", layers).config
    check_stop_at(stop_at, stated)

    run_in_processes(num_processes)

    from restok_cli.devices import open_device
    from restok_cli.model.har import Har
    from restok_cli.planning.memory import check_memory
    from restok_cli.pretrained.folder import load_for_use, open_har, open_tokenizer
    from restok_cli.training.code_source import open_source
    from restok_cli.training.har_loop import train_har as train_loop
    from restok_cli.training.history import model_name
    from restok_cli.training.run import check_new_run, settled

    torch_device = local_device(open_device(device))
    tokenizer_folder = open_tokenizer(tokenizer)
    frozen = load_for_use(tokenizer_folder, torch_device).requires_grad_(False)
    source = open_source(data, tokenizer_folder, frozen, torch_device, allow_pipe, stated.data.max_member_bytes)
    facts = {
        "codebook_size": tokenizer_folder.config.codebook_size,
        "num_codes": tokenizer_folder.config.num_latent_tokens,
        "num_classes": len(source.class_names),
    }
    places = {"model": f"the tokenizer {tokenizer}", "model.num_classes": f"the data set {data}"}
    given = open_har(init) if init is not None else None
    if given is not None:  # the classes are those of the data set, whatever the model knew before
        layers = with_model(layers, f"--init {init}", given.config.model_dump(exclude={"num_classes"}))
    settings = resolve("har", layers, Layer("facts", {"model": facts}, places))
    run_config = settled(settings.config, output, resume)
    if not resume:
        check_apart(output, tokenizer, *([init] if init else []))
        check_new_run(output, overwrite)
    check_memory(Har, run_config, torch_device)
    connect(torch_device)  # after which the first process may write there
    start = first_weights(given, output, resume, Har, run_config.model)
    train = partial(
        train_loop,
        source=source,
        tokenizer_folder=tokenizer_folder,
        tokenizer=frozen,
        device=torch_device,
        init=start,
    )
    carry_out(
        train,
        run_config,
        output,
        torch_device,
        stop_at=stop_at,
        track=track or [],
        origin=model_name(init, given) if start is not None else None,
        rescaling=rescaling,
        dry_run=dry_run,
        skip_preflight=skip_preflight,
        resume=resume,
        overwrite=overwrite,
    )
