"""`restok train-tokenizer`: pictures to a tokenizer."""

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


def train_tokenizer(
    data: DataArgument,
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
    """Train a tokenizer: pictures to discrete codes in coarse-to-fine levels, and back.

    RUN gets config.yaml, metrics.jsonl, log.txt, checkpoints/, previews/ (look at
    them) and model/, which the other commands take. Ctrl-C saves before it stops;
    the same command with --resume goes on as if nothing had happened. Prints the
    folder of the model. `restok config show` prints all settings that --config
    and --set may change.

    Examples, on the emoji that come with restok:

      restok train-tokenizer sample --max-steps 500 -o runs/tokenizer
      restok train-tokenizer sample -o runs/warm --set optimizer.warmup_steps=500
    """
    from restok_cli.training.settings import resolve, with_model
    from restok_cli.training.trackers import check_trackers

    check_resume(resume, overwrite)
    check_trackers(track or [])
    options = {
        "--max-steps": ("schedule.max_steps", max_steps),
        "--batch-size": ("schedule.batch_size", batch_size),
        "--seed": ("schedule.seed", seed),
    }
    layers = run_layers("tokenizer", output, resume, preset, config, assignments, options)
    settings = resolve("tokenizer", layers)
    check_stop_at(stop_at, settings.config.schedule.max_steps)

    from restok_cli.data.shards import open_dataset
    from restok_cli.model.checkpoint import open_tokenizer
    from restok_cli.training import tokenizer_loop
    from restok_cli.training.run import RunFolder

    dataset = open_dataset(data)
    dataset.split("train")
    start = open_tokenizer(init) if init else None
    if start is not None:
        settings = resolve("tokenizer", with_model(layers, f"--init {init}", start.config.model_dump()))
    torch_device = open_device(device)
    run = RunFolder(output, settings.config, resume=resume, overwrite=overwrite, track=track or [])
    with run.logging():
        model = tokenizer_loop.train_tokenizer(settings.config, dataset, run, torch_device, init=start, stop_at=stop_at)
    print(model)
