"""Learning rate, parameter groups and the moving average of the weights, as functions of the step."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from restok_cli.settings.training import OptimizerConfig


def learning_rate(step: int, max_steps: int, config: OptimizerConfig) -> float:
    """The rate of optimizer step `step` (from 0): a linear warm-up, then the shape that `config.schedule` names.

    A pure function of the step, and so of the images seen, which are step × batch_size: `batch_size` counts those of
    all processes and micro-batches, so that neither of their numbers moves the curve.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "wsd" and config.decay_steps is not None:  # as it is bound to be
        height = min(1.0, max(0.0, (max_steps - step) / config.decay_steps))
    else:
        progress = (step - config.warmup_steps) / max(1, max_steps - config.warmup_steps)
        height = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return config.final_learning_rate + height * (config.learning_rate - config.final_learning_rate)


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels only: not on norms, biases, embeddings and learned tokens.

    Nor on what embeds patches and code vectors, as in the released code, which goes by names with "embed".
    """
    decayed, others = [], []
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_matrix = isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and name == "weight"
            # under spectral norm, which only kernels have here, the weight itself is a parameter of what computes it
            is_decayed = (is_matrix or isinstance(module, ParametrizationList)) and "embed" not in prefix
            (decayed if is_decayed else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    # fused: its kernel can be told on the device not to move the weights, see update.py
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the averaged weights towards the model's after optimizer step `step` (from 0); the first copies them."""
    decay = min(decay, (1 + step) / (10 + step)) if step > 0 else 0.0
    averages: list[Tensor] = list(ema.parameters())
    weights: list[Tensor] = list(model.parameters())
    torch._foreach_lerp_(averages, weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage] (has no other name)


def seed_step(seed: int, step: int, micro_batch: int = -1) -> None:
    """Make all randomness a function of (seed, step), and in a forward pass of the number of its micro-batch.

    A resumed run then goes on exactly without storing any generator's state, and it does not matter which process
    does which micro-batch.
    """
    torch.manual_seed((seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + micro_batch + 1) & 0x7FFFFFFFFFFFFFFF)
