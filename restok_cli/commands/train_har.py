"""`restok train-har`: the codes of a tokenizer to a generator."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from restok_cli.commands import options, runs
from restok_cli.errors import UsageError
from restok_cli.processes import connect, local_device

if TYPE_CHECKING:
    from restok_cli.settings.training import HarRunConfig


def train_har(
    data: options.DataArgument,
    tokenizer: Annotated[
        Path,
        typer.Option(
            parser=options.parse_model,
            metavar="M",
            help="A tokenizer: a run of train-tokenizer, its model folder, sample or photo.",
        ),
    ],
    output: options.RunOutput,
    preset: options.Preset = None,
    config: options.ConfigFile = None,
    assignments: options.Assignments = None,
    max_steps: options.MaxSteps = None,
    batch_size: options.BatchSize = None,
    seed: options.RunSeed = None,
    image_size: options.ImageSizeOption = None,
    init: options.Init = None,
    early_stop: options.EarlyStop = None,
    stop_at: options.StopAt = None,
    track: options.Track = None,
    allow_pipe: options.AllowPipe = False,
    num_processes: options.NumProcesses = 1,
    dry_run: options.DryRun = False,
    skip_preflight: options.SkipPreflight = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
) -> None:
    """Train a HAR generator, which draws the codes of an image level by level: 9 steps for 128 codes.

    DATA is a data set, which the tokenizer then encodes while training, or what
    `restok prepare codes` made of it. RUN gets the same files as with
    train-tokenizer; its model/ holds the tokenizer too, so that generate
    needs nothing else. Prints the folder of the model.

    Examples:

      restok train-har sample --tokenizer runs/tokenizer -o runs/har
      restok train-har sample --tokenizer runs/tokenizer -o runs/har --resume
    """
    from restok_cli.settings.run_config import read_told

    launch = runs.Launch(output, stop_at, track or [], dry_run, skip_preflight, resume, overwrite)
    told = read_told(
        *("har", output, resume, preset, config, assignments, max_steps, batch_size, seed), early_stop=early_stop
    )
    stated = runs.start(launch, told, num_processes)

    from restok_cli.accelerator import Sharding
    from restok_cli.devices import open_device
    from restok_cli.model.har import Har, HarBlock
    from restok_cli.planning.memory import check_memory
    from restok_cli.pretrained.folder import load_for_use, open_har, open_tokenizer
    from restok_cli.settings.run_config import complete_config, har_facts
    from restok_cli.training.code_source import EncodedImages, open_source
    from restok_cli.training.har_loop import train_har as train_loop

    torch_device = local_device(open_device(device, stated.compute.deterministic))
    folder = open_tokenizer(tokenizer)
    if image_size not in (None, folder.config.image_size):
        raise UsageError(
            f"--image-size {image_size}: the tokenizer {tokenizer} is for images of "
            f"{options.ImageSize(*folder.config.image_size)}, and so is its generator; leave it out, or train a "
            f"tokenizer first: restok train-tokenizer … --image-size {image_size} --init {tokenizer}"
        )
    frozen = load_for_use(folder, torch_device).requires_grad_(False)
    source = open_source(data, folder, frozen, torch_device, allow_pipe, stated.data.max_member_bytes)
    given = open_har(init) if init is not None else None
    facts = har_facts(tokenizer, folder.config, data, len(source.class_names))
    run_config = complete_config(told, init=(init, given.config) if init and given else None, facts=facts)
    runs.check_folder(launch, tokenizer, init)
    if isinstance(source, EncodedImages):
        runs.warn_of_enlarging(source.data, folder.config.image_size)
    else:
        runs.refuse_for_codes(data, told, allow_pipe)
    check_memory(Har, run_config, torch_device)
    compute = cast("HarRunConfig", run_config).compute
    sharding = Sharding(HarBlock.__name__, compute.precision != "float32") if compute.sharding == "fsdp" else None
    connect(torch_device, sharding)  # after which the first process may write there
    start, origin = runs.first_weights(init, given, launch, run_config)
    train = partial(
        train_loop, source=source, tokenizer_folder=folder, tokenizer=frozen, device=torch_device, init=start
    )
    runs.carry_out(train, run_config, launch, torch_device, origin, told.rescaling)
