"""Commands that are run in this process and watched: what they say, start, write and take.

`run` returns what a command line did and, as `troubles`, what none may do, whatever its files hold.
"""

import io
import os
import re
import resource
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from restok_cli import cli

GIB = 2**30
STARTS_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"}
WRITES = {
    *("open", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate", "os.chmod"),
    *("os.chown", "os.utime", "shutil.rmtree"),
}
PROGRESS = re.compile(r".* · eta \d+:\d\d( · .*)?")


class Ran(NamedTuple):
    code: int | None
    out: bytes
    lines: set[str]  # said on stderr, but for progress; numbers do not count
    troubles: list[str]
    files: dict[str, bytes] = MappingProxyType({})  # of the output


seen: list[tuple[str, tuple]] | None = None  # events of this process, while a command runs


def watch(event: str, arguments: tuple) -> None:
    if seen is not None and (event in STARTS_PROGRAMS or event in WRITES):
        seen.append((event, arguments))


sys.addaudithook(watch)


@contextmanager
def watched() -> Iterator[list[tuple[str, tuple]]]:
    global seen
    seen = events = []
    try:
        yield events
    finally:
        seen = None


def troubles_of(events: list[tuple[str, tuple]], output: Path) -> Iterator[str]:
    """Programs that were started, and writing outside of the output."""
    for event, arguments in events:
        if event in STARTS_PROGRAMS:
            yield f"starts a program: {event} {arguments}"
            continue
        for path in written_paths(event, arguments):
            try:
                full = Path(os.path.abspath(os.fsdecode(path)))
            except ValueError:  # text of a damaged array may hold what is no character
                yield f"writes to what is no path: {event}"
                continue
            if not full.is_relative_to(output) and full != Path(os.devnull):
                yield f"writes outside of the output: {event} {path}"


def written_paths(event: str, arguments: tuple) -> list[str | bytes]:
    """The paths that an event of WRITES changes; none where it goes by the number of an open file or folder."""
    if event == "open":
        path, mode, flags = arguments
        is_written = bool(set(mode) & set("wax+")) if mode else flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return [path] if is_written and not isinstance(path, int) else []
    if isinstance(arguments[0], int) or (event != "shutil.rmtree" and arguments[-1] not in (None, -1)):
        return []
    return [arguments[1]] if event == "os.symlink" else list(arguments[: 2 if event in ("os.rename", "os.link") else 1])


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Inside the block, this process gets 1 GiB more than it has, or lack of memory, which no message may speak of."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status")
    if status.is_file():  # Linux
        used = int(re.search(r"VmData:\s+(\d+) kB", status.read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + GIB, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def run(command: str, output: Path) -> Ran:
    """Run a command line, which may end in `< FILE`, and which may write below the folder `output` alone."""
    command, _, source = command.partition(" < ")
    out, err = Streamed(errors="surrogateescape"), Streamed(errors="backslashreplace")
    code, troubles = None, []
    with (
        warnings.catch_warnings(record=True) as warned,
        watched() as events,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        warnings.simplefilter("default")
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        sys.stdin = open(source or os.devnull, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
        try:
            code = cli.run(command.split())
        except BaseException as error:
            troubles.append(shortened(error))
        finally:
            sys.stdin.close()
            sys.stdin = sys.__stdin__
    said, text = (stream.bytes().decode("utf-8", "surrogateescape") for stream in (err, out))
    troubles += [f"warns: {warning.message}" for warning in warned] + list(troubles_of(events, output))
    if code not in (0, 1, 2, None):
        troubles.append(f"exit code {code}")
    if "Traceback" in said:
        troubles.append(said)
    if "out of memory" in said:
        troubles.append(f"takes more than 1 GiB: {said}")
    troubles += [f"prints {control!r}: {said + text!r}" for control in controls(said + text)]
    errors = [line for line in said.splitlines() if line.startswith("restok: ")]
    if code in (1, 2) and not troubles and (len(errors) != 1 or said.splitlines()[-1] != errors[0]):
        troubles.append(f"exit code {code} is not explained by one last line: {said!r}")
    lines = {re.sub(r"\d[\d.,]*", "0", line) for line in said.splitlines() if not PROGRESS.fullmatch(line)}
    return Ran(code, text.encode("utf-8", "surrogateescape"), lines, troubles)


def shortened(error: BaseException) -> str:
    """The last places of a traceback, those in restok, and the error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "restok_cli" in frame.filename]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:]]
    return f"traceback {' → '.join(places)}: {type(error).__name__}: {str(error)[:300]}"


class Streamed(io.TextIOWrapper):
    """A stream as __main__.open_streams makes it."""

    def __init__(self, errors: str):
        super().__init__(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)

    def bytes(self) -> bytes:
        self.flush()
        return self.buffer.getvalue()


def controls(text: str) -> set[str]:
    """The characters that a terminal would obey, but for the end of a line."""
    return {char for char in set(text) - {"\n"} if unicodedata.category(char) in ("Cc", "Zl", "Zp")}
