"""Eight minutes on one GPU: rates, the training step, drawing, decoding and Inception, beside what was predicted.

    python tests/benchmarks/gpu.py [--out FOLDER] [--minutes 8] [--only rates,step] [--smoke]

Sections run in the order of what their numbers decide; one for which too little time is left is skipped, one that fails
says so, and the next begins. Every number is written to FOLDER/gpu.json at once, and FOLDER/gpu.md holds the table so
far, with card and versions, ready for docs/benchmarks.md. Frozen networks get random weights, which cost the same.
`--smoke` runs all of it on the CPU with tiny sizes, as CI does: it proves that the script works, and measures nothing.

On a machine without restok's packages, carry the wheels of those that are missing (of Python 3.12 and CUDA 13's image:
pydantic, pydantic-core, annotated-types, typing-inspection, webdataset, torch-fidelity, zlib-ng), install them into a
folder by `pip install --no-index --no-deps --target /tmp/site .whl/*.whl`, and start with PYTHONPATH=/tmp/site:.
"""

import argparse
import contextlib
import copy
import functools
import gc
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from restok_cli.cuda.graphs import Recorded
from restok_cli.data.images import to_uint8
from restok_cli.data.loading.loader import Batch
from restok_cli.devices import take_deterministic_algorithms
from restok_cli.metrics.frechet import GaussianStatistics
from restok_cli.metrics.neighbours import precision_recall
from restok_cli.metrics.networks.inception import Inception
from restok_cli.metrics.networks.lpips import Lpips
from restok_cli.model.config import HarConfig
from restok_cli.model.har import Har
from restok_cli.model.sampling import SamplingOptions, draw, sample, sampling_cache
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.settings.presets import read_preset
from restok_cli.settings.run_config import with_alignment_dims
from restok_cli.settings.training import TokenizerRunConfig
from restok_cli.training.compiling import compile_discriminator, compile_losses, compile_model
from restok_cli.training.losses import TokenizerLosses
from restok_cli.training.teachers import open_teacher, teacher_width
from restok_cli.training.tokenizer_loop import TokenizerState, train_step
from restok_cli.training.warm_start import recompute_activations

GIB = 2**30
SECTIONS: dict[str, tuple[float, Callable[["Bench"], None]]] = {}  # by name: seconds that it takes at least, and itself


def section(seconds: float) -> Callable:
    """Name the function below as a section of the benchmark, in the order in which they stand in this file."""

    def enlist(function: Callable[["Bench"], None]) -> Callable[["Bench"], None]:
        SECTIONS[function.__name__] = (seconds, function)
        return function

    return enlist


class Bench:
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

    def run(self, name: str) -> None:
        seconds, function = SECTIONS[name]
        self.section = name
        if self.left < seconds:
            self.note("skipped", f"{self.left:.0f} s left", f"{seconds:.0f} s")
            return
        try:
            function(self)
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

    def milliseconds(self, function: Callable[[], object], repeats: int = 10, warm_up: int = 3) -> float:
        """The mean of some calls one after the other."""
        if self.smoke:
            repeats, warm_up = 1, 0
        for _ in range(warm_up):
            function()
        self.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        self.synchronize()
        return (time.perf_counter() - start) / repeats * 1e3

    def synchronize(self) -> None:
        if not self.smoke:
            torch.cuda.synchronize()

    def empty(self) -> None:
        gc.collect()
        torch._dynamo.reset()
        if not self.smoke:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def machine(smoke: bool) -> str:
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    if smoke:
        return f"CPU, {versions}: tiny sizes, which say nothing about speed"
    return (
        f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {versions}"
    )


@contextlib.contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Of convolutions and products; a step in 16 bits allows it for its convolutions by itself."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = enabled
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


# --- what the card can do ---------------------------------------------------------------------------------------------


@section(seconds=40)
def rates(bench: Bench) -> None:
    """The rates by which docs/benchmarks.md predicts times, and which precision and layout convolutions want."""
    rows, width = (64, 64) if bench.smoke else (24576, 1024)
    for dtype, predicted in ((torch.bfloat16, "600 TFLOP/s"), (torch.float32, "50 TFLOP/s")):
        x = torch.randn(rows, width, device=bench.device, dtype=dtype)
        weight = torch.randn(4 * width, width, device=bench.device, dtype=dtype)
        teraflops = 8 * rows * width**2 / bench.milliseconds(lambda x=x, weight=weight: F.linear(x, weight)) / 1e9
        bench.note(f"product {rows}×{width}×{4 * width}, {short(dtype)}, TFLOP/s", round(teraflops, 1), predicted)
    convolution_rates(bench)
    norm_rates(bench)
    if not bench.smoke:
        attention_rates(bench)


