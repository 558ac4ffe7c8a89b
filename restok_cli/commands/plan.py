"""`restok plan`: what a run will take, before anybody rents a GPU."""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restok_cli.commands.groups import grouped
from restok_cli.commands.options import Assignments, BatchSize, ConfigFile, LinesAsJson, MaxSteps, Preset
from restok_cli.console import note, say
from restok_cli.errors import UsageError

if TYPE_CHECKING:
    from restok_cli.planning.cards import Device
    from restok_cli.planning.plan import Cost
    from restok_cli.settings.training import RunKind

app = typer.Typer(
    no_args_is_help=True,
    help="""Say what a run will take: memory, arithmetic, time, energy, money, disk.

    Nothing is downloaded, and no GPU is needed: the real code runs on tensors
    without numbers, by the rules of a GPU. Every figure says whether it is
    counted, measured, assumed, or computed from such.

    Examples:

      restok plan train-tokenizer --preset restok-l-128 --gpu h100 --num-processes 8
      restok plan train-tokenizer --preset restok-l-128 --fit 24GB
      restok plan generate --preset har-l --count 50000
    """,
)


def parse_memory(text: str) -> float:
    """GiB of `24GB`, `80GiB`, `80`. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GB|GiB|G)?", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise UsageError(f"--fit {text}: give the memory of a card, such as 24GB or 80GiB")
    return float(match[1]) * (1e9 / 2**30 if (match[2] or "").upper() == "GB" else 1)


Gpu = Annotated[
    Literal["h100", "h200", "a100", "l40s", "4090", "3090", "mi300x", "cpu"],
    typer.Option(help="The card to plan for; cpu: this machine's, whose rates are measured now."),
]
Cards = Annotated[int, typer.Option("--num-processes", min=1, metavar="N", help="Cards that share the work.")]
Price = Annotated[
    float | None, typer.Option(min=0, metavar="X", help="Price of one card for an hour, in any currency.")
]
Fit = Annotated[
    float | None,
    typer.Option(
        parser=parse_memory, metavar="SIZE", help="Find settings for a card of this memory, such as 24GB or 80GiB."
    ),
]
Choices = Annotated[bool, typer.Option(help="Also count what other settings would change.")]
Count = Annotated[int, typer.Option(min=1, metavar="N", help="Images in all.")]
AtATime = Annotated[int, typer.Option("--batch-size", min=1, metavar="N", help="Images at a time.")]
TokenizerPreset = Annotated[str, typer.Option("--tokenizer", help="The preset of the tokenizer.")]
PassDtype = Annotated[Literal["float32", "bf16"], typer.Option(help="Precision of the model.")]


@dataclass
class Planned:
    """A training run: its settings, the cards that it is planned for, and what is to be said of it."""

    preset: Preset = None
    config: ConfigFile = None
    assignments: Assignments = None
    max_steps: MaxSteps = None
    batch_size: BatchSize = None
    gpu: Gpu = "h100"
    num_processes: Cards = 1
    price_per_hour: Price = None
    fit: Fit = None
    choices: Choices = True
    as_json: LinesAsJson = False


@app.command()
@grouped
def train_tokenizer(planned: Planned) -> None:
    """Say what `restok train-tokenizer` with these settings will take.

    Examples:

      restok plan train-tokenizer --preset restok-l-128 --gpu h100 --num-processes 8
      restok plan train-tokenizer --preset restok-s-128 --gpu cpu --no-choices
    """
    training("tokenizer", planned)


@app.command()
@grouped
def train_har(planned: Planned) -> None:
    """Say what `restok train-har` on cached codes with these settings will take.

    Example:

      restok plan train-har --preset har-l --gpu a100 --num-processes 8
    """
    training("har", planned)


@app.command()
def generate(
    preset: Annotated[str, typer.Option(help="The preset of the generator.")] = "har-l",
    tokenizer: TokenizerPreset = "restok-l-128",
    count: Count = 50_000,
    batch_size: AtATime = 64,
    dtype: PassDtype = "bf16",
    gpu: Gpu = "h100",
    price_per_hour: Price = None,
    as_json: LinesAsJson = False,
) -> None:
    """Say what `restok generate` will take: all steps with guidance, and decoding.

    Example:

      restok plan generate --count 50000 --gpu 4090
    """
    from restok_cli.planning.configs import planned_config, planned_generator
    from restok_cli.planning.plan import plan_drawing

    decoder = planned_config("tokenizer", tokenizer).model
    models = planned_generator(preset, decoder), decoder
    title = f"generate {count:,} images by {preset} and {tokenizer} in {dtype}, {batch_size} at a time, on {gpu}"
    show(plan_drawing(*models, count, batch_size, dtype, device_of(gpu), title), price_per_hour, as_json)


@app.command()
def encode(
    tokenizer: TokenizerPreset = "restok-l-128",
    count: Count = 1_281_167,
    batch_size: AtATime = 64,
    dtype: PassDtype = "bf16",
    gpu: Gpu = "h100",
    price_per_hour: Price = None,
    as_json: LinesAsJson = False,
) -> None:
    """Say what `restok encode`, or `restok prepare codes`, will take.

    Example:

      restok plan encode --tokenizer restok-s-128 --count 100000
    """
    from restok_cli.planning.configs import planned_config
    from restok_cli.planning.plan import plan_encoding

    model = planned_config("tokenizer", tokenizer).model
    title = f"encode {count:,} images by {tokenizer} in {dtype}, {batch_size} at a time, on {gpu}"
    show(plan_encoding(model, count, batch_size, dtype, device_of(gpu), title), price_per_hour, as_json)


@app.command()
def evaluate(
    count: Count = 50_000,
    size: Annotated[int, typer.Option(min=75, metavar="N", help="Pixels along each side of an image.")] = 256,
    batch_size: AtATime = 16,
    gpu: Gpu = "h100",
    price_per_hour: Price = None,
    as_json: LinesAsJson = False,
) -> None:
    """Say what Inception's features of `restok evaluate` will take.

    Example:

      restok plan evaluate --count 50000 --gpu cpu
    """
    from restok_cli.planning.plan import plan_evaluation

    title = f"Inception's features of {count:,} images of {size}x{size}, {batch_size} at a time, on {gpu}"
    show(plan_evaluation((size, size), count, batch_size, device_of(gpu), title), price_per_hour, as_json)


def training(kind: "RunKind", asked: Planned) -> None:
    from restok_cli.planning.configs import of_one_device, planned_config
    from restok_cli.planning.plan import fitting, plan_training

    num_processes = asked.num_processes
    config = planned_config(kind, asked.preset, asked.config, asked.assignments, asked.max_steps, asked.batch_size)
    device = device_of(asked.gpu)
    words: list[str] = []
    if asked.fit is not None:
        device = device._replace(memory=asked.fit)
        config, words = fitting(config, device, num_processes, note)
    size = of_one_device(config, num_processes).schedule.micro_batch_size
    title = (
        f"train-{kind}: {config.schedule.batch_size} images a step on {num_processes} × {asked.gpu} "
        f"({device.memory:.3g} GiB), {size} at a time, in {config.compute.precision}, "
        f"compute.memory={config.compute.memory}"
    )
    plan = plan_training(config, device, num_processes, title, asked.choices and not words, note)
    if words:
        plan.notes.append("fits with " + " ".join(f"--set {word}" for word in words))
    show(plan, asked.price_per_hour, asked.as_json)


def device_of(gpu: str) -> "Device":
    from restok_cli.planning.cards import DEVICES, measured_cpu

    return measured_cpu() if gpu == "cpu" else DEVICES[gpu]


def show(plan: "Cost", price_per_hour: float | None, as_json: bool) -> None:
    from restok_cli.planning import report

    if as_json:
        print(json.dumps(report.as_json(plan, price_per_hour)))
    else:
        say(*report.lines(plan, price_per_hour))
