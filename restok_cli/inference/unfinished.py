"""Work that goes on where it was stopped: a hidden folder beside the output holds what is done, file by file.

A file is there whole or not at all, and its content depends on the request alone, which lies beside the files. So to
continue is to make what is missing, whichever processes made the rest. When all is there, it becomes the output. Each
process lists the digests of what it wrote, and a file that is not as it was written counts as missing.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from pydantic import BaseModel

from restok_cli import files
from restok_cli.console import counted, note
from restok_cli.errors import Interrupted, RestokError, UsageError
from restok_cli.locks import locked
from restok_cli.processes import rank
from restok_cli.schema import Fields, PositiveCount, check, read_json

REQUEST_FILE = "request.json"
DIGESTS = "digests-{}.jsonl"  # of the files that the process of that number wrote
PNG_END = b"IEND\xaeB`\x82"  # the last bytes of every PNG file


@contextmanager
def unfinished(output: Path, request: dict, resume: bool, is_main: bool) -> Iterator[Path]:
    """The folder for files on their way to `output`; it goes at the end of the block, or is kept to be continued.

    With `resume` it still has what was made of the same request. Of several processes, only the main one makes and
    clears it: the others must not use it before that. What a killed process leaves is found again in the same way.

    Raises UsageError where another process works there, and where what is there was made of another request.
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = unfinished_folder(output)
    if not is_main:
        yield folder
        return
    with alone(output):
        before = read_request(folder) if resume else None
        if before is not None:
            check_same(before, request, f"{output} was begun")
        elif folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(folder)
        _remove_damaged(folder)
        try:
            _write_whole(folder / REQUEST_FILE, json.dumps(request, ensure_ascii=False, indent=1).encode() + b"\n")
            yield folder
        except BaseException as error:
            files.remove_leftovers(folder)
            if not _results(folder):
                shutil.rmtree(folder)
            elif isinstance(error, Interrupted):
                what = f"{error}; the same command with --resume goes on"
                raise Interrupted(error.signal_number, what) from None
            else:
                note("what is done is kept; the same command with --resume goes on")
            raise
        clear_unfinished(output)  # where the block did not rename it to what was asked for


def alone(output: Path) -> AbstractContextManager[None]:
    """For a block in which no other process works on `output`. Entering raises UsageError where one does."""
    output = output.resolve()
    return locked(output.with_name(f".{output.name}.lock"), output)


def unfinished_folder(output: Path) -> Path:
    """Where what is done of `output` waits for the rest."""
    output = output.resolve()
    return output.with_name(f".{output.name}.unfinished")


def clear_unfinished(output: Path) -> None:
    """Remove what may be left of making `output`, which is there now."""
    output = output.resolve()
    files.clear_beside(output)
    if (folder := unfinished_folder(output)).exists():
        files.discard_folder(folder, output)


def is_finished(path: Path) -> bool:
    """Whether this file of the folder is there; a PNG that a power cut left without its end is not."""
    try:
        with open(path, "rb") as file:
            if path.suffix != ".png":
                return True
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except OSError:
        return False


def write_finished(path: Path, data: bytes) -> None:
    """Write a file of the folder, whole or not at all, and list its digest."""
    with open(path.with_name(DIGESTS.format(rank())), "ab") as digests:
        digests.write(_digest_line(path.name, files.crc32_of(data)))
    _write_whole(path, data)


def npy_bytes(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def _digest_line(name: str, crc32: str) -> bytes:
    return json.dumps(files.sealed({"file": name, files.FILE_CRC: crc32})).encode() + b"\n"


def written_digests(folder: Path) -> dict[str, str]:
    """The digests of the files of the folder, by name; a line that is damaged says nothing."""
    found = {}
    for file in folder.glob(DIGESTS.format("*")):
        for text in files.text_lines(file):
            with suppress(ValueError, RecursionError, KeyError):
                line = json.loads(text)
                if isinstance(line, dict) and files.FIELDS_CRC in line and files.is_sealed(line):
                    found[line["file"]] = line[files.FILE_CRC]
    return found


def remove_digests(folder: Path) -> None:
    """Remove the lists of digests, where the folder itself becomes the output."""
    for file in folder.glob(DIGESTS.format("*")):
        file.unlink()


def _remove_damaged(folder: Path) -> None:
    """Remove what is not as it was written, so that it is made anew; it is counted."""
    digests = written_digests(folder)
    whole, damaged = {}, []
    for file in _results(folder):
        if digests.get(file.name) == (crc32 := files.file_crc32(file)):
            whole[file.name] = crc32
        else:
            file.unlink()
            damaged.append(file)
    remove_digests(folder)  # whose last lines may be cut short, where others would be lost that were added to them
    if whole:
        _write_whole(folder / DIGESTS.format(0), b"".join(_digest_line(*entry) for entry in whole.items()))
    if damaged:
        note(f"{counted(len(damaged), 'file')} of what was done had been damaged: made anew")


def _results(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != REQUEST_FILE and not path.match(DIGESTS.format("*"))]


def _write_whole(path: Path, data: bytes) -> None:
    # not synced to the disk one by one: that is done once, when the folder becomes the output
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class _Request(BaseModel):
    """A request is only compared as a whole, but for this."""

    count: PositiveCount


def is_request(found: object) -> TypeGuard[dict[str, Any]]:
    """Whether that, which was read from a file, may be what something was made of."""
    with suppress(RestokError):
        return bool(check(_Request, found, ""))
    return False


def read_request(folder: Path) -> dict | None:
    """Read the request that the folder was begun for; None where a process was killed as it began or ended."""
    with suppress(RestokError):
        request = read_json(Fields, folder / REQUEST_FILE)
        return request if is_request(request) else None
    return None


def check_same(before: dict, request: dict, done: str) -> None:
    """Raises UsageError where an output was begun by another request; one that has a lower `count` is gone on with."""
    for name in dict.fromkeys((*before, *request)):
        was, now = before.get(name), request.get(name)
        if was != now and not (name == "count" and isinstance(was, int) and isinstance(now, int) and was < now):
            raise UsageError(
                f"--resume: {done} with {name} = {was}, now it is {now}; give the same options, or --overwrite to begin"
                " anew"
            )
