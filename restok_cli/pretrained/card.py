"""The model card of a model folder: `README.md`, made of what the folder says of itself and of `card.json`.

`card.json` is what the card knows beside config and weights: how the model was trained, what was measured of it, its
licence. It travels with the model, so that the card can be made again anywhere; the same two give the same bytes.
"""

import json
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import ConfigDict, model_validator

from restok_cli.console import counted
from restok_cli.files import read_whole
from restok_cli.model.levels import level_sizes, step_sizes
from restok_cli.pretrained.folder import (
    CARD_FILE,
    CONFIG_FILE,
    RECORD_FILE,
    TOKENIZER_FOLDER,
    HarFolder,
    ModelFolder,
    TokenizerFolder,
    fingerprint,
    open_model,
    open_tokenizer,
)
from restok_cli.pretrained.modules import count_parameters
from restok_cli.schema import Count, Fields, PositiveCount, Schema, read_json

PAPER = "https://arxiv.org/abs/2601.03955"
UNKNOWN_LICENCE = "unknown"  # as the hub writes it
VALIDATION_NAMES = {
    "validation_psnr": "PSNR, dB",
    "validation_codebook_usage": "codebook in use, %",
    "validation_codebook_perplexity": "codebook perplexity, codes",
    "validation_loss": "cross-entropy, nats per code",
}


class _Part(Schema):
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")  # a run may have gone wrong


class Training(_Part):
    """How a model was made by one of the training commands."""

    restok: str  # version
    torch: str  # version
    preset: str  # the one that the config is nearest to
    changes: Fields  # what the config has otherwise than that preset, by dotted key
    steps: Count  # done
    max_steps: Count  # planned
    batch_size: PositiveCount
    data_name: str
    data_fingerprint: str
    init: str | None  # the model whose weights it started from; None = from random ones
    validation_step: Count | None  # after which the numbers below were measured; None = not yet
    validation: dict[str, float]
    loss: float | None = None  # last logged, a mean over some steps

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.validation and self.validation_step is None:
            raise ValueError("validation has numbers, and validation_step no step")
        return self

    @property
    def is_overfitted(self) -> bool:
        """Whether a generator knows its training images far better than held-out ones."""
        held_out = self.validation.get("validation_loss")
        return self.loss is not None and held_out is not None and held_out > 2 * self.loss


class MetricRow(_Part):
    """A row of `restok evaluate --json`."""

    name: str  # with its n: gFID-50k
    value: float
    unit: str
    reference: str  # what it was measured against; empty where that is nothing
    basis: str  # the features behind it, or how the number is defined
    caveat: str  # why published numbers are not comparable with it


class Record(_Part):
    """Contents of `card.json`."""

    licence: str | None = None  # as the hub names licences; None = nobody has said
    training: Training | None = None  # None where restok did not train the model
    results: tuple[MetricRow, ...] = ()


def write_card(folder: Path, record: Record) -> None:
    """Put the card into a model folder that nobody else can see yet, or as part of one (see files.whole_folder)."""
    (folder / RECORD_FILE).write_text(record_text(record), encoding="utf-8")
    (folder / CARD_FILE).write_text(card_text(open_model(folder), record), encoding="utf-8")


def record_text(record: Record) -> str:
    """Text of `card.json` for a record."""
    return record.model_dump_json(indent=2) + "\n"


def read_record(folder: Path) -> Record:
    """Read `card.json` in a model folder; where there is none, nothing. Raises RestokError for a damaged one."""
    path = folder / RECORD_FILE
    if not path.is_file():
        return Record()
    return read_json(Record, path, "copy it again, or delete it to write a card without it")


def is_untouched(model: ModelFolder) -> bool:
    """Whether the card of a model is as restok wrote it, or not there: then another may take its place."""
    card = model.path / CARD_FILE
    return not card.exists() or read_whole(card).decode(errors="replace") == card_text(model, read_record(model.path))


