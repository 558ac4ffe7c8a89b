"""What restok's command lines may hold: its commands, their options and arguments, and the values that these take.

Read from the commands themselves; where the code knows more of a value than its type (presets, classes, metrics …),
`values_of` says where it stands.
"""

import re
import textwrap
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from restok_cli.cli import app
from restok_cli.commands.bench import WHAT
from restok_cli.commands.models import HUB_MODELS
from restok_cli.data.shards.layout import SAMPLE_FOLDER, read_manifest
from restok_cli.data.sources.imagenet import read_classes
from restok_cli.inference.sampling_options import PRESETS
from restok_cli.machine import DEVICE_TYPES
from restok_cli.metrics.networks.backbones import NETWORKS
from restok_cli.metrics.table import METRICS
from restok_cli.model.config import Config, section_of
from restok_cli.model.guidance import SamplingOptions
from restok_cli.settings.presets import preset_names
from restok_cli.settings.training import RUN_CONFIGS
from restok_cli.training.run_folder.trackers import NAMES as TRACKERS

PROGRAM = "restok"
FOLDERS = {"DIR", "M", "RUN"}  # metavars of paths that are folders; others may be files
MAX_HELP = 88  # characters of a description
WIDTH = 120  # of a line in the scripts


class Values(typing.NamedTuple):
    """What may stand in one place of a command line. A word that ends in = or : is only the beginning of a value."""

    name: str
    words: tuple[str, ...] = ()
    paths: typing.Literal["", "files", "folders"] = ""


class Option(typing.NamedTuple):
    names: tuple[str, ...]
    help: str
    metavar: str  # empty for a flag
    values: Values  # of what it takes
    count: int  # of what it takes; 0 for a flag
    repeatable: bool


class Argument(typing.NamedTuple):
    metavar: str
    values: Values
    repeatable: bool  # takes all that is left


class Command(typing.NamedTuple):
    path: tuple[str, ...]  # its name, after those of the groups that it is in
    help: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    commands: "tuple[Command, ...]"

    @property
    def line(self) -> str:
        return " ".join(self.path)

    def walk(self) -> "Iterator[Command]":
        """Itself and all below it, each before those in it."""
        yield self
        for command in self.commands:
            yield from command.walk()


NOTHING = Values("nothing")  # that could be known: a number, a free text
FILES, PLACES = Values("files", paths="files"), Values("folders", paths="folders")


def read_tree() -> Command:
    """The whole of restok, as its commands describe themselves."""
    command = typer.main.get_command(app)
    return _read(command, command.make_context(PROGRAM, [], resilient_parsing=True), (PROGRAM,))


def all_values(tree: Command) -> list[Values]:
    """Every kind of value that is asked for somewhere, by name. Raises ValueError where two have the same name."""
    found = {}
    for command in tree.walk():
        for asked in (*command.options, *command.arguments):
            if found.setdefault(asked.values.name, asked.values) != asked.values:
                raise ValueError(f"two kinds of values are called {asked.values.name}: {command.line}")
    found.pop(NOTHING.name, None)
    return [found[name] for name in sorted(found)]


def _read(command, context: typer.Context, path: tuple[str, ...]) -> Command:
    options, arguments = [], []
    types = {"help": bool} | (typing.get_type_hints(command.callback) if command.callback else {})
    for parameter in command.get_params(context):
        if parameter.hidden:
            continue
        values = values_of(path, parameter, types[parameter.name], context)
        if parameter.param_type_name == "argument":
            arguments.append(Argument(parameter.metavar or parameter.name, values, parameter.nargs == -1))
            continue
        count = 0 if parameter.is_flag else parameter.nargs
        names = tuple(sorted((*parameter.opts, *parameter.secondary_opts)))  # Click keeps some of them in a set
        metavar = (parameter.metavar or parameter.name.strip("_")) if count else ""
        options.append(Option(names, one_line(parameter.help), metavar, values, count, parameter.multiple))
    if path != (PROGRAM,) and getattr(command, "commands", {}) and any(option.count for option in options):
        raise ValueError(f"{' '.join(path)} has an option with a value before its command: the scripts cannot tell")
    commands = [
        _read(sub, sub.make_context(name, [], parent=context, resilient_parsing=True), (*path, name))
        for name in (command.list_commands(context) if hasattr(command, "commands") else [])
        if not (sub := command.commands[name]).hidden
    ]
    return Command(path, one_line(command.help), tuple(options), tuple(arguments), tuple(commands))


def one_line(text: str | None) -> str:
    """The first paragraph of a help text, without markup and final dot, short enough for a list."""
    first = re.sub(r"\[/?b\]|\\(?=\[)", "", (text or "").split("\n\n")[0])
    return textwrap.shorten(first, MAX_HELP, placeholder=" …").rstrip(".")


