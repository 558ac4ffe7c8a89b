"""Arithmetic before work begins: what memory or the disk cannot hold is refused by the name of its option."""

import shutil
from pathlib import Path

from restok_cli.errors import UsageError


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
            f"{option} {count} needs at least {size_text(count * bytes_each)} of memory, and here are"
            f" {size_text(room)}; give a lower number"
        )


def check_disk(option: str, count: int, bytes_each: int, output: Path) -> None:
    """Raises UsageError where so many things are more than what is free on the disk of `output`."""
    folder = next(folder for folder in output.absolute().parents if folder.is_dir())
    if count * bytes_each > (room := shutil.disk_usage(folder).free):
        raise UsageError(
            f"{option} {count} needs at least {size_text(count * bytes_each)} of disk for {output}, and"
            f" {size_text(room)} are free there; give a lower number, or another disk"
        )


def is_out_of_memory(error: Exception) -> bool:
    """Also of a GPU, whose error is torch's own class, and of torch on the CPU, which has no class for it."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def size_text(count: int) -> str:
    if count < 1e5:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