def card_text(model: ModelFolder, record: Record, name: str = "M") -> str:
    """The card in Markdown, with the hub's YAML before it. Commands in it call the model `name`."""
    title = {"tokenizer": "ResTok tokenizer", "har": "HAR generator"}[model.kind]
    licence = "The licence is unknown: whoever trained this model has not stated one, and restok invents none."
    if record.licence is not None:
        licence = f"Licence, as stated by whoever published the model: `{record.licence}`."
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(model, record), sort_keys=False)}---\n\n# {title}",
        *_what_it_is(model),
        *_use(model, name),
        *_training(record.training),
        *_measured(record),
        *_limits(model, record),
        f"## Licence and citation\n\n{licence}",
        f"The method is that of *ResTok*, [arXiv 2601.03955]({PAPER}). If you use this model, cite the paper.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(model: ModelFolder, record: Record) -> dict[str, Any]:
    """Task by which the hub sorts models. It has no task for drawing by class."""
    task = "image-to-image" if model.kind == "tokenizer" else "unconditional-image-generation"
    tags = {"tokenizer": ["image-tokenizer", "vector-quantization"], "har": ["image-generation", "autoregressive"]}
    return {
        "license": record.licence or UNKNOWN_LICENCE,
        "library_name": "restok",
        "pipeline_tag": task,
        "tags": ["restok", *tags[model.kind], "arxiv:2601.03955"],
    }


def _what_it_is(model: ModelFolder) -> list[str]:
    size = _parameters(model)
    if model.kind == "tokenizer":
        config = model.config
        sizes = level_sizes(config.num_latent_tokens)
        about = (
            f"A tokenizer of the ResTok kind: it turns an image of {_size(model)} pixels into "
            f"{config.num_latent_tokens} codes in {len(sizes)} coarse-to-fine levels ({_listed(sizes)}), each code one "
            f"of {config.codebook_size:,}, and codes back into an image. The first codes alone give a coarser image."
            f" {size}."
        )
        return [about]
    config = model.config
    sizes = step_sizes(config.num_codes, config.num_sequential_codes)
    classes = f"one of {config.num_classes:,} classes" if config.num_classes else "no class: it is unconditional"
    about = (
        f"A generator of the {'HAR' if config.is_har else 'plain AR'} kind: it draws the {config.num_codes} codes of "
        f"an image in {counted(len(sizes), 'step')} ({_listed(sizes)} codes), given {classes}. {size}."
    )
    tokenizer = _tokenizer_of(model)
    if tokenizer is None:
        return [about, "The tokenizer that turns its codes into images is not part of this folder."]
    parts = [
        about,
        f"The tokenizer that turns them into images of {_size(tokenizer)} pixels is in `{TOKENIZER_FOLDER}/` "
        f"({_parameters(tokenizer)}, fingerprint `{fingerprint(tokenizer)[:16]}`).",
    ]
    if config.num_classes:
        parts.append(f"The names of the classes are in `{CONFIG_FILE}`.")
    return parts


def _use(model: ModelFolder, name: str) -> list[str]:
    where = " `M` is this folder, a copy of it, or its name on the hub (`hf:owner/name`)." if name == "M" else ""
    if model.kind == "tokenizer":
        commands = (
            f"restok reconstruct images --model {name} -o reconstructed\n"
            f"restok encode images --model {name} -o codes.npz\n"
            f"restok decode codes.npz --model {name} -o decoded"
        )
    else:
        steps = len(step_sizes(model.config.num_codes, model.config.num_sequential_codes))
        tokenizer = "" if _tokenizer_of(model) else " --tokenizer TOKENIZER"
        commands = f"restok generate --model {name}{tokenizer} --steps {steps} --count 16 --grid grid.png -o pictures"
    return [f"## Use\n\nWith restok installed.{where}", f"```sh\n{commands}\n```"]


