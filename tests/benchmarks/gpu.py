"""Eight minutes on one GPU: rates, the training step, drawing, decoding and Inception, beside what was predicted.

    python tests/benchmarks/gpu.py [--out FOLDER] [--minutes 8] [--only rates step] [--smoke]

Sections run in the order of what their numbers decide; one for which too little time is left is skipped, one that fails
says so, and the next begins. Every number is written to FOLDER/gpu.json at once, and FOLDER/gpu.md holds the table so
far, with card and versions, ready for docs/benchmarks.md, which also says what to carry to a machine that lacks
restok's packages. Frozen networks get random weights, which cost the same. `--smoke` runs all of it on the CPU with
tiny sizes, as CI does: it proves that the script works, and measures nothing.
"""

import argparse
import contextlib
import copy
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
import torch._dynamo
import torch.nn.functional as F
from gpu_session import Session
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from restok_cli.cuda.compiler import compile_model
from restok_cli.data.images import to_uint8
from restok_cli.devices import take_deterministic_algorithms, tf32
from restok_cli.metrics.formulas.frechet import GaussianStatistics
from restok_cli.metrics.formulas.neighbours import precision_recall
from restok_cli.model.pixel_codec import NormSiLU
from restok_cli.model.sampling import SamplingOptions, draw
from restok_cli.planning import bench as library
from restok_cli.planning.bench_models import open_models
from restok_cli.planning.configs import of_images, planned_config
from restok_cli.planning.rates import synchronize
from restok_cli.planning.steps import open_har_step, open_tokenizer_step
from restok_cli.training.compiling import compile_discriminator, compile_losses
from restok_cli.training.update import DTYPES

GIB = 2**30
# of the tiny model in place of the whole recipe
SMOKE = ["loss.perceptual_weight=1", "discriminator.weight=0.5", "discriminator.kind=patch", "compute.precision=bf16"]


# --- what the card can do ---------------------------------------------------------------------------------------------


def rates(session: Session) -> None:
    """The rates by which docs/benchmarks.md predicts times, and which precision and layout convolutions want."""
    rows, width = (64, 64) if session.smoke else (24576, 1024)
    for name, predicted in (("bf16", "600 TFLOP/s"), ("float32", "50 TFLOP/s")):
        x = torch.randn(rows, width, device=session.device, dtype=DTYPES[name])
        weight = torch.randn(4 * width, width, device=session.device, dtype=DTYPES[name])
        teraflops = 8 * rows * width**2 / session.milliseconds(lambda x=x, weight=weight: F.linear(x, weight)) / 1e9
        session.note(f"product {rows}×{width}×{4 * width}, {name}, TFLOP/s", round(teraflops, 1), predicted)
    convolution_rates(session)
    norm_rates(session)
    if not session.smoke:
        attention_rates(session)


def convolution_rates(session: Session) -> None:
    batch, channels, side = (1, 32, 16) if session.smoke else (16, 128, 256)
    flops = 2 * batch * side**2 * channels**2 * 9
    for name, layout, predicted in (
        ("float32", torch.contiguous_format, "45"),
        ("TF32", torch.contiguous_format, "150"),
        ("TF32", torch.channels_last, "150"),
        ("bf16", torch.contiguous_format, "300"),
        ("bf16", torch.channels_last, "450"),
        ("fp16", torch.channels_last, "450"),
    ):
        dtype = DTYPES.get(name, torch.float32)
        convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        convolution = convolution.to(session.device, dtype, memory_format=layout)
        features = torch.randn(batch, channels, side, side, device=session.device, dtype=dtype)
        features = features.to(memory_format=layout).requires_grad_()
        change = torch.randn_like(features)

        def both(conv: nn.Module = convolution, features: Tensor = features, change: Tensor = change) -> object:
            return torch.autograd.grad(conv(features), (features, conv.weight), change)

        with tf32(name == "TF32"):
            forward = session.milliseconds(lambda conv=convolution, features=features: conv(features).detach())
            total = session.milliseconds(both)
        name += ", channels last" if layout is torch.channels_last else ""
        values = round(flops / forward / 1e9, 1), round(3 * flops / total / 1e9, 1)
        session.note(f"convolution {channels} at {side}², {name}: forward, with backward, TFLOP/s", values, predicted)