def convolution_rates(bench: Bench) -> None:
    batch, channels, side = (1, 32, 16) if bench.smoke else (16, 128, 256)
    flops = 2 * batch * side**2 * channels**2 * 9
    for dtype, layout, with_tf32, predicted in (
        (torch.float32, torch.contiguous_format, False, "45"),
        (torch.float32, torch.contiguous_format, True, "150"),
        (torch.float32, torch.channels_last, True, "150"),
        (torch.bfloat16, torch.contiguous_format, False, "300"),
        (torch.bfloat16, torch.channels_last, False, "450"),
        (torch.float16, torch.channels_last, False, "450"),
    ):
        convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        convolution = convolution.to(bench.device, dtype, memory_format=layout)
        features = torch.randn(batch, channels, side, side, device=bench.device, dtype=dtype)
        features = features.to(memory_format=layout).requires_grad_()
        change = torch.randn_like(features)

        def both(conv: nn.Module = convolution, features: Tensor = features, change: Tensor = change) -> object:
            return torch.autograd.grad(conv(features), (features, conv.weight), change)

        with tf32(with_tf32):
            forward = bench.milliseconds(lambda conv=convolution, features=features: conv(features).detach())
            total = bench.milliseconds(both)
        name = "TF32" if with_tf32 else short(dtype)
        name += ", channels last" if layout is torch.channels_last else ""
        values = round(flops / forward / 1e9, 1), round(3 * flops / total / 1e9, 1)
        bench.note(f"convolution {channels} at {side}², {name}: forward, with backward, TFLOP/s", values, predicted)


def norm_rates(bench: Bench) -> None:
    batch, channels, side = (1, 32, 16) if bench.smoke else (16, 128, 256)
    norm = nn.GroupNorm(32, channels).to(bench.device)
    features = torch.randn(batch, channels, side, side, device=bench.device, dtype=torch.bfloat16)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = features.to(memory_format=layout)
        with torch.autocast(bench.device.type, torch.bfloat16):
            gigabytes = 12 * x.numel() / bench.milliseconds(lambda x=x: F.silu(norm(x))) / 1e6
            keeps = norm(x).is_contiguous(memory_format=layout)
        name = "channels last" if layout is torch.channels_last else "channels first"
        bench.note(f"group norm and SiLU, {name}: GB/s, layout kept", (round(gigabytes), keeps))


def attention_rates(bench: Bench) -> None:
    for tokens, masked in ((608, True), (384, False)):
        q = torch.randn(16, 16, tokens, 64, device=bench.device, dtype=torch.bfloat16, requires_grad=True)
        mask = torch.ones(tokens, tokens, dtype=torch.bool, device=bench.device).tril() if masked else None

        def attend(q: Tensor = q, mask: Tensor | None = mask) -> object:
            return torch.autograd.grad(F.scaled_dot_product_attention(q, q, q, attn_mask=mask).sum(), q)

        for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
            try:
                with sdpa_kernel(backend):
                    value: object = round(bench.milliseconds(attend), 2)
            except RuntimeError:
                value = "not possible"
            bench.note(
                f"attention, {tokens} tokens, {'mask' if masked else 'no mask'}, {backend.name}, ms", value, "1.2"
            )


# --- the training step ------------------------------------------------------------------------------------------------


