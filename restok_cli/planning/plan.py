"""Plans of runs, before anybody rents a GPU: memory, time, energy, money and disk, each with its source.

counted: by the real code on tensors without numbers; measured: by restok, see docs/benchmarks.md; data sheet: of the
device's maker; assumed: neither of these; computed: from such figures.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from restok_cli.errors import RestokError
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.planning.cards import GIB, Device, Times, times_of
from restok_cli.planning.counting import (
    COPIES,
    GRADIENTS,
    JUDGE,
    OPTIMIZER,
    PERSISTENT,
    WEIGHTS,
    Counter,
    Work,
)
from restok_cli.planning.several import Group
from restok_cli.planning.steps import (
    count_drawing,
    count_encoding,
    count_features,
    count_har_step,
    count_tokenizer_step,
)
from restok_cli.processes import check_division
from restok_cli.settings.training import RunConfig, TokenizerRunConfig

FIXED = {*PERSISTENT, OPTIMIZER, GRADIENTS, COPIES}  # whatever the micro-batch is
FACTORS = [2.0**power for power in range(-6, 10)]  # by which a micro-batch may be another
ALONE = Group(cards=1, rounds=1, in_shards=False, in_16_bits=False)
PIXEL_BYTES, FEATURE_BYTES = 110e3, 4 * (2048 + 2023)  # assumed: a PNG of 256 pixels a side; of one image


@dataclass
class Cost:
    """The figures of one run or command on one device, and what they were made from."""

    title: str
    device: Device
    memory: dict[str, int]  # bytes at the peak, by part: counted
    largest: int | None  # images at a time that fit
    batch_size: int  # images of a step, on all devices
    work: dict[str, Work]  # of a step on one device, by part
    times: Times
    steps: int
    choices: list[dict[str, Any]] = field(default_factory=list)
    disk: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    num_devices: int = 1

    @property
    def peak(self) -> int:
        return sum(self.memory.values())

    @property
    def needed(self) -> float:
        """Bytes with what is assumed beside what is counted."""
        return self.device.rest.added(self.peak)

    @property
    def hours(self) -> float:
        return self.steps * self.times.total / 3600


def plan_training(
    config: RunConfig,
    device: Device,
    num_processes: int,
    title: str,
    with_choices: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> Cost:
    """Raises UsageError where the batch cannot be shared out so."""
    mine = of_one_device(config, num_processes)
    tell("counting a step on tensors without numbers …")
    counter = count(mine, device.is_gpu)
    rounds, traced = rounds_of(mine), min(2, rounds_of(mine))
    group = Group.of(mine, num_processes, rounds)
    plan = Cost(
        title=title,
        device=device,
        memory=group.memory(counter.at_peak()),
        largest=None,
        batch_size=config.schedule.batch_size,
        work=work_by_part(counter, rounds / traced),
        times=time_of(counter, mine, device, num_processes),
        steps=config.schedule.max_steps,
        num_devices=num_processes,
    )
    peaks = peaks_of(counter, group)
    if mine.compute.compile:
        plan.notes.append("compute.compile is left out: what is compiled keeps less, and starts fewer operations")
    micro_batch = mine.schedule.micro_batch_size or 1
    plan.largest = largest_that_fits(peaks, micro_batch, device)
    plan.disk = disk_of(config, plan)
    if with_choices:
        for choice in alternatives(mine, device):
            tell(f"counting {choice} …")
            other = changed(mine, choice)
            counted = count(other, device.is_gpu)
            seconds = time_of(counted, other, device, num_processes).total
            plan.choices.append(row(choice, counted, group, micro_batch, device, seconds))
        plan.choices.insert(0, row("as it is", counter, group, micro_batch, device, plan.times.total))
        plan.choices += sharded_choices(counter, plan, mine)
    return plan


def of_one_device(config: RunConfig, num_processes: int) -> RunConfig:
    """The config of a run of one process that does what each of several would do."""
    schedule = config.schedule
    size = check_division(schedule.batch_size, schedule.micro_batch_size, num_processes)
    mine = {"batch_size": schedule.batch_size // num_processes, "micro_batch_size": size}
    return config.model_copy(update={"schedule": schedule.model_copy(update=mine)})


def rounds_of(config: RunConfig) -> int:
    """Micro-batches of a step."""
    return config.schedule.batch_size // (config.schedule.micro_batch_size or config.schedule.batch_size)


def count(config: RunConfig, gpu: bool) -> Counter:
    """A step of one device, of at most two micro-batches: the others are like the second."""
    size = config.schedule.micro_batch_size or config.schedule.batch_size
    short = {"batch_size": size * min(2, rounds_of(config))}
    config = config.model_copy(update={"schedule": config.schedule.model_copy(update=short)})
    if isinstance(config, TokenizerRunConfig):
        return count_tokenizer_step(config, gpu)
    return count_har_step(config, gpu)


def time_of(counter: Counter, config: RunConfig, device: Device, cards: int) -> Times:
    rounds, traced = rounds_of(config), min(2, rounds_of(config))
    work = {
        kind: done if kind.part == OPTIMIZER else done.times(rounds / traced) for kind, done in counter.work.items()
    }
    times = times_of(work, device, tf32=config.compute.precision != "float32")
    return times.with_exchange(Group.of(config, cards, rounds).exchanged(counter.at_peak()), device)


def work_by_part(counter: Counter, factor: float) -> dict[str, Work]:
    sums: dict[str, Work] = {}
    for kind, done in counter.work.items():
        more = done if kind.part == OPTIMIZER else done.times(factor)
        sums[kind.part] = sums.get(kind.part, Work()) + more
    return dict(sorted(sums.items(), key=lambda item: -item[1].flops))


def peaks_of(counter: Counter, group: Group = ALONE) -> list[dict[str, int]]:
    """Memory of a device at the moments at which it may be highest, by the number of images at a time."""
    return [group.memory(parts) for parts in counter.peaks(FIXED, FACTORS)]


def largest_that_fits(peaks: list[dict[str, int]], size: int, device: Device) -> int:
    """Images at a time, where `size` of them were counted. All but what is fixed grows with them."""
    return min(int(max(0, device.usable - fixed) / grows * size) for fixed, grows in map(split, peaks) if grows)


def split(memory: dict[str, int]) -> tuple[int, int]:
    """Bytes that are taken whatever the number of images is, and those that grow with them."""
    fixed = sum(count for name, count in memory.items() if name in FIXED)
    return fixed, sum(memory.values()) - fixed


def alternatives(config: RunConfig, device: Device) -> list[str]:
    """`--set` words that change what a step takes."""
    used = config.compute.memory_on("cuda" if device.is_gpu else "cpu")
    words = [f"compute.memory={memory}" for memory in ("fast", "balanced", "small") if memory != used]
    return [*words, f"compute.precision={'bf16' if config.compute.precision == 'float32' else 'float32'}"]


def changed(config: RunConfig, words: str) -> RunConfig:
    """With one of these."""
    key, value = words.removeprefix("compute.").split("=")
    return config.model_copy(update={"compute": config.compute.model_copy(update={key: value})})


def row(name: str, counter: Counter, group: Group, micro_batch: int, device: Device, seconds: float) -> dict[str, Any]:
    largest = largest_that_fits(peaks_of(counter, group), micro_batch, device)
    memory = sum(group.memory(counter.at_peak()).values())
    return {"choice": name, "gib": memory / GIB, "largest": largest, "seconds": seconds}


def sharded_choices(counter: Counter, plan: Cost, config: RunConfig) -> list[dict[str, Any]]:
    """FSDP, where several processes could share the generator's weights: divided, not counted anew."""
    without = getattr(config.compute, "sharding", "fsdp") == "none" and config.compute.precision != "fp16"
    if plan.num_devices == 1 or not without:
        return []
    other = changed(config, words := "compute.sharding=fsdp")
    group = Group.of(other, plan.num_devices, rounds_of(other))
    times = plan.times.with_exchange(group.exchanged(counter.at_peak()), plan.device)
    return [row(words, counter, group, config.schedule.micro_batch_size or 1, plan.device, times.total)]