def norm_rates(session: Session) -> None:
    batch, channels, side = (1, 32, 16) if session.smoke else (16, 128, 256)
    norm = nn.GroupNorm(32, channels).to(session.device)
    features = torch.randn(batch, channels, side, side, device=session.device, dtype=torch.bfloat16)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = features.to(memory_format=layout)
        with torch.autocast(session.device.type, torch.bfloat16):
            gigabytes = 12 * x.numel() / session.milliseconds(lambda x=x: F.silu(norm(x))) / 1e6
            keeps = norm(x).is_contiguous(memory_format=layout)
        name = "channels last" if layout is torch.channels_last else "channels first"
        session.note(f"group norm and SiLU, {name}: GB/s, layout kept", (round(gigabytes), keeps))


def attention_rates(session: Session) -> None:
    for tokens, masked in ((608, True), (384, False)):
        q = torch.randn(16, 16, tokens, 64, device=session.device, dtype=torch.bfloat16, requires_grad=True)
        mask = torch.ones(tokens, tokens, dtype=torch.bool, device=session.device).tril() if masked else None

        def attend(q: Tensor = q, mask: Tensor | None = mask) -> object:
            return torch.autograd.grad(F.scaled_dot_product_attention(q, q, q, attn_mask=mask).sum(), q)

        for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
            try:
                with sdpa_kernel(backend):
                    value: object = round(session.milliseconds(attend), 2)
            except RuntimeError:
                value = "not possible"
            masking = "mask" if masked else "no mask"
            session.note(f"attention, {tokens} tokens, {masking}, {backend.name}, ms", value, "1.2")


# --- the training step ------------------------------------------------------------------------------------------------


def open_step(
    session: Session,
    batch_size: int,
    compiled: bool = False,
    memory: str = "fast",
    layout: torch.memory_format = torch.preserve_format,
    kind: str = "tokenizer",
):
    """State and step of the whole recipe of restok-l-128 on random images, or of har-l, by the real loop."""
    if session.smoke:
        preset, words, batch_size = "tiny", SMOKE if kind == "tokenizer" else SMOKE[-1:], 2
    else:
        preset, words = {"tokenizer": ("restok-l-128", []), "har": ("har-l", ["compute.precision=bf16"])}[kind]
    config = of_images(planned_config(kind, preset, None, words), batch_size)
    # a break of a graph costs time on a card, and fails the smoke test
    way = functools.partial(torch.compile, backend=session.compiler, fullgraph=session.smoke)
    if kind == "har":
        state, step = open_har_step(config, session.device, memory, compiled)
        with patch.object(torch, "compile", way):
            compile_model(state.har if compiled else nn.Identity())
        return state, step
    state, losses, step = open_tokenizer_step(config, session.device, memory, compiled)
    for model in (state.tokenizer, state.ema):
        model.to(memory_format=layout)
    if compiled:
        with patch.object(torch, "compile", way):
            compile_model(state.tokenizer)
            compile_losses(losses)
            compile_discriminator(state.adversary.network)
    return state, step


def measure_step(session: Session, name: str, batch_size: int, predicted: str, **choices: object) -> Callable[[], None]:
    """Memory and time of a step, once it is warm, and that step. One that waits for the device is said: none should."""
    session.empty()
    begun = time.monotonic()
    _, step = open_step(session, batch_size, **choices)
    step()
    synchronize(session.device)
    first = time.monotonic() - begun
    if not session.smoke:
        step()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        except RuntimeError as error:
            session.note(f"{name}: a step waits for the device", str(error)[:200], "never")
        finally:
            torch.cuda.set_sync_debug_mode("default")
    duration = session.milliseconds(step, runs=3, warm_up=1)
    memory = tuple(round(n / GIB, 2) for n in (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()))
    values = memory, round(duration, 1), round(batch_size / duration * 1e3, 1), round(first, 1)
    session.note(f"{name}: GiB allocated and reserved; ms a step; images/s; s to the first", values, predicted)
    return step


