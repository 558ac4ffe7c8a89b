"""How a run trains: what a preset holds beside the model. Checked once, when made; no torch here."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, model_validator

from restok_cli.errors import RestokError, UsageError, did_you_mean
from restok_cli.files import whole_file
from restok_cli.model.config import Config, HarConfig, TokenizerConfig

Share = Annotated[float, Field(gt=0, le=1)]


class DataConfig(Config):
    """How training pictures are changed before the model sees them. Evaluation always takes the centre crop."""

    # random-resized takes a part of any place and size, random of any place in the picture at 1.1 times the size
    crop: Literal["random-resized", "random", "centre"] = "random-resized"
    random_crop_area: tuple[Share, Share] = (0.8, 1.0)  # of random-resized: the share of the picture that is kept
    random_flip: bool = True
    num_workers: int = Field(0, ge=0)  # processes that decode pictures beside the one that trains


class OptimizerConfig(Config):
    """AdamW, with a linear warm-up and a cosine decay."""

    learning_rate: float = Field(1e-4, gt=0)
    final_learning_rate: float = Field(1e-5, ge=0)
    warmup_steps: int = Field(5000, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)  # not on norms, biases, embeddings and learned tokens
    max_grad_norm: float = Field(10.0, gt=0)


class HarOptimizerConfig(OptimizerConfig):
    """The same, with the generator's defaults."""

    weight_decay: float = Field(0.05, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)


class ScheduleConfig(Config):
    """How long a run is and how often it does what. Units are optimizer steps."""

    max_steps: int = Field(1_000_000, ge=1)
    batch_size: int = Field(256, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    ema_decay: float = Field(0.9999, ge=0, lt=1)  # reached by a warm-up: min(ema_decay, (1 + step) / (10 + step))
    log_every: int = Field(50, ge=1)
    preview_every: int = Field(5000, ge=1)
    validate_every: int = Field(5000, ge=1)
    save_every: int = Field(5000, ge=1)
    keep_checkpoints: int = Field(2, ge=1)


class HarScheduleConfig(ScheduleConfig):
    """The same, with the generator's defaults."""

    max_steps: int = Field(1_500_000, ge=1)


class TokenizerLossConfig(Config):
    """The terms of the tokenizer's loss and their weights."""

    reconstruction: Literal["l1", "l2"] = "l2"
    reconstruction_weight: float = Field(1.0, ge=0)
    quantizer_weight: float = Field(1.0, ge=0)  # of codebook loss + commitment loss
    entropy_weight: float = Field(0.0, ge=0)  # of sure single codes and an evenly used codebook; 0 = not computed


class NestedDropoutConfig(Config):
    """Prefix dropout: some training pictures are decoded from their first codes alone."""

    probability: float = Field(0.2, ge=0, le=1)  # that a picture keeps a shorter prefix than all its codes
    min_tokens: int = Field(4, ge=1)  # the shortest prefix


class RevivalConfig(Config):
    """Codewords that no latent chose for a while move to a latent of the batch at hand."""

    every: int = Field(100, ge=1)  # steps between two revivals, over which use is counted
    until: int = Field(0, ge=0)  # the last step that may revive; 0 = never


class TokenizerRunConfig(Config):
    """All that decides a run of `restok train-tokenizer`."""

    model: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: TokenizerLossConfig = TokenizerLossConfig()
    nested_dropout: NestedDropoutConfig = NestedDropoutConfig()
    revival: RevivalConfig = RevivalConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nested_dropout.probability > 0 and self.nested_dropout.min_tokens > self.model.num_latent_tokens // 2:
            raise ValueError(
                f"nested_dropout.min_tokens = {self.nested_dropout.min_tokens} leaves no shorter prefix of "
                f"num_latent_tokens = {self.model.num_latent_tokens}; lower it, or set probability = 0"
            )
        return self


class HarRunConfig(Config):
    """All that decides a run of `restok train-har`, beside its tokenizer and data set."""

    model: HarConfig = HarConfig()
    data: DataConfig = DataConfig()
    optimizer: HarOptimizerConfig = HarOptimizerConfig()
    schedule: HarScheduleConfig = HarScheduleConfig()


def preset_names(kind: Literal["tokenizer", "har"]) -> list[str]:
    """The presets that `restok train-tokenizer` or `restok train-har` takes."""
    return sorted(Path(entry.name).stem for entry in (files("restok_cli") / "presets" / kind).iterdir())


def read_preset(kind: Literal["tokenizer", "har"], name: str) -> dict:
    """What a preset states, as nested dicts: only what differs from the defaults. Raises UsageError if unknown."""
    known = preset_names(kind)
    if name not in known:
        raise UsageError(f"no preset named {name}{did_you_mean(name, known)}; there are: {', '.join(known)}")
    return yaml.safe_load((files("restok_cli") / "presets" / kind / f"{name}.yaml").read_text(encoding="utf-8"))


def merged(values: dict, changes: dict) -> dict:
    """`values` with `changes` laid over them, section by section."""
    result = dict(values)
    for key, change in changes.items():
        result[key] = merged(result.get(key) or {}, change) if isinstance(change, dict) else change
    return result


def write_config(config: Config, path: Path) -> None:
    """Write every value of a run's config as YAML."""
    with whole_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def read_config(path: Path) -> dict:
    """The values of a file written by `write_config`. Raises RestokError if it is missing or damaged."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RestokError(f"{path} cannot be read ({reason}); restore it, or start another run") from error
    if not isinstance(values, dict):
        raise RestokError(f"{path} holds no config; restore it, or start another run")
    return values
