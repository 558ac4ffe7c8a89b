"""`restok evaluate --num-codes`: how good pictures become with every further level of codes."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from restok_cli.console import counted, say
from restok_cli.errors import UsageError
from restok_cli.files import SAMPLE_MODEL, whole_file
from restok_cli.metrics.table import CHOICES, METRICS
from restok_cli.processes import rank

if TYPE_CHECKING:
    import torch

    from restok_cli.metrics.measure import Instruments
    from restok_cli.metrics.protocol import Measurement
    from restok_cli.model.tokenizer import Tokenizer


def check_num_codes(num_codes: str, metrics: list[str], reference: str | None) -> None:
    """Raises UsageError where a sweep cannot be what is meant."""
    if reference is not None:
        raise UsageError("--num-codes compares with SAMPLES themselves; leave --reference out")
    if any(name != "all" and CHOICES[name].basis == "codes" for name in metrics):
        raise UsageError("codebook and nll measure codes, --num-codes pictures; run `restok evaluate` once for each")
    if num_codes != "all" and not all(part.isdecimal() and int(part) for part in num_codes.split(",")):
        raise UsageError(f"--num-codes {num_codes}: give numbers such as 1,4,16, or all")


def evaluate_prefixes(
    samples: str,
    split: str,
    metrics: list[str],
    model: Path | None,
    num_codes: str,
    instruments: "Instruments",
    vgg_weights: Path | None,
    admitted: dict[str, int],
) -> "tuple[dict[int, dict[str, Measurement]], dict]":
    """For each prefix length the measurements of what so many codes give back, against SAMPLES; and the protocol."""
    from restok_cli.evaluation.images import describe_comparison
    from restok_cli.metrics.measure import choose_metrics, measure
    from restok_cli.metrics.pictures import open_pictures
    from restok_cli.metrics.reference import Reference
    from restok_cli.model.levels import prefix_lengths
    from restok_cli.pretrained.folder import fingerprint, load_for_use, open_tokenizer

    model = model or SAMPLE_MODEL
    folder = open_tokenizer(model)
    tokenizer = load_for_use(folder, instruments.device)
    length = tokenizer.config.num_latent_tokens
    every = num_codes == "all"
    counts = list(prefix_lengths(length)) if every else sorted({int(part) for part in num_codes.split(",")})
    if counts[-1] > length:
        raise UsageError(f"--num-codes {counts[-1]}: this tokenizer makes {length} codes a picture; give 1 to {length}")
    originals = open_pictures(samples, split, **admitted)
    originals.crop_to(tokenizer.config.image_size)
    reference = Reference(originals.source, None, originals)
    metrics = choose_metrics(metrics, originals, reference, instruments, vgg_weights)
    codes: dict[int, torch.Tensor] = {}  # of each group: encoded once, for all prefixes
    sets = [
        originals.changed(
            f"{originals.source}, {counted(count, 'token')}", _decode_first(count, tokenizer, codes, instruments)
        )
        for count in counts
    ]
    results = measure(sets, reference, metrics, instruments)
    if rank() > 0:
        return {count: {} for count in counts}, {}
    circumstances = describe_comparison(sets[-1], reference, metrics, instruments)
    circumstances |= {"model": str(model), "model_fingerprint": fingerprint(folder)}
    return dict(zip(counts, results, strict=True)), circumstances


def _decode_first(
    count: int, tokenizer: "Tokenizer", codes: "dict[int, torch.Tensor]", instruments: "Instruments"
) -> "Callable[[int, torch.Tensor], torch.Tensor]":
    """What turns the images of a group into those that their first `count` codes give."""
    import torch
    from torch.nn.functional import pad

    from restok_cli.data.images import to_float, to_uint8
    from restok_cli.metrics.pictures import GROUP_SIZE

    @torch.inference_mode()
    def transform(number: int, images: torch.Tensor) -> torch.Tensor:
        if number not in codes:
            # always as many at a time: for another number, libraries may sum in another order
            padded = pad(to_float(images.to(instruments.device)), (0, 0, 0, 0, 0, 0, 0, GROUP_SIZE - len(images)))
            codes[number] = tokenizer.encode(padded).to(torch.int32).cpu()
        first = codes[number][:, :count].long().to(instruments.device)
        return to_uint8(tokenizer.decode(first))[: len(images)].cpu()

    return transform


def print_curve(
    curve: "dict[int, dict[str, Measurement]]", circumstances: dict, plot: Path | None, as_json: bool
) -> None:
    """A line per number of codes, a column per metric; or all of it as one JSON object. Also the plot."""
    from restok_cli.metrics import protocol

    if plot is not None:
        draw_curve(curve, plot)
    if as_json:
        steps = [
            {"tokens": count, "metrics": protocol.metrics_report(measurements)} for count, measurements in curve.items()
        ]
        result = {"tokens": steps, "protocol": circumstances | {"versions": protocol.versions()}}
        print(json.dumps(result, indent=2, allow_nan=False))
        return
    names = [measurement.label for measurement in next(iter(curve.values())).values()]
    widths = [max(14, len(name)) for name in names]
    say(" ".join([f"{'codes':>6}", *(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))]))
    for count, measurements in curve.items():
        values = zip(measurements.values(), widths, strict=True)
        say(" ".join([f"{count:>6}", *(f"{measurement.value:>{width}.6g}" for measurement, width in values)]))


def draw_curve(curve: "dict[int, dict[str, Measurement]]", path: Path) -> None:
    """Draw each metric against the number of codes."""
    from matplotlib.figure import Figure  # no pyplot: it would look for a screen

    metrics = list(next(iter(curve.values())))
    figure = Figure(figsize=(4 * len(metrics), 3.2), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        axes.plot(list(curve), [measurements[metric].value for measurements in curve.values()], marker="o")
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(curve), [str(count) for count in curve])
        arrow = "higher" if METRICS[metric].higher_is_better else "lower"
        unit = f", {METRICS[metric].unit}" if METRICS[metric].unit else ""
        axes.set(xlabel="codes", title=next(iter(curve.values()))[metric].label, ylabel=f"{arrow} is better{unit}")
        axes.grid(alpha=0.3)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=120)


def check_plot(path: Path) -> None:
    """Raises UsageError where no plot can be written there."""
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UsageError(f"--plot {path}: give a file name that ends in .png, .pdf or .svg")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; install it with `pip install 'restok[plots]'`")