def values_of(path: tuple[str, ...], parameter, annotation: object, context: typer.Context) -> Values:
    """What an option or argument of the command at `path` takes. Raises ValueError where nobody knows."""
    name = parameter.opts[0] if parameter.param_type_name == "argument" else max(parameter.opts, key=len)
    if choices := tuple(item.value for item in parameter.shell_complete(context, "")):
        long = "metric of sets" if path[-1] == "tune" else name.lstrip("-")
        return Values("|".join(choices) if len(choices) < 10 else long, choices)
    match path[-1], name, parameter.metavar:
        case "train-tokenizer" | "train-har" as command, "--preset", _:
            kind = command.removeprefix("train-")
            return Values(f"{kind} presets", tuple(preset_names(kind)))
        case ("bench", "--preset", _) | ("generate" | "encode", "--tokenizer", None):  # the latter of plan
            return Values("tokenizer presets", tuple(preset_names("tokenizer")))
        case ("bench", "--har", _) | ("generate", "--preset", None):  # the latter of plan
            return Values("har presets", tuple(preset_names("har")))
        case "bench", "--what", _:
            return Values("parts", WHAT)
        case "presets", _, "PRESET":
            return Values("presets", tuple(dict.fromkeys(name for kind in RUN_CONFIGS for name in preset_names(kind))))
        case command, "--set", _:
            kinds = [kind for kind in RUN_CONFIGS if command == f"train-{kind}"] or list(RUN_CONFIGS)
            keys = dict.fromkeys(key for kind in kinds for key in setting_keys(RUN_CONFIGS[kind]))
            return Values(f"{' and '.join(kinds)} settings", tuple(f"{key}=" for key in keys))
        case "generate", "--preset", "NAME|FILE":
            return Values("ways to draw", tuple(PRESETS), "files")
        case "tune", "--try", _:
            return Values("options to try", tuple(f"{name}=" for name in SamplingOptions._fields))
        case _, "--class", _:
            return Values("classes", class_words())
        case _, "--device", _:
            return Values("devices", ("auto", *DEVICE_TYPES))
        case _, "--features", _:
            return Values("networks", tuple(network.removesuffix("NAME") for network in NETWORKS))
        case _, "--fail-under", _:
            return Values("limits", tuple(f"{metric}=" for metric in METRICS))
        case _, "--track", _:
            return Values("trackers", TRACKERS)
        case _, "--num-processes", _:
            return Values("auto", ("auto",))
        case _, "--batch-size", "N":  # that of commands which find it out themselves
            return Values("auto", ("auto",))
        case ("evaluate", "--num-codes", _) | ("probe", "--block", _):
            return Values("all", ("all",))
        case "evaluate", "--perturb" | "--nearest", _:
            return NOTHING
        case "probe", "--l2", _:
            return Values("auto", ("auto",))
        case _, "--class-names", _:
            return Values("class names", ("imagenet",), "files")
        case _, "--make-reference", _:
            return Values("pictures", ("sample",), "files")
        case "evaluate", "--output", _:
            return FILES
        case "decode", "--mix", _:
            return FILES
        case "curves", "--metric", _:
            return NOTHING  # what runs logged
        case _, "--licence" | "--revision" | "--image-size" | "--fit", _:
            return NOTHING
        case "bench", "--batch-size", _:
            return NOTHING
        case "push", _, "OWNER/NAME":
            return NOTHING
        case "reconstruct", "--num-codes", _:
            return NOTHING
        case _, _, "M" | "MODEL":
            return Values("models", ("sample", *(model.name for model in HUB_MODELS)), "folders")
        case _, _, "DATA":
            return Values("data", ("sample",), "folders")
        case _, _, "CONFIG":
            return Values("configs", tuple(sorted({n for kind in RUN_CONFIGS for n in preset_names(kind)})), "files")
        case _, _, "IMAGES" | "SAMPLES" | "REF" | "PATH":
            return Values("pictures", ("sample",), "files")
        case _, _, "CODES" | "SHARDS":
            return FILES
    types = set(_plain_types(annotation))
    if Path in types:
        return PLACES if parameter.metavar in FOLDERS else FILES
    if types & {bool, int, float}:
        return NOTHING
    raise ValueError(f"{' '.join(path)} {name}: say in values_of of {__file__} what it takes, or NOTHING")


def _plain_types(annotation: object) -> Iterator[object]:
    """The types that an annotation such as `list[Path] | None` is made of."""
    inner = typing.get_args(annotation)
    yield from (plain for part in inner for plain in _plain_types(part)) if inner else [annotation]


def setting_keys(config: type[Config], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a config, as --set takes them."""
    for name, field in config.model_fields.items():
        section = section_of(field.annotation)
        yield from setting_keys(section, f"{prefix}{name}.") if section else [prefix + name]


def class_words() -> tuple[str, ...]:
    """The names of the classes that come with restok: the sample's and ImageNet's, each as --class takes it."""
    return tuple(dict.fromkeys(("all", "random", *read_manifest(SAMPLE_FOLDER).class_names, *read_classes().values())))


def wrapped(words: Iterable[str], indent: int) -> list[str]:
    """Words in lines of equal indentation, none broken."""
    lines, line = [], ""
    for word in words:
        if line and indent + len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
    return [" " * indent + line for line in [*lines, line]]
