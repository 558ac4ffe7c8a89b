"""The config of a run: what was told, completed by what the run it goes on with, its data and its models decide."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from restok_cli.errors import UsageError
from restok_cli.model.config import Config, TokenizerConfig
from restok_cli.processes import check_division, world_size
from restok_cli.settings import precedence
from restok_cli.settings.launcher import say_precision
from restok_cli.settings.recorded import read_config, recorded_config
from restok_cli.settings.training import RunConfig, RunKind, TokenizerRunConfig
from restok_cli.settings.yaml_file import flatten


class Told(NamedTuple):
    """Settings that a training command was given."""

    kind: RunKind
    layers: list[precedence.Layer]
    rescaling: str  # a line that says which lengths of the preset were rescaled to a run of fewer steps, or ""
    run: Path | None  # that it goes on with

    @property
    def config(self) -> RunConfig:
        """As far as it is known without data and models. Raises UsageError where something is wrong."""
        return precedence.resolve(self.kind, self.layers).config


def read_told(
    kind: RunKind,
    output: Path,
    resume: bool,
    preset: str | None,
    file: Path | None,
    assignments: list[str] | None,
    max_steps: int | None,
    batch_size: int | None,
    seed: int | None,
    image_size: tuple[int, int] | None = None,
    early_stop: int | None = None,
) -> Told:
    """Settings that a training command was given; where it resumes and names no settings, what its run was told.

    A run that resumes has the lengths that it began with. `image_size` is height and width, of a tokenizer. Raises
    UsageError for what cannot be read.
    """
    begun = resume and precedence.config_path(output).is_file()
    if begun:
        read_config(precedence.config_path(output))  # which says where it is damaged
        if (found := precedence.kind_of([output])) != kind:
            raise UsageError(f"--resume: {output} is a run of train-{found}")
    if begun and preset is None and file is None:
        file = output
    height, width = image_size or (None, None)
    options = {
        "schedule.max_steps": ("--max-steps", max_steps),
        "schedule.batch_size": ("--batch-size", batch_size),
        "schedule.seed": ("--seed", seed),
        "schedule.early_stop": ("--early-stop", early_stop),
        "model.image_height": ("--image-size", height),
        "model.image_width": ("--image-size", width),
    }
    layers = precedence.layers_of(kind, preset, file, assignments or [], options)
    if begun:
        return Told(kind, precedence.with_choices_of(layers, output), "", output)
    return Told(kind, layers, "", None) if resume else Told(kind, *precedence.rescaled(kind, layers), None)


def complete_config(
    told: Told,
    *,
    init: tuple[Path, Config] | None = None,
    facts: precedence.Layer | None = None,
    teacher_width: Callable[[str], int] | None = None,
) -> RunConfig:
    """The whole config of a run, as it is written into its folder: nothing is decided after this.

    `init` is the model that the run starts from, whose config takes the place of the preset's; `facts` are what data
    and tokenizer decide, which nothing may contradict. `teacher_width`, of a tokenizer's run, is the width of the
    alignment teacher of a name.

    Raises UsageError where something is wrong, with the place where it was stated.
    """
    layers = told.layers
    if init is not None:
        path, model = init  # the classes are those of the data set, whatever the model knew before
        values = flatten({"model": model.model_dump(exclude={"num_classes"})})
        layers = precedence.over_presets(layers, precedence.Layer(f"--init {path}", values))
    config = precedence.resolve(told.kind, layers, facts).config
    say_precision("compute.precision", config.compute.precision, "--set compute.precision=float32")
    if isinstance(config, TokenizerRunConfig):
        config = with_alignment_dims(config, teacher_width)
    return _with_micro_batch_size(config, told.run)


def har_facts(tokenizer: Path, config: TokenizerConfig, data: str, num_classes: int) -> precedence.Layer:
    """Settings of a generator that its tokenizer and data set decide."""
    facts = {"codebook_size": config.codebook_size, "num_codes": config.num_latent_tokens, "num_classes": num_classes}
    places = {"model": f"the tokenizer {tokenizer}", "model.num_classes": f"the data set {data}"}
    return precedence.Layer("facts", flatten({"model": facts}), places)


def with_alignment_dims(config: TokenizerRunConfig, teacher_width: Callable[[str], int] | None) -> TokenizerRunConfig:
    """The config, its model with projections to the teacher's width where the run aligns, and only there.

    Others, such as those of a model that it starts from, would never be trained. Raises UsageError where the model
    states another width than the teacher has.
    """
    alignment, dims = config.alignment, {}
    width = teacher_width(alignment.teacher) if alignment.is_used and teacher_width else None
    for name, weight in (
        ("encoder_alignment_dim", alignment.encoder_weight),
        ("decoder_alignment_dim", alignment.decoder_weight),
    ):
        stated = getattr(config.model, name)
        if weight > 0 and stated not in (None, width):
            raise UsageError(
                f"model.{name} = {stated} is not the {width} channels of alignment.teacher = {alignment.teacher}; "
                "set it to null to start that projection fresh, or give the teacher that it was made for"
            )
        dims[name] = width if weight > 0 else None
    return config.model_copy(update={"model": config.model.model_copy(update=dims)})


def _with_micro_batch_size(config: RunConfig, run: Path | None) -> RunConfig:
    """The config with its micro-batch size as a number: where none is given, that with which the run began.

    What is random inside a model, and some losses, go by micro-batch: so a run goes on in another number of processes
    as it would have in the first. Raises UsageError where the batch cannot be divided so.
    """
    schedule = config.schedule
    size = schedule.micro_batch_size
    if size is None and run is not None:
        size = recorded_config(type(config), precedence.config_path(run)).schedule.micro_batch_size
    size = check_division(schedule.batch_size, size, world_size())
    return config.model_copy(update={"schedule": schedule.model_copy(update={"micro_batch_size": size})})
