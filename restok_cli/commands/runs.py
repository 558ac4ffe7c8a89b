"""The common part of train-tokenizer and train-har: how a run begins, and that a preflight goes before it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from restok_cli.commands.options import check_resume
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
    from restok_cli.settings.training import RunConfig


class Launch(NamedTuple):
    """How a run is to go; nothing of this changes what it computes."""

    output: Path
    stop_at: int | None
    track: list[str]
    dry_run: bool
    skip_preflight: bool
    resume: bool
    overwrite: bool


def start(launch: Launch, told: "Told", num_processes: int) -> "RunConfig":
    """Start the processes of a run; each goes on with its config, as far as that is told.

    Raises UsageError where options contradict each other, name what is not here, or a run would never get to --stop-at.
    """
    from restok_cli.settings.idle import idle_assignments
    from restok_cli.training.run_folder.trackers import check_trackers

    check_resume(launch.resume, launch.overwrite)
    check_trackers(launch.track)
    config = told.config
    if launch.stop_at is not None and launch.stop_at > config.schedule.max_steps:
        raise UsageError(
            f"--stop-at {launch.stop_at}: the run ends at schedule.max_steps = {config.schedule.max_steps}"
        )
    run_in_processes(num_processes)
    for line in idle_assignments(told.layers, config):
        note(line)
    return config


def check_folder(launch: Launch, *sources: Path | None) -> None:
    """Raises UsageError where a new run may not begin in its folder, or would replace one of its own sources."""
    from restok_cli.training.run_folder.run import check_new_run

    if not launch.resume:
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


def first_weights(
    init: Path | None, given: "ModelFolder | None", launch: Launch, config: "RunConfig"
) -> tuple[Any, str | None]:
    """The model `given` by --init, for a run that begins, and its name; None for one that goes on from a checkpoint.

    Raises UsageError where its weights do not fit the run's config.
    """
    import torch

    from restok_cli.pretrained.folder import empty_model, load_model
    from restok_cli.training.run_folder.history import model_name
    from restok_cli.training.run_folder.run import last_step
    from restok_cli.training.warm_start import check_fits

    if init is None or given is None or (launch.resume and last_step(launch.output)):
        return None, None
    model = load_model(given, torch.device("cpu"))
    check_fits(empty_model(config.model), model)
    return model, model_name(init, given)


def carry_out(
    train: "Train",
    config: "RunConfig",
    launch: Launch,
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
            output, config, resume=launch.resume, overwrite=launch.overwrite, track=launch.track, init=origin
        )
        with run.logging(), telling_what_helps(config):
            if rescaling:  # no sooner: a run that is refused has no lengths
                note(rescaling)
            print(train(config, run, stop_at=launch.stop_at))