def _training(training: Training | None) -> list[str]:
    if training is None:
        return ["## Training\n\nNot recorded: restok did not train this model, or did so before it wrote model cards."]
    start = f"the weights of {training.init}" if training.init else "random weights"
    done = f"{training.steps:,} step{'s' * (training.steps != 1)}"
    if training.steps < training.max_steps:
        done += f" of the {training.max_steps:,} planned"
    rows = [
        ("steps", f"{done}, {training.batch_size:,} image{'s' * (training.batch_size != 1)} each, from {start}"),
        ("data set", f"{training.data_name}, fingerprint `{training.data_fingerprint}`"),
        ("settings", f"preset `{training.preset}`" + (", and what is listed below" if training.changes else "")),
        ("made with", f"restok {training.restok}, torch {training.torch}"),
    ]
    parts = ["## Training", _table(("", ""), rows)]
    if training.changes:
        lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in training.changes.items())
        parts.append("\n".join(("```yaml", *lines, "```")))
    return parts


def _measured(record: Record) -> list[str]:
    parts, training = [], record.training
    if training and training.validation:
        found = training.validation
        rows = [(label, f"{found[key]:.4g}") for key, label in VALIDATION_NAMES.items() if key in found]
        step = training.validation_step
        parts.append(f"On held-out images of the data set, by the run itself after step {step:,}:")
        parts.append(_table(("", "value"), rows))
    if record.results:
        rows = [
            (result.name, f"{result.value:.6g} {result.unit}".strip(), result.reference, result.basis)
            for result in record.results
        ]
        parts.append("By `restok evaluate`; the number behind a name counts the images:")
        parts.append(_table(("metric", "value", "against", "measured by"), rows))
        for caveat in dict.fromkeys(result.caveat for result in record.results if result.caveat):
            names = ", ".join(result.name for result in record.results if result.caveat == caveat)
            parts.append(f"Not comparable with published numbers ({caveat}): {names}.")
    return ["## Measured", *(parts or ["Nothing yet."])]


def _limits(model: ModelFolder, record: Record) -> list[str]:
    lines = []
    if model.kind == "tokenizer":
        lines.append(f"Made for images of {_size(model)} pixels like those that trained it; codes lose detail.")
    else:
        lines.append("Draws what its training images showed, with their gaps and biases; it knows no text.")
        if record.training and record.training.is_overfitted:
            seen, held_out = record.training.loss, record.training.validation["validation_loss"]
            lines.append(
                f"It knows its training images far better than others, {seen:.2g} nats per code against"
                f" {held_out:.2g}: expect it to repeat them."
            )
        else:
            lines.append("Whether it repeats training images was not examined.")
    if record.training and record.training.steps < record.training.max_steps:
        lines.append(f"Its weights are of step {record.training.steps:,}, before the last one that was planned.")
    if not record.results:
        lines.append("It was not evaluated beyond what stands above.")
    lines.append("The licences of the training images and of networks that training used may bind its use, too.")
    return ["## Limits\n\n" + "\n".join(f"- {line}" for line in lines)]


def _tokenizer_of(model: HarFolder) -> TokenizerFolder | None:
    """The tokenizer that a generator has with it."""
    folder = model.path / TOKENIZER_FOLDER
    return open_tokenizer(folder) if (folder / CONFIG_FILE).is_file() else None


def _size(tokenizer: TokenizerFolder) -> str:
    height, width = tokenizer.config.image_size
    return f"{width}×{height}"


def _parameters(model: ModelFolder) -> str:
    count = count_parameters(model.config)
    return f"{count / 1e6:,.1f} M parameters" if count >= 1e6 else f"{count:,} parameters"


def _listed(numbers: tuple[int, ...]) -> str:
    """(1, 1, 2) -> "1, 1, 2"; of many only the ends."""
    if len(numbers) > 12:
        return f"{numbers[0]}, {numbers[1]}, …, {numbers[-1]}"
    return ", ".join(map(str, numbers))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
