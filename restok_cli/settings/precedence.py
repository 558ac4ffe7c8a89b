"""The settings of a run, from all the places that state some: preset < launcher < config file < --set < options.

The launcher is `accelerate launch`: it goes over a preset, and what is stated after it must not contradict it.

Each value remembers where it was stated, so that a wrong one can be found and `restok config show` can tell.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

from restok_cli.console import counted
from restok_cli.errors import UsageError, did_you_mean
from restok_cli.model.config import Config, explain, section_of
from restok_cli.settings.launcher import LAUNCHER, settings_asked
from restok_cli.settings.presets import preset_chain, preset_names
from restok_cli.settings.recorded import NEW_DEFAULTS, completed
from restok_cli.settings.training import CONFIG_FILE, RUN_CONFIGS, RunConfig, RunKind
from restok_cli.settings.yaml_file import flatten, merged, parse_value, read_yaml, unflatten

DEFAULT_PRESET = "sample"  # where neither a preset nor a config file is named
MAX_STEPS = "schedule.max_steps"

# Parts of a run's length. Not the intervals (every …): what comes at them comes at the last step too.
OPTIMIZER_LENGTHS = ("optimizer.warmup_steps", "optimizer.decay_steps")
DISCRIMINATOR_LENGTHS = ("discriminator.start_step", *(f"discriminator.{key}" for key in OPTIMIZER_LENGTHS))
LENGTHS = (*OPTIMIZER_LENGTHS, *DISCRIMINATOR_LENGTHS, "revival.until")


class Layer(NamedTuple):
    """Settings from one place; later layers go over earlier ones."""

    name: str
    values: dict[str, Any]  # by dotted key
    places: Mapping[str, str] = MappingProxyType({})  # where a key is stated, as far as more is known than the name

    def place(self, key: str) -> str:
        """Where a dotted key, or the section that it is in, is stated."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places.get(key, self.name)


class Settings(NamedTuple):
    """Settings of a run, and where each dotted key was stated; the others are defaults."""

    config: RunConfig
    origins: dict[str, str]


def layers_of(
    kind: RunKind,
    preset: str | None,
    file: Path | None,
    assignments: Sequence[str] = (),
    options: Mapping[str, tuple[str, Any]] = MappingProxyType({}),
) -> list[Layer]:
    """The layers of a command line, the weakest first.

    A config file may name its preset by the key `preset`, over which the argument `preset` goes; with neither, a file
    stands on the defaults alone, and without a file the preset is `sample`. `options` gives, for each dotted key that
    has an option, its name and its value, None where it is not given.
    Raises UsageError for what cannot be read, for keys that do not exist, and for requests of `accelerate launch` that
    this trainer does not do.
    """
    source, stated = "", []
    if file is not None:
        found = read_file(file)
        stated = [checked_layer(kind, found.name, found.values, found.places)]
        if preset is None and found.preset is not None:
            preset, source = found.preset, f"{found.places['preset']}: "
    elif preset is None:
        preset = DEFAULT_PRESET
    presets = [] if preset is None else preset_layers(kind, preset, source)
    given = {key: value for key, (_, value) in options.items() if value is not None}
    stated.append(checked_layer(kind, "--set", assigned(assignments), {}))
    stated.append(Layer("options", given, {key: name for key, (name, _) in options.items()}))
    default = RUN_CONFIGS[kind]().schedule.batch_size
    batch_size = laid_over([*presets, *stated]).get("schedule.batch_size", default)
    return [*presets, Layer(LAUNCHER, *settings_asked(kind, batch_size)), *stated]


def is_preset(layer: Layer) -> bool:
    return layer.name.startswith("preset ")


def preset_layers(kind: RunKind, name: str, source: str = "") -> list[Layer]:
    """A preset, and before it those that it builds on. Raises UsageError, begun with `source`, if there is none."""
    try:
        return [checked_layer(kind, f"preset {step}", values, {}) for step, values in preset_chain(kind, name)]
    except UsageError as error:
        raise UsageError(f"{source}{error}") from None


class File(NamedTuple):
    """A config file, as it was read."""

    name: str
    values: dict[str, Any]  # nested
    places: dict[str, str]  # of each dotted key, sections included
    preset: str | None  # that it names


def read_file(path: Path) -> File:
    """A config file, or that of a run's folder. Raises UsageError if there is none, or it is damaged."""
    if path.is_dir() and not config_path(path).is_file():
        raise UsageError(f"{path} holds no {CONFIG_FILE}; give a config file, or the folder of a run")
    path = config_path(path)
    values, lines = read_yaml(path)
    places = {key: f"{path}:{line}" for key, line in lines.items()}
    preset = values.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise UsageError(f"{places['preset']}: preset = {preset!r} is no name of a preset")
    return File(str(path), values, places, preset)


