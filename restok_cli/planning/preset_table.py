"""The presets of the trainers as a table: what each builds, what it takes, and what it is for."""

from importlib.resources import files
from typing import NamedTuple

from torch import nn

from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.planning.configs import of_images, planned_config
from restok_cli.planning.memory import KEPT_COPIES, num_parameters
from restok_cli.planning.steps import count_step
from restok_cli.settings.training import RunConfig, RunKind, TokenizerRunConfig

MODULES: dict[RunKind, type[nn.Module]] = {"tokenizer": Tokenizer, "har": Har}
USUAL_BATCH = 32  # images at a time on one GPU, as the authors train; presets of smaller batches have theirs


class PresetFacts(NamedTuple):
    """A row of the table."""

    preset: str
    image_size: str  # "" for a generator, whose tokenizer decides it
    codes: int
    parameters: int
    state_bytes: int  # of weights, gradients, optimizer and average
    networks: list[str]  # which training fetches from the net when it first needs them
    purpose: str


def facts_of(kind: RunKind, name: str) -> PresetFacts:
    """The facts of a trainer's preset. Raises UsageError where there is none of that name."""
    config = planned_config(kind, name)
    if isinstance(config, TokenizerRunConfig):
        size, codes = f"{config.model.image_width}x{config.model.image_height}", config.model.num_latent_tokens
    else:
        size, codes = "", config.model.num_codes
    parameters = int(num_parameters(MODULES[kind], config.model))
    state = KEPT_COPIES * 4 * parameters
    return PresetFacts(name, size, codes, parameters, state, networks(config), purpose(kind, name))


def networks(config: RunConfig) -> list[str]:
    """Networks of others that a run of this config trains with."""
    if not isinstance(config, TokenizerRunConfig):
        return []
    found = []
    if config.loss.perceptual_weight > 0:
        found.append("LPIPS (VGG-16, 528 MB)")
    if config.alignment.is_used:
        found.append(f"alignment ({config.alignment.teacher})")
    if config.discriminator.weight > 0 and config.discriminator.kind == "dino":
        found.append("discriminator (DINO ViT-S/16)")
    return found


def purpose(kind: RunKind, name: str) -> str:
    """The comment at the head of a preset's file."""
    text = (files("restok_cli") / "presets" / kind / f"{name}.yaml").read_text(encoding="utf-8")
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def step_memory(kind: RunKind, name: str) -> tuple[int, int]:
    """The usual batch of a preset on one GPU, and the bytes that a step of it takes there at its highest."""
    config = planned_config(kind, name)
    batch = min(USUAL_BATCH, config.schedule.batch_size)
    return batch, count_step(of_images(config, batch), gpu=True).peak
