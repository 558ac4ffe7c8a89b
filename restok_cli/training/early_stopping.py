"""A run's best validation: which one it is, and when so many came after it that the run ends."""

import math
from pathlib import Path
from typing import Any

# What tells whether a validation is better, and whether more of it or less.
SIGNS = {"validation_psnr": 1, "validation_loss": -1}
ENDED_EARLY = "ended early, after"  # how the last line of such a run's log begins


class EarlyStopping:
    """The best validation so far and how many came since; without `patience` nothing is counted."""

    def __init__(self, patience: int | None):
        self.patience = patience
        self.name, self.best, self.best_step, self.since = "", 0.0, 0, 0  # no name: there was none yet

    def look(self, step: int, numbers: dict[str, float]) -> None:
        """Take the numbers of a validation into account; those that are not finite are never better."""
        if self.patience is None:
            return
        name = next(name for name in SIGNS if name in numbers)
        value, sign = numbers[name], SIGNS[name]
        if math.isfinite(value) and (not self.name or sign * value > sign * self.best):
            self.name, self.best, self.best_step, self.since = name, value, step, 0
        else:
            self.since += 1

    @property
    def lacks_start(self) -> bool:
        """Whether the weights that a run starts from were never looked at, which may stay its best."""
        return self.patience is not None and not self.name

    @property
    def is_over(self) -> bool:
        return self.patience is not None and self.since >= self.patience

    def is_model(self, step: int) -> bool:
        """Whether the weights after a step belong into model/: any while there is no best, else those of the best."""
        return not self.name or step == self.best_step

    def report(self, checkpoints: Path, name: str) -> str:
        """A line for the end of a run, which names the best checkpoint; "" where nothing was counted."""
        if not self.name:
            return ""
        best = f"the best {self.name}, {self.best:.4g}, is that of {checkpoints / name.format(self.best_step)}"
        if self.is_over:
            best = f"{ENDED_EARLY} {self.since} validations in a row without a better one (--early-stop); {best}"
        return f"{best}, and model/ is of that step"

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "patience"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.patience is not None:  # else whatever was counted before ends here
            vars(self).update({name: state[name] for name in self.state_dict()})