def step(session: Session) -> None:
    """Without a compiler: whether counting on fake tensors can be trusted."""
    step = measure_step(session, "16 images", 16, "60 GiB, 470 ms")
    session.profile("16 images", step)
    del step  # and its memory
    # convolutions more than twice as fast, and two more copies of their maps: take it if it is faster
    measure_step(session, "16 images, weights channels last", 16, "60 GiB, 470 ms", layout=torch.channels_last)
    measure_step(session, "generator, 256 sequences", 256, "48 GiB, 290 ms", kind="har")
    if session.smoke:
        return
    # the default of a GPU, which takes the host 1.6 times as long
    measure_step(session, "16 images, memory balanced", 16, "33 GiB, 700 ms", memory="balanced")
    measure_step(session, "32 images, memory balanced", 32, "53.7 GiB, 1000 ms", memory="balanced")
    measure_step(session, "32 images, memory small", 32, "30.5 GiB, 1200 ms", memory="small")
    measure_step(session, "8 images, memory balanced", 8, "22.4 GiB", memory="balanced")


def deterministic(session: Session) -> None:
    """The cost of `compute.deterministic`, and whether it gives the same bits; undone at the end."""
    if not session.smoke:
        take_deterministic_algorithms()
    try:
        measure_step(session, "deterministic, 16 images", 16, "60 GiB, 520 ms without")
        weights = []
        for _ in range(2):
            session.empty()
            torch.manual_seed(0)
            state, again = open_step(session, 8)
            again()
            weights.append([weight.detach().cpu() for weight in state.tokenizer.parameters()])
        session.note("deterministic: the same weights after a step", all(map(torch.equal, *weights)), "True")
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


# --- drawing, decoding, measuring -------------------------------------------------------------------------------------


@torch.inference_mode()
def drawing(session: Session) -> None:
    """HAR-L in nine steps with guidance, codes only: whether launches or arithmetic bound it."""
    predicted = {"float32 16": "71 ms", "bf16 1": "32 ms", "bf16 16": "32 ms", "bf16 256": "204 ms"}
    predicted |= {"bf16, as used 1": "8 ms", "bf16, as used 16": "14 ms", "bf16, as used 256": "204 ms"}
    session.bench("generate", (16, 1, 256), predicted)
    session.profile("generate 256", session.as_used("generate", 256))
    batch = 2 if session.smoke else 256
    logits = torch.randn(batch, 64, 8192, device=session.device)
    uniforms = torch.rand(batch, 64, device=session.device)
    options = SamplingOptions(3.75, "step", 0.25, top_p=0.95)
    duration = session.milliseconds(lambda: draw(logits, uniforms, options), 3)
    session.note(f"draw of 64 codes, batch {batch}, ms", round(duration, 2), "15 ms")


