"""How codes are drawn, from the options that a person gives: presets, ranges, and what has no meaning together."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from restok_cli.errors import UsageError, did_you_mean
from restok_cli.files import SAMPLE_MODEL
from restok_cli.model.guidance import GUIDANCE_SCHEDULES, SamplingOptions

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"cfg_scale": 3.75, "cfg_schedule": "step", "cfg_start": 0.25, "top_p": 0.95},  # its gFID of 2.34
    "sample": {"cfg_scale": 1.25, "temperature": 0.5},  # tests/benchmarks/remembering.py
}
SCHEDULES = {  # those that an option of guidance has a meaning in
    "cfg_start": ("step", "rectangular"),
    "cfg_stop": ("rectangular",),
    "cfg_peak": ("triangular", "linear-constant"),
}
RANGES = {  # of numbers, both ends included; options of the command name them too
    "cfg_scale": (0, math.inf),
    "cfg_start": (0, 1),
    "cfg_stop": (0, 1),
    "cfg_peak": (0.01, 0.99),
    "temperature": (0, math.inf),
    "top_k": (0, math.inf),
    "top_p": (0, 1),
}


def default_preset(model: Path) -> str | None:
    """The preset that suits the model at `model`, where one is known to."""
    return "sample" if model == SAMPLE_MODEL else None


def sampling_options(given: Mapping[str, Any], preset: str | None = None) -> SamplingOptions:
    """The options `given` by name, and for the others the preset's.

    Raises UsageError for values out of range, for options of guidance that its schedule does not have, and for those
    that leave nothing of it.
    """
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"--preset {preset}: no such preset; take one of {', '.join(PRESETS)}")
    options = SamplingOptions(**{**(PRESETS[preset] if preset else {}), **given})
    if options.cfg_schedule not in GUIDANCE_SCHEDULES:
        near = did_you_mean(str(options.cfg_schedule), GUIDANCE_SCHEDULES)
        raise UsageError(
            f"--cfg-schedule {options.cfg_schedule}: no such schedule{near}; take one of"
            f" {', '.join(GUIDANCE_SCHEDULES)}"
        )
    for name in RANGES:
        _check_range(name, getattr(options, name))
    for name, schedules in SCHEDULES.items():
        if name in given and options.cfg_schedule not in schedules:
            raise UsageError(
                f"{_option(name)} changes nothing in a {options.cfg_schedule} schedule; leave it out, or"
                f" give --cfg-schedule {' or '.join(schedules)}"
            )
    if options.cfg_schedule == "rectangular" and options.cfg_start >= options.cfg_stop:
        raise UsageError(
            f"--cfg-start {options.cfg_start} and --cfg-stop {options.cfg_stop}: guidance ends before it begins;"
            " give a lower --cfg-start"
        )
    return options


def _check_range(name: str, value: object) -> None:
    lowest, highest = RANGES[name]
    kind, noun = (Integral, "whole number") if name == "top_k" else (Real, "finite number")
    if not isinstance(value, kind) or not math.isfinite(value):
        raise UsageError(f"{_option(name)} {value}: give a {noun}")
    if not lowest <= value <= highest:
        ends = f"from {lowest} on" if highest == math.inf else f"from {lowest} to {highest}"
        raise UsageError(f"{_option(name)} {value}: give a number {ends}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
