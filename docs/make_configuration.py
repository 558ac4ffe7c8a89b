"""Writes docs/configuration.md from the config classes: `python docs/make_configuration.py`. A test compares."""

import json
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from restok_cli.model.config import Config, meanings, section_of
from restok_cli.settings.changes import MAY_CHANGE
from restok_cli.settings.training import RUN_CONFIGS
from restok_cli.settings.yaml_file import flatten

OUTPUT = Path(__file__).with_name("configuration.md")
HEAD = """\
# Settings

*Made by `python docs/make_configuration.py` from the config classes; do not edit.*

All settings of `restok train-tokenizer` and `restok train-har`, with their defaults. A run takes them from its preset,
over that from `--config FILE`, over that from `--set KEY=VALUE`, over that from options such as `--max-steps`; what is
stated nowhere has its default. A preset states only what differs from the defaults:

```console
$ restok config show restok-l-128         # every value of a preset, and where it was stated
$ restok config schema tokenizer          # the same tables for editors, as a JSON schema
```

A config file is YAML with the sections below as its keys; `preset: NAME` says what it builds on:

```yaml
preset: restok-l-128
optimizer:
  learning_rate: 2e-4
```

`restok config validate FILE` checks one. A key marked with ⟳ may change when a run resumes, and so may
`schedule.max_steps` where no learning rate so far would have been another; all others belong to the run.
"""


def kind_of(annotation: Any, limits: str = "") -> str:
    """A type in the words of a config file; limits are those of a number, which stands first in a union."""
    if get_origin(annotation) is Literal:
        values = (str(value).lower() if isinstance(value, bool) else value for value in get_args(annotation))
        return " or ".join(f"`{value}`" for value in values)
    if get_origin(annotation) in (Union, types.UnionType):
        first, *others = get_args(annotation)
        return " or ".join((kind_of(first, limits), *map(kind_of, others)))
    if get_origin(annotation) is tuple:
        parts = [part for part in get_args(annotation) if part is not ...]
        return f"list of {kind_of(parts[0])}" + ("" if ... in get_args(annotation) else f", {len(parts)} of them")
    if get_args(annotation):  # Annotated: a type with limits
        return kind_of(get_args(annotation)[0]) + limits_of(get_args(annotation)[1:])
    names = {int: "integer", float: "number", bool: "`true` or `false`", str: "text", types.NoneType: "`null`"}
    return names[annotation] + limits


def limits_of(metadata: tuple) -> str:
    """What annotated-types say of a number: " ≥ 0, < 1"."""
    parts = []
    for rule in metadata:
        rules = rule.metadata if isinstance(rule, FieldInfo) else [rule]
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
            parts += [f"{sign} {getattr(each, name)}" for each in rules if getattr(each, name, None) is not None]
    return " " + ", ".join(parts) if parts else ""


def rows(config: type[Config], prefix: str) -> list[str]:
    """A line of the table for each setting of a section, and of those inside it."""
    lines, words = [], meanings(config)
    defaults = flatten(config().model_dump(mode="json"))
    for name, field in config.model_fields.items():
        key = f"{prefix}.{name}"
        if inner := section_of(field.annotation):
            lines.append(f"| `{key}.…` | a section as `{prefix_of(inner)}` | | {words[name]} |")
            continue
        mark = " ⟳" if key in MAY_CHANGE else ""
        kind = kind_of(field.annotation, limits_of(tuple(field.metadata)))
        lines.append(f"| `{key}`{mark} | {kind} | `{json.dumps(defaults[name])}` | {words[name]} |")
    return lines


def prefix_of(section: type[Config]) -> str:
    """The key under which a trainer has a section of that kind."""
    return next(
        name
        for config in RUN_CONFIGS.values()
        for name, field in config.model_fields.items()
        if section_of(field.annotation) is section
    )


def text() -> str:
    """The whole page."""
    parts = [HEAD]
    for kind, config in RUN_CONFIGS.items():
        parts.append(f"## train-{kind}\n")
        for name, field in config.model_fields.items():
            section = section_of(field.annotation)
            about = " ".join(section.__doc__.split())
            head = "| key | type | default | meaning |\n|---|---|---|---|\n"
            parts.append(f"### {name}\n\n{about}\n\n{head}" + "\n".join(rows(section, name)) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    OUTPUT.write_text(text(), encoding="utf-8")
