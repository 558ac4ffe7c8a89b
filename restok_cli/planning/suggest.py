"""A training command for somebody's images and machine: chosen by rules, measured by a few real steps."""

from functools import partial
from itertools import pairwise
from math import log
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import torch

from restok_cli.console import counted, duration, note, quiet
from restok_cli.data.image_sizes import enlarged
from restok_cli.data.shards.dataset import Dataset
from restok_cli.errors import UsageError
from restok_cli.files import BUNDLED
from restok_cli.planning.configs import changed
from restok_cli.planning.memory import memory_of
from restok_cli.planning.preflight import Train, shortened
from restok_cli.planning.steps import memory_of_step
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.modules import load_for_use, load_model
from restok_cli.settings.run_config import complete_config, har_facts, read_told
from restok_cli.settings.training import RunConfig, RunKind, TokenizerRunConfig
from restok_cli.training.code_source import open_source
from restok_cli.training.har_loop import train_har
from restok_cli.training.losses import open_tokenizer_losses
from restok_cli.training.run_folder.metrics_log import METRICS_FILE, read_log
from restok_cli.training.run_folder.run import RunFolder
from restok_cli.training.tokenizer_loop import train_tokenizer, validate

START = "photo"  # the tokenizer that is started from, as commands name it
BATCH_SIZE = {"tokenizer": 16, "har": 32}
FEW = 5000  # images, of which a generator learns what it saw by heart
MOST_EPOCHS = 300  # after which nothing was gained in any run
STEPS = 5  # that are measured, after one to warm up
SHARE = 0.85  # of the time that goes into steps; the rest takes starting, validating, saving
PATIENCE = 8  # validations
MIN_STEPS = 100  # 20 steps from START lost 2.3 dB on photographs that it knew, 550 gained 1
GAINED_FROM = 19.1  # dB, in the run that gave the next line
GAINS = ((400, 2.8), (800, 4.9), (1200, 5.6), (3600, 6.5))  # images seen -> dB over the start, docs/own-images.md


class Wishes(NamedTuple):
    """Options of the command."""

    data: str
    kind: RunKind
    image_size: tuple[int, int] | None
    minutes: float
    device_name: str
    device: torch.device
    memory: float | None  # bytes


class Suggestion(NamedTuple):
    """One command, and what to know of it."""

    command: list[str]
    expect: list[str]
    why: list[str]
    warnings: list[str]


class Measured(NamedTuple):
    """Findings of some real steps."""

    seconds_per_step: float
    psnr: float | None  # of the model that a tokenizer's run starts from, in dB, on the held-out images


def suggest(request: Wishes, data: Dataset) -> Suggestion:
    """Choose, measure, and put into words. Raises UsageError where the settings cannot be, or memory is too small."""
    count = data.split("train").known_length
    told = read_told(
        *(request.kind, Path("run"), False, "sample", None, None, 1000, BATCH_SIZE[request.kind], None),
        image_size=request.image_size if request.kind == "tokenizer" else None,
    )
    folder = open_tokenizer(BUNDLED[START])
    if request.kind == "tokenizer":
        config = complete_config(told, init=(BUNDLED[START], folder.config))
        size = cast(TokenizerRunConfig, config).model.image_size
    else:
        facts = har_facts(BUNDLED[START], folder.config, request.data, len(data.class_names))
        config, size = complete_config(told, facts=facts), folder.config.image_size
        if request.image_size not in (None, size):
            raise UsageError(f"--image-size: the tokenizer {START} is for images of {size[1]}x{size[0]}; leave it out")
    config, memory_why = fitting(config, request)
    found = measure(config, request, data)
    steps = steps_in(request.minutes, found.seconds_per_step, config.schedule.batch_size, count)
    return Suggestion(
        command_for(request, config, steps),
        expectations(request.kind, config, steps, found, count),
        [*reasons(request, config, steps, count), memory_why],
        warnings(request.kind, data, size, count, steps),
    )


def fitting(config: RunConfig, request: Wishes) -> tuple[RunConfig, str]:
    """The config with the largest micro-batch that memory holds, and a line about it. Raises UsageError."""
    on_gpu = request.device.type == "cuda"
    limit = request.memory or memory_of(request.device)
    size = config.schedule.batch_size
    while True:
        config = changed(config, schedule={"micro_batch_size": size})
        needed = memory_of_step(config, on_gpu)
        if needed <= limit:
            break
        if size == 1:
            raise UsageError(f"a step of one image needs {needed / 1e9:.2f} GB, and there are {limit / 1e9:.2f} GB")
        size //= 2
    return config, f"memory: a step of {counted(size, 'image')} needs {needed / 1e9:.2f} of {limit / 1e9:.1f} GB"


def measure(config: RunConfig, request: Wishes, data: Dataset) -> Measured:
    """Train some real steps in a folder that is then thrown away, and try what the run would start from."""
    note(f"trying {STEPS + 1} steps of {counted(config.schedule.batch_size, 'image')}, and the held-out images; wait")
    every: dict[str, Any] = dict.fromkeys(("max_steps", "validate_every", "preview_every", "save_every"), STEPS + 1)
    short = changed(shortened(config), schedule=every)
    model, device = open_tokenizer(BUNDLED[START]), request.device
    used, psnr = load_for_use(model, device), None
    if isinstance(config, TokenizerRunConfig):
        losses, start = open_tokenizer_losses(config, device), load_model(model, torch.device("cpu"))
        train = cast(Train, partial(train_tokenizer, data=data, losses=losses, device=device, init=start))
        if used.config.image_size != config.model.image_size:
            used = used.for_size(*config.model.image_size)
        psnr = validate(used, data, config.schedule.batch_size, device, None, 8, lambda batches: batches)[
            "validation_psnr"
        ]
    else:
        source = open_source(data, model, used.requires_grad_(False), device)
        train = cast(Train, partial(train_har, source=source, tokenizer_folder=model, tokenizer=used, device=device))
    with TemporaryDirectory() as folder, quiet():
        place = Path(folder)
        run = RunFolder(place, short, resume=False, overwrite=True)
        train(short, run, validation_batches=1)
        rates = [line["images_per_second"] for _, line in read_log(place / METRICS_FILE) if "images_per_second" in line]
    return Measured(config.schedule.batch_size / median(rates[1:]), psnr)


