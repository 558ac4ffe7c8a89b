"""Whether a run is well: what each log line says about it, when to warn, and when to stop."""

from collections.abc import Mapping
from types import MappingProxyType

from restok_cli.console import counted, note
from restok_cli.errors import RestokError
from restok_cli.settings.training import HealthConfig, TokenizerHealthConfig
from restok_cli.training.update import Update


class Health:
    """Looks at the numbers of each log line. Warns once of each trouble, and again when it comes back."""

    def __init__(self, config: HealthConfig, saved_step: int | None, data_remedy: str):
        self.config, self.data_remedy = config, data_remedy
        self.saved_step = saved_step  # of the last checkpoint
        self.troubles: set[str] = set()
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
        for what, row in self.rows.items():
            if row > self.config.max_skipped_steps:
                last = (
                    "no checkpoint was written yet"
                    if self.saved_step is None
                    else (f"the last good checkpoint is that of step {self.saved_step}")
                )
                raise RestokError(
                    f"training diverged: the gradients of the {what} were not finite for {counted(row, 'step')} in a"
                    f" row, more than health.max_skipped_steps = {self.config.max_skipped_steps}; {last}; start another"
                    " run with a lower optimizer.learning_rate or max_grad_norm, or compute.precision float32"
                )
        self._warn(
            "wait",
            numbers["data_wait"] > self.config.warn_data_wait,
            f"{numbers['data_wait']:.0%} of the time is spent waiting for data: {self.data_remedy}",
        )
        if isinstance(self.config, TokenizerHealthConfig):
            for level, share in codebook_use.items():
                where = f"level {level} of the codes" if level else "the whole of all codes"
                self._warn(
                    f"use {level}",
                    share < self.config.warn_codebook_usage,
                    f"{where} uses only {share:.1%} of the codewords that as many evenly drawn codes would: it"
                    " collapses; set loss.entropy_weight (0.01) or revival.until, or lower optimizer.learning_rate",
                )

    def _warn(self, trouble: str, is_there: bool, message: str) -> None:
        if is_there and trouble not in self.troubles:
            note(f"warning: {message}")
        (self.troubles.add if is_there else self.troubles.discard)(trouble)
