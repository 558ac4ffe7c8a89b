"""Who works on a file or a folder: told by locks, which the system lets go of when their owners end in any way."""

import errno
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from restok_cli.errors import UsageError

LOCK_FILE = ".restok.lock"  # in a folder that a command fills: who does
LET_GO_SECONDS = 5  # that the workers of a killed process may take to end
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of file systems that have none


def is_written(entry: Path, pid: int) -> bool:
    """Whether a process still works on what may be a leftover: on this machine, by its number, or on any, by its lock.

    Where the file system has no locks, nobody can tell, and it is left alone.
    """
    if _is_alive(pid):
        return True
    try:
        descriptor = os.open(entry, os.O_RDONLY if entry.is_dir() else os.O_WRONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    except OSError:
        return True
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _open(file: Path, flags: int) -> int:
    try:
        return os.open(file, flags, 0o666)
    except FileNotFoundError:  # another process made the folder, and has just taken it away again (`made_folder`)
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, flags, 0o666)


@contextmanager
def held(path: Path, flags: int) -> Iterator[None]:
    """Inside the block, `path` is opened and, where the file system can, locked, for `is_written`."""
    descriptor = _open(path, flags)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder, and those that it is in, for the block; of those that were made, what is empty then goes again."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for place in missing:
            with suppress(OSError):  # of one that holds something
                place.rmdir()


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make a folder for this process alone inside the block, as `locked` does; one that stays empty goes."""
    with made_folder(folder), locked(folder / LOCK_FILE, folder):
        yield


@contextmanager
def locked(file: Path, what: Path) -> Iterator[None]:
    """Inside the block, `what` is written by this process and its workers alone: they hold `file`, which says so.

    The system lets go of it when all of them have ended, however they did. Where the file system has no locks, nothing
    is held. Raises UsageError where another process holds it, which it names.
    """
    descriptor = _lock(file, what)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # first, since the next one may lock it as soon as it is closed
        os.close(descriptor)


def _lock(file: Path, what: Path) -> int:
    deadline = time.monotonic() + LET_GO_SECONDS
    while True:
        descriptor = _open(file, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 1000).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            if time.monotonic() > deadline or _runs_here(owner):
                raise UsageError(
                    f"{what} is being written by {owner}; wait until that has ended, or give another output"
                ) from None
            time.sleep(0.05)
            continue
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
        # the one that held it may have deleted the file since it was opened here, and a third have made another
        if file.exists() and os.path.samestat(os.fstat(descriptor), os.stat(file)):
            with suppress(OSError):  # of a full disk, which need not keep anybody from work elsewhere; the lock holds
                os.truncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)


def _runs_here(owner: str) -> bool:
    """Whether the owner of a lock is no killed process whose workers are about to end."""
    match = re.fullmatch(r"process (\d+) on (.+)", owner)
    return match is not None and match[2] == socket.gethostname() and _is_alive(int(match[1]))
