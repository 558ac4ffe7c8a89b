"""The base of all that restok reads as JSON: each reader describes its fields, and nothing else reaches the rest.

pydantic refuses what is no UTF-8 or no JSON, halves of characters, and what is nested too deep; the types here refuse
numbers that neither NumPy nor torch could hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic_core import from_json

from restok_cli.errors import RestokError
from restok_cli.files import is_sealed, lines_of, read_whole

Described = TypeVar("Described")

MAX_INT = 2**63 - 1
SHOWN = 60  # characters of a wrong value

Int = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]
Count = Annotated[int, Field(ge=0, le=MAX_INT)]
PositiveCount = Annotated[int, Field(gt=0, le=MAX_INT)]
Finite = Annotated[float, AllowInfNan(False)]
Fields = dict[str, JsonValue]  # of a JSON object that is only shown, or compared as a whole


class Schema(BaseModel):
    """Base of what a file holds that restok wrote: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


def read_json(kind: type[Described], path: Path, remedy: str = "") -> Described:
    """The contents of a JSON file, of the type `kind`. Raises RestokError as `parse_json` does."""
    try:
        data = read_whole(path)
    except OSError as error:
        raise _error(f"{path} cannot be read: {error.strerror}", remedy) from error
    return parse_json(kind, data, str(path), remedy)


def parse_json(kind: type[Described], data: bytes | str, source: str, remedy: str = "") -> Described:
    """The value of JSON that comes from `source`, of the type `kind`.

    Raises RestokError with the first thing that is wrong: its field, its value, and what was expected.
    """
    with _explained(source, remedy):
        return _adapter(kind).validate_json(data, strict=True)  # no text where a number is due


def check(kind: type[Described], values: object, source: str, remedy: str = "") -> Described:
    """`values`, which were parsed already, as the type `kind`. Raises RestokError as above."""
    with _explained(source, remedy):
        return _adapter(kind).validate_python(values, strict=True)


def read_json_lines(path: Path, remedy: str = "make the file again") -> list[dict]:
    """The JSON objects in a file with one on each line. Raises RestokError naming file and line where one is none."""
    found = []
    with open(path, "rb") as file:
        for number, line in enumerate(lines_of(file, str(path)), start=1):
            try:
                value = from_json(line) if line.strip() else {}
                if not isinstance(value, dict):
                    raise ValueError("no JSON object")
                if not is_sealed(value):
                    raise ValueError("it is not as it was written")
            except ValueError as error:
                raise _error(f"{path}, line {number} is damaged ({error})", remedy) from error
            found += [value] if line.strip() else []
    return found


def read_whole_lines(kind: type[Described], path: Path, remedy: str = "") -> list[Described]:
    """The lines of a file of JSON lines that is still being written, or was when its process was killed.

    A line that is no JSON is passed over. Raises RestokError, naming the line, where one is JSON of something else.
    """
    found = []
    with open(path, "rb") as file:
        for number, line in enumerate(lines_of(file, str(path)), start=1):
            try:
                found.append(_adapter(kind).validate_json(line, strict=True))
            except ValidationError as error:
                if error.errors()[0]["type"] != "json_invalid":
                    raise _error(f"{path}, line {number} is wrong: {problem(error)}", remedy) from error
    return found


@contextmanager
def _explained(source: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise _error(f"{source} is wrong: {problem(error)}", remedy) from error


def _error(message: str, remedy: str) -> RestokError:
    return RestokError(f"{message}; {remedy}" if remedy else message)


def problem(error: ValidationError) -> str:
    """The first thing that is wrong, in words: its dotted key, its value, and what was expected."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"][0].lower() + first["msg"][1:]
    match first["type"]:
        case "json_invalid":
            return message
        case "extra_forbidden":
            return f"unknown key {key}"
        case "missing":
            return f"{key} is missing"
        case "value_error":  # raised by a check of ours
            return f"{f'{key}: ' if key else ''}{first.get('ctx', {})['error']}"
        case _:
            return f"{f'{key} = ' if key else ''}{shown(first['input'])}: {message}"


def shown(value: Any) -> str:
    """A value as Python writes it, as far as it can be read at a glance."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


@cache
def _adapter(kind: type[Described]) -> TypeAdapter[Described]:
    return TypeAdapter(kind)