def disk_of(config: RunConfig, plan: Cost) -> dict[str, float]:
    """Bytes of what a run leaves there."""
    schedule, in_shards = config.schedule, Group.of(config, plan.num_devices, 1).in_shards
    weights = plan.memory[WEIGHTS] * (plan.num_devices if in_shards else 1)
    checkpoint = 4 * weights + 3 * plan.memory.get(JUDGE, 0)  # weights, average, two moments
    kept = min(schedule.keep_checkpoints, -(-schedule.max_steps // schedule.save_every)) + 1
    if schedule.keep_every is not None:
        kept += schedule.max_steps // schedule.keep_every
    return {f"{kept} checkpoints": kept * checkpoint, "model": weights}


def fitting(
    config: RunConfig, device: Device, num_processes: int, tell: Callable[[str], None]
) -> tuple[RunConfig, list[str]]:
    """The config with which a step fits the device, and the `--set` words that make it.

    It is the mildest choice of what is kept that still has 8 images at a time. Raises RestokError where nothing does.
    """
    mine = of_one_device(config, num_processes)
    best = 0, ""
    present = mine.compute.memory_on("cuda" if device.is_gpu else "cpu")
    order = ("fast", "balanced", "small")
    for memory in order[order.index(present) :]:
        other = changed(mine, f"compute.memory={memory}")
        tell(f"counting compute.memory={memory} …")
        counter, size = count(other, device.is_gpu), mine.schedule.micro_batch_size or 1
        if sum(Group.of(other, num_processes, rounds_of(other)).memory(counter.at_peak()).values()) <= device.usable:
            best = (size, memory)
            break
        # two micro-batches or more, as it will be then, keep all gradients while the second is computed
        peaks = [
            Group.of(other, num_processes, 2).memory(parts | {GRADIENTS: max(parts.get(GRADIENTS, 0), parts[WEIGHTS])})
            for parts in counter.peaks(FIXED, FACTORS)
        ]
        most = min(largest_that_fits(peaks, size, device), size)
        divisor = max((d for d in range(1, most + 1) if mine.schedule.batch_size % d == 0), default=0)
        best = max(best, (divisor, memory))
        if divisor >= 8:
            break
    size, memory = best
    if size == 0:
        raise RestokError(
            f"{config.schedule.batch_size} images a step do not fit {device.memory:.4g} GiB, not even one at a time "
            "with compute.memory=small; take a smaller model, or a card with more memory"
        )
    schedule = config.schedule.model_copy(update={"micro_batch_size": size})
    config = changed(config, f"compute.memory={memory}").model_copy(update={"schedule": schedule})
    return config, [f"compute.memory={memory}", f"schedule.micro_batch_size={size}"]


def plan_drawing(
    har: HarConfig, tokenizer: TokenizerConfig, count: int, batch_size: int, dtype: str, device: Device, title: str
) -> Cost:
    counter = count_drawing(har, tokenizer, batch_size, dtype, device.is_gpu)
    return plan_passes(counter, count, batch_size, device, title, {"images": count * PIXEL_BYTES})


def plan_encoding(
    tokenizer: TokenizerConfig, count: int, batch_size: int, dtype: str, device: Device, title: str
) -> Cost:
    counter = count_encoding(tokenizer, batch_size, dtype, device.is_gpu)
    return plan_passes(counter, count, batch_size, device, title, {"codes": 2.0 * count * tokenizer.num_latent_tokens})


def plan_evaluation(image_size: tuple[int, int], count: int, batch_size: int, device: Device, title: str) -> Cost:
    counter = count_features(batch_size, image_size, device.is_gpu)
    return plan_passes(counter, count, batch_size, device, title, {"cached features": count * FEATURE_BYTES})


def plan_passes(
    counter: Counter, count: int, batch_size: int, device: Device, title: str, disk: dict[str, float]
) -> Cost:
    memory = counter.at_peak()
    return Cost(
        title=title,
        device=device,
        memory=memory,
        largest=largest_that_fits(peaks_of(counter), batch_size, device),
        batch_size=batch_size,
        work=work_by_part(counter, 1),
        times=times_of(counter.work, device, tf32=False, launch=0),
        steps=-(-count // batch_size),
        disk=disk,
    )