def config_path(path: Path) -> Path:
    """The config file that `path` means: itself, or that of the run in the folder `path`."""
    return path / CONFIG_FILE if path.is_dir() else path


def assigned(assignments: Sequence[str]) -> dict[str, Any]:
    """`--set optimizer.learning_rate=1e-4` and the like, in their order. Raises UsageError for what is none."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            raise UsageError(f"--set {text}: write SECTION.KEY=VALUE, such as optimizer.learning_rate=1e-4")
        values = merged(values, unflatten({key: parse_value(value, f"--set {text}")}))
    return values


def checked_layer(kind: RunKind, name: str, values: dict[str, Any], places: Mapping[str, str]) -> Layer:
    """The layer of nested values.

    Raises UsageError for a key that does not exist, for a section that is none, and for one side of the images alone.
    """
    layer = Layer(name, {}, places)
    layer.values.update(_by_key(kind, RUN_CONFIGS[kind], values, layer))
    _check_sides(layer)
    return layer


def _by_key(kind: RunKind, config: type[Config], values: dict[str, Any], layer: Layer, prefix: str = "") -> dict:
    """The values of a section by dotted key; an empty section states nothing."""
    found = {}
    for name, value in config.with_present_keys(values).items():
        key = prefix + name
        if name not in config.model_fields:
            elsewhere = (known for known in known_keys(RUN_CONFIGS[kind]) if known.rpartition(".")[2] == name)
            nearest = min(elsewhere, key=lambda known: (known.count("."), known), default=None)
            hint = f" (did you mean {nearest}?)" if nearest else did_you_mean(name, config.model_fields)
            raise UsageError(f"{layer.place(key)}: unknown key {key}{hint}")
        section = section_of(config.model_fields[name].annotation)
        if section is None:
            found[key] = value
        elif isinstance(value, dict):
            found |= _by_key(kind, section, value, layer, f"{key}.")
        elif value is not None:
            keys = ", ".join(section.model_fields)
            raise UsageError(f"{layer.place(key)}: {key} = {value!r}, but it is a section, with the keys {keys}")
    return found


def _check_sides(layer: Layer) -> None:
    """Raises UsageError where one side of the images is set and the other left as it was, which nobody means."""
    sides = ("model.image_height", "model.image_width")
    for side, other in (sides, sides[::-1]):
        if side in layer.values and other not in layer.values:
            size = layer.values[side]
            raise UsageError(
                f"{layer.place(side)}: {side} = {size} is set without {other}; set both, or give --image-size {size} "
                "for squares and --image-size WIDTHxHEIGHT for others"
            )


def over_presets(layers: list[Layer], layer: Layer) -> list[Layer]:
    """The layers with another one over the presets' and under all others."""
    place = max((i for i, below in enumerate(layers, start=1) if is_preset(below)), default=0)
    return [*layers[:place], layer, *layers[place:]]


