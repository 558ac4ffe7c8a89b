"""Configs of runs that are planned or tried, which need neither data nor weights."""

from pathlib import Path
from typing import Any, TypeVar

from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.processes import check_division
from restok_cli.settings import precedence
from restok_cli.settings.presets import preset_names
from restok_cli.settings.run_config import read_told, with_alignment_dims
from restok_cli.settings.training import RunConfig, RunKind, TokenizerRunConfig
from restok_cli.training.teachers import teacher_width

OneConfig = TypeVar("OneConfig", bound=RunConfig)


def planned_config(
    kind: RunKind,
    preset: str | None,
    file: Path | None = None,
    assignments: list[str] | None = None,
    max_steps: int | None = None,
    batch_size: int | None = None,
) -> Any:
    """The config of a run, but for the size of its micro-batches, which the number of cards decides.

    The preset of a generator that has a tokenizer's of the same name is planned for its codes. Raises UsageError where
    it is wrong.
    """
    layers = read_told(kind, Path(), False, preset, file, assignments, max_steps, batch_size, None).layers
    names = [layer.name.removeprefix("preset ") for layer in layers if precedence.is_preset(layer)]
    if kind == "har" and names and names[-1] in preset_names("tokenizer"):
        codes = codes_of(planned_config("tokenizer", names[-1]).model)
        stated = {f"model.{key}": value for key, value in codes.items()}
        layers = precedence.over_presets(layers, precedence.Layer(f"the tokenizer of preset {names[-1]}", stated))
    config = precedence.resolve(kind, layers).config
    return with_alignment_dims(config, teacher_width) if isinstance(config, TokenizerRunConfig) else config


def planned_generator(preset: str, tokenizer: TokenizerConfig) -> HarConfig:
    """The config of a generator of that tokenizer's codes. Raises UsageError where there is no such preset."""
    return planned_config("har", preset).model.model_copy(update=codes_of(tokenizer))


def codes_of(tokenizer: TokenizerConfig) -> dict[str, int]:
    """Settings of a generator that its tokenizer decides."""
    return {"codebook_size": tokenizer.codebook_size, "num_codes": tokenizer.num_latent_tokens}


def changed(config: OneConfig, **sections: dict[str, Any]) -> OneConfig:
    """The config with other values in some of its sections: changed(config, schedule={"batch_size": 8})."""
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    )


def of_images(config: OneConfig, batch_size: int) -> OneConfig:
    """The config of a run of so many images a step, all at a time."""
    return changed(config, schedule={"batch_size": batch_size, "micro_batch_size": batch_size})


def of_one_device(config: OneConfig, num_processes: int) -> OneConfig:
    """The config of a run of one process that does what each of several would do.

    Raises UsageError where the batch cannot be shared out so.
    """
    schedule = config.schedule
    size = check_division(schedule.batch_size, schedule.micro_batch_size, num_processes)
    return changed(config, schedule={"batch_size": schedule.batch_size // num_processes, "micro_batch_size": size})


def num_rounds(config: RunConfig) -> int:
    """Micro-batches of a step."""
    return config.schedule.batch_size // (config.schedule.micro_batch_size or config.schedule.batch_size)
