"""Numbers between two log lines: means over steps and processes, rates, and what is wrong with them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from restok_cli.processes import world_size
from restok_cli.training.parallel import total


def mean_of(terms: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each scalar over the micro-batches of a step."""
    return {name: torch.stack([term[name].detach().float() for term in terms]).mean() for name in terms[0]}


class Window:
    """Means of scalars over the steps since the last log line, kept on the device until they are read."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.sums: dict[str, Tensor] = {}  # (2,): the sum of a scalar, and of how many
        self.images, self.seconds, self.waited = 0, 0.0, 0.0

    @contextmanager
    def step(self, images: int) -> Iterator[None]:
        """Count the time of a step over `images` pictures: what lies between steps does not count into the rate."""
        start = time.monotonic()
        yield
        self.seconds += time.monotonic() - start
        self.images += images

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The part of a step that waits for pictures."""
        start = time.monotonic()
        yield
        self.waited += time.monotonic() - start

    def add(self, scalars: dict[str, Tensor], moved: Tensor) -> None:
        """Add this process's means over a step; a step that did not move (0 or 1, on the device) does not count."""
        for name, value in scalars.items():
            counts = moved & value.detach().isfinite()
            new = torch.where(counts, torch.stack([value.detach().float(), torch.ones_like(value)]), 0.0)
            self.sums[name] = self.sums[name] + new if name in self.sums else new

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, so that the next line is the same after a resume. All processes must call it."""
        return {
            "sums": {name: total(value) / world_size() for name, value in self.sums.items()},
            "images": self.images,
            "seconds": self.seconds,
            "waited": self.waited,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from there: each process with the mean over those that there were, so that no step counts twice."""
        self.images, self.seconds, self.waited = state["images"], state["seconds"], state["waited"]
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}

    def close(self) -> dict[str, float]:
        """The means, images/s, and the share of time that waited for data; then a fresh start. Waits for the device.

        A scalar of which there is no finite value, because every step was skipped, is left out.
        """
        numbers, start = {}, time.monotonic()
        if self.sums:  # reading them waits for what the device still has to do of these steps
            for name, (value, count) in zip(
                self.sums, total(torch.stack(list(self.sums.values()))).tolist(), strict=True
            ):
                if count:
                    numbers[name] = value / count
        self.seconds += time.monotonic() - start
        numbers["images_per_second"] = self.images / self.seconds
        numbers["data_wait"] = self.waited / self.seconds
        self._clear()
        return numbers