def rescaled(kind: RunKind, layers: list[Layer]) -> tuple[list[Layer], str]:
    """The layers with a preset's lengths shortened to fewer steps, and a line that says what became what, or "".

    So that `--max-steps 500`, or the same by --set, is a short run of the whole recipe. What a config file or --set
    states stays as it is, and longer runs keep the preset's lengths.
    """
    presets = [layer for layer in layers if is_preset(layer)]
    asked = next((layer for layer in reversed(layers[-2:]) if MAX_STEPS in layer.values), None)
    if not presets or asked is None:
        return layers, ""
    preset = flatten(RUN_CONFIGS[kind].model_validate(unflatten(laid_over(presets))).model_dump())
    before, steps = preset[MAX_STEPS], asked.values[MAX_STEPS]
    if type(steps) is not int or not 1 <= steps < before:  # where it is wrong, `resolve` says so
        return layers, ""
    stated = laid_over(layers[len(presets) :])
    unused = () if stated.get("discriminator.weight", preset.get("discriminator.weight")) else DISCRIMINATOR_LENGTHS
    # rounded down, so that what fitted fits; a decay has at least one step
    lengths = {
        key: max(preset[key] * steps // before, int(key.endswith("decay_steps")))
        for key in LENGTHS
        if preset.get(key) and key not in stated and key not in unused
    }
    if not lengths:
        return layers, ""
    place = asked.place(MAX_STEPS)
    places = {key: f"{preset[key]} of {presets[-1].name}, rescaled to {place}" for key in lengths}
    layer = Layer(f"{presets[-1].name} rescaled to {place}", lengths, places)
    changes = ", ".join(f"{key} {preset[key]} → {value}" for key, value in lengths.items())
    return over_presets(layers, layer), f"{place}: {counted(steps, 'step')} of the preset's {before}, so {changes}"


def with_choices_of(layers: list[Layer], run: Path) -> list[Layer]:
    """The layers with the lengths of the run that is resumed over those of presets, which were rescaled as it began.

    And under all layers what it has where the defaults were others as it began.
    """
    file = read_file(run)
    stated = flatten(completed(file.values))
    lengths, defaults = (
        Layer(file.name, {key: stated[key] for key in keys if key in stated}, file.places)
        for keys in (LENGTHS, NEW_DEFAULTS)
    )
    return [defaults, *over_presets(layers, lengths)]


def laid_over(layers: Sequence[Layer]) -> dict[str, Any]:
    """The values of layers, later ones over earlier ones."""
    return {key: value for layer in layers for key, value in layer.values.items()}


def resolve(kind: RunKind, layers: list[Layer], facts: Layer | None = None) -> Settings:
    """One config from all layers. `facts` is what the data set and the tokenizer decide, which none may contradict.

    Raises UsageError that says where the first thing that is wrong was stated.
    """
    _check_launcher(layers)
    if facts is not None:
        for layer, key in product(layers, facts.values):
            if layer.values.get(key, facts.values[key]) != facts.values[key]:
                raise UsageError(
                    f"{layer.place(key)}: {key} = {layer.values[key]}, but {facts.place(key)} has {facts.values[key]}; "
                    "give what fits, or leave it out"
                )
        layers = [*layers, facts]
    try:
        config = RUN_CONFIGS[kind].model_validate(unflatten(laid_over(layers)))
    except ValidationError as error:
        key, message = explain(RUN_CONFIGS[kind], error)
        stating = (layer for layer in reversed(layers) if any(f"{key}.".startswith(f"{k}.") for k in layer.values))
        place = next((layer.place(key) for layer in stating), None)
        # a check of several values: each of them is in the message, and any layer may have stated it
        stated = dict.fromkeys(layer.name for layer in layers if layer.values)  # a run's own has several layers
        raise UsageError(f"{place or ', '.join(stated)}: {message}") from None
    return Settings(config, {key: layer.place(key) for layer in layers for key in layer.values})


def _check_launcher(layers: list[Layer]) -> None:
    """Raises UsageError where what is stated after the launcher's layer comes to something else."""
    place = [layer.name for layer in layers].index(LAUNCHER)
    for key, value in layers[place].values.items():
        last = [layer for layer in layers[place:] if key in layer.values][-1]
        if last.values[key] != value:
            raise UsageError(
                f"{last.place(key)}: {key} = {last.values[key]}, but {layers[place].place(key)} asks for {value}; give "
                "what fits, or leave it out"
            )


def find(name: str) -> str | Path:
    """Find the config that `name` means: a preset (returned as it is), a config file or the folder of a run (a path).

    A folder that is named like a preset can be given as ./NAME. Raises UsageError where there is none of them.
    """
    presets = {preset for kind in RUN_CONFIGS for preset in preset_names(kind)}
    if name in presets:
        return name
    if not Path(name).exists():
        raise UsageError(f"{name}: no such preset, config file or run{did_you_mean(name, presets)}")
    return Path(name)


def kind_of(found: list[str | Path]) -> RunKind:
    """Which trainer presets and config files are for, by their names and by the keys that they state.

    Raises UsageError where that is none, or either.
    """
    fitting = [likely_kinds(each) for each in found]
    kinds: list[RunKind] = [kind for kind in RUN_CONFIGS if all(kind in each for each in fitting)]
    names = " and ".join(map(str, found))
    if not kinds:
        raise UsageError(f"{names} are for different trainers and have nothing in common")
    if len(kinds) > 1:
        raise UsageError(f"{names} may be for either trainer; say which by --kind tokenizer or --kind har")
    return kinds[0]


def likely_kinds(found: str | Path) -> list[RunKind]:
    """The trainers that a preset is for, or whose keys a config file states, with the fewest mistakes."""
    if isinstance(found, str):
        return [kind for kind in RUN_CONFIGS if found in preset_names(kind)]
    file = read_file(found)
    kinds = likely_kinds(file.preset) if file.preset is not None else []
    unknown: dict[RunKind, int] = {}
    for kind in kinds or RUN_CONFIGS:
        known = known_keys(RUN_CONFIGS[kind])
        sections = {key.rpartition(".")[0] for key in known}
        unknown[kind] = len(file.places.keys() - {"preset"} - known - sections)
    return [kind for kind, count in unknown.items() if count == min(unknown.values())]


def known_keys(config: type[Config], prefix: str = "") -> set[str]:
    """The dotted keys of all values of a config, without those of its sections."""
    keys = set()
    for name, field in config.model_fields.items():
        section = section_of(field.annotation)
        keys |= known_keys(section, f"{prefix}{name}.") if section else {prefix + name}
    return keys
