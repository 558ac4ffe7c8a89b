"""Contexts of the whole process, for threads."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from threading import Lock


class Together:
    """A context that the first thread inside enters and the last one leaves.

    If each did, one would undo it while another still needs it, and what was before it would be lost.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[object]]):
        self.make, self.lock, self.num_inside, self.entered = make, Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            if self.num_inside == 0:
                self.entered.enter_context(self.make())
            self.num_inside += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.num_inside -= 1
            if self.num_inside == 0:
                self.entered.close()
