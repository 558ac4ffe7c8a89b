"""The common part of train-tokenizer and train-har: how a run begins, and that a preflight goes before it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restok_cli.commands import options
from restok_cli.console import note
from restok_cli.errors import UsageError
from restok_cli.files import check_apart
from restok_cli.processes import run_in_processes

if TYPE_CHECKING:
    import torch

    from restok_cli.data.shards.dataset import Dataset
    from restok_cli.planning.preflight import Train
    from restok_cli.pretrained.folder import ModelFolder
    from restok_cli.settings.run_config import Told
    from restok_cli.settings.training import RunConfig, RunKind


@dataclass
class RunOptions:
    """The options of both trainers: of what a run is, and of how it is to go."""

    output: options.RunOutput
    preset: options.Preset = None
    config: options.ConfigFile = None
    assignments: options.Assignments = None
    max_steps: options.MaxSteps = None
    batch_size: options.BatchSize = None
    seed: options.RunSeed = None
    image_size: options.ImageSizeOption = None
    init: options.Init = None
    early_stop: options.EarlyStop = None
    # none of these changes what it computes
    stop_at: options.StopAt = None
    track: options.Track = None
    allow_pipe: options.AllowPipe = False
    num_processes: options.NumProcesses = 1
    dry_run: options.DryRun = False
    skip_preflight: options.SkipPreflight = False
    resume: options.Resume = False
    overwrite: options.Overwrite = False
    device: options.Device = "auto"


def start(kind: "RunKind", launch: RunOptions, *sources: Path | None) -> "Told":
    """Start the processes of a run; each goes on with the settings that it was given.

    Raises UsageError where options contradict each other, name what is not here, or a run would never get to --stop-at;
    and where it may not begin in its folder, or would replace one of its `sources` there.
    """
    from restok_cli.settings.idle import idle_assignments
    from restok_cli.settings.run_config import read_told
    from restok_cli.training.run_folder.trackers import check_trackers

    told = read_told(
        *(kind, launch.output, launch.resume, launch.preset, launch.config, launch.assignments),
        *(launch.max_steps, launch.batch_size, launch.seed),
        image_size=launch.image_size if kind == "tokenizer" else None,  # a generator's is its tokenizer's
        early_stop=launch.early_stop,
    )
    options.check_resume(launch.resume, launch.overwrite)
    check_trackers(launch.track or [])
    config = told.config
    max_steps = config.schedule.max_steps
    if launch.stop_at is not None and launch.stop_at > max_steps:
        raise UsageError(f"--stop-at {launch.stop_at}: the run ends at schedule.max_steps = {max_steps}")
    _check_folder(launch, *sources)
    run_in_processes(launch.num_processes)
    for line in idle_assignments(told.layers, config):
        note(line)
    return told


def _check_folder(launch: RunOptions, *sources: Path | None) -> None:
    from restok_cli.training.run_folder.existing_run import check_begun, check_new_run

    if launch.resume:
        check_begun(launch.output)
        return
    check_apart(launch.output, *filter(None, sources))
    check_new_run(launch.output, launch.overwrite)


def refuse_for_codes(data: str, told: "Told", allow_pipe: bool) -> None:
    """Raises UsageError for an option about images, where training takes `data`, which are codes."""
    assigned = next(layer.values for layer in told.layers if layer.name == "--set")
    stated = ["--allow-pipe"] if allow_pipe else [f"--set {key}" for key in assigned if key.startswith("data.")]
    if stated:
        raise UsageError(f"{stated[0]} is about images, and {data} holds codes of them; leave it out")


def warn_of_enlarging(data: "Dataset", size: tuple[int, int]) -> None:
    """Say it where many images of a data set are smaller than the (height, width) at which they are trained on."""
    from restok_cli.data.image_sizes import enlarged

    if warning := enlarged(data.image_sizes(), size):
        note(warning)


def first_weights(given: "ModelFolder | None", launch: RunOptions, config: "RunConfig") -> tuple[Any, str | None]:
    """The model `given` by --init, for a run that begins, and its name; None for one that goes on from a checkpoint.

    Raises UsageError where its weights do not fit the run's config.
    """
    import torch

    from restok_cli.pretrained.modules import empty_model, load_model
    from restok_cli.training.run_folder.existing_run import last_step
    from restok_cli.training.run_folder.history import model_name
    from restok_cli.training.warm_start import check_fits

    if launch.init is None or given is None or (launch.resume and last_step(launch.output)):
        return None, None
    model = load_model(given, torch.device("cpu"))
    check_fits(empty_model(config.model), model)
    return model, model_name(launch.init, given)


def carry_out(
    train: "Train",
    config: "RunConfig",
    launch: RunOptions,
    device: "torch.device",
    origin: str | None = None,
    rescaling: str = "",
) -> None:
    """Try a step of everything by `train`, unless that is to be skipped; then train, and print the model's folder.

    `origin` names the model whose weights the run starts from; `rescaling` is to be said once it begins.
    """
    from restok_cli.planning.memory import telling_what_helps
    from restok_cli.planning.preflight import preflight
    from restok_cli.training.run_folder.run import RunFolder

    output = launch.output
    if launch.dry_run or not (launch.skip_preflight or launch.resume):
        with telling_what_helps(config):
            preflight(config, output, train, device)
    if launch.dry_run:
        if rescaling:
            note(rescaling)
        return
    with RunFolder.kept(output):
        run = RunFolder(
            output, config, resume=launch.resume, overwrite=launch.overwrite, track=launch.track or [], init=origin
        )
        with run.logging(), telling_what_helps(config):
            if rescaling:  # no sooner: a run that is refused has no lengths
                note(rescaling)
            print(train(config, run, stop_at=launch.stop_at))
