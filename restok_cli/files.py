"""Files and folders that are either whole or absent, also after a crash or on a full disk."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from restok_cli.errors import RestokError, UsageError

SYNC_SECONDS = 0.2  # from one early sync of a large file to the next
# of files that a command reads or another one writes: a folder called so would be taken for one
FILE_SUFFIXES = (".jpeg", ".jpg", ".jsonl", ".npz", ".png", ".safetensors", ".tar", ".webp", ".zip")


def sync_folder(path: Path) -> None:
    """Make renames inside `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the contents of `path` survive a power cut."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def text_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, which end at \\n alone.

    str.splitlines would also end them at U+2028, U+0085 and more, which stand as they are in JSON, in names of files.
    """
    text = path.read_bytes().decode(errors="replace").removesuffix("\n")
    return text.split("\n") if text else []


def read_json_lines(path: Path) -> list[dict]:
    """The JSON objects in a file with one on each line. Raises RestokError naming file and line where one is none."""
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            value = json.loads(line) if line.strip() else {}
            if not isinstance(value, dict):
                raise ValueError("no JSON object")
        except (ValueError, RecursionError) as error:
            raise RestokError(f"{path}, line {number} is damaged ({error}); make the file again") from error
        found += [value] if line.strip() else []
    return found


@contextmanager
def synced_early(file: BinaryIO) -> Iterator[None]:
    """Have the disk keep up with a large file while the block writes it, so that little is left to sync at the end.

    An OSError that the disk gives meanwhile is raised at the end of the block: the system tells of each only once.
    """
    written = threading.Event()

    def keep_up() -> None:
        while not written.wait(SYNC_SECONDS):
            os.fsync(file.fileno())

    with ThreadPoolExecutor(1) as pool:
        keeping_up = pool.submit(keep_up)
        try:
            yield
        finally:
            written.set()
    keeping_up.result()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` at the end of the block, or disappears on any error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: it appears at `path` with everything written in the block, replacing what was there."""
    path = Path(path).resolve()  # through a link, the folder behind it is replaced and the link stays
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(temporary: Path, path: Path) -> None:
    """Rename the finished folder `temporary`, beside `path`, to `path`, replacing what was there."""
    for entry in temporary.rglob("*"):
        sync_folder(entry) if entry.is_dir() else sync_file(entry)
    sync_folder(temporary)
    _replace_folder(temporary, path)
    sync_folder(path.parent)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename `new` to `path`. A folder that holds files cannot be replaced in one call, so it is moved aside first."""
    if not path.exists():
        os.replace(new, path)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(old, path)
        raise
    shutil.rmtree(old)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left half-written in `folder`: the temporary files and folders of this module."""
    for pattern in (".*.tmp", ".*.old"):
        for entry in folder.glob(pattern):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def check_output_folder(path: Path, overwrite: bool, is_ours: Callable[[str], bool]) -> None:
    """Check that results may go to the folder `path`: it is new or empty, or may be overwritten.

    `is_ours` says of a file in it (its relative path, with slashes) whether the command that writes there made it.
    Raises UsageError where `path` cannot be a folder, where it holds something and `overwrite` is false, and where
    something in it is not ours: --overwrite never deletes that.
    """
    for folder in (path, *path.parents):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; give a folder for the output")
    if not path.is_dir() and path.suffix.lower() in FILE_SUFFIXES:
        raise UsageError(f"{path} is the name of a file, and the output is a folder; give a name without {path.suffix}")
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{path} already holds files; give another folder, or --overwrite to replace them")
    for file in sorted(file for file in path.rglob("*") if not file.is_dir()):
        name = file.relative_to(path).as_posix()
        if not is_ours(name):
            raise UsageError(f"{path} holds {name}, which this command did not make; give another folder")


def check_apart(output: Path, *inputs: Path) -> None:
    """Raises UsageError where writing the folder `output` would replace something that is read."""
    for path in inputs:
        if path.resolve().is_relative_to(output.resolve()):
            raise UsageError(f"the output {output} would replace {path}, which is read; give another folder")
