"""The config that a run recorded, also where it began before training was in all as the released code's.

Such a run goes on as it began wherever that is a choice, and is told what has changed for it too.
"""

from pathlib import Path
from typing import Any

import yaml

from restok_cli.errors import RestokError, UsageError
from restok_cli.files import write_text
from restok_cli.model.config import Config
from restok_cli.settings.training import RunConfig, TokenizerRunConfig
from restok_cli.settings.yaml_file import merged, read_yaml

# What an older run could not state, and how it did that.
BEFORE = {"data": {"random_zoom": [1.1, 1.1]}, "discriminator": {"augment_range": "signed"}}
# What runs could not state later than that, and how they did it.
ONCE_FIXED = {"schedule": {"validation_images": "all"}}
# Settings with another default since then, or without one before: a run that resumes keeps those that it began with.
NEW_DEFAULTS = ("data.crop", "data.random_zoom", "discriminator.augment_range", "schedule.validation_images")


def write_config(config: Config, path: Path) -> None:
    """Write every value of a run's config as YAML."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def read_config(path: Path) -> dict:
    """The values of a file written by `write_config`. Raises RestokError if it is missing or damaged."""
    try:
        values = read_yaml(path).values
    except UsageError as error:
        raise RestokError(f"{error}; restore it, or start another run") from error
    if not values:
        raise RestokError(f"{path} is empty; restore it, such as from a checkpoint's, or start another run")
    return values


def recorded_config(kind: type[RunConfig], file: Path) -> RunConfig:
    """The config that a run of this kind wrote to `file`. Raises RestokError if it is damaged, UsageError if wrong."""
    return kind.parse(completed(read_config(file)), str(file))


def is_older(values: dict[str, Any]) -> bool:
    """Whether a run recorded these values, which are all that it knew, before the recipe was the released one."""
    return isinstance(values.get("data"), dict) and "random_zoom" not in values["data"]


def completed(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a run, with those in which it had no choice."""
    had_no_choice = merged(ONCE_FIXED, BEFORE) if is_older(values) else ONCE_FIXED
    return merged({section: had_no_choice[section] for section in had_no_choice if section in values}, values)


def changed_since(config: RunConfig) -> str:
    """A line for an older run that goes on: what it keeps, and what is computed otherwise than it was when it began."""
    kept = [f"data.crop = {config.data.crop}"]
    changed = []
    if config.data.crop == "random":
        kept.append(f"data.random_zoom = {list(config.data.random_zoom)}")
        changed.append("the places of random crops")
    if isinstance(config, TokenizerRunConfig):
        changed.append("weight decay (no longer on what embeds patches and codes)")
        if config.loss.perceptual_weight > 0:
            changed.append("the crop before LPIPS (padded with the border, nothing cut off)")
        if config.discriminator.weight > 0:
            changed.append("LeCam (of mean logits)")
            if config.discriminator.kind == "dino":
                kept.append(f"discriminator.augment_range = {config.discriminator.augment_range}")
                changed.append("the eps of the discriminator's norms")
            else:
                changed.append("all of the PatchGAN but its weights")
    line = f"--resume: the run began before training was as the authors'; it keeps {' and '.join(kept)}"
    return f"{line}; changed for it too: {', '.join(changed)} (docs/training.md)" if changed else line
