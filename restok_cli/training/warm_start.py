"""How a model enters training: fresh or from another's weights, with or without keeping all activations."""

from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from restok_cli.console import note
from restok_cli.errors import UsageError
from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.har import Har, HarBlock
from restok_cli.model.layers import Block
from restok_cli.model.pixel_codec import ResidualBlock
from restok_cli.model.tokenizer import Tokenizer

Memory = Literal["fast", "balanced", "small"]  # of compute.memory

# What training alone needs, or depends on the classes of the data: fresh where the other model has none that fits.
MAY_BE_FRESH = ("encoder_alignment.", "decoder_alignment.", "decoder.alignment_query", "class_embedding.")

# What takes long to compute, by its names in PyTorch.
KEPT = [
    getattr(torch.ops.aten, name).default
    for name in (
        *("mm", "addmm", "bmm", "convolution", "_scaled_dot_product_cudnn_attention"),
        *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
        "_scaled_dot_product_flash_attention_for_cpu",
    )
]


def reset_convolutions(tokenizer: Tokenizer) -> None:
    """Start all convolutions as PyTorch makes them: uniform, by the number of their inputs."""
    for module in tokenizer.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()


def check_fits(model: nn.Module, source: nn.Module) -> list[str]:
    """The names of what `model` cannot take from `source`, a model of the same build, and may start fresh.

    Raises UsageError where anything else does not fit. `model` may lie on the meta device.
    """
    ours, theirs = model.state_dict(), source.state_dict()
    fresh = []
    for name, tensor in ours.items():
        if name in theirs and theirs[name].shape == tensor.shape:
            continue
        if name.startswith(MAY_BE_FRESH):
            fresh.append(name)
            continue
        there = f"is {tuple(theirs[name].shape)}" if name in theirs else "is missing"
        raise UsageError(
            f"--init: {name} {there} in the model given, and {tuple(tensor.shape)} in the one to train; "
            "use the preset that it was trained with, or set the model fields to its config.json"
        )
    if extra := [name for name in theirs if name not in ours and not name.startswith(MAY_BE_FRESH)]:
        raise UsageError(
            f"--init: the model to train has no place for {extra[0]} of the model given; "
            "use the preset that it was trained with, or set the model fields to its config.json"
        )
    return fresh


def take_weights(model: nn.Module, source: nn.Module) -> None:
    """Start `model` from the weights of `source`, a tokenizer or generator of the same build (`--init`).

    Classes need not be the same: then those of `model` start fresh, but for its null class, and that is said.
    Raises UsageError as `check_fits` does.
    """
    fresh = check_fits(model, source)
    ours, theirs = model.state_dict(), source.state_dict()
    for name in ours.keys() - set(fresh):
        ours[name].copy_(theirs[name])
    if "class_embedding.weight" in fresh:
        ours["class_embedding.weight"][-1] = theirs["class_embedding.weight"][-1]
    if fresh:
        note(f"--init: starting fresh: {', '.join(fresh)}")


def recompute_activations(model: Tokenizer | Har | Lpips, memory: Memory) -> None:
    """Keep less for the backward pass than "fast", which keeps all, and compute the rest again there, in place.

    "balanced" keeps what takes long to compute: products and attention of transformer blocks, and convolutions. "small"
    keeps of a block, or a stage of LPIPS, only what enters it (of a tokenizer's transformer block, what enters either
    half). What is computed stays the same.
    """
    if memory == "fast":
        return
    # only blocks of HAR draw numbers, for dropout: to keep and restore the state of the generators takes time
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=isinstance(model, Har))
    but_for_kept = partial(again, context_fn=partial(create_selective_checkpoint_contexts, KEPT))
    in_blocks = but_for_kept if memory == "balanced" else again
    ways = {
        Block: (in_blocks, "attend", "feed"),
        HarBlock: (in_blocks, "forward"),
        ResidualBlock: (in_blocks, "forward"),
        Lpips: (again, "distance") if memory == "balanced" else (again, "distance", "stage"),
    }
    for module in model.modules():
        way, *methods = ways.get(type(module), (None,))
        for method in methods:
            setattr(module, method, partial(way, getattr(module, method)))
