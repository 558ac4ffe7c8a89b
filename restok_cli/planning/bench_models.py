"""The models that `restok bench` measures: a person's own, or a preset's with random weights."""

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from restok_cli.errors import UsageError
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.planning.configs import planned_config, planned_generator
from restok_cli.pretrained.folder import HarFolder, find_tokenizer, open_any
from restok_cli.pretrained.modules import load_model
from restok_cli.settings.training import TokenizerRunConfig


def open_models(
    model: Path | None, preset: str, har_preset: str, device: torch.device, drawing: Collection[str]
) -> tuple[TokenizerRunConfig, Tokenizer, Har | None]:
    """A recipe, a tokenizer and, where something is drawn, a generator.

    Raises UsageError where there is none, or the two do not belong together.
    """
    config = planned_config("tokenizer", preset)
    if model is not None:
        return config, *loaded(model, device, drawing)
    torch.manual_seed(0)
    with device:  # a GPU draws a billion weights in no time
        tokenizer, har = Tokenizer(config.model), None
        if drawing:
            har = Har(planned_generator(har_preset, config.model))
            nn.init.normal_(har.head.weight, std=0.02)  # which begins at 0, so that all codes are as likely
    return config, tokenizer, har


def loaded(model: Path, device: torch.device, drawing: Collection[str]) -> tuple[Tokenizer, Har | None]:
    folder = open_any(model)
    if isinstance(folder, HarFolder):
        return load_model(find_tokenizer(folder, model, None), device), load_model(folder, device)
    if drawing:
        raise UsageError(
            f"{model} is a tokenizer, and {' and '.join(sorted(drawing))} needs a generator; give one, or leave that "
            "out of --what"
        )
    return load_model(folder, device), None
