"""`restok config`: the settings of a run before it starts. No torch here: it answers at once."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from restok_cli.commands.options import Assignments, LinesAsJson
from restok_cli.commands.suggest import suggest
from restok_cli.console import note, say
from restok_cli.errors import UsageError

if TYPE_CHECKING:
    from restok_cli.settings.precedence import Settings
    from restok_cli.settings.training import RunKind

app = typer.Typer(
    no_args_is_help=True,
    help="""Suggest, show, compare and check the settings of runs.

    A run takes its settings from its preset, over that from the file of --config,
    over that from --set, over that from options such as --max-steps. A config
    file is YAML with the keys that show prints; by the key preset it may name
    what it builds on.

    Examples:

      restok config suggest data/photos
      restok config show restok-l-128
      restok config diff restok-l-128 runs/tokenizer
      restok config validate run.yaml
      restok config schema tokenizer > tokenizer.schema.json
    """,
)

Source = Annotated[str, typer.Argument(metavar="CONFIG", help="A preset, a config file, or a run.", show_default=False)]
Kind = Annotated[Literal["tokenizer", "har"] | None, typer.Option(help="Whose config, where that is not clear.")]


app.command()(suggest)


@app.command()
def show(config: Source, assignments: Assignments = None, kind: Kind = None, as_json: LinesAsJson = False) -> None:
    """Print every setting; a comment says where one was stated that is no default.

    Examples:

      restok config show har-l
      restok config show sample --kind tokenizer --set schedule.max_steps=500
    """
    settings = settings_of([config], kind, assignments or [])[0]
    values = settings.config.model_dump(mode="json")
    if as_json:
        print(json.dumps({"config": values, "origins": settings.origins}))
    else:
        say(*commented(values, settings.origins))


@app.command()
def diff(one: Source, other: Source, kind: Kind = None, as_json: LinesAsJson = False) -> None:
    """Print the settings that differ between two, one a line.

    Example:

      restok config diff restok-l-128 restok-l-128-released
    """
    from restok_cli.settings.yaml_file import flatten

    before, after = (
        flatten(settings.config.model_dump(mode="json")) for settings in settings_of([one, other], kind, [])
    )
    # a section that is switched off has no keys of its own, only itself
    changed = {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)}
    if as_json:
        print(json.dumps(changed))
        return
    for key, (old, new) in changed.items():
        say(f"{key}: {flow(old)} → {flow(new)}")


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A config file, or a run.", show_default=False)],
    kind: Kind = None,
) -> None:
    """Check a config file, and say which commands take it. The first mistake is named with its line.

    Example:

      restok config validate run.yaml
    """
    from restok_cli.model.size import check_model_memory
    from restok_cli.settings.precedence import likely_kinds

    kinds: list[RunKind] = [kind] if kind else likely_kinds(file)
    errors: dict[str, UsageError] = {}
    for each in kinds:
        try:
            check_model_memory(resolve_one(file, each, []).config.model, f"{file}: ", "model.")
        except UsageError as error:
            errors[each] = error
    if len(errors) == len(kinds):
        raise errors[kinds[0]]
    for each, error in errors.items():
        note(f"not for restok train-{each}: {error}")
    valid = [f"restok train-{each}" for each in kinds if each not in errors]
    say(f"{file}: valid for {' and '.join(valid)}")


@app.command()
def schema(kind: Annotated[Literal["tokenizer", "har"], typer.Argument(metavar="tokenizer|har")]) -> None:
    """Print a JSON schema of config files, by which editors complete and check them.

    Example:

      restok config schema har > har.schema.json
    """
    from restok_cli.settings.presets import preset_names
    from restok_cli.settings.training import RUN_CONFIGS

    result = RUN_CONFIGS[kind].model_json_schema()
    preset = {"enum": preset_names(kind), "title": "Preset", "description": "What this file builds on."}
    print(json.dumps(result | {"properties": {"preset": preset, **result["properties"]}}, indent=2))


def settings_of(names: list[str], kind: "RunKind | None", assignments: list[str]) -> "list[Settings]":
    """The settings of presets, files or runs, all of one kind. Raises UsageError where one is wrong."""
    from restok_cli.settings.precedence import find, kind_of

    found = [find(name) for name in names]
    kind = kind or kind_of(found)
    return [resolve_one(each, kind, assignments) for each in found]


def resolve_one(found: str | Path, kind: "RunKind", assignments: list[str]) -> "Settings":
    from restok_cli.settings.precedence import layers_of, rescaled, resolve

    preset, file = (found, None) if isinstance(found, str) else (None, found)
    layers, _ = rescaled(kind, layers_of(kind, preset, file, assignments))
    return resolve(kind, layers)


def commented(values: dict[str, Any], origins: dict[str, str], prefix: str = "") -> list[str]:
    """Nested values as lines of YAML, with the origin of those that have one as a comment."""
    lines, indent = [], "  " * prefix.count(".")
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *commented(value, origins, f"{prefix}{name}.")]
        else:
            origin = origins.get(prefix + name)
            lines.append(f"{indent}{name}: {flow(value)}" + (f"  # {origin}" if origin else ""))
    return lines


def flow(value: Any) -> str:
    """A value in one line of YAML."""
    import yaml

    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()
