"""Work that goes on where it was stopped: a hidden folder beside the output holds what is done, part by part.

What the parts are made of, the request, lies beside them. So to continue is to make those that are missing, and when
all are there, they become the output.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from restok_cli import files
from restok_cli.console import note
from restok_cli.data.image_folders import IMAGE_REQUEST
from restok_cli.errors import Interrupted, RestokError, UsageError
from restok_cli.inference.parts import Parts, listed, write_whole
from restok_cli.locks import locked, made_folder
from restok_cli.processes import rank
from restok_cli.schema import Fields, PositiveCount, check, read_json


@contextmanager
def unfinished(output: Path, request: dict, parts: Parts, resume: bool) -> Iterator[None]:
    """For a block that makes the `parts` of `output`: their folder goes at its end, or is kept to be continued.

    With `resume` it still has what was made of the same request. Of several processes, only the first one makes and
    clears it: the others must not use it before that. What a killed process leaves is found again in the same way.

    Raises UsageError where another process works there, and where what is there was made of another request.
    """
    if rank() > 0:
        yield
        return
    folder = parts.folder
    with alone(output):
        before = read_request(folder) if resume else None
        if before is not None:
            check_same(before, request, f"{output} was begun")
        elif folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        files.remove_leftovers(folder)
        parts.begin()
        try:
            write_whole(folder / IMAGE_REQUEST, json.dumps(request, ensure_ascii=False, indent=1).encode() + b"\n")
            yield
        except BaseException as error:
            files.remove_leftovers(folder)
            if not listed(folder)[0]:
                shutil.rmtree(folder)
            elif isinstance(error, Interrupted):
                what = f"{error}; the same command with --resume goes on"
                raise Interrupted(error.signal_number, what) from None
            else:
                note(f"what is done is kept in {folder}; the same command with --resume goes on")
            raise
        clear_unfinished(output)  # where the block did not rename it to what was asked for


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """For a block in which no other process works on `output`, in a folder that is made if need be.

    Entering raises UsageError where one does.
    """
    output = output.resolve()
    with made_folder(output.parent), locked(output.with_name(f".{output.name}.lock"), output):
        yield


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


class _Request(BaseModel):
    """A request is only compared as a whole, but for this."""

    count: PositiveCount


def as_request(found: object) -> dict[str, Any] | None:
    """That, which was read from a file, where something may have been made of it."""
    with suppress(RestokError):
        check(_Request, found, "")
        return cast(dict[str, Any], found)
    return None


def read_request(folder: Path) -> dict[str, Any] | None:
    """Read the request that the folder was begun for; None where a process was killed as it began or ended."""
    with suppress(RestokError):
        return as_request(read_json(Fields, folder / IMAGE_REQUEST))
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
