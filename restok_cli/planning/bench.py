"""How fast a model runs on this machine, in every way to compute that it offers, and what each changes.

Each way is measured after warming up, with the device waited for, as a median with its spread; its share is that of
the fastest rate that the installed libraries reach for its type, measured in the same run (see rates.py).
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from restok_cli.cpu.rewrite import can_rewrite, rewrite
from restok_cli.cuda.compiler import compile_model
from restok_cli.cuda.graphs import Recorded
from restok_cli.data.loading.batching import Deal
from restok_cli.data.loading.loader import batches
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.devices import tf32
from restok_cli.files import whole_file
from restok_cli.inference.coding import decode_codes, encode_images
from restok_cli.metrics.formulas.pixels import psnr
from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, sample, sampling_cache
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.planning.configs import changed, of_images
from restok_cli.planning.counting import Counter
from restok_cli.planning.highest import begin, rise
from restok_cli.planning.rates import fastest, rate, seconds
from restok_cli.planning.steps import open_tokenizer_step
from restok_cli.settings.training import TokenizerRunConfig

SEED, NOTHING = 0, torch.empty(0)
COMPARED = 16  # images, of which PSNR is the mean: so many are decoded once more, in float32


class Way(NamedTuple):
    """To compute: a type, and what is done to a model beside it."""

    name: str
    dtype: torch.dtype = torch.float32
    as_used: bool = False  # as the commands compute: rewritten on a CPU, one CUDA graph on a GPU
    tf32: bool = False  # in convolutions and products
    compiled: bool = False


@dataclass
class Row:
    """One measurement."""

    what: str
    way: str
    batch_size: int
    milliseconds: float  # the median
    spread: float  # the largest minus the smallest, as a share of the median
    images_per_second: float
    gflop_per_image: float  # counted
    share: float | None  # of the machine's rate for that type
    mib: float | None  # by which memory rises
    same_codes: float | None = None  # as float32's
    psnr: float | None = None  # of images to float32's, dB


def ways_on(device: torch.device, compiled: bool) -> list[Way]:
    """All that this device can do; the first, plain float32, is what others are compared with."""
    found = [Way("float32")]
    if device.type == "cuda":
        found += [Way("tf32", tf32=True), Way("bf16", torch.bfloat16), Way("bf16, as used", torch.bfloat16, True)]
    else:
        found += [Way("float32, as used", as_used=True)]
        if can_rewrite(device, torch.bfloat16):
            found += [Way("bf16, as used", torch.bfloat16, True)]
    if compiled:
        on_gpu = device.type == "cuda"
        found += [Way("compiled", torch.bfloat16 if on_gpu else torch.float32, as_used=on_gpu, compiled=True)]
    return found


def ready(model: nn.Module, way: Way, device: torch.device) -> Any:
    """A copy of a model that computes in that way."""
    model = deepcopy(model)
    if device.type == "cpu" and way.as_used:
        rewrite(model, way.dtype)
    elif isinstance(model, Tokenizer):
        model.to_dtype(way.dtype, torch.float32 if way.dtype == torch.float32 else torch.float16)
    else:
        model.to(way.dtype)
    if device.type == "cuda" and way.as_used:
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (as `load_for_use` has it)
    return model


class Bench:
    """Models on a device, and the rows measured so far."""

    def __init__(
        self,
        config: TokenizerRunConfig,
        tokenizer: Tokenizer,
        har: Har | None,
        device: torch.device,
        runs: int = 5,
        tell: Callable[[Row], None] = lambda row: None,
    ):
        self.tokenizer, self.har = tokenizer.to(device).eval(), har and har.to(device).eval()
        self.config, self.device, self.runs, self.tell = config, device, runs, tell
        self.counts: dict[str, float] = {}  # FLOPs of an image
        self.rows: list[Row] = []
        self.dtypes: set[torch.dtype] = set()  # of all ways so far
        self.exact: dict[tuple[str, int], Tensor] = {}  # results in plain float32

    def run(self, what: str, batch_size: int, compiled: bool = False) -> None:
        """Measure one thing in all ways."""
        ways = ways_on(self.device, compiled)
        exact = [way for way in ways if way.dtype == torch.float32 and not (way.as_used or way.compiled)]
        fewer = {"inception": exact, "loading": exact[:1], "train": [exact[0], Way("bf16", torch.bfloat16)]}
        ways = fewer.get(what, ways)
        for way in ways:
            torch.manual_seed(SEED)
            self.measure(what, batch_size, way, *self.prepare(what, batch_size, way))

    def prepare(self, what: str, batch_size: int, way: Way) -> tuple[Callable[[], Tensor], float]:
        """The call to measure, and its FLOPs, which are those of plain layers also where less arithmetic does."""
        generator = torch.Generator().manual_seed(SEED)
        config = self.tokenizer.config
        if what == "inception":
            from restok_cli.metrics.networks.inception import Inception  # which takes seconds

            images = torch.randint(0, 256, (batch_size, 3, *config.image_size), dtype=torch.uint8, generator=generator)
            network = Inception().to(self.device).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
            return lambda: network(images)[0], self.flops(what, batch_size, lambda: network(images[:1]))
        if what == "loading":
            return self.prepare_loading(batch_size), 0
        if what == "train":
            return self.prepare_step(batch_size, way)
        if what in ("generate", "ar"):
            return self.prepare_drawing(what, batch_size, way, generator)
        pixels = torch.randint(0, 256, (batch_size, 3, *config.image_size), dtype=torch.uint8, generator=generator)
        inputs = pixels.to(self.device)
        if what == "encode":
            passes: Callable[[Tokenizer, Tensor], Tensor] = encode_images
        else:
            inputs, passes = encode_images(self.tokenizer, inputs), decoded
        model = ready(self.tokenizer, way, self.device)
        if way.compiled:
            compile_model(model)
        call = partial(passes, model)
        if way.as_used and self.device.type == "cuda":
            call = recorded(call)
        return lambda: call(inputs), self.flops(what, batch_size, lambda: passes(self.tokenizer, inputs[:1]))

    def flops(self, what: str, batch_size: int, function: Callable[[], object], images: int = 1) -> float:
        """Of a batch, counted once, by a function of some images."""
        if what not in self.counts:
            with Counter() as counter, torch.no_grad():
                function()
            self.counts[what] = counter.flops / images
        return batch_size * self.counts[what]

    def prepare_loading(self, batch_size: int) -> Callable[[], Tensor]:
        """Batches of training crops of the data set that comes with restok, of its images of 32 pixels a side."""
        loading = self.config.data.loading(self.device.type)
        split, size = open_dataset("sample").split("train"), self.config.model.image_size
        loaded = batches(split, size, Deal(batch_size, SEED), **loading)
        return lambda: next(loaded).images

    def prepare_step(self, batch_size: int, way: Way) -> tuple[Callable[[], Tensor], float]:
        """A step of the whole recipe on random images."""
        precision = "float32" if way.dtype == torch.float32 else "bf16"
        config = changed(of_images(self.config, batch_size), compute={"precision": precision})
        _, _, train = open_tokenizer_step(config, self.device, config.compute.memory_on(self.device.type))

        def step() -> Tensor:
            with torch.inference_mode(False), torch.enable_grad():
                train()
            return NOTHING

        return step, self.flops("train", batch_size, step, images=batch_size)

    def prepare_drawing(
        self, what: str, batch_size: int, way: Way, generator: torch.Generator
    ) -> tuple[Callable[[], Tensor], float]:
        """All steps of the generator with guidance; "ar": one code a step, by a model of these sizes."""
        assert self.har is not None
        plain = self.har
        if what == "ar":
            config = plain.config.model_copy(update={"num_sequential_codes": plain.config.num_codes})
            torch.manual_seed(SEED)
            plain = Har(config).to(self.device).eval()
        model, options = ready(plain, way, self.device), SamplingOptions()
        class_ids = torch.randint(max(plain.config.num_classes, 1), (batch_size,), generator=generator).to(self.device)
        uniforms = torch.rand(batch_size, plain.config.num_codes, generator=generator).to(self.device)
        if way.compiled:
            compile_model(model)
        cache = sampling_cache(model, options, batch_size)

        def draw(class_ids: Tensor, uniforms: Tensor) -> Tensor:
            return sample(model, class_ids, uniforms, options, cache=cache)

        call = recorded(draw) if way.as_used and self.device.type == "cuda" else draw
        one = partial(sample, plain, class_ids[:1], uniforms[:1], options)
        return lambda: call(class_ids, uniforms), self.flops(what, batch_size, one)

    def measure(self, what: str, batch_size: int, way: Way, call: Callable[[], Tensor], flops: float) -> None:
        self.dtypes.add(way.dtype)
        reached = rate(way.dtype, self.device, self.runs)
        with torch.inference_mode(), tf32(way.tf32, products=way.tf32):
            call()  # which makes what is kept from one run to the next
            before = begin(self.device)
            times = seconds(call, self.device, self.runs, warm_up=0)
            higher = rise(before, self.device)
            result = call()
        reached, middle = (reached + rate(way.dtype, self.device, self.runs)) / 2, median(times)
        row = Row(
            *(what, way.name, batch_size, middle * 1e3, (max(times) - min(times)) / middle, batch_size / middle),
            gflop_per_image=flops / batch_size / 1e9,
            share=None if way.tf32 or not flops else flops / middle / reached,
            mib=None if higher is None else higher / (1 << 20),
        )
        self.compare(row, result)
        self.rows.append(row)
        self.tell(row)

    def compare(self, row: Row, result: Tensor) -> None:
        """Quality beside speed."""
        exact = self.exact.setdefault((row.what, row.batch_size), result.clone())
        if row.what in ("encode", "generate", "ar"):
            row.same_codes = (exact == result).float().mean().item()
        images = {"decode": lambda codes: codes}.get(row.what)
        if row.what in ("encode", "generate") and self.tokenizer.config.num_latent_tokens == result.shape[1]:
            images = partial(decoded, self.tokenizer)
        if images and row.way != "float32":
            row.psnr = psnr(images(result[:COMPARED]), images(exact[:COMPARED])).mean().item()

    def as_json(self) -> dict[str, Any]:
        names = {str(dtype).removeprefix("torch."): dtype for dtype in self.dtypes}
        rates = {
            name: {"way": fastest(dtype, self.device)[0], "flops": rate(dtype, self.device)}
            for name, dtype in names.items()
        }
        return {
            "device": str(self.device),
            "torch": torch.__version__,
            "rates": rates,
            "rows": [*map(asdict, self.rows)],
        }


def decoded(tokenizer: Tokenizer, codes: Tensor) -> Tensor:
    """uint8 images; whether they are finite is found out, too, as in the commands."""
    return decode_codes(tokenizer, codes).images


def recorded(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function as one CUDA graph."""
    call = Recorded(lambda *inputs: (function(*inputs),))
    return lambda *inputs: call(*inputs)[0]


