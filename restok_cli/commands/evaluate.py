"""`restok evaluate`: numbers for pictures and codes, and the protocol that makes them comparable."""

import json
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from restok_cli.commands.limits import check_limits, parse_limits
from restok_cli.commands.options import (
    PICTURE_FOLDER,
    Device,
    MaxDecodedPixels,
    MaxMemberBytes,
    NumProcesses,
    OverwriteFile,
    is_given,
    open_device,
    parse_model,
)
from restok_cli.console import note, say
from restok_cli.errors import RestokError, UsageError, did_you_mean
from restok_cli.evaluation.codes import evaluate_codes, holds_codes
from restok_cli.evaluation.prefixes import check_num_codes, check_plot, evaluate_prefixes, print_curve
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, SAMPLE_MODEL, check_output_file
from restok_cli.metrics.table import CHOICES, METRICS, choice_of
from restok_cli.processes import connect, local_device, rank, run_in_processes

if TYPE_CHECKING:
    from restok_cli.metrics.protocol import Measurement

Samples = Annotated[
    str,
    typer.Argument(
        metavar="SAMPLES",
        help="A folder of pictures, an ADM .npz, tar files, a data set (or the word sample), - for a tar stream on"
        " stdin, or codes.",
    ),
]
MetricNames = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help=f"One of {', '.join(CHOICES)}, or all that the inputs allow; may be repeated. Default: gfid.",
        autocompletion=lambda incomplete: [name for name in (*CHOICES, "all") if name.startswith(incomplete)],
    ),
]
ReferenceName = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="REF",
        help="What to compare with: the same forms, statistics (.npz: mu, sigma), or a name --make-reference gave.",
    ),
]
AnySplit = Annotated[
    Literal["validation", "train", "all"], typer.Option(help="The split to take where a data set is given.")
]
Crop = Annotated[
    int | None, typer.Option(min=8, metavar="SIZE", help="First give SAMPLES the ADM centre crop to this size.")
]
Network = Annotated[
    str,
    typer.Option(
        metavar="NETWORK",
        help="Behind the metrics of features: inception, dinov2, clip, vgg16, timm:NAME; random needs no download:"
        " smoke tests only.",
    ),
]
InceptionWeights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Inception's. Default: torch's cache, or download."),
]
VggWeights = Annotated[
    Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="VGG-16's, of lpips and vgg16.")
]
TimmWeights = Annotated[
    Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Of dinov2, clip or timm:NAME.")
]
AnyModel = Annotated[
    Path | None,
    typer.Option(
        parser=parse_model,
        metavar="M",
        help="The tokenizer that makes codes of pictures (codebook, --num-codes); for nll the generator."
        " Default: sample, the one of emoji that comes with restok.",
    ),
]
NumCodes = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,…", help="Measure what the first N codes give back of SAMPLES, for each N; all: every level."
    ),
]
Plot = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --num-codes: draw metric against codes (PNG, PDF, SVG).")
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Exit 4 where a metric is worse: below VALUE, or above it where lower is better"
        f" ({', '.join(metric.label for metric in METRICS.values() if not metric.higher_is_better)}); may be repeated.",
    ),
]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="A B", exists=True, dir_okay=False, help="Table two --json results; measures nothing."),
]
MakeReference = Annotated[
    str | None,
    typer.Option(metavar="DATA", help="Make statistics of pictures for --reference instead; they go to -o."),
]
ReferenceOutput = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="REF", help="With --make-reference: an .npz, or a name for the cache."),
]
KeptPictures = Annotated[
    int,
    typer.Option(
        "--reference-pictures",
        min=0,
        help="With --make-reference: pictures to keep, for precision, recall and kid.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where features and references are kept. Default: restok in $XDG_CACHE_HOME, ~/.cache."
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither look features up nor keep them.")]
PicturesHeld = Annotated[
    int, typer.Option("--batch-size", min=1, help="Pictures held at a time; changes speed and memory, not results.")
]
ResultAsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object with the protocol instead of a table.")
]


def evaluate(
    context: typer.Context,
    samples: Samples = str(PICTURE_FOLDER),
    metric: MetricNames = None,
    reference: ReferenceName = None,
    split: AnySplit = "validation",
    crop: Crop = None,
    max_decoded_pixels: MaxDecodedPixels = MAX_DECODED_PIXELS,
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES,
    features: Network = "inception",
    inception_weights: InceptionWeights = None,
    vgg_weights: VggWeights = None,
    timm_weights: TimmWeights = None,
    model: AnyModel = None,
    num_codes: NumCodes = None,
    plot: Plot = None,
    fail_under: FailUnder = None,
    compare: Compare = None,
    make_reference: MakeReference = None,
    output: ReferenceOutput = None,
    reference_pictures: KeptPictures = 10_000,
    cache: Cache = None,
    no_cache: NoCache = False,
    batch_size: PicturesHeld = 64,
    num_processes: NumProcesses = 1,
    overwrite: OverwriteFile = False,
    device: Device = "auto",
    as_json: ResultAsJson = False,
) -> None:
    """Measure pictures (FID, sFID, IS, precision, recall, KID, PSNR, SSIM, LPIPS) and codes.

    fid and gfid compare two sets of pictures; rfid, psnr, ssim, ms-ssim, lpips
    and mse compare each picture with the one of the same name in REF. Pictures
    of REF that have another size get the ADM centre crop. Every number carries
    its n (gFID-50k); --json adds the protocol that made it: hashes of pictures
    and weights, crop, rounding, versions. Features are kept: an interrupted
    command goes on where it was, and a second metric costs nothing.

    Examples: what generate drew; what reconstruct gave back; a batch for the ADM
    evaluator against statistics; how far the first codes of a tokenizer go; two
    results side by side:

      restok evaluate pictures --reference sample --split train
      restok evaluate reconstructed --metric rfid --reference photos
      restok evaluate samples.npz --metric all --reference adm.npz --json
      restok evaluate sample --num-codes all --model runs/tokenizer --plot a.png
      restok evaluate --compare a.json b.json
    """
    started = time.monotonic()
    if compare is not None:
        compare_files(*compare, as_json)
        return
    _check_apart(samples, make_reference, output, metric, reference, num_codes, plot, overwrite)
    limits = parse_limits(fail_under or [])
    sets = {"all"} | {name for name, chosen in CHOICES.items() if chosen.against == "set"}
    of_sets = make_reference is None and num_codes is None and set(metric or ["gfid"]) & sets
    of_sample = of_sets and reference is None and not is_given(context, "samples") and drawn_by_sample_model()
    if of_sample:
        reference, split = "sample", split if is_given(context, "split") else "train"
    metrics = []
    if make_reference is None:
        metrics = _check_metrics(metric or [], samples, reference, model, num_codes, limits)
    if (make_reference or samples) == "-" and num_processes > 1:
        raise UsageError("- is one stream, which one process reads; leave --num-processes out, or give files")
    run_in_processes(num_processes)
    if of_sample:
        note(f"{samples} was drawn by the model that comes with restok: compared with the emoji it was trained on")

    from restok_cli.evaluation.images import evaluate_pictures, open_both, open_instruments, write_statistics
    from restok_cli.metrics.cache import default_cache, prune
    from restok_cli.metrics.reference import reference_path

    torch_device = local_device(open_device(device))
    connect(torch_device)
    cache = None if no_cache else cache or default_cache()
    if cache is None and not no_cache:
        note(
            "features are not kept for the next evaluation, since this user has no home folder; --cache DIR keeps them"
        )
    if cache is not None and rank() == 0:
        prune(cache)
    weights = {"inception_weights": inception_weights, "vgg_weights": vgg_weights, "timm_weights": timm_weights}
    admitted = {"max_pixels": max_decoded_pixels, "max_bytes": max_member_bytes}
    instruments = partial(open_instruments, features, weights, cache, torch_device, batch_size)
    if make_reference is not None:
        path = reference_path(output, cache)
        check_output_file("-o", path, ".npz", overwrite, Path(make_reference))
        write_statistics(make_reference, split, crop, path, reference_pictures, instruments(["sfid"]), admitted)
        return
    curve = None
    if any(name != "all" and CHOICES[name].basis == "codes" for name in metrics):
        measurements, circumstances = evaluate_codes(samples, split, metrics, model, torch_device, admitted)
    elif num_codes is not None:
        curve, circumstances = evaluate_prefixes(
            samples, split, metrics, model, num_codes, instruments(metrics), vgg_weights, admitted
        )
        measurements = curve[max(curve)]
    else:
        pictures, target = open_both(samples, reference, split, crop, cache, admitted)
        measurements, circumstances = evaluate_pictures(pictures, target, metrics, instruments(metrics), vgg_weights)
    if rank() == 0:
        circumstances |= {"device": str(torch_device), "seconds": round(time.monotonic() - started, 3)}
        print_result(measurements, curve, circumstances, reference, plot, as_json)
        check_limits(limits, measurements)


def print_result(
    measurements: "dict[str, Measurement]",
    curve: "dict[int, dict[str, Measurement]] | None",
    circumstances: dict,
    reference: str | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """The numbers on stdout, what is to be known of them on stderr; `curve` where there is one for each prefix."""
    from restok_cli.metrics import protocol

    if curve is not None:
        print_curve(curve, circumstances, plot, as_json)
    elif as_json:
        print(json.dumps(protocol.report(measurements, circumstances), indent=2, allow_nan=False))
    else:
        say(*protocol.table(measurements, reference or ""))
    for line in protocol.remarks(list(measurements.values())):
        note(line)


def drawn_by_sample_model() -> bool:
    """Whether the pictures that are measured where no others are named come from the model that needs no naming."""
    from restok_cli.data.image_folders import PICTURE_REQUEST
    from restok_cli.pretrained.folder import fingerprint, open_har
    from restok_cli.schema import Fields, read_json

    with suppress(RestokError):
        request = read_json(Fields, PICTURE_FOLDER / PICTURE_REQUEST)
        return request.get("model") == fingerprint(open_har(SAMPLE_MODEL))
    return False


def _check_metrics(
    metrics: list[str],
    samples: str,
    reference: str | None,
    model: Path | None,
    num_codes: str | None,
    limits: dict[str, float],
) -> list[str]:
    """The metrics to compute, each once, all of them possible with what was given; "all" is left to be resolved."""
    for name in metrics:
        if name not in (*CHOICES, "all"):
            raise UsageError(f"unknown metric {name}{did_you_mean(name, CHOICES)}; choose from {', '.join(CHOICES)}")
    metrics = list(dict.fromkeys(metrics)) or list(dict.fromkeys(choice_of(name) for name in limits))
    metrics = metrics or (["rfid"] if num_codes else ["gfid"])
    if "all" in metrics:
        metrics = ["all"]
        if holds_codes(samples):
            metrics = ["codebook", "nll"] if model else ["codebook"]
    unmeasured = next((name for name in limits if choice_of(name) not in metrics), None)
    if unmeasured and metrics != ["all"]:
        raise UsageError(f"--fail-under {unmeasured}: it is not measured; add --metric {choice_of(unmeasured)}")
    of_codes = [name for name in metrics if name != "all" and CHOICES[name].basis == "codes"]
    if of_codes and len(of_codes) < len(metrics):
        raise UsageError(f"{of_codes[0]} measures codes, other metrics pictures; run `restok evaluate` once for each")
    if num_codes is not None:
        check_num_codes(num_codes, metrics, reference)
        return metrics
    if model is not None and not of_codes:
        raise UsageError("--model makes codes, which codebook, nll, --num-codes need; leave it out for other metrics")
    needy = next((name for name in metrics if name != "all" and CHOICES[name].against), None)
    if needy and reference is None:
        raise UsageError(
            f"{needy} needs something to compare with; give --reference, for example --reference sample --split train"
        )
    if needy is None and "all" not in metrics and reference is not None:
        raise UsageError(f"{metrics[0]} compares with nothing; leave --reference out, or add --metric gfid")
    return metrics


def _check_apart(
    samples: str,
    make_reference: str | None,
    output: str | None,
    metric: list[str] | None,
    reference: str | None,
    num_codes: str | None,
    plot: Path | None,
    overwrite: bool,
) -> None:
    """Raises UsageError where options were given that have no effect together, or would replace a file."""
    if make_reference is not None and (metric or reference or num_codes):
        raise UsageError("--make-reference makes statistics and measures nothing; leave --metric and --reference out")
    if (make_reference is None) != (output is None):
        raise UsageError("--make-reference DATA and -o REF go together: of which pictures, and where to")
    if plot is not None and num_codes is None:
        raise UsageError("--plot draws metrics against codes; give --num-codes 1,4,16 too")
    if plot is not None:
        check_plot(plot)
        check_output_file("--plot", plot, plot.suffix.lower(), overwrite, Path(samples))


def compare_files(a: Path, b: Path, as_json: bool) -> None:
    """Print two results side by side. Raises RestokError where their protocols are unlike."""
    from restok_cli.metrics.compare import compare_results, comparison_table, read_result

    rows = compare_results(read_result(a), read_result(b))
    if as_json:
        print(json.dumps({"metrics": {row.metric: row._asdict() for row in rows}}, indent=2))
    else:
        say(*comparison_table(rows, (str(a), str(b))))
    unlike = [row for row in rows if row.differences]
    if unlike:
        what = dict.fromkeys(difference for row in unlike for difference in row.differences)
        names = ", ".join(row.name for row in unlike)
        raise RestokError(f"{names} cannot be compared, since these were not the same: {'; '.join(what)}")
