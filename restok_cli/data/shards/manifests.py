"""The common part of data sets and code caches: a folder of shards, and a JSON file that describes them."""

import json
from abc import ABC, abstractmethod
from bisect import bisect_right
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from restok_cli.errors import RestokError, UsageError, did_you_mean
from restok_cli.files import FIELDS_CRC, file_sha256, is_sealed, sealed, write_text
from restok_cli.schema import Fields, Schema, parse_json, read_json, shown

Described = TypeVar("Described", bound=Schema)
OneSplit = TypeVar("OneSplit")


class Made(NamedTuple):
    """Whose files they are, for messages."""

    what: str  # "the data set"
    command: str  # that makes it

    @property
    def remedy(self) -> str:
        return f"copy {self.what} again, or run `{self.command}` again"

    def damaged(self, path: Path, problem: str) -> RestokError:
        """The error where one of its files is not as it was made."""
        return RestokError(f"{path} {problem}: {self.remedy}")

    def read(self, kind: type[Described], path: Path) -> Described:
        """A description of that kind. Raises RestokError where it is damaged or of another format."""
        version = kind.model_fields["format_version"].default
        fields = read_json(Fields, path, self.remedy)
        found = fields.get("format_version")
        if found not in (None, version):
            raise RestokError(
                f"{path} has format {shown(found)}, this restok reads {version}:"
                f" update restok, or run `{self.command}` again"
            )
        if not is_sealed(fields):
            raise self.damaged(path, "is not as it was written")
        fields.pop(FIELDS_CRC, None)
        return parse_json(kind, json.dumps(fields), str(path), self.remedy)

    def write(self, description: Schema, path: Path) -> None:
        """Write a description, whole or not at all, with a digest of its own."""
        text = json.dumps(sealed(description.model_dump(mode="json")), indent=1, ensure_ascii=False)
        write_text(path, text + "\n")

    def check_file(self, path: Path, num_bytes: int | None, sha256: str | None = None) -> None:
        """Raises RestokError where the file is missing or, if that is known, has another size or SHA-256."""
        if not path.is_file():
            raise self.damaged(path, "is missing")
        if num_bytes not in (None, size := path.stat().st_size):
            raise self.damaged(path, f"has {size} bytes instead of {num_bytes}")
        if sha256 is not None and file_sha256(path) != sha256:
            raise self.damaged(path, "is not as it was made")


class InSplits(ABC, Generic[OneSplit]):
    """The common part of a data set and of its codes: classes, and splits by name."""

    title: str  # for messages: "data set emoji"
    class_names: list[str]  # none where there are no classes
    splits: list[str]

    @property
    def num_classes(self) -> int:
        """0 where there are no classes."""
        return len(self.class_names)

    @property
    def held_out(self) -> OneSplit:
        """The validation split, or the training split where there is no other."""
        return self.split("validation" if "validation" in self.splits else "train")

    def split(self, name: str) -> OneSplit:
        """The split of that name, usually train or validation. Raises UsageError where there is none."""
        if name not in self.splits:
            raise UsageError(
                f"{self.title} has no split {name}{did_you_mean(name, self.splits)}; it has {' and '.join(self.splits)}"
            )
        return self.open_split(name)

    def chosen(self, name: str) -> dict[str, OneSplit]:
        """The split of that name, or by the word `all` every one."""
        return {split: self.split(split) for split in (self.splits if name == "all" else [name])}

    @abstractmethod
    def open_split(self, name: str) -> OneSplit:
        """One of `splits`."""


def locate(ends: list[int], i: int) -> tuple[int, int]:
    """The part that holds sample `i`, and its place there, of parts that follow each other and end at `ends`.

    Raises IndexError where there is no such sample.
    """
    if not 0 <= i < ends[-1]:
        raise IndexError(f"sample {i} of {ends[-1]}")
    number = bisect_right(ends, i)
    return number, i - (ends[number - 1] if number else 0)
