"""Differences between two configs, and which of them make another run."""

from typing import Any

from restok_cli.model.config import Config
from restok_cli.settings.yaml_file import flatten

# What a resumed run may do otherwise than before and still be the same run, up to rounding and, with another
# micro_batch_size, to what is drawn for dropout.
MAY_CHANGE = {
    *("data.num_workers", "data.broken_limit", "data.max_member_bytes"),
    *("schedule.micro_batch_size", "schedule.log_every", "schedule.preview_every", "schedule.validate_every"),
    *("schedule.validation_images", "schedule.save_every", "schedule.keep_checkpoints", "schedule.keep_every"),
    *("schedule.early_stop", "schedule.initial_convolutions"),
    *("compute.compile", "compute.memory", "compute.sharding", "compute.deterministic"),
    *("health.max_skipped_steps", "health.warn_data_wait", "health.warn_codebook_usage"),
}
# These may change too, where no learning rate so far would have been another.
RATE_SETTINGS = {"schedule.max_steps", "optimizer.decay_steps", "optimizer.final_learning_rate"}
WEIGHT_FILES = {"loss.lpips_weights", "alignment.weights", "discriminator.weights"}  # which may have moved


def differences(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """The dotted keys whose values differ, with both values; None where one config has no such key."""
    old, new = flatten(before.model_dump(mode="json")), flatten(now.model_dump(mode="json"))
    keys = [*old, *(key for key in new if key not in old)]
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def other_run(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """Those of the differences that make another run, whatever step it is at."""
    return {
        key: values
        for key, values in differences(before, now).items()
        if key not in MAY_CHANGE | RATE_SETTINGS and (key not in WEIGHT_FILES or "random" in values)
    }
