"""Numbers of the steps between two log lines: means, rates, and whether the run is well."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from restok_cli.console import counted, note
from restok_cli.errors import RestokError
from restok_cli.processes import world_size
from restok_cli.settings.training import HealthConfig, TokenizerHealthConfig
from restok_cli.training.parallel import all_reduce, check_shape
from restok_cli.training.update import Update

AGAINST_COLLAPSE = (
    "a higher loss.entropy_weight (0.01 where it is 0), a later revival.until or a lower optimizer.learning_rate helps"
)


def mean_of(terms: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each scalar over the micro-batches of a step."""
    means = torch.stack([_stacked(term) for term in terms]).mean(0)
    return dict(zip(terms[0], means.unbind(), strict=True))


def _stacked(scalars: dict[str, Tensor]) -> Tensor:
    """Their values (n,), float32."""
    return torch.stack([value.detach().float() for value in scalars.values()])


class Meter:
    """Means of scalars over the steps since the last log line, kept on the device until they are read."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._clear()

    def _clear(self) -> None:
        self.sums: dict[str, Tensor] = {}  # (2,): the sum of a scalar, and of how many
        self.images, self.seconds, self.waited = 0, 0.0, 0.0

    @contextmanager
    def step(self, images: int) -> Iterator[None]:
        """Count the time of a step over `images` images: what lies between steps does not count into the rate."""
        start = time.monotonic()
        yield
        self.seconds += time.monotonic() - start
        self.images += images

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The part of a step that waits for images."""
        start = time.monotonic()
        yield
        self.waited += time.monotonic() - start

    def add(self, scalars: dict[str, Tensor], moved: Tensor) -> None:
        """Add this process's means over a step; a step that did not move (0 or 1, on the device) does not count."""
        values = _stacked(scalars)
        counts = moved & values.isfinite()
        columns = torch.where(counts, torch.stack([values, torch.ones_like(values)]), 0.0).unbind(1)
        for name, new in zip(scalars, columns, strict=True):
            self.sums[name] = self.sums[name] + new if name in self.sums else new

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, so that the next line is the same after a resume. All processes must call it."""
        return {
            "sums": {name: all_reduce(value) / world_size() for name, value in self.sums.items()},
            "images": self.images,
            "seconds": self.seconds,
            "waited": self.waited,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there: each process with the mean over those that there were, so that no step counts twice."""
        self.images, self.seconds, self.waited = state["images"], state["seconds"], state["waited"]
        for name, value in state["sums"].items():
            check_shape(f"the sum of {name}", value, torch.Size([2]))
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}

    def close(self) -> dict[str, float]:
        """The means, images/s, and the share of time that waited for data; then a fresh start. Waits for the device.

        A scalar of which there is no finite value, because every step was skipped, is left out.
        """
        numbers, start = {}, time.monotonic()
        if self.sums:  # reading them waits for what the device still has to do of these steps
            sums = all_reduce(torch.stack(list(self.sums.values()))).tolist()
            numbers = {name: value / count for name, (value, count) in zip(self.sums, sums, strict=True) if count}
        self.seconds += time.monotonic() - start
        numbers["images_per_second"] = self.images / self.seconds
        numbers["data_wait"] = self.waited / self.seconds
        self._clear()
        return numbers


class Health:
    """Looks at the numbers of each log line. Warns once of each trouble, and again when it comes back."""

    def __init__(self, config: HealthConfig, saved_step: int | None, data_remedy: str):
        self.config, self.data_remedy = config, data_remedy
        self.saved_step = saved_step  # of the last checkpoint
        self.waits, self.collapsed = False, set[int]()  # what was wrong when last looked: data; levels of codes
        self.rows: dict[str, int] = {}  # of skipped steps, when last looked

    def look(self, updates: dict[str, Update]) -> dict[str, float]:
        """Numbers to log, from the `updates` of the run's models, by what they move. Waits for the device."""
        looks = {what: update.look() for what, update in updates.items()}
        self.rows = {what: row for what, (_, row) in looks.items()}
        return {"skipped_steps": sum(count for count, _ in looks.values())}

    def judge(self, numbers: dict[str, float], codebook_use: Mapping[int, float] = MappingProxyType({})) -> None:
        """Warn of what the numbers of a log line show, and of the use of the codebook, see `UseOfPossible`.

        Raises RestokError where too many steps in a row were skipped because a gradient was not finite: the weights
        are those from before the first of them, as is the last checkpoint.
        """
        saved = self.saved_step
        last = "no checkpoint was written yet" if saved is None else f"the last good checkpoint is that of step {saved}"
        for what, row in self.rows.items():
            if row > self.config.max_skipped_steps:
                raise RestokError(
                    f"training diverged: the gradients of the {what} were not finite for {counted(row, 'step')} in a"
                    f" row, more than health.max_skipped_steps = {self.config.max_skipped_steps}; {last}; start another"
                    " run with a lower optimizer.learning_rate or max_grad_norm, or compute.precision float32"
                )
        waits = numbers["data_wait"] > self.config.warn_data_wait
        if waits and not self.waits:
            note(f"warning: {numbers['data_wait']:.0%} of the time is spent waiting for data: {self.data_remedy}")
        self.waits = waits
        if isinstance(self.config, TokenizerHealthConfig):
            self._judge_use(codebook_use, self.config.warn_codebook_usage)

    def _judge_use(self, codebook_use: Mapping[int, float], least: float) -> None:
        """Warn of all levels that newly use too few codewords, in one line; of the first of them with what helps."""
        low = {level: share for level, share in codebook_use.items() if share < least}
        new = [
            f"{share:.1%} ({f'level {level}' if level else 'all levels together'})"
            for level, share in low.items()
            if level not in self.collapsed
        ]
        if new:
            further, remedy = (" further", "") if self.collapsed else ("", f"; {AGAINST_COLLAPSE}")
            note(
                f"warning: the codebook collapses{further}: codes use only {', '.join(new)} of the codewords that as"
                f" many evenly drawn ones would{remedy}"
            )
        self.collapsed = (self.collapsed - codebook_use.keys()) | low.keys()
