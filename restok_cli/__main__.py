"""The program `restok`, also `python -m restok_cli`. Before anything else, it says what signals do."""

import os
import signal
import sys
from types import FrameType

from restok_cli.errors import Interrupted
from restok_cli.processes import rank, take_place


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # `nohup restok …` goes on after a hang-up
            signal.signal(number, interrupt)
    take_place()
    from restok_cli.cli import main as run_command_line  # takes a third of a second, in which Ctrl-C may come

    run_command_line()


def interrupt(number: int, frame: FrameType | None) -> None:
    """End as an error ends, so that nothing half-written stays; training first saves, and sets its own handler.

    While a library is being imported, leave at once: nothing is written yet, and torch swallows exceptions there.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            if rank() == 0:
                os.write(sys.stderr.fileno(), b"restok: interrupted\n")
            os._exit(128 + number)
        frame = frame.f_back
    raise Interrupted(number, "interrupted")


if __name__ == "__main__":
    main()
