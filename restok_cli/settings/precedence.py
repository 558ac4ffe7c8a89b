"""The settings of a run, from all the places that state some: preset < launcher < config file < --set < options.

The launcher is `accelerate launch`: it goes over a preset, and what is stated after it must not contradict it.

Each value remembers where it was stated, so that a wrong one can be found and `restok config show` can tell.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args, overload

from pydantic import ValidationError

from restok_cli.console import counted
from restok_cli.errors import UsageError, did_you_mean
from restok_cli.model.config import Config, explain, section_of
from restok_cli.settings.launcher import LAUNCHER, settings_asked
from restok_cli.settings.presets import preset_chain, preset_names
from restok_cli.settings.recorded import NEW_DEFAULTS, completed
from restok_cli.settings.training import CONFIG_FILE, RUN_CONFIGS, HarRunConfig, RunConfig, RunKind, TokenizerRunConfig
from restok_cli.settings.yaml_file import flatten, merged, parse_value, read_yaml

DEFAULT_PRESET = "sample"  # where neither a preset nor a config file is named
MAX_STEPS = "schedule.max_steps"

# Parts of a run's length. Not the intervals (every …): what comes at them comes at the last step too.
OPTIMIZER_LENGTHS = ("optimizer.warmup_steps", "optimizer.decay_steps")
DISCRIMINATOR_LENGTHS = ("discriminator.start_step", *(f"discriminator.{key}" for key in OPTIMIZER_LENGTHS))
LENGTHS = (*OPTIMIZER_LENGTHS, *DISCRIMINATOR_LENGTHS, "revival.until")


class Layer(NamedTuple):
    """Settings from one place; later layers go over earlier ones."""

    name: str
    values: dict[str, Any]  # nested, as in a config file
    places: dict[str, str] = {}  # noqa: RUF012 — where a dotted key is stated, as far as more is known than the name

    def place(self, key: str) -> str:
        """Where a dotted key, or the section that it is in, is stated."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places.get(key, self.name)


OneConfig = TypeVar("OneConfig", bound=RunConfig, covariant=True)


class Settings(NamedTuple, Generic[OneConfig]):
    """Settings of a run, and where each dotted key was stated; the others are defaults."""

    config: OneConfig
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
    Raises UsageError for what cannot be read, and for requests of `accelerate launch` that this trainer does not do.
    """
    layers = []
    if file is not None:
        layer, named = file_layer(file)
        if preset is None and named is not None:
            layers += preset_layers(kind, named, f"{layer.place('preset')}: ")
        layers.append(layer)
    elif preset is None:
        preset = DEFAULT_PRESET
    if preset is not None:
        layers[:0] = preset_layers(kind, preset)
    presets = sum(is_preset(layer) for layer in layers)
    layers += [assignment_layer(assignments)]
    given = {key: (option, value) for key, (option, value) in options.items() if value is not None}
    values = unflatten({key: value for key, (_, value) in given.items()})
    layers += [Layer("options", values, {key: option for key, (option, _) in given.items()})]
    stated = flatten(RUN_CONFIGS[kind]().model_dump()) | flatten(_laid_over(layers))
    flat, places = settings_asked(kind, stated["schedule.batch_size"])
    return [*layers[:presets], Layer(LAUNCHER, unflatten(flat), places), *layers[presets:]]


def is_preset(layer: Layer) -> bool:
    return layer.name.startswith("preset ")


def preset_layers(kind: RunKind, name: str, source: str = "") -> list[Layer]:
    """A preset, and before it those that it builds on. Raises UsageError, begun with `source`, if there is none."""
    try:
        return [Layer(f"preset {step}", values) for step, values in preset_chain(kind, name)]
    except UsageError as error:
        raise UsageError(f"{source}{error}") from None


def file_layer(path: Path) -> tuple[Layer, str | None]:
    """A config file, or that of a run's folder, and the preset that it names. Raises UsageError if there is none, or it
    is damaged.
    """
    if path.is_dir() and not config_path(path).is_file():
        raise UsageError(f"{path} holds no {CONFIG_FILE}; give a config file, or the folder of a run")
    stated = read_yaml(config_path(path))
    values = dict(stated.values)
    preset = values.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise UsageError(f"{path}:{stated.lines['preset']}: preset = {preset!r} is no name of a preset")
    path = config_path(path)
    return Layer(str(path), values, {key: f"{path}:{line}" for key, line in stated.lines.items()}), preset


def config_path(path: Path) -> Path:
    """The config file that `path` means: itself, or that of the run in the folder `path`."""
    return path / CONFIG_FILE if path.is_dir() else path


def assignment_layer(assignments: Sequence[str]) -> Layer:
    """`--set optimizer.learning_rate=1e-4` and the like, in their order. Raises UsageError for what is none."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            raise UsageError(f"--set {text}: write SECTION.KEY=VALUE, such as optimizer.learning_rate=1e-4")
        values = merged(values, nested(key, parse_value(value, f"--set {text}")))
    return Layer("--set", values)


