"""Errors that a user can cause. Each message is one line: what was wrong, what was expected, what to do.

Only `cli` turns these into exit codes; everything else just raises them.
"""

from difflib import get_close_matches


class RestokError(Exception):
    """Something outside the program is not as it must be: a file, a folder, a model, the disk."""


class ImageError(RestokError):
    """One image cannot be decoded; others may be."""


class UsageError(RestokError):
    """The command line or a config asks for something that does not exist or cannot be."""


class Unmet(RestokError):
    """A result is worse than the command line allows."""


class Interrupted(BaseException):
    """A signal asked the program to stop, and what was done so far is safe.

    No RestokError, nor an Exception: who goes on after an error must not go on after this.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


class Done(BaseException):
    """Other processes have done the work of this command: there is nothing left to do, and nothing went wrong."""


class Failed(RestokError):
    """A process that did this command's work has ended; its exit code is ours, and it may have had something to say."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


def did_you_mean(word: str, known) -> str:
    """' (did you mean X?)' for the known word nearest to `word`, or ''."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
