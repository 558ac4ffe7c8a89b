"""How codes are drawn, from the options that a person gives: presets, ranges, and what has no meaning together."""

import math
import sys
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from restok_cli.errors import UsageError, did_you_mean
from restok_cli.files import SAMPLE_MODEL
from restok_cli.model.guidance import GUIDANCE_SCHEDULES, SamplingOptions
from restok_cli.settings.yaml_file import read_yaml

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


def sampling_options(given: Mapping[str, Any], preset: str | Path | None = None) -> SamplingOptions:
    """The options `given` by name, and for the others the preset's: one of PRESETS, or a file of options.

    Raises UsageError for values out of range, for options of guidance that its schedule does not have, for those that
    leave nothing of it, for a schedule where there is none, and for a cut where the likeliest code is always taken.
    """
    options = SamplingOptions(**{**_preset_values(preset), **given})
    for name, value in options._asdict().items():
        check_value(_option(name), name, value)
    for name, schedules in SCHEDULES.items():
        if name in given and options.cfg_schedule not in schedules:
            raise UsageError(
                f"{_option(name)} changes nothing in a {options.cfg_schedule} schedule; leave it out, or"
                f" give --cfg-schedule {' or '.join(schedules)}"
            )
    for name in ("top_k", "top_p"):
        if name in given and options.temperature == 0:
            raise UsageError(
                f"{_option(name)} changes nothing at temperature 0, which always takes the likeliest code; leave it"
                " out, or give a higher --temperature"
            )
    if options.cfg_schedule == "rectangular" and options.cfg_start >= options.cfg_stop:
        raise UsageError(
            f"--cfg-start {options.cfg_start} and --cfg-stop {options.cfg_stop}: guidance ends before it begins;"
            " give a lower --cfg-start"
        )
    if options.cfg_scale == 1 and "cfg_scale" not in given and given.get("cfg_schedule", "constant") != "constant":
        raise UsageError(
            f"--cfg-schedule {options.cfg_schedule} changes nothing without guidance; give --cfg-scale too, such as 2"
        )
    return options


def _preset_values(preset: str | Path | None) -> dict[str, Any]:
    if preset is None:
        return {}
    if isinstance(preset, str) and preset in PRESETS:
        return PRESETS[preset]
    path = Path(preset)
    if not path.is_file():
        raise UsageError(
            f"--preset {preset}: no such preset, nor a file; take one of {', '.join(PRESETS)}, or a file that"
            " `restok tune` wrote"
        )
    values, lines = read_yaml(path)
    for name, value in values.items():
        where = f"{path}:{lines[name]}: {name}"
        check_name(where, name)
        values[name] = check_value(where, name, value)
    try:
        sampling_options(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return values


def check_name(where: str, name: str) -> None:
    """Raises UsageError, which begins with `where`, where no option of sampling is called so."""
    if name not in SamplingOptions._fields:
        near = did_you_mean(name, SamplingOptions._fields)
        raise UsageError(f"{where}: no such option of sampling{near}; take {', '.join(SamplingOptions._fields)}")


def check_value(where: str, name: str, value: Any) -> Any:
    """The value of the option called `name`, as the command line gives it: 2.0 for 2.

    Raises UsageError, which begins with `where`, for one that it cannot have.
    """
    if name == "cfg_schedule":
        if value not in GUIDANCE_SCHEDULES:
            near = did_you_mean(str(value), GUIDANCE_SCHEDULES)
            raise UsageError(f"{where} {value}: no such schedule{near}; take one of {', '.join(GUIDANCE_SCHEDULES)}")
        return value
    lowest, highest = RANGES[name]
    kind, noun = (Integral, "whole number") if name == "top_k" else (Real, "finite number")
    if isinstance(value, bool) or not isinstance(value, kind) or not _is_finite(value):
        raise UsageError(f"{where} {value}: give a {noun}")
    if not lowest <= value <= highest:
        ends = f"from {lowest} on" if highest == math.inf else f"from {lowest} to {highest}"
        raise UsageError(f"{where} {value}: give a number {ends}")
    if name == "top_k" and not value <= sys.maxsize:
        raise UsageError(f"{where} {value}: no model has so many codes; give 0 for all")
    return value if name == "top_k" else float(value)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # of a whole number that no float reaches
        return False


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