@torch.inference_mode()
def decoding(session: Session) -> None:
    """ResTok-L from images to codes and back, and what the pixel decoder loses in 16 bits."""
    predicted = {"float32 64": "708 ms", "bf16, as used 64": "131 ms"}
    session.bench("encode", (64,), predicted)
    session.profile("encode 64", session.as_used("encode", 64))
    predicted = {"float32 64": "661 ms", "bf16, as used 1": "16 ms", "bf16, as used 64": "122 ms"}
    session.bench("decode", (64, 1), predicted)
    _, tokenizer, _ = open_models(None, "tiny" if session.smoke else "restok-l-128", "", session.device, drawing=())
    tokenizer, batch = tokenizer.to(session.device).eval(), 2 if session.smoke else 64
    codes = torch.randint(tokenizer.config.codebook_size, (batch, tokenizer.config.num_latent_tokens))
    if not session.smoke:
        recorded_decoding(session, tokenizer)
    features, _ = tokenizer.decoder(tokenizer.quantizer.lookup(codes.to(session.device)), None, align=False)
    exact = tokenizer.pixel_decoder(features)
    for name, way, predicted in (
        ("float32", "", "467"),
        ("TF32", "", "138"),
        ("fp16", "", "116"),
        ("bf16", "", "116"),
        ("fp16, norms in the layout", "norms", "65"),  # near compiled: take it where none is
        ("fp16, blocks compiled", "blocks", "60, 20 s"),  # under 30 s: the default of `generate`
        ("fp16, compiled", "whole", "60"),
    ):
        dtype = DTYPES.get(name.partition(",")[0], torch.float32)
        if way in ("blocks", "whole") and session.left < 60:
            continue
        decoder = copy.deepcopy(tokenizer.pixel_decoder).to(dtype, memory_format=torch.channels_last)
        decoder.conv_out.float()
        with patch.object(torch, "compile", functools.partial(torch.compile, backend=session.compiler)):
            if way == "blocks":
                compile_model(decoder)
            decode = torch.compile(decoder) if way == "whole" else decoder
        inputs, begun = features.to(dtype), time.monotonic()
        with (
            tf32(name == "TF32"),
            patch.object(NormSiLU, "forward", norm_in_layout if way == "norms" else NormSiLU.forward),
        ):
            images = decode(inputs).float()
            first = round(time.monotonic() - begun, 1)
            duration = session.milliseconds(lambda decode=decode, inputs=inputs: decode(inputs), 3)
        changed = (to_uint8(images) != to_uint8(exact)).float().mean().item()
        if way == "norms":
            session.profile(f"pixel decoder {batch}, {name}", lambda decode=decode, inputs=inputs: decode(inputs))
        values = round(duration, 1), first, f"{(images - exact).abs().max().item():.1e}", f"{changed:.2%}"
        session.note(
            f"pixel decoder {batch}, {name}: ms, s to the first, largest error, values changed", values, predicted
        )


def norm_in_layout(norm: NormSiLU, features: Tensor) -> Tensor:
    """GroupNorm and SiLU that leave a map channels last: sums of each channel, then one product and sum.

    PyTorch's own turns such a map, and the convolution after it turns it back (before pytorch#191945).
    """
    groups, size = (norm.num_groups, -1), features[0].numel() // norm.num_groups
    sums = features.sum((2, 3), dtype=torch.float32)
    squares = torch.linalg.vector_norm(features, dim=(2, 3), dtype=torch.float32).square()
    mean, square = (x.unflatten(1, groups).sum(2, keepdim=True) / size for x in (sums, squares))
    scale = norm.weight.float().view(groups) * (square - mean.square() + norm.eps).rsqrt()  # (B, groups, channels)
    shift = norm.bias.float().view(groups) - scale * mean
    scale, shift = (x.flatten(1).to(features.dtype)[..., None, None] for x in (scale, shift))
    return F.silu(torch.addcmul(shift, features, scale))


def recorded_decoding(session: Session, tokenizer: nn.Module) -> None:
    """As `generate` decodes on a GPU, 256 at a time in one CUDA graph: whether that gives the images of the model."""
    short = library.ready(tokenizer, library.Way("bf16", torch.bfloat16), session.device)
    codes = torch.randint(tokenizer.config.codebook_size, (256, 128), device=session.device)
    begun, recorded = time.monotonic(), library.recorded(short.decode)
    same, first = torch.equal(recorded(codes), short.decode(codes)), round(time.monotonic() - begun, 1)
    values = round(session.milliseconds(lambda: recorded(codes), 3), 1), first, same
    session.note("decode 256 as one CUDA graph: ms, s to record it, images as without", values, "490 ms")
    session.profile("decode 256", lambda: recorded(codes))


