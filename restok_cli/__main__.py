"""The program `restok`, also `python -m restok_cli`. Before anything else, it says what signals do."""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from restok_cli.errors import Interrupted, UsageError
from restok_cli.machine import let_threads_sleep, round_alike
from restok_cli.processes import leave_words, rank, take_place

# of glibc's mallopt: from what size on freed memory at the end of the heap goes back to the system, and how many pieces
# are got from the system by themselves (by default those of 32 MB or more at the latest, such as a map of 128 channels)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # `nohup restok …` goes on after a hang-up
            signal.signal(number, interrupt)
    open_streams()
    try:
        take_place()
    except UsageError as error:  # of the environment: which of several processes this is, nobody knows
        print(f"restok: {error}", file=sys.stderr)
        sys.exit(2)
    round_alike()
    let_threads_sleep()
    keep_memory()
    from restok_cli.cli import main as run_command_line  # takes a third of a second, in which Ctrl-C may come

    run_command_line()


def open_streams() -> None:
    """Let data on stdin and stdout be UTF-8, whatever the locale says; file names that are not keep their own bytes.

    A stream that the caller has closed is opened on nothing: else the next file would get its number, and what a
    library prints would go there.
    """
    streams = {
        "stdin": {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"},
        "stdout": {"encoding": "utf-8", "errors": "surrogateescape"},
        "stderr": {"errors": "backslashreplace"},  # for people, in what their terminal shows
    }
    for name, settings in streams.items():
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, encoding="utf-8"))  # noqa: SIM115  for as long as we run
        getattr(sys, name).reconfigure(**settings)


def keep_memory() -> None:
    """Let glibc keep what is freed for what is asked for next: else every large tensor is made of new pages.

    Getting those from the system takes longer than most of what is computed in them (tests/benchmarks/planning.py).
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # other C libraries do not have it
            mallopt = ctypes.CDLL(None).mallopt
            for option, value in ((M_TRIM_THRESHOLD, 2**31 - 1), (M_MMAP_MAX, 0)):
                mallopt(option, value)


def interrupt(number: int, frame: FrameType | None) -> None:
    """End as an error ends, so that nothing half-written stays; training first saves, and sets its own handler.

    While a library is being imported, leave at once: nothing is written yet, and torch swallows exceptions there.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            if not leave_words("interrupted", 128 + number) and rank() == 0:
                os.write(sys.stderr.fileno(), b"restok: interrupted\n")
            os._exit(128 + number)
        frame = frame.f_back
    raise Interrupted(number, "interrupted")


if __name__ == "__main__":
    main()