class Step:
    """The whole recipe of restok-l-128 on random images: every call is a step of the real loop."""

    def __init__(self, bench: Bench, batch_size: int, compiled: bool = False, memory: str = "fast"):
        preset = read_preset("tokenizer", "tiny" if bench.smoke else "restok-l-128")
        judge = {"kind": "patch"} if bench.smoke else {"weights": "random"}
        changes = {
            "schedule": {"batch_size": batch_size, "micro_batch_size": batch_size, "max_steps": 1000},
            "optimizer": {"warmup_steps": 5},
            "discriminator": {"weight": 0.5, "start_step": 0, "optimizer": {"warmup_steps": 5}} | judge,
            "loss": {"perceptual_weight": 1.0},
            "compute": {"precision": "bf16"},
            "alignment": {} if bench.smoke else {"weights": "random"},
        }
        values = preset | {name: preset.get(name, {}) | change for name, change in changes.items()}
        self.config = with_alignment_dims(TokenizerRunConfig.parse(values, "the benchmark"), teacher_width)
        self.state = TokenizerState(self.config, bench.device, None)
        alignment = self.config.alignment
        teacher = open_teacher(alignment, self.config.model.grid, bench.device) if alignment.is_used else None
        self.losses = TokenizerLosses(self.config, random_lpips(bench.device), teacher)
        recompute_activations(self.state.tokenizer, memory)
        if compiled:
            with patch.object(torch, "compile", functools.partial(torch.compile, backend=bench.compiler)):
                compile_model(self.state.tokenizer)
                compile_losses(self.losses)
                compile_discriminator(self.state.adversary.network)
        images = torch.randint(0, 256, (batch_size, 3, *self.config.model.image_size), dtype=torch.uint8)
        self.batches = iter(lambda: Batch(images, None), None)
        self.batch_size, self.done = batch_size, 0

    def __call__(self) -> None:
        train_step(self.done, self.config, self.state, self.state.tokenizer, self.losses, self.batches)
        self.done += 1


def random_lpips(device: torch.device) -> Lpips:
    lpips = Lpips()
    for name, tensor in (*lpips.named_parameters(), *lpips.named_buffers()):
        if name.startswith("features"):
            nn.init.normal_(tensor, std=0.03)
        elif name.startswith("lin"):
            tensor.fill_(0.1)
    return lpips.to(device, memory_format=torch.channels_last)


def measure_step(bench: Bench, name: str, batch_size: int, predicted: str, **choices: object) -> None:
    """Memory and time of a step, once it is warm. A step that waits for the device is said: none should."""
    bench.empty()
    begun = time.monotonic()
    step = Step(bench, 2 if bench.smoke else batch_size, **choices)
    step()
    bench.synchronize()
    first = time.monotonic() - begun
    memory: object = "-"
    if not bench.smoke:
        step()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        except RuntimeError as error:
            bench.note(f"{name}: a step waits for the device", str(error)[:200], "never")
        finally:
            torch.cuda.set_sync_debug_mode("default")
    duration = bench.milliseconds(step, repeats=3, warm_up=1)
    if not bench.smoke:
        memory = tuple(round(n / GIB, 2) for n in (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()))
    values = memory, round(duration, 1), round(step.batch_size / duration * 1e3, 1), round(first, 1)
    bench.note(f"{name}: GiB allocated and reserved; ms a step; images/s; s to the first", values, predicted)


@section(seconds=60)
def step(bench: Bench) -> None:
    """Without a compiler: whether counting on fake tensors can be trusted."""
    measure_step(bench, "8 images", 8, "36 GiB")
    measure_step(bench, "16 images", 16, "59 GiB, 578 ms")  # as the remedies were measured before they were built in


@section(seconds=40)
def deterministic(bench: Bench) -> None:
    """The cost of `compute.deterministic`, and whether it gives the same bits; undone at the end."""
    if not bench.smoke:
        take_deterministic_algorithms()
    try:
        measure_step(bench, "deterministic, 16 images", 16, "59 GiB, 520 ms without")
        weights = []
        for _ in range(2):
            bench.empty()
            torch.manual_seed(0)
            again = Step(bench, 2 if bench.smoke else 8)
            again()
            weights.append([weight.detach().cpu() for weight in again.state.tokenizer.parameters()])
        bench.note("deterministic: the same weights after a step", all(map(torch.equal, *weights)), "True")
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


# --- drawing, decoding, measuring -------------------------------------------------------------------------------------


