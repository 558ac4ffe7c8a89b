"""Output for people: progress and notes on stderr, results on stdout. All of it is escaped here, once."""

import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from restok_cli.errors import Interrupted
from restok_cli.files import append_text
from restok_cli.processes import rank
from restok_cli.threads import Together

SMUGGLED_BYTE = re.compile("[\udc80-\udcff]")  # as Python decodes a byte of a file's name that is not UTF-8

Item = TypeVar("Item")

PLAIN_SECONDS = 5.0  # between two progress lines where stderr is not a terminal
# Control characters, line ends, marks that turn the direction of writing, and halves of characters: names in files hold
# them by accident, or to change what a terminal shows and does.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

kept_in: list[Path] = []  # the file that keeps what is said, while there is one
muted: list[bool] = []  # not empty while nothing is to be said


def counted(count: int, what: str, plural: str | None = None) -> str:
    """'1 image', '2 images'."""
    return f"{count} {what if count == 1 else plural or what + 's'}"


def duration(seconds: float) -> str:
    """Seconds for people, in the two largest units that they have."""
    if seconds < 99.5:
        return counted(round(seconds), "second")
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} minutes"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def readable(name: str) -> str:
    """The name of a file as text that JSON and people can read: each byte that is no text becomes \\xe9 or the like.

    So different names stay different, but from one that is called by such an escape itself.
    """
    return SMUGGLED_BYTE.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", name)


def printable(text: str) -> str:
    """The text as one line that only shows something: what else it holds is written as Python does, such as \\x1b."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), readable(text))


def say(*lines: str) -> None:
    """Lines of a result for people, on stdout."""
    for line in lines:
        print(printable(line), flush=True)


def columns(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Rows of a table as lines; `sides` has a < for each column whose cells begin at one place, > for one of numbers.

    Further columns are as the last one that is told.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    layout = [f"{side}{width}" for side, width in zip(sides.ljust(len(widths), sides[-1]), widths, strict=True)]
    return ["  ".join(map(format, row, layout)).rstrip() for row in rows]


def tell(line: str) -> None:
    """One line for the person at the terminal, from whichever process."""
    with suppress(OSError):  # nobody there to read it, or no room for it: no reason to give up the work
        print(printable(line), file=sys.stderr, flush=True)


def note(message: str, keep: bool = True) -> None:
    """One line for the person at the terminal, from the first of several processes; also kept, if anything is."""
    if rank() == 0 and not muted:
        tell(message)
        if keep:
            keep_line(message)


@contextmanager
def quiet() -> Iterator[None]:
    """Inside the block, nothing is shown and nothing said."""
    muted.append(True)
    try:
        yield
    finally:
        muted.pop()


@contextmanager
def _ignoring_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", "Reading `.npy` or `.npz` file")  # it names our module
        yield


# In its block, Pillow does not warn of odd metadata, nor NumPy of Python 2.
no_warnings = Together(_ignoring_warnings)


def keep_line(message: str) -> None:
    """A line, with the time, for the file that keeps what is said."""
    for path in kept_in:
        append_text(path, f"{datetime.now():%Y-%m-%d %H:%M:%S} {printable(message)}\n")


@contextmanager
def resumable() -> Iterator[None]:
    """Where a signal or the disk ends the block, whose work is kept part by part, say how to go on with the rest."""
    how = "the same command goes on where this one was"
    try:
        yield
    except Interrupted as error:
        raise Interrupted(error.signal_number, f"{error}; {how}") from error
    except OSError:
        note(f"what is done is kept; {how}")
        raise


@contextmanager
def kept_lines(path: Path) -> Iterator[None]:
    """Inside the block, `path` keeps what is said."""
    kept_in.append(path)
    try:
        yield
    finally:
        kept_in.remove(path)


class Progress:
    """A progress bar with rate and ETA on a terminal; without one, a plain line every few seconds.

    Use as a context manager; call `advance` after each piece of work, and `show` with numbers worth a look.
    """

    def __init__(self, description: str, total: int | None, unit: str, done: int = 0):
        self.description, self.total, self.unit = description, total, unit
        self.start_count = self.count = self.printed = done
        self.numbers: dict[str, float] = {}
        self.start_time = self.last_line = time.monotonic()
        self.bar = None

    def __enter__(self) -> "Progress":
        is_dumb = os.environ.get("TERM") in ("dumb", "unknown")  # as in Emacs: it only knows how to go on
        if sys.stderr.isatty() and not is_dumb and rank() == 0 and not muted:
            self._start_bar()
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.stop()
        elif self.count > self.printed:
            self._print_line()

    def show(self, **numbers: float) -> None:
        """Show numbers (such as loss=0.1) from now on, until they are replaced."""
        self.numbers.update(numbers)

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done."""
        self.count += amount
        if self.bar is not None:
            rate = f"{self.rate:.1f} {self.unit}/s"
            self.bar.update(self.task, completed=self.count, rate=rate, numbers=self._text())
        elif time.monotonic() - self.last_line >= PLAIN_SECONDS:
            self._print_line()

    @property
    def rate(self) -> float:
        """Units per second since the start of this run."""
        return (self.count - self.start_count) / max(time.monotonic() - self.start_time, 1e-9)

    def _text(self) -> str:
        return " ".join(f"{name}={value:.4g}" for name, value in self.numbers.items())

    def _start_bar(self) -> None:
        # imported here: rich.progress costs 50 ms that `restok --help` need not pay
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        self.bar = RichProgress(
            TextColumn("{task.description}", markup=False),  # a name in brackets is no colour
            BarColumn(bar_width=None),  # all that the others leave, and never at their cost
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[numbers]}"),
            console=Console(stderr=True),
            expand=True,
        )
        self.task = self.bar.add_task(
            printable(self.description), total=self.total, completed=self.count, rate="", numbers=""
        )
        self.bar.start()

    def _print_line(self) -> None:
        self.last_line, self.printed = time.monotonic(), self.count
        done, eta = f"{self.count}", ""
        if self.total is not None:  # nobody knows the length of a pipe
            left = (self.total - self.count) / self.rate if self.count > self.start_count else 0.0
            minutes, seconds = divmod(round(left), 60)
            done, eta = f"{done}/{self.total}", f" · eta {minutes}:{seconds:02d}"
        note(
            f"{self.description}: {done} {self.unit} · {self.rate:.1f} {self.unit}/s{eta}"
            + (f" · {self._text()}" if self.numbers else ""),
            keep=False,
        )


def track(items: Iterable[Item], description: str, total: int | None, unit: str) -> Iterator[Item]:
    """Yield the items and show how many of `total` are done."""
    with Progress(description, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()