def markdown(rows: list[Row]) -> list[str]:
    """A table for an issue or a paper."""
    lines = [
        "| what | way | batch | ms (spread) | images/s | of the rate | MiB | same codes | PSNR to float32 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        share = "" if row.share is None else f"{row.share:.0%}"
        mib = "" if row.mib is None else f"{row.mib:.0f}"
        same = "" if row.same_codes is None else f"{row.same_codes:.1%}"
        decibel = "" if row.psnr is None else "equal" if row.psnr == 100 else f"{row.psnr:.1f} dB"
        lines.append(
            f"| {row.what} | {row.way} | {row.batch_size} | {row.milliseconds:.4g} ({row.spread:.0%}) | "
            f"{row.images_per_second:.3g} | {share} | {mib} | {same} | {decibel} |"
        )
    return lines


def draw_bars(rows: list[Row], path: Path) -> None:
    """Images a second of each way, a panel for each thing and batch."""
    from matplotlib.figure import Figure  # no pyplot: it would look for a screen

    panels: dict[str, list[Row]] = {}
    for row in rows:
        panels.setdefault(f"{row.what}, batch {row.batch_size}", []).append(row)
    figure = Figure(figsize=(6, 1 + 0.9 * sum(map(len, panels.values())) / 2 + len(panels)), layout="constrained")
    for axes, (title, shown) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
        axes.barh([row.way for row in shown], [row.images_per_second for row in shown])
        axes.invert_yaxis()
        axes.set(title=title, xlabel="images/s")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=120)