@torch.inference_mode()
def inception(session: Session) -> None:
    """Whether larger groups pay when FID is measured."""
    session.bench("inception", (16, 128), {"float32 16": "6.6 ms", "float32 128": "47 ms"})
    features = torch.rand(16 if session.smoke else 8192, 2048)
    statistics = GaussianStatistics(2048, session.device)
    duration = session.milliseconds(lambda: statistics.add(features), 3)
    session.note(f"mean and covariance of {len(features)} features, ms", round(duration, 1), "100")
    there = features.to(session.device)
    duration = session.milliseconds(lambda: precision_recall(there, there), 1, 1)
    session.note(f"precision and recall of 2 × {len(features)} features, ms", round(duration, 1), "100")


# --- the training step, compiled -----------------------------------------------------------------------------------


def compiled(session: Session) -> None:
    """Blocks and frozen networks compiled one by one, anew for each size, which takes minutes: so this comes last."""
    longest = 0.0
    ways = (
        ("compiled, generator, 256 sequences", 256, "48 GiB, 250 ms", {"memory": "fast", "kind": "har"}),
        ("compiled, 32 images", 32, "58.0 GiB, 530 ms, 60 images/s, 200 s", {}),
        ("compiled, 32 images, weights channels last", 32, "58.0 GiB", {"layout": torch.channels_last}),
        ("compiled, memory fast, 16 images", 16, "47 GiB, 265 ms", {"memory": "fast"}),
        ("compiled, memory small, 32 images", 32, "39.0 GiB", {"memory": "small"}),
    )
    for name, batch_size, predicted, choices in ways[:2] if session.smoke else ways:
        if session.left < longest:
            return
        begun = time.monotonic()
        step = measure_step(session, name, batch_size, predicted, **{"compiled": True, "memory": "balanced"} | choices)
        longest = max(longest, time.monotonic() - begun)
        session.profile(name, step)
        del step  # and its memory


@torch.inference_mode()
def compiled_use(session: Session) -> None:
    """Drawing, decoding and encoding, in one CUDA graph of compiled blocks: whether that should be `generate`'s way."""
    calls = ("decode", 256, "430 ms"), ("generate", 256, "170 ms"), ("encode", 64, "100 ms")
    for what, size, predicted in calls[:1] if session.smoke else calls:
        if session.left < 40:
            return
        with patch.object(torch, "compile", functools.partial(torch.compile, backend=session.compiler)):
            call, begun = session.as_used(what, size, compiled=True), time.monotonic()
        call()
        synchronize(session.device)
        first, duration = round(time.monotonic() - begun, 1), session.milliseconds(call, 3)
        values = round(duration, 1), round(size / duration * 1e3), first
        session.note(f"{what} {size}, compiled, as used: ms, images/s, s to the first", values, predicted)
        session.empty()


# in the order in which they run: seconds that each takes at least, as counted for a host of 30 us a launch
SECTIONS = {step: 50, decoding: 40, drawing: 35, deterministic: 25, inception: 15, rates: 10}
SECTIONS |= {compiled_use: 60, compiled: 240}  # where nothing is left of an earlier run's compiler


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for gpu.json and gpu.md")
    parser.add_argument("--minutes", type=float, default=8, help="begin no section that would end after that")
    names = [section.__name__ for section in SECTIONS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="sections to run")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on the CPU")
    arguments = parser.parse_args(words)
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here; --smoke tries the script on the CPU")
    arguments.out.mkdir(parents=True, exist_ok=True)
    # which older versions of torch ask for before the first product; on Hopper it is what they take anyway
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    session = Session(arguments.out, arguments.minutes, arguments.smoke)
    known = patch.object(library, "rate", lambda *_: 1e12) if arguments.smoke else contextlib.nullcontext()
    torch.backends.cuda.matmul.allow_tf32 = False  # said once, since what is compiled is kept for one way to say it
    with tf32(False), known:
        for section, needed in SECTIONS.items():
            if section.__name__ in arguments.only:
                session.run(section, needed)
    session.section = "end"
    session.note("seconds in all", round(time.monotonic() - session.start), f"under {arguments.minutes * 60:.0f}")
    print(session.table())


if __name__ == "__main__":
    main()
