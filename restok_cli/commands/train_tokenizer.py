"""`restok train-tokenizer`: pictures to a tokenizer."""

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


def train_tokenizer(
    data: DataArgument,
    output: RunOutput,
    preset: Preset = "sample",
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> None:
    """Train a tokenizer: pictures to discrete codes in coarse-to-fine levels, and back.

    RUN gets config.yaml, metrics.jsonl, checkpoints/, previews/ (look at them)
    and model/, which the other commands take. Ctrl-C saves before it stops; the
    same command with --resume goes on as if nothing had happened. Prints the
    folder of the model.

    Example, on the emoji that come with restok:

      restok train-tokenizer sample --max-steps 500 -o runs/tokenizer
    """
    check_resume(resume, overwrite)

    from restok_cli.training.config import TokenizerRunConfig, merged, read_preset

    schedule = {"max_steps": max_steps, "batch_size": batch_size, "seed": seed}
    changes = {"schedule": {key: value for key, value in schedule.items() if value is not None}}
    values = merged(read_preset("tokenizer", preset), changes)
    config = TokenizerRunConfig.parse(values, f"preset {preset}")

    from restok_cli.data.shards import open_dataset
    from restok_cli.training import tokenizer_loop
    from restok_cli.training.run import RunFolder

    dataset = open_dataset(data)
    dataset.split("train")
    torch_device = open_device(device)
    run = RunFolder(output, config, resume=resume, overwrite=overwrite)
    print(tokenizer_loop.train_tokenizer(config, dataset, run, torch_device))
