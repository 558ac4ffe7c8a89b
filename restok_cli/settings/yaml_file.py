"""YAML as people mean it: every key with its line, and values by the rules of YAML 1.2.

By those of 1.1, which PyYAML follows, `1e-4` is a word, `no` is false, `on` is true even as a key, `1:30` is 90 and
`010` is 8. Keys that are stated twice are refused, where PyYAML takes the last.
"""

import math
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from restok_cli.errors import UsageError
from restok_cli.files import read_whole


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 — PyYAML's own way; filled below


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


# The last three are PyYAML's own stumbling over tags that do not fit their values, such as `!!int ''`.
NOT_YAML = (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError)

MAX_YAML_BYTES = 2**20  # PyYAML makes a thousand times as much of each
MAX_NODES = 100_000  # of a file, with what its aliases stand for


class Yaml(NamedTuple):
    values: dict[str, Any]  # nested, as in the file
    lines: dict[str, int]  # of each dotted key, sections included; the first line of a file is 1


def read_yaml(path: Path) -> Yaml:
    """Read a file of keys and sections. Raises UsageError with the line of what is wrong."""
    try:
        text = read_whole(path, MAX_YAML_BYTES).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise UsageError(f"{path} cannot be read ({reason})") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Yaml:
    """Read YAML text that comes from `source`, which is named in messages. Nothing at all is an empty config."""
    lines: dict[str, int] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Yaml({}, {})
            if not isinstance(node, yaml.MappingNode):
                raise UsageError(f"{source} holds no config: keys and values, such as `schedule: {{max_steps: 500}}`")
            if _count_nodes(node, {}) > MAX_NODES:
                raise UsageError(f"{source}: not YAML: more than {MAX_NODES:,} values, with what its aliases stand for")
            return Yaml(_construct(loader, node, "", source, lines), lines)
        finally:
            loader.dispose()
    except NOT_YAML as error:
        raise UsageError(f"{source}{_describe(error)}") from error


def _count_nodes(node: yaml.Node, counted: dict[yaml.Node, float]) -> float:
    """How many a node is with all below it, as often as aliases repeat each; infinitely many where it holds itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if node not in counted:
        counted[node] = math.inf
        below = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        counted[node] = 1 + sum(_count_nodes(child, counted) for child in below)
    return counted[node]


def parse_value(text: str, source: str) -> Any:
    """The value that `text` is in YAML. Raises UsageError where it is none, or nothing."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            value = None if node is None else _value_of(loader, node, "", source, {})
        finally:
            loader.dispose()
    except NOT_YAML as error:
        raise UsageError(f"{source}{_describe(error).removeprefix(':1')}") from error
    if value is None and text.strip().lower() not in ("null", "~"):
        raise UsageError(f"{source}: no value after the =; null stands for none")
    return value


def _construct(
    loader: _Loader, node: yaml.MappingNode, prefix: str, source: str, lines: dict[str, int]
) -> dict[str, Any]:
    first_lines: dict[str, int] = {}
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise UsageError(f"{source}:{line}: a key must be a word")
        if key_node.value in first_lines:
            key = prefix + key_node.value
            raise UsageError(f"{source}:{line}: {key} is stated twice, first in line {first_lines[key_node.value]}")
        first_lines[key_node.value] = line
    loader.flatten_mapping(node)  # puts what `<<` merges in before the keys that override it
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        name, key = key_node.value, prefix + key_node.value
        lines[key] = key_node.start_mark.line + 1
        values[name] = _value_of(loader, value_node, f"{key}.", source, lines)
    return values


def _value_of(loader: _Loader, node: yaml.Node, prefix: str, source: str, lines: dict[str, int]) -> Any:
    """A section, or any other value."""
    if isinstance(node, yaml.MappingNode):
        return _construct(loader, node, prefix, source, lines)
    return loader.construct_object(node, deep=True)


def _describe(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error) or "it is nested too deep"
    return f"{f':{mark.line + 1}' if mark else ''}: not YAML: {' '.join(reason.split())}"


def merged(values: dict, changes: dict) -> dict:
    """`values` with `changes` laid over them, section by section."""
    result = dict(values)
    for key, change in changes.items():
        before = result.get(key)
        result[key] = merged(before, change) if isinstance(before, dict) and isinstance(change, dict) else change
    return result


def flatten(values: dict, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted keys."""
    flat = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dicts that dotted keys stand for."""
    values: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        section = values
        for each in sections:
            section = section.setdefault(each, {})
        section[name] = value
    return values
