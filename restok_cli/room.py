"""Arithmetic before work begins: what memory or the disk cannot hold is refused by the name of its option."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from restok_cli.errors import UsageError

if TYPE_CHECKING:
    from restok_cli.model.config import Config, HarConfig, TokenizerConfig


def memory_limit() -> int | None:
    """Bytes that the container may have, where it is one with a limit."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or the word max
        return None


def total_memory() -> int:
    """Bytes of memory of this machine, or what a container may have of it."""
    import psutil

    total = psutil.virtual_memory().total
    return min(total, memory_limit() or total)


def check_memory(option: str, count: int, bytes_each: int) -> None:
    """Raises UsageError where so many things, each of at least so many bytes, are more than this machine's memory."""
    if count * bytes_each > (room := total_memory()):
        raise UsageError(
            f"{option} {count} needs at least {_size_text(count * bytes_each)} of memory, and here are"
            f" {_size_text(room)}; give a lower number"
        )


def check_disk(option: str, count: int, bytes_each: int, output: Path) -> None:
    """Raises UsageError where so many things are more than what is free on the disk of `output`."""
    folder = next(folder for folder in output.absolute().parents if folder.is_dir())
    if count * bytes_each > (room := shutil.disk_usage(folder).free):
        raise UsageError(
            f"{option} {count} needs at least {_size_text(count * bytes_each)} of disk for {output}, and"
            f" {_size_text(room)} are free there; give a lower number, or another disk"
        )


def check_model_memory(config: "TokenizerConfig | HarConfig", source: str = "", section: str = "") -> None:
    """Raises UsageError where a model takes more than this machine's memory beside its weights.

    It names the setting that makes the most of it, after the `source` of the config and its `section` there.
    """
    needed, room = config.least_memory, total_memory()
    if needed > room:
        name = largest_setting(lambda model: model.least_memory, config)
        setting = f"{section}{name} = {getattr(config, name)}" if name else "this model"
        raise UsageError(
            f"{source}{setting} needs at least {_size_text(needed)} of memory beside its weights, and here are"
            f" {_size_text(room)}; {f'lower {section}{name}' if name else 'take a smaller one'}"
        )


def largest_setting(size: Callable[["Config"], float], config: "Config") -> str | None:
    """The number in a config that adds most to its `size` against the default's; None where none does.

    `size` is also asked about configs that are not valid, since not every default goes with the other settings.
    """
    best, largest = size(config), None
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if type(value) is int and value > (field.default or 0):
            found = size(config.model_copy(update={name: field.default}))
            if found < best:
                best, largest = found, name
    return largest


def _size_text(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
