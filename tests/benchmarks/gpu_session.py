"""The clock and the notebook of gpu.py: runs its sections, and writes every number at once."""

import gc
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch._dynamo

from restok_cli.planning import bench as library
from restok_cli.planning.bench_models import open_models
from restok_cli.planning.rates import seconds, synchronize


class Session:
    """The clock, the device, and the numbers measured so far."""

    def __init__(self, out: Path, minutes: float, smoke: bool):
        self.out, self.minutes, self.smoke = out, minutes, smoke
        self.device = torch.device("cpu" if smoke else "cuda")
        self.compiler = "eager" if smoke else "inductor"  # on the CPU of CI the real one takes minutes
        self.start = time.monotonic()
        self.rows: list[dict[str, object]] = []
        self.section = ""

    @property
    def left(self) -> float:
        """Seconds."""
        return self.minutes * 60 - (time.monotonic() - self.start)

    def run(self, section: Callable[["Session"], None], needed: float) -> None:
        self.section = section.__name__
        if self.left < needed and not self.smoke:
            self.note("skipped", f"{self.left:.0f} s left", f"{needed:.0f} s")
            return
        try:
            section(self)
        except Exception as error:  # whatever a driver or a kernel raises, the other sections still count
            if self.smoke:
                raise
            self.note("FAILED", f"{type(error).__name__}: {str(error)[:300]}")
        self.empty()

    def note(self, name: str, value: object, predicted: str = "") -> None:
        """Write one number, or a tuple of some, and what was expected of it."""
        at = round(time.monotonic() - self.start, 1)
        self.rows.append({"section": self.section, "name": name, "value": value, "predicted": predicted, "at": at})
        print(f"[{at:6.1f} s] {self.section}: {name}: {value}" + (f" (predicted: {predicted})" if predicted else ""))
        (self.out / "gpu.json").write_text(json.dumps(self.rows, indent=1))
        (self.out / "gpu.md").write_text(self.table())

    def table(self) -> str:
        lines = [f"{machine(self.smoke)}", "", "| section | what | measured | predicted |", "|---|---|---|---|"]
        for row in self.rows:
            value = " / ".join(map(str, row["value"])) if isinstance(row["value"], tuple) else row["value"]
            lines.append(f"| {row['section']} | {row['name']} | {value} | {row['predicted']} |")
        return "\n".join(lines) + "\n"

    def milliseconds(self, function: Callable[[], object], runs: int = 10, warm_up: int = 3) -> float:
        runs, warm_up = (1, 0) if self.smoke else (runs, warm_up)
        return median(seconds(function, self.device, runs, warm_up)) * 1e3

    def bench(self, what: str, sizes: tuple[int, ...], predicted: dict[str, str]) -> None:
        """Measure as `restok bench` does. Predictions by way and batch size."""

        def tell(row: library.Row) -> None:
            share, mib = (None if value is None else round(value, 2) for value in (row.share, row.mib))
            quality = [round(value, 3) for value in (row.same_codes, row.psnr) if value is not None]
            values = round(row.milliseconds, 2), round(row.images_per_second), share, mib, *quality
            name = f"{what}, {row.way}, batch {row.batch_size}: ms, images/s, share of the rate, MiB, same codes, PSNR"
            self.note(name, values, predicted.get(f"{row.way} {row.batch_size}", ""))

        measured = self.open(what, tell)
        for size in (1,) if self.smoke else sizes:
            measured.run(what, size)

    def open(self, what: str, tell: Callable[[library.Row], None] = lambda row: None) -> library.Bench:
        presets = ("tiny", "tiny") if self.smoke else ("restok-l-128", "har-l")
        models = open_models(None, *presets, self.device, drawing={"generate"} & {what})
        return library.Bench(*models, self.device, 1 if self.smoke else 3, tell)

    def as_used(self, what: str, size: int, compiled: bool = False) -> Callable[[], object]:
        """A call as the commands make it, in bf16."""
        way = library.Way("bf16, as used", torch.bfloat16, True, compiled=compiled)
        return self.open(what).prepare(what, 1 if self.smoke else size, way)[0]

    def profile(self, name: str, function: Callable[[], object]) -> None:
        """How long the kernels of a call run, and how many there are: the host starts them one by one.

        Each goes into kernels.txt, with its time and number.
        """
        activity = torch.profiler.ProfilerActivity
        with torch.profiler.profile(activities=[activity.CPU if self.smoke else activity.CUDA]) as found:
            function()
            synchronize(self.device)
        kernels = sorted(found.key_averages(), key=lambda event: -event.self_device_time_total)
        busy, count = sum(k.self_device_time_total for k in kernels) / 1e3, sum(k.count for k in kernels)
        self.note(f"{name}: kernels: ms, calls", (round(busy, 1), count))
        with (self.out / "kernels.txt").open("a") as file:
            file.write(f"{self.section}: {name}: {busy:.1f} ms, {count}\n")
            file.writelines(f"{k.self_device_time_total / 1e3:9.3f} {k.count:6} {k.key[:160]}\n" for k in kernels[:60])

    def empty(self) -> None:
        gc.collect()
        torch._dynamo.reset()
        torch.cuda.empty_cache()  # where there is CUDA


def machine(smoke: bool) -> str:
    place = "CPU, tiny sizes, which say nothing about speed"
    if not smoke:
        place = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"{place}, Python {platform.python_version()}, torch {torch.__version__}"
