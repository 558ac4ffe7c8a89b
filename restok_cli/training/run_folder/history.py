"""How a run made its model, for the model's card: settings, data, steps, numbers; nothing of the machine or the day."""

from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from restok_cli.pretrained.card import Training
from restok_cli.pretrained.folder import HUB_PREFIX, ModelFolder, fingerprint
from restok_cli.settings.changes import MAY_CHANGE, WEIGHT_FILES, differences
from restok_cli.settings.presets import preset_names, read_preset
from restok_cli.settings.training import RUN_CONFIGS, RunConfig, RunKind, TokenizerRunConfig
from restok_cli.training.run_folder.metrics_log import read_log

# What the teacher, the tokenizer or the data set decides, whatever a preset says.
GIVEN = {
    "tokenizer": {"model.encoder_alignment_dim", "model.decoder_alignment_dim"},
    "har": {"model.codebook_size", "model.num_codes", "model.num_classes"},
}


class Data(Protocol):
    """A data set, or codes of one."""

    name: str
    fingerprint: str


def history(config: RunConfig, metrics_file: Path, step: int, data: Data, init: str | None) -> Training:
    """The record of the model after `step`; `metrics_file` has the numbers that the run logged until then."""
    preset, changes = nearest_preset(config)
    validation_step, validation = last_numbers(metrics_file, "validation_")
    _, losses = last_numbers(metrics_file, "loss")
    return Training(
        restok=version("restok"),
        torch=version("torch"),
        preset=preset,
        changes=changes,
        steps=step,
        max_steps=config.schedule.max_steps,
        batch_size=config.schedule.batch_size,
        data_name=data.name,
        data_fingerprint=data.fingerprint,
        init=init,
        validation_step=validation_step,
        validation=validation,
        loss=losses.get("loss"),
    )


@cache  # every save asks
def all_presets(kind: RunKind) -> dict[str, RunConfig]:
    """The presets of a kind of run by name."""
    return {name: RUN_CONFIGS[kind].parse(read_preset(kind, name), f"preset {name}") for name in preset_names(kind)}


def nearest_preset(config: RunConfig) -> tuple[str, dict[str, Any]]:
    """The preset with the fewest settings that are another's, and what `config` has in their place, by dotted key.

    What cannot change the result is left out, and so are the files with weights, whose names tell nobody else anything.
    """
    kind = "tokenizer" if isinstance(config, TokenizerRunConfig) else "har"
    found = {name: _changes(preset, config, GIVEN[kind]) for name, preset in all_presets(kind).items()}
    name = min(found, key=lambda name: (len(found[name]), name))
    return name, found[name]


def _changes(preset: RunConfig, config: RunConfig, given: set[str]) -> dict[str, Any]:
    return {
        key: now
        for key, (_, now) in differences(preset, config).items()
        if key not in MAY_CHANGE | given and (key not in WEIGHT_FILES or now == "random")
    }


def last_numbers(metrics_file: Path, start: str) -> tuple[int | None, dict[str, float]]:
    """Those whose names begin so, of the last log line that has any, and its step; None and nothing before that."""
    for step, numbers in reversed(read_log(metrics_file)):
        found = {name: value for name, value in numbers.items() if name.startswith(start)}
        if found:
            return step, found
    return None, {}


def model_name(path: Path, model: ModelFolder) -> str:
    """A model that another starts from, in words that mean something elsewhere."""
    name = str(path) if str(path).startswith(HUB_PREFIX) else path.resolve().name
    return f"{name} (fingerprint {fingerprint(model)[:16]})"