def steps_in(minutes: float, seconds_per_step: float, batch_size: int, count: float) -> int:
    """How many steps fit into the time, to two digits, and do not see few images too often."""
    steps = min(minutes * 60 * SHARE / seconds_per_step, MOST_EPOCHS * count / batch_size)
    if steps < 1:
        raise UsageError(f"--minutes {minutes:g}: a step takes {seconds_per_step:.3g} s; give more minutes")
    unit = 10 ** max(len(str(int(steps))) - 2, 0)
    return int(steps) // unit * unit


def command_for(request: Wishes, config: RunConfig, steps: int) -> list[str]:
    """The words of the command, complete."""
    schedule = config.schedule
    if isinstance(config, TokenizerRunConfig):
        size = config.model.image_size
        side = str(size[0]) if size[0] == size[1] else f"{size[1]}x{size[0]}"
        words = ["restok", "train-tokenizer", request.data, "--init", START, "--image-size", side]
        words += ["--set", "data.crop=random"]  # the preset's is for emoji, which fill their images
    else:
        words = ["restok", "train-har", request.data, "--tokenizer", START]
    words += ["--batch-size", str(schedule.batch_size), "--max-steps", str(steps)]
    if schedule.micro_batch_size != schedule.batch_size:
        words += ["--set", f"schedule.micro_batch_size={schedule.micro_batch_size}"]
    every = max(steps // 12, 1)
    words += [w for name in ("validate", "save", "preview") for w in ("--set", f"schedule.{name}_every={every}")]
    words += ["--early-stop", str(PATIENCE)]
    words += ["--device", request.device_name] if request.device_name != "auto" else []
    return [*words, "-o", f"runs/{'tokenizer' if request.kind == 'tokenizer' else 'har'}"]


def expectations(kind: RunKind, config: RunConfig, steps: int, found: Measured, count: float) -> list[str]:
    """Cost and gain to expect of the command."""
    seen = steps * config.schedule.batch_size
    lines = [
        f"{counted(steps, 'step')} of {found.seconds_per_step:.2g} s, in all {duration(time_of(steps, found))}",
        f"{seen:,} images seen, each training image {seen / count:.1f} times",
    ]
    if found.psnr is not None:
        lines.append(
            f"PSNR on held-out images: {found.psnr:.1f} dB as {START} is; a start of {GAINED_FROM} dB gained "
            f"{gain(seen):.1f} dB by so many images, one of 26.3 dB less than 1 dB (docs/own-images.md)"
        )
    if kind == "har" and count < FEW:
        lines.append(
            f"{count} images cannot give a generator that draws new ones: it learns these by heart, or stops early"
        )
    return lines


def time_of(steps: int, found: Measured) -> float:
    """Seconds, with all that is no step."""
    return steps * found.seconds_per_step / SHARE


def gain(seen: int) -> float:
    """Decibels that fine-tuning gained after so many images, between the points of GAINS on a logarithmic scale."""
    if seen <= GAINS[0][0]:
        return GAINS[0][1] * seen / GAINS[0][0]
    for (x0, y0), (x1, y1) in pairwise(GAINS):
        if seen <= x1:
            return y0 + (y1 - y0) * log(seen / x0) / log(x1 / x0)
    return GAINS[-1][1]


def reasons(request: Wishes, config: RunConfig, steps: int, count: float) -> list[str]:
    """Why each choice."""
    lines = [f"--max-steps: what fits into {request.minutes:g} minutes on {request.device.type}, as measured just now"]
    if steps * config.schedule.batch_size >= 0.95 * MOST_EPOCHS * count:
        lines = [f"--max-steps: each image {MOST_EPOCHS} times; more has gained nothing"]
    if isinstance(config, TokenizerRunConfig):
        lines += [
            f"--init {START}: from it, a few minutes give more than half an hour from scratch",
            "data.crop=random: photographs may be cut anywhere; emoji, for which the preset is, may not",
        ]
    else:
        lines.append(f"--tokenizer {START}: or the run of one that you fine-tuned, which fits your images better")
    every = "validate_every, save_every, preview_every: twelve times in the run, so that there is something to look at"
    return [*lines, every, f"--early-stop {PATIENCE}: ends where nothing is gained any more, and keeps the best"]


def warnings(kind: RunKind, data: Dataset, size: tuple[int, int], count: float, steps: int) -> list[str]:
    """Reasons why data or time do not suit this."""
    found = [enlarged(data.image_sizes(), size)]
    if "validation" not in data.splits:
        found.append("there is no validation split: numbers are of the images that it trains on")
    if kind == "tokenizer" and count < 50:
        found.append(f"{count} images are very few; a hundred or more give a tokenizer that others profit from")
    if kind == "tokenizer" and steps < MIN_STEPS:
        found.append(f"{counted(steps, 'step')} may leave it worse than {START} is untouched; give more --minutes")
    return [line for line in found if line]