def nested(key: str, value: Any) -> dict[str, Any]:
    """The nested dict that states one dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict that states dotted keys."""
    return reduce(merged, (nested(key, value) for key, value in flat.items()), {})


def with_model(layers: list[Layer], name: str, model: dict[str, Any]) -> list[Layer]:
    """The layers with the config of a model, from which a run starts, over the presets' and under all others."""
    return _over_presets(layers, Layer(name, {"model": model}))


def _over_presets(layers: list[Layer], layer: Layer) -> list[Layer]:
    place = max((i for i, over in enumerate(layers, start=1) if is_preset(over)), default=0)
    return [*layers[:place], layer, *layers[place:]]


def rescaled(kind: RunKind, layers: list[Layer]) -> tuple[list[Layer], str]:
    """The layers with a preset's lengths shortened to fewer steps, and a line that says what became what, or "".

    So that `--max-steps 500`, or the same by --set, is a short run of the whole recipe. What a config file or --set
    states stays as it is, and longer runs keep the preset's lengths.
    """
    presets = [layer for layer in layers if is_preset(layer)]
    asked = next((layer for layer in reversed(layers[-2:]) if MAX_STEPS in flatten(layer.values)), None)
    if not presets or asked is None:
        return layers, ""
    preset = flatten(RUN_CONFIGS[kind].model_validate(_laid_over(presets)).model_dump())
    before, steps = preset[MAX_STEPS], flatten(asked.values)[MAX_STEPS]
    if type(steps) is not int or not 1 <= steps < before:  # where it is wrong, `resolve` says so
        return layers, ""
    stated = flatten(_laid_over(layers[len(presets) :]))
    unused = () if stated.get("discriminator.weight", preset.get("discriminator.weight")) else DISCRIMINATOR_LENGTHS
    lengths = {}
    for key in LENGTHS:
        if preset.get(key) and key not in stated and key not in unused:
            # rounded down, so that what fitted fits; a decay has at least one step
            lengths[key] = max(preset[key] * steps // before, int(key.endswith("decay_steps")))
    if not lengths:
        return layers, ""
    place = asked.place(MAX_STEPS)
    places = {key: f"{preset[key]} of {presets[-1].name}, rescaled to {place}" for key in lengths}
    layer = Layer(f"{presets[-1].name} rescaled to {place}", unflatten(lengths), places)
    changes = ", ".join(f"{key} {preset[key]} → {value}" for key, value in lengths.items())
    return _over_presets(layers, layer), f"{place}: {counted(steps, 'step')} of the preset's {before}, so {changes}"


def with_choices_of(layers: list[Layer], run: Path) -> list[Layer]:
    """The layers with the lengths of the run that is resumed over those of presets, which were rescaled as it began.

    And under all layers what it has where the defaults were others as it began.
    """
    file, _ = file_layer(run)
    stated = flatten(completed(file.values))
    lengths, defaults = (
        file._replace(values=unflatten({key: stated[key] for key in keys if key in stated}))
        for keys in (LENGTHS, NEW_DEFAULTS)
    )
    return [defaults, *_over_presets(layers, lengths)]


def _laid_over(layers: Sequence[Layer]) -> dict[str, Any]:
    """The values of layers, later ones over earlier ones."""
    return reduce(merged, (layer.values for layer in layers), {})


@overload
def resolve(
    kind: Literal["tokenizer"], layers: list[Layer], facts: Layer | None = ...
) -> Settings[TokenizerRunConfig]: ...
@overload
def resolve(kind: Literal["har"], layers: list[Layer], facts: Layer | None = ...) -> Settings[HarRunConfig]: ...
def resolve(kind: RunKind, layers: list[Layer], facts: Layer | None = None) -> Settings[RunConfig]:
    """One config from all layers. `facts` is what the data set and the tokenizer decide, which none may contradict.

    Raises UsageError that says where the first thing that is wrong was stated.
    """
    root = RUN_CONFIGS[kind]
    layers = [layer._replace(values=_checked(root, root, layer.values, layer)) for layer in layers]
    for layer in layers:
        _check_sides(layer)
    _check_launcher(layers)
    if facts is not None:
        for key, known in flatten(facts.values).items():
            for layer in layers:
                stated = flatten(layer.values).get(key, known)
                if stated != known:
                    raise UsageError(
                        f"{layer.place(key)}: {key} = {stated}, but {facts.place(key)} has {known}; "
                        "give what fits, or leave it out"
                    )
        layers = [*layers, facts]
    values = _laid_over(layers)
    origins = {key: layer.place(key) for layer in layers for key in flatten(layer.values)}
    try:
        config = root.model_validate(values)
    except ValidationError as error:
        key, message = explain(root, error)
        place = next((layer.place(key) for layer in reversed(layers) if _states(layer.values, key)), None)
        # a check of several values: each of them is in the message, and any layer may have stated it
        raise UsageError(f"{place or ', '.join(layer.name for layer in layers if layer.values)}: {message}") from None
    return Settings(config, origins)


def _check_launcher(layers: list[Layer]) -> None:
    """Raises UsageError where what is stated after the launcher's layer comes to something else."""
    for number, launcher in enumerate(layers, start=1):
        for key, value in flatten(launcher.values).items() if launcher.name == LAUNCHER else ():
            for layer in reversed(layers[number:]):
                stated = flatten(layer.values)
                if stated.get(key, value) != value:
                    raise UsageError(
                        f"{layer.place(key)}: {key} = {stated[key]}, but {launcher.place(key)} asks for {value}; give "
                        "what fits, or leave it out"
                    )
                if key in stated:
                    break


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
    layer, preset = file_layer(found)
    kinds = likely_kinds(preset) if preset is not None else []
    unknown: dict[RunKind, int] = {}
    for kind in kinds or RUN_CONFIGS:
        known = known_keys(RUN_CONFIGS[kind])
        sections = {key.rpartition(".")[0] for key in known}
        unknown[kind] = len(layer.places.keys() - {"preset"} - known - sections)
    return [kind for kind, count in unknown.items() if count == min(unknown.values())]


def known_keys(config: type[Config], prefix: str = "") -> set[str]:
    """The dotted keys of all values of a config, without those of its sections."""
    keys = set()
    for name, field in config.model_fields.items():
        section = section_of(field.annotation)
        keys |= known_keys(section, f"{prefix}{name}.") if section else {prefix + name}
    return keys


def _checked(root: type[Config], config: type[Config], values: dict, layer: Layer, prefix: str = "") -> dict:
    """The values of a section without empty sections in it, which state nothing.

    Raises UsageError for a key that does not exist, and for a section that is none.
    """
    result = {}
    for name, value in config.with_present_keys(values).items():
        key = prefix + name
        if name not in config.model_fields:
            elsewhere = (known for known in known_keys(root) if known.rpartition(".")[2] == name)
            nearest = min(elsewhere, key=lambda known: (known.count("."), known), default=None)
            hint = f" (did you mean {nearest}?)" if nearest else did_you_mean(name, config.model_fields)
            raise UsageError(f"{layer.place(key)}: unknown key {key}{hint}")
        annotation = config.model_fields[name].annotation
        section = section_of(annotation)
        if section is None:
            result[name] = value
        elif isinstance(value, dict):
            result[name] = _checked(root, section, value, layer, f"{key}.")
        elif value is None:
            result |= {name: None} if type(None) in get_args(annotation) else {}
        else:
            keys = ", ".join(section.model_fields)
            raise UsageError(f"{layer.place(key)}: {key} = {value!r}, but it is a section, with the keys {keys}")
    return result


def _check_sides(layer: Layer) -> None:
    """Raises UsageError where one side of the images is set and the other left as it was, which nobody means."""
    model = layer.values.get("model", {})
    sides = ("image_height", "image_width")
    for side, other in (sides, sides[::-1]):
        if side in model and other not in model:
            raise UsageError(
                f"{layer.place(f'model.{side}')}: model.{side} = {model[side]} is set without model.{other}; set both, "
                f"or give --image-size {model[side]} for squares and --image-size WIDTHxHEIGHT for others"
            )


def _states(values: dict, key: str) -> bool:
    """Whether nested dicts state a value that a dotted key names, or a part of it (an element of a list)."""
    name, _, rest = key.partition(".")
    if not name or name not in values:
        return False
    inner = values[name]
    return _states(inner, rest) if rest and isinstance(inner, dict) else not isinstance(inner, dict)
