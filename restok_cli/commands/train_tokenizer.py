"""`restok train-tokenizer`: images to a tokenizer."""

from functools import partial
from typing import TYPE_CHECKING, cast

from restok_cli.commands import options, runs
from restok_cli.processes import connect, local_device

if TYPE_CHECKING:
    from restok_cli.settings.training import TokenizerRunConfig


def train_tokenizer(
    data: options.DataArgument,
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
    """Train a tokenizer: images to codes in coarse-to-fine levels, and back.

    RUN gets config.yaml, metrics.jsonl, log.txt, checkpoints/, previews/ (look at
    them) and model/, which the other commands take. Ctrl-C saves before it stops;
    the same command with --resume goes on as if nothing had happened. Prints the
    folder of the model. `restok config show` prints all settings that --config
    and --set may change.

    Examples, on the emoji that come with restok:

      restok train-tokenizer sample --max-steps 500 -o runs/tokenizer
      restok train-tokenizer data/photos --init photo --image-size 96 -o new
    """
    from restok_cli.settings.run_config import read_told

    launch = runs.Launch(output, stop_at, track or [], dry_run, skip_preflight, resume, overwrite)
    told = read_told(
        *("tokenizer", output, resume, preset, config, assignments, max_steps, batch_size, seed),
        image_size=image_size,
        early_stop=early_stop,
    )
    stated = runs.start(launch, told, num_processes)

    from restok_cli.data.shards.dataset import open_dataset
    from restok_cli.devices import open_device
    from restok_cli.model.tokenizer import Tokenizer
    from restok_cli.planning.memory import check_memory
    from restok_cli.pretrained.folder import open_tokenizer
    from restok_cli.settings.run_config import complete_config
    from restok_cli.training.losses import open_tokenizer_losses
    from restok_cli.training.teachers import teacher_width
    from restok_cli.training.tokenizer_loop import train_tokenizer as train_loop

    dataset = open_dataset(data, allow_pipe, stated.data.max_member_bytes)
    dataset.split("train")
    given = open_tokenizer(init) if init is not None else None
    source = (init, given.config) if init and given else None
    run_config = cast("TokenizerRunConfig", complete_config(told, init=source, teacher_width=teacher_width))
    torch_device = local_device(open_device(device, stated.compute.deterministic))
    runs.check_folder(launch, init)
    runs.warn_of_enlarging(dataset, run_config.model.image_size)
    check_memory(Tokenizer, run_config, torch_device)
    connect(torch_device)  # after which the first process may write there
    start, origin = runs.first_weights(init, given, launch, run_config)
    losses = open_tokenizer_losses(run_config, torch_device)
    train = partial(train_loop, data=dataset, losses=losses, device=torch_device, init=start)
    runs.carry_out(train, run_config, launch, torch_device, origin, told.rescaling)
