"""How one step moves the weights of one model: scaled gradients, clipping, AdamW; and when it does not move them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from restok_cli.devices import tf32
from restok_cli.settings.training import OptimizerConfig
from restok_cli.training.optim import learning_rate, make_optimizer
from restok_cli.training.parallel import all_reduce, full_optimizer_state_dict, load_full_optimizer_state_dict

Precision = Literal["float32", "bf16", "fp16"]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Forward passes in the block run their matrix products in `precision`; the weights stay float32.

    In 16 bits, convolutions that stay in float32 may round what they multiply to TF32.
    """
    dtype, is_short = DTYPES[precision], precision != "float32"
    with tf32(is_short), torch.autocast(device.type, dtype, enabled=is_short):
        yield


class Update:
    """The optimizer of one model, with a loss scale of its own under fp16.

    A step whose losses and gradients are not all finite, on every process, leaves weights and optimizer as they are
    and is counted. Nothing here waits for the device: the optimizer's kernel reads the verdict there.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, max_steps: int, precision: Precision):
        self.model, self.config, self.max_steps, self.precision = model, config, max_steps, precision
        self.learning_rate = 0.0  # of the last step
        self.optimizer = make_optimizer(model, config)
        device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.broken = torch.zeros((), dtype=torch.int64, device=device)  # losses of this step that are not finite
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)  # steps, since the run began
        self.in_a_row = torch.zeros((), dtype=torch.int64, device=device)  # of them, up to now
        self.longest_row = torch.zeros((), dtype=torch.int64, device=device)  # of them, since somebody looked

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to those that wait for the step."""
        self.broken += ~loss.detach().isfinite()
        with tf32(self.precision != "float32"):
            self.scaler.scale(loss).backward()

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """Do step `step` (from 0). Returns the norm of the gradients before clipping, and whether the weights moved."""
        self.learning_rate = learning_rate(step, self.max_steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        full_tensor = getattr(norm, "full_tensor", None)  # of shards
        norm = full_tensor() if full_tensor else norm
        moved = norm.isfinite() & (all_reduce(self.broken) == 0)
        self.broken.zero_()
        # what fused optimizers look at before they write, and GradScaler sets likewise
        self.optimizer.found_inf = 1 - moved.float()  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer.step()
        if self.scaler.is_enabled():
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.skipped += ~moved
        self.in_a_row.add_(1).mul_(~moved)
        torch.maximum(self.longest_row, self.in_a_row, out=self.longest_row)
        return norm, moved

    def look(self) -> tuple[int, int]:
        """Steps skipped since the run began, and the longest row of them since the last look. Waits for the device."""
        seen = int(self.skipped), int(self.longest_row)
        self.longest_row.copy_(self.in_a_row)
        return seen

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on. All processes must call it."""
        counts = {"skipped": self.skipped, "in_a_row": self.in_a_row, "longest_row": self.longest_row}
        optimizer = full_optimizer_state_dict(self.model, self.optimizer)
        return {"optimizer": optimizer, "scaler": self.scaler.state_dict(), **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        load_full_optimizer_state_dict(self.model, self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        for name in ("skipped", "in_a_row", "longest_row"):
            getattr(self, name).copy_(state[name])
