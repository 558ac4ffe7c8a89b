"""How a model enters training: fresh, or from another's weights."""

from torch import nn

from restok_cli.console import note
from restok_cli.data.classes import usual_names
from restok_cli.errors import UsageError
from restok_cli.model.tokenizer import Tokenizer

# What training alone needs, or depends on the classes of the data: fresh where the other model has none that fits.
MAY_BE_FRESH = ("encoder_alignment.", "decoder_alignment.", "decoder.alignment_query", "class_embedding.")


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


def say_other_classes(theirs: list[str], ours: list[str]) -> None:
    """Say it where as many classes have other names: each of `ours` starts as the one of `theirs` with its number."""
    theirs, ours = usual_names(theirs), usual_names(ours)
    others = [number for number, names in enumerate(zip(theirs, ours, strict=False)) if len(set(names)) > 1]
    if others and len(theirs) == len(ours):
        first = others[0]
        note(
            f"--init: class {first} of the model given is {theirs[first]}, and {ours[first]} in the data; each class "
            "starts as the model's of the same number"
        )


def take_weights(model: nn.Module, source: nn.Module) -> None:
    """Start `model` from the weights of `source`, a tokenizer or generator of the same build (`--init`).

    Where the number of classes is another, those of `model` start fresh, but for its null class, and that is said.
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
