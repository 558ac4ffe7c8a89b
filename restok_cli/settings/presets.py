"""Presets: named settings in YAML files that build on each other."""

from functools import reduce
from importlib.resources import files
from pathlib import Path

from restok_cli.errors import UsageError, did_you_mean
from restok_cli.settings.training import RUN_CONFIGS, RunKind
from restok_cli.settings.yaml_file import merged, parse_yaml


def preset_names(kind: RunKind) -> list[str]:
    """The presets that `restok train-tokenizer` or `restok train-har` takes."""
    return sorted(Path(entry.name).stem for entry in (files("restok_cli") / "presets" / kind).iterdir())


def preset_chain(kind: RunKind, name: str) -> list[tuple[str, dict]]:
    """A preset and those that it builds on, the first of them first: names, and what each states.

    A preset states only what differs from the one that its key `preset` names, or from the defaults.
    Raises UsageError if it is unknown.
    """
    known = preset_names(kind)
    if name not in known:
        for other in RUN_CONFIGS:
            if name in preset_names(other):
                raise UsageError(f"{name} is a preset of train-{other}; train-{kind} has: {', '.join(known)}")
        raise UsageError(f"no preset named {name}{did_you_mean(name, known)}; there are: {', '.join(known)}")
    text = (files("restok_cli") / "presets" / kind / f"{name}.yaml").read_text(encoding="utf-8")
    values = parse_yaml(text, f"preset {name}").values
    base = values.pop("preset", None)
    return [*(preset_chain(kind, base) if base else ()), (name, values)]


def read_preset(kind: RunKind, name: str) -> dict:
    """Read a preset and those below it, as nested dicts. Raises UsageError if it is unknown."""
    return reduce(merged, (values for _, values in preset_chain(kind, name)))
