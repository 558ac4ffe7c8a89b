"""Plans of runs, before anybody rents a GPU: memory, time, energy, money and disk, each with its source.

counted: by the real code on tensors without numbers; measured: by restok, see docs/benchmarks.md; data sheet: of the
device's maker; assumed: neither of these; computed: from such figures.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from restok_cli.errors import RestokError
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.planning.cards import GIB, Device, Times, times_of
from restok_cli.planning.configs import changed, num_rounds, of_one_device
from restok_cli.planning.counting import COPIES, GRADIENTS, JUDGE, OPTIMIZER, PERSISTENT, WEIGHTS, Counter, Work
from restok_cli.planning.several import Group
from restok_cli.planning.steps import Memory, count_drawing, count_encoding, count_features, count_step
from restok_cli.settings.training import RunConfig, ScheduleConfig

FIXED = {*PERSISTENT, OPTIMIZER, GRADIENTS, COPIES}  # whatever the micro-batch is
FACTORS = [2.0**power for power in range(-6, 10)]  # by which a micro-batch may be another
MEMORY = get_args(Memory)  # the mildest first
ALONE = Group(cards=1, rounds=1, in_shards=False, in_16_bits=False)
PIXEL_BYTES, FEATURE_BYTES = 110e3, 4 * (2048 + 2023)  # assumed: a PNG of 256 pixels a side; of one image


@dataclass
class Cost:
    """The figures of one run or command on one device, and what they were made from."""

    title: str
    device: Device
    memory: dict[str, int]  # bytes at the peak, by part: counted
    largest: int  # images at a time that fit
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


@dataclass
class CountedStep:
    """A step that was counted of one device, and what it takes of each where several share the run."""

    config: RunConfig  # of one device
    counter: Counter
    device: Device
    cards: int

    @classmethod
    def of(cls, config: RunConfig, device: Device, cards: int) -> "CountedStep":
        return cls(config, count_step(config, device.is_gpu), device, cards)

    @property
    def group(self) -> Group:
        return Group.of(self.config, self.cards)

    @property
    def memory(self) -> dict[str, int]:
        return self.group.memory(self.counter.at_peak())

    @property
    def size(self) -> int:
        """Images at a time."""
        return self.config.schedule.batch_size // num_rounds(self.config)

    @property
    def largest(self) -> int:
        """Images at a time that fit."""
        return largest_that_fits(peaks_of(self.counter, self.group), self.size, self.device)

    @property
    def times(self) -> Times:
        times = times_of(self.counter.work, self.device, tf32=self.config.compute.precision != "float32")
        return times.with_exchange(self.group.exchanged(self.counter.at_peak()), self.device)

    def row(self, name: str) -> dict[str, Any]:
        gib = sum(self.memory.values()) / GIB
        return {"choice": name, "gib": gib, "largest": self.largest, "seconds": self.times.total}


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
    step = CountedStep.of(mine, device, num_processes)
    plan = Cost(
        title=title,
        device=device,
        memory=step.memory,
        largest=step.largest,
        batch_size=config.schedule.batch_size,
        work=step.counter.work_by_part(),
        times=step.times,
        steps=config.schedule.max_steps,
        disk=disk_of(config.schedule, step.counter.at_peak()),
        num_devices=num_processes,
    )
    if mine.compute.compile:
        plan.notes.append("compute.compile is left out: what is compiled keeps less, and starts fewer operations")
    if with_choices:
        plan.choices.append(step.row("as it is"))
        for name, value in alternatives(mine, device):
            tell(f"counting compute.{name}={value} …")
            other = changed(mine, compute={name: value})
            plan.choices.append(CountedStep.of(other, device, num_processes).row(f"compute.{name}={value}"))
        if num_processes > 1 and may_shard(mine):  # divided, not counted anew
            sharded = replace(step, config=changed(mine, compute={"sharding": "fsdp"}))
            plan.choices.append(sharded.row("compute.sharding=fsdp"))
    return plan


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


def alternatives(config: RunConfig, device: Device) -> list[tuple[str, str]]:
    """Settings of compute, and other values of theirs, that change what a step takes."""
    used = config.compute.memory_on(device.type)
    memory = [("memory", value) for value in MEMORY if value != used]
    return [*memory, ("precision", "bf16" if config.compute.precision == "float32" else "float32")]


def may_shard(config: RunConfig) -> bool:
    """Whether several processes could share the generator's weights, and do not."""
    return getattr(config.compute, "sharding", "fsdp") == "none" and config.compute.precision != "fp16"


def kept_checkpoints(schedule: ScheduleConfig) -> int:
    """How many there are at most on the disk, with the one that is being written."""
    kept = min(schedule.keep_checkpoints, -(-schedule.max_steps // schedule.save_every)) + 1
    if schedule.keep_every is not None:
        kept += schedule.max_steps // schedule.keep_every
    return kept + (schedule.early_stop is not None)  # the best one


def disk_of(schedule: ScheduleConfig, memory: dict[str, int]) -> dict[str, float]:
    """Bytes of what a run leaves there."""
    checkpoint = 4 * memory[WEIGHTS] + 3 * memory.get(JUDGE, 0)  # weights, average, two moments
    kept = kept_checkpoints(schedule)
    return {f"{kept} checkpoints": kept * checkpoint, "model": memory[WEIGHTS]}


def fitting(
    config: RunConfig, device: Device, num_processes: int, tell: Callable[[str], None]
) -> tuple[RunConfig, list[str]]:
    """The config with which a step fits the device, and the `--set` words that make it.

    It is the mildest choice of what is kept that still has 8 images at a time. Raises RestokError where nothing does.
    """
    mine = of_one_device(config, num_processes)
    best = 0, ""
    for memory in MEMORY[MEMORY.index(mine.compute.memory_on(device.type)) :]:
        tell(f"counting compute.memory={memory} …")
        other = changed(mine, compute={"memory": memory})
        step = CountedStep.of(other, device, num_processes)
        if sum(step.memory.values()) <= device.usable:
            best = (step.size, memory)
            break
        # two micro-batches or more, as it will be then, keep all gradients while the second is computed
        peaks = [
            step.group._replace(rounds=2).memory(parts | {GRADIENTS: max(parts.get(GRADIENTS, 0), parts[WEIGHTS])})
            for parts in step.counter.peaks(FIXED, FACTORS)
        ]
        most = min(largest_that_fits(peaks, step.size, device), step.size)
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
    config = changed(config, compute={"memory": memory}, schedule={"micro_batch_size": size})
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
        work=counter.work_by_part(),
        times=times_of(counter.work, device, tf32=False, launch=0),
        steps=-(-count // batch_size),
        disk=disk,
    )
