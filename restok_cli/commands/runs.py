"""The common part of train-tokenizer and train-har: how their settings are put together, and how a run begins."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from restok_cli.console import keep_line, note
from restok_cli.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from restok_cli.model.config import Config
    from restok_cli.pretrained.folder import ModelFolder
    from restok_cli.settings.layers import Layer
    from restok_cli.settings.training import RunConfig, RunKind
    from restok_cli.training.preflight import Train


def run_layers(
    kind: "RunKind",
    output: Path,
    resume: bool,
    preset: str | None,
    file: Path | None,
    assignments: list[str] | None,
    max_steps: int | None,
    batch_size: int | None,
    seed: int | None,
) -> "tuple[list[Layer], str]":
    """Settings that a training command was given; where it resumes and names no settings, what its run was told.

    Also a line that says which lengths of the preset were rescaled to a run of fewer steps, or "". A run that resumes
    has those that it began with. Raises UsageError for what cannot be read.
    """
    from restok_cli.settings.layers import config_path, kind_of, layers_of, rescaled, with_choices_of

    begun = resume and config_path(output).is_file()
    if begun and (found := kind_of([output])) != kind:
        raise UsageError(f"--resume: {output} is a run of train-{found}")
    if begun and preset is None and file is None:
        file = output
    options = {
        "--max-steps": ("schedule.max_steps", max_steps),
        "--batch-size": ("schedule.batch_size", batch_size),
        "--seed": ("schedule.seed", seed),
    }
    layers = layers_of(kind, preset, file, assignments or [], options)
    if resume:
        return with_choices_of(layers, output) if begun else layers, ""
    return rescaled(kind, layers)


def check_stop_at(stop_at: int | None, config: "RunConfig") -> None:
    """Raises UsageError where a run would never get there."""
    if stop_at is not None and stop_at > config.schedule.max_steps:
        raise UsageError(f"--stop-at {stop_at}: the run ends at schedule.max_steps = {config.schedule.max_steps}")


def first_weights(
    given: "ModelFolder | None", output: Path, resume: bool, module: "type[nn.Module]", config: "Config"
) -> "nn.Module | None":
    """The model that --init names, for a run that begins; None for one that goes on from a checkpoint in `output`.

    Raises UsageError where its weights do not fit a `module` of `config`.
    """
    import torch

    from restok_cli.pretrained.folder import load_model
    from restok_cli.training.run import has_checkpoint
    from restok_cli.training.warm_start import check_fits

    if given is None or (resume and has_checkpoint(output)):
        return None
    start = load_model(given, torch.device("cpu"))
    with torch.device("meta"):
        check_fits(module(config), start)
    return start


def carry_out(
    train: "Train",
    config: "RunConfig",
    output: Path,
    device: "torch.device",
    *,
    stop_at: int | None,
    track: Sequence[str],
    origin: str | None,
    rescaling: str,
    dry_run: bool,
    skip_preflight: bool,
    resume: bool,
    overwrite: bool,
) -> None:
    """Try a step of everything by `train`, unless that is to be skipped; then train, and print the model's folder.

    `origin` names the model whose weights the run starts from; `rescaling` is to be said, here and in the run's log.
    """
    from restok_cli.planning.memory import telling_what_helps
    from restok_cli.training.preflight import preflight
    from restok_cli.training.run import RunFolder

    if rescaling:
        note(rescaling)
    if dry_run or not (skip_preflight or resume):
        with telling_what_helps(config):
            preflight(config, output, train, device)
    if dry_run:
        return
    with RunFolder.kept(output):
        run = RunFolder(output, config, resume=resume, overwrite=overwrite, track=track, init=origin)
        with run.logging(), telling_what_helps(config):
            if rescaling:
                keep_line(rescaling)
            print(train(config, run, stop_at=stop_at))