@section(seconds=60)
@torch.inference_mode()
def drawing(bench: Bench) -> None:
    """HAR-L in nine steps with guidance, codes only: whether launches or arithmetic bound it."""
    config = HarConfig(width=64, num_layers=2, num_heads=2) if bench.smoke else HarConfig()
    har = Har(config).to(bench.device).eval()
    nn.init.normal_(har.head.weight, std=0.02)
    options = SamplingOptions(3.75, "step", 0.25, top_p=0.95)

    def time_batch(batch: int, label: str, predicted: str, record: bool = False) -> None:
        batch = min(batch, 2) if bench.smoke else batch
        cache, class_ids = sampling_cache(har, options, batch), torch.arange(batch, device=bench.device)
        uniforms = torch.rand(batch, config.num_codes, device=bench.device)

        def draw_batch(class_ids: Tensor, uniforms: Tensor) -> Tensor:
            return sample(har, class_ids, uniforms, options, None, cache)

        if record:
            begun, launched, draw_batch = time.monotonic(), draw_batch, Recorded(draw_batch)
            same = torch.equal(draw_batch(class_ids, uniforms), launched(class_ids, uniforms))
            values = round(time.monotonic() - begun, 1), same
            bench.note(f"HAR-L, {label}, batch {batch}: s to record it, codes as without", values, "1 s")
        duration = bench.milliseconds(lambda: draw_batch(class_ids, uniforms), 3)
        bench.note(
            f"HAR-L, {label}, batch {batch}: ms, images/s",
            (round(duration, 2), round(batch / duration * 1e3)),
            predicted,
        )

    for dtype, batch, predicted in (
        (torch.float32, 16, "71 ms"),
        (torch.bfloat16, 1, "32 ms"),
        (torch.bfloat16, 16, "32 ms"),
        (torch.bfloat16, 256, "204 ms"),
    ):
        har.to(dtype)
        time_batch(batch, short(dtype), predicted)
    batch = 2 if bench.smoke else 256
    logits = torch.randn(batch, 64, config.codebook_size, device=bench.device)
    uniforms = torch.rand(batch, 64, device=bench.device)
    duration = bench.milliseconds(lambda: draw(logits, uniforms, options), 3)
    bench.note(f"draw of 64 codes, batch {batch}, ms", round(duration, 2), "15 ms")
    if not bench.smoke:
        for batch, predicted in ((1, "8 ms"), (16, "14 ms"), (256, "204 ms")):
            time_batch(batch, "bf16 with a CUDA graph", predicted, record=True)


@section(seconds=40)
@torch.inference_mode()
def decoding(bench: Bench) -> None:
    """ResTok-L from codes to images, and what the pixel decoder loses in 16 bits."""
    preset = read_preset("tokenizer", "tiny" if bench.smoke else "restok-l-128")
    model = TokenizerRunConfig.parse(preset, "the benchmark").model
    tokenizer = Tokenizer(model).to(bench.device).eval()
    batch = 2 if bench.smoke else 64
    codes = torch.randint(model.codebook_size, (batch, model.num_latent_tokens), device=bench.device)
    bench.note(f"decode {batch}, float32, ms", round(bench.milliseconds(lambda: tokenizer.decode(codes), 3), 1), "661")
    if not bench.smoke:
        whole_decodes(bench, tokenizer)
    features, _ = tokenizer.decoder(tokenizer.quantizer.lookup(codes), None, align=False)
    exact = tokenizer.pixel_decoder(features)
    for name, dtype, with_tf32, compile_it, predicted in (
        ("float32", torch.float32, False, False, "307"),
        ("TF32", torch.float32, True, False, "123"),
        ("fp16", torch.float16, False, False, "60"),
        ("bf16", torch.bfloat16, False, False, "60"),
        ("fp16, compiled", torch.float16, False, True, "46"),
    ):
        decoder = copy.deepcopy(tokenizer.pixel_decoder).to(dtype, memory_format=torch.channels_last)
        decoder.conv_out.float()
        if compile_it and (bench.smoke or bench.left < 60):
            continue
        decode = torch.compile(decoder) if compile_it else decoder
        inputs = features.to(dtype)
        with tf32(with_tf32):
            duration = bench.milliseconds(lambda decode=decode, inputs=inputs: decode(inputs), 3)
            images = decode(inputs).float()
        changed = (to_uint8(images) != to_uint8(exact)).float().mean().item()
        values = round(duration, 1), f"{(images - exact).abs().max().item():.1e}", f"{changed:.2%}"
        bench.note(f"pixel decoder {batch}, {name}: ms, largest error, values changed", values, predicted)


