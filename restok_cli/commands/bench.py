"""`restok bench`: how fast this machine is, and what each way to compute changes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands.options import Device, LinesAsJson, check_models, is_given, parse_model
from restok_cli.console import say, tell
from restok_cli.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from restok_cli.planning.bench import Row

WHAT = ("encode", "decode", "generate", "ar", "train", "loading", "inception")
DEFAULT = "encode,decode,generate,ar"
PLOTS = (".png", ".svg", ".pdf")


def parse_what(text: str) -> list[str]:
    """The names that --what gives. Raises UsageError."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in WHAT:
            raise UsageError(f"--what {name}: no such thing{did_you_mean(name, WHAT)}; take some of {','.join(WHAT)}")
    return names


def parse_sizes(text: str) -> list[int]:
    """The numbers that --batch-size gives. Raises UsageError."""
    sizes = text.split(",")
    if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
        raise UsageError(f"--batch-size {text}: give numbers from 1 on, such as 1,8,64")
    return [int(size) for size in sizes]


AnyModel = Annotated[
    Path | None,
    typer.Option(
        parser=parse_model,
        metavar="M",
        help="A model: a generator with its tokenizer, or a tokenizer. Default: random weights of --preset and --har.",
        show_default=False,
    ),
]
TokenizerPreset = Annotated[str, typer.Option(help="The preset of the tokenizer, with random weights.")]
HarPreset = Annotated[str, typer.Option("--har", help="The preset of the generator, with random weights.")]
Names = Annotated[str, typer.Option(metavar="NAMES", help=f"Some of {','.join(WHAT)}.")]
Sizes = Annotated[str, typer.Option(metavar="N,…", help="Images at a time.")]
Runs = Annotated[int, typer.Option(min=1, help="Runs of each, after one to warm up.")]
Compiled = Annotated[bool, typer.Option("--compile", help="Also measure compiled models, which takes a while.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print a Markdown table instead of lines.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw bars: .png, .svg or .pdf.")]


def bench(
    context: typer.Context,
    model: AnyModel = None,
    preset: TokenizerPreset = "restok-s-128",
    har_preset: HarPreset = "har-b",
    what: Names = DEFAULT,
    batch_size: Sizes = "1",
    runs: Runs = 5,
    compiled: Compiled = False,
    device: Device = "auto",
    as_json: LinesAsJson = False,
    as_markdown: AsMarkdown = False,
    plot: Plot = None,
) -> None:
    """Measure encoding, decoding, drawing, training, loading and Inception here.

    Each is the median of some runs, beside the spread between them, the share
    of the fastest rate that this machine reaches in the same run, the memory
    that it takes beside the weights, and what the way to compute changes:
    equal codes, and PSNR of images to float32's.

    Examples:

      restok bench --model sample --batch-size 1,8
      restok bench --preset restok-l-128 --har har-l --what generate,ar --markdown
    """
    names, sizes = parse_what(what), parse_sizes(batch_size)
    if as_json and as_markdown:
        raise UsageError("--json and --markdown are two outputs; give one of them")
    recipe = ["preset"] if "train" not in names else []  # which trains by it, whatever the model
    if model is not None and any(is_given(context, name) for name in ("har_preset", *recipe)):
        raise UsageError("--model is measured instead of --preset and --har; leave it, or them, out")
    if plot is not None and plot.suffix.lower() not in PLOTS:
        raise UsageError(f"--plot {plot}: give a file that ends in {', '.join(PLOTS)}")

    check_models("any", model)
    from restok_cli.settings.presets import read_preset

    read_preset("tokenizer", preset)
    read_preset("har", har_preset)
    from restok_cli.devices import open_device
    from restok_cli.planning.bench import Bench, draw_bars, markdown
    from restok_cli.planning.bench_models import open_models

    torch_device = open_device(device)
    models = open_models(model, preset, har_preset, torch_device, drawing={"generate", "ar"} & set(names))
    show = tell if as_json or as_markdown else say  # each as soon as it is there
    measured = Bench(*models, torch_device, runs, lambda row: show(line_of(row)))
    for name in names:
        for size in sizes:
            measured.run(name, size, compiled)
    if plot is not None:
        draw_bars(measured.rows, plot)
    if as_json:
        print(json.dumps(measured.as_json()))
    elif as_markdown:
        say(*markdown(measured.rows))


def line_of(row: "Row") -> str:
    quality = [] if row.same_codes is None else [f"{row.same_codes:.1%} equal codes"]
    if row.psnr is not None:
        quality.append("equal images" if row.psnr == 100 else f"{row.psnr:.1f} dB to float32")
    memory = [] if row.mib is None else [f"{row.mib:.0f} MiB beside the weights"]
    share = "" if row.share is None else f", {row.share:.0%} of the machine's rate"
    return (
        f"{row.what}, batch {row.batch_size}, {row.way}: {row.milliseconds:.4g} ms ± {row.spread / 2:.0%}, "
        f"{row.images_per_second:.3g} images/s{share}{''.join(', ' + part for part in memory + quality)}"
    )