def whole_decodes(bench: Bench, tokenizer: Tokenizer) -> None:
    """As `generate` decodes on a GPU: transformers in bf16, the pixel decoder in fp16, one CUDA graph."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.to_dtype(torch.bfloat16, torch.float16)
    tokenizer.to(memory_format=torch.channels_last)
    for batch, predicted in ((1, "16 ms"), (64, "122 ms"), (256, "490 ms")):
        codes = torch.randint(tokenizer.config.codebook_size, (batch, 128), device=bench.device)
        launched = bench.milliseconds(lambda codes=codes: tokenizer.decode(codes), 3)
        decode = Recorded(tokenizer.decode)
        recorded = bench.milliseconds(lambda decode=decode, codes=codes: decode(codes), 3)
        same = torch.equal(decode(codes), tokenizer.decode(codes))
        values = round(launched, 1), round(recorded, 1), round(batch / recorded * 1e3), same
        bench.note(f"decode {batch}, 16 bits: ms, ms with a CUDA graph, images/s, same images", values, predicted)


@section(seconds=20)
@torch.inference_mode()
def inception(bench: Bench) -> None:
    """Whether larger groups pay when FID is measured."""
    network = Inception().to(bench.device, memory_format=torch.channels_last)
    for batch, predicted in ((16, "6.6"), (128, "47")):
        side = 64 if bench.smoke else 256
        images = torch.randint(0, 256, (1 if bench.smoke else batch, 3, side, side), dtype=torch.uint8).to(bench.device)
        durations = []
        for with_tf32 in (False, True):
            with tf32(with_tf32):
                durations.append(round(bench.milliseconds(lambda images=images: network(images), 5), 2))
        bench.note(f"Inception, {len(images)} images: ms in float32, in TF32", tuple(durations), predicted)
    features = torch.rand(16 if bench.smoke else 8192, network.dimensions)
    statistics = GaussianStatistics(network.dimensions, bench.device)
    duration = bench.milliseconds(lambda: statistics.add(features), 3)
    bench.note(f"mean and covariance of {len(features)} features, ms", round(duration, 1), "100")
    duration = bench.milliseconds(lambda: precision_recall(features.to(bench.device), features.to(bench.device)), 1, 1)
    bench.note(f"precision and recall of 2 × {len(features)} features, ms", round(duration, 1), "100")


# --- the training step, compiled -----------------------------------------------------------------------------------


@section(seconds=240)
def compiled(bench: Bench) -> None:
    """Blocks and frozen networks compiled one by one, which takes minutes: so this comes last."""
    measure_step(bench, "compiled, 16 images", 16, "35.2 GiB", compiled=True, memory="balanced")
    profile_step(bench)
    for name, batch_size, memory, predicted in (
        ("compiled, 32 images", 32, "balanced", "58.0 GiB"),
        ("compiled, memory fast, 16 images", 16, "fast", "47 GiB, 265 ms"),
        ("compiled, memory small, 32 images", 32, "small", "39.0 GiB"),
    ):
        if bench.left > 60:
            measure_step(bench, name, batch_size, predicted, compiled=True, memory=memory)


def profile_step(bench: Bench) -> None:
    """How long the kernels of a compiled step run, and how many there are: the host starts them one by one."""
    warm = Step(bench, 2 if bench.smoke else 16, compiled=True, memory="balanced")
    warm()
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CPU if bench.smoke else activity.CUDA]) as profile:
        warm()
        bench.synchronize()
    kernels = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    busy, count = sum(k.self_device_time_total for k in kernels) / 1e3, sum(k.count for k in kernels)
    bench.note("kernels of a compiled step, 16 images: ms, calls", (round(busy, 1), count), "265 ms")
    for kernel in kernels[:12]:
        value = round(kernel.self_device_time_total / 1e3, 2), kernel.count
        bench.note(f"kernel {kernel.key[:60].replace('|', '/')}: ms, calls", value)


def short(dtype: torch.dtype) -> str:
    return {torch.float32: "float32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for gpu.json and gpu.md")
    parser.add_argument("--minutes", type=float, default=8, help="begin no section that would end after that")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections to run, in their order")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on the CPU")
    arguments = parser.parse_args(words)
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here; --smoke tries the script on the CPU")
    if unknown := set(arguments.only.split(",")) - set(SECTIONS):
        parser.error(f"--only {','.join(sorted(unknown))}: no such section; there are {', '.join(SECTIONS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments.out, arguments.minutes, arguments.smoke)
    with tf32(False):
        for name in arguments.only.split(","):
            bench.run(name)
    bench.section = "end"
    bench.note("seconds in all", round(time.monotonic() - bench.start), f"under {arguments.minutes * 60:.0f}")
    print(bench.table())


if __name__ == "__main__":
    main()
