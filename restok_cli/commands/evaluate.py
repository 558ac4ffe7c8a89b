"""`restok evaluate`: numbers for images and codes, and the protocol that makes them comparable."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands.groups import grouped
from restok_cli.commands.options import (
    IMAGE_FOLDER,
    AnySplit,
    Cache,
    Device,
    ImagesHeld,
    InceptionWeights,
    MaxDecodedPixels,
    MaxMemberBytes,
    NoCache,
    NumProcesses,
    OverwriteFile,
    ResultAsJson,
    VggWeights,
    check_models,
    check_reference,
    check_split,
    check_there,
    features_folder,
    is_given,
    parse_model,
)
from restok_cli.console import note
from restok_cli.errors import UsageError
from restok_cli.files import MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, SAMPLE_MODEL, check_output_file
from restok_cli.metrics.table import CHOICES, METRICS
from restok_cli.processes import connect, local_device, rank, run_in_processes

if TYPE_CHECKING:
    import torch

    from restok_cli.evaluation.request import Limit, Networks, Request

FORMS = (
    "a folder of images or tars, an ADM .npz, a tar, a data set (or the word sample), - for a tar stream on stdin, or a"
    " file of codes"
)
Samples = Annotated[
    list[str],
    typer.Argument(
        metavar="SAMPLES…",
        help=f"{FORMS[0].upper()}{FORMS[1:]}. Several are runs of one method with other seeds: their mean and spread.",
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
Crop = Annotated[
    int | None, typer.Option(min=8, metavar="SIZE", help="First give SAMPLES the ADM centre crop to this size.")
]
NetworkNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NETWORK",
        help="Behind the metrics of features: inception (the default), dinov2, clip, vgg16, timm:NAME; random needs no"
        " download: smoke tests only. May be repeated: one reading of the images for all, keys such as gfid[dinov2].",
    ),
]
TimmWeights = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Of dinov2, clip or timm:NAME; of several networks, repeated in the order of their --features.",
    ),
]
AnyModel = Annotated[
    Path | None,
    typer.Option(
        parser=parse_model,
        metavar="M",
        help="The tokenizer that makes codes of images (codebook, --num-codes, --perturb); for nll the generator."
        " Default: sample, the one of emoji that comes with restok.",
    ),
]
NumCodes = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,…", help="Measure what the first N codes give back of SAMPLES, for each N; all: every level."
    ),
]
Perturb = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE,…",
        help="Measure pfid: SAMPLES against what --model decodes once this share α of their codes was replaced.",
    ),
]
Nearest = Annotated[
    str | None,
    typer.Option(metavar="N,N,…", help="With --perturb: δ, of how many codewords nearest to a code one replaces it."),
]
Plot = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --num-codes: draw metric against codes (PNG, PDF, SVG).")
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Exit 4 where a metric is worse (may be repeated): below VALUE, or above it where lower is better"
        f" ({', '.join(metric.label for metric in METRICS.values() if not metric.higher_is_better)})."
        " VALUE:upper or :lower takes that edge of its 95 % interval.",
    ),
]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        metavar="A B",
        exists=True,
        dir_okay=False,
        help="Say of two --json results whether B is better, worse or, by 95 %, neither; measures nothing.",
    ),
]
Runs = Annotated[
    bool, typer.Option("--runs", help="SAMPLES are --json results of several runs with other seeds; measures nothing.")
]
PerImage = Annotated[
    bool,
    typer.Option("--per-image", help="With --json: also each image's value (psnr, …); --compare then goes by pairs."),
]
MakeReference = Annotated[
    str | None,
    typer.Option(metavar="DATA", help="Make statistics of images for --reference instead; they go to -o."),
]
ReferenceOutput = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="REF", help="With --make-reference: an .npz, or a name for the cache."),
]
KeptImages = Annotated[
    int,
    typer.Option(
        "--reference-images",
        min=0,
        help="With --make-reference: images to keep, for precision, recall and kid.",
    ),
]


@dataclass
class Measuring:
    """The metrics, and the images and codes that they are taken of."""

    metric: MetricNames = None
    reference: ReferenceName = None
    split: AnySplit = "validation"
    crop: Crop = None
    max_decoded_pixels: MaxDecodedPixels = MAX_DECODED_PIXELS
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES
    model: AnyModel = None
    num_codes: NumCodes = None
    perturb: Perturb = None
    nearest: Nearest = None
    per_image: PerImage = False

    def request(self, samples: str) -> "Request":
        from restok_cli.evaluation.request import Request, parse_perturbations

        return Request(
            *(samples, self.metric or [], self.split, self.crop, self.reference, self.model, self.num_codes),
            *(self.max_decoded_pixels, self.max_member_bytes, self.per_image),
            parse_perturbations(self.perturb, self.nearest),
        )


@dataclass
class Seeing:
    """The networks whose features are measured, and where these are kept."""

    features: NetworkNames = None
    inception_weights: InceptionWeights = None
    vgg_weights: VggWeights = None
    timm_weights: TimmWeights = None
    cache: Cache = None
    no_cache: NoCache = False
    batch_size: ImagesHeld = 64

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.features or ["inception"]))

    def networks(self) -> "Networks":
        from restok_cli.evaluation.request import Networks

        weights = self.inception_weights, self.vgg_weights, tuple(self.timm_weights or ())
        return Networks(self.names, *weights, features_folder(self.cache, self.no_cache), self.batch_size)

    @property
    def given(self) -> dict[str, object]:
        """Weights by the options that name them."""
        return {f"--{name.replace('_', '-')}": file for name, file in vars(self).items() if name.endswith("_weights")}


@dataclass
class MakingReference:
    """Statistics to be made in place of a measurement."""

    make_reference: MakeReference = None
    output: ReferenceOutput = None
    reference_images: KeptImages = 10_000


@grouped
def evaluate(
    *,
    context: typer.Context,
    samples: Samples = [str(IMAGE_FOLDER)],  # noqa: B006  (typer reads it)
    measuring: Measuring,
    seeing: Seeing,
    plot: Plot = None,
    fail_under: FailUnder = None,
    compare: Compare = None,
    runs: Runs = False,
    making: MakingReference,
    num_processes: NumProcesses = 1,
    overwrite: OverwriteFile = False,
    device: Device = "auto",
    as_json: ResultAsJson = False,
) -> None:
    """Measure images (FID, IS, precision, recall, KID, PSNR, SSIM, …) and codes.

    fid and gfid compare two sets of images; rfid, psnr, ssim, ms-ssim, lpips
    and mse compare each image with the one of the same name in REF. Images
    of REF that have another size get the ADM centre crop. Every number carries
    its n (gFID-50k); --json adds the protocol that made it: hashes of images
    and weights, crop, rounding, versions. Features are kept: an interrupted
    command goes on where it was, and a second metric costs nothing.

    Examples: what generate drew; what reconstruct gave back; a batch for the ADM
    evaluator against statistics; how far the first codes of a tokenizer go; the
    spread over runs with other seeds; whether b is better than a:

      restok evaluate pictures --reference sample --split train
      restok evaluate reconstructed --metric rfid --reference photos
      restok evaluate samples.npz --metric all --reference adm.npz --json
      restok evaluate sample --num-codes all --model runs/tokenizer --plot a.png
      restok evaluate seed-0.npz seed-1.npz --reference photos
      restok evaluate --compare a.json b.json
    """
    from restok_cli.evaluation.request import check_weights, of_each, parse_limits, settle

    limits = parse_limits(fail_under or [])
    if compare is not None or runs:
        _show_results(context, compare, samples, limits, as_json)
        return
    request = measuring.request(making.make_reference or samples[0])
    _check_apart(context, request, making, plot, overwrite)
    if request.per_image and not as_json:
        raise UsageError("--per-image adds to what --json prints; give --json too")
    requests = [request]
    if making.make_reference is None:
        request = settle(_with_default_reference(request, context), [limit.metric for limit in limits], seeing.names)
        requests = of_each(request, samples)
    elif limits or is_given(context, "samples"):
        raise UsageError("--make-reference DATA names its images and measures nothing; leave SAMPLES, --fail-under out")
    check_models("any", measuring.model)
    check_reference(request.reference, seeing.cache, seeing.no_cache)
    check_there(FORMS, *([making.make_reference] if making.make_reference else samples))
    check_split(context, *([making.make_reference] if making.make_reference else samples), request.reference)
    check_weights(["gfid"] if making.make_reference else request.metrics, seeing.names, seeing.given)
    torch_device = _start(request, num_processes, device)
    if request.reference != measuring.reference:
        note(f"{samples[0]} was drawn by the model that comes with restok: compared with the emoji it was trained on")
    if making.make_reference is not None:
        _make_reference(request, seeing.networks(), torch_device, making, overwrite, as_json)
    else:
        _measure(requests, seeing.networks(), torch_device, limits, plot, as_json)


def _show_results(
    context: typer.Context, compare: tuple[Path, Path] | None, samples: list[str], limits: "list[Limit]", as_json: bool
) -> None:
    """Show the results that --compare names, or --runs."""
    if compare is not None:
        _check_idle(context, "compare")
        from restok_cli.evaluation.result import show_comparison

        show_comparison(*compare, as_json)
    else:
        _check_idle(context, "runs", "samples", "fail_under")
        from restok_cli.evaluation.runs import read_runs, show_runs

        show_runs(read_runs(samples), limits, as_json)


def _check_idle(context: typer.Context, *used: str) -> None:
    """Raises UsageError for an option that has no effect beside --compare or --runs."""
    known = {parameter.name: parameter for parameter in context.command.params}
    idle = next((name for name in known if name not in (*used, "as_json") and is_given(context, name)), None)
    if idle is not None:
        word = known[idle].metavar if idle == "samples" else known[idle].opts[0]
        raise UsageError(f"{known[used[0]].opts[0]} measures nothing; leave {word} out")


def _check_apart(
    context: typer.Context, request: "Request", making: MakingReference, plot: Path | None, overwrite: bool
) -> None:
    """Raises UsageError where options were given that have no effect together, or would replace a file."""
    idle = request.metrics or request.reference or request.decodes or request.per_image
    if making.make_reference is not None and idle:
        raise UsageError(
            "--make-reference makes statistics and measures nothing; leave --metric, --reference, --num-codes,"
            " --perturb and --per-image out"
        )
    if making.make_reference is None and is_given(context, "reference_images"):
        raise UsageError("--reference-images is for --make-reference; leave it out")
    if (making.make_reference is None) != (making.output is None):
        raise UsageError("--make-reference DATA and -o REF go together: of which images, and where to")
    if plot is not None and request.num_codes is None:
        raise UsageError("--plot draws metrics against codes; give --num-codes 1,4,16 too")
    if plot is not None:
        from restok_cli.evaluation.request import check_plot

        check_plot(plot)
        check_output_file("--plot", plot, plot.suffix.lower(), overwrite, Path(request.samples))


def _with_default_reference(request: "Request", context: typer.Context) -> "Request":
    """Compare what the sample model drew, where nothing else was named, with the emoji that it was trained on."""
    from restok_cli.evaluation.request import compares_sets

    if request.reference or request.decodes or is_given(context, "samples") or not compares_sets(request.metrics):
        return request
    from restok_cli.evaluation.image_metrics import were_drawn_by

    if not were_drawn_by(SAMPLE_MODEL, IMAGE_FOLDER):
        return request
    return request._replace(reference="sample", split=request.split if is_given(context, "split") else "train")


def _start(request: "Request", num_processes: int, device: str) -> "torch.device":
    """Start the processes, of which each goes on from here, on a device of its own."""
    if request.samples == "-" and num_processes > 1:
        raise UsageError("- is one stream, which one process reads; leave --num-processes out, or give files")
    run_in_processes(num_processes)
    from restok_cli.devices import open_device

    torch_device = local_device(open_device(device))
    connect(torch_device)
    return torch_device


def _make_reference(
    request: "Request",
    networks: "Networks",
    device: "torch.device",
    making: MakingReference,
    overwrite: bool,
    as_json: bool,
) -> None:
    from restok_cli.evaluation.image_metrics import write_statistics
    from restok_cli.metrics.cache_folder import reference_path

    assert making.output is not None, "checked"
    path = reference_path(making.output, networks.cache)
    check_output_file("-o", path, ".npz", overwrite, Path(request.samples))
    result = write_statistics(request, networks, device, path, making.reference_images)
    if rank() == 0:
        print(json.dumps({"path": str(path), **result}, indent=2) if as_json else path)


def _measure(
    requests: "list[Request]",
    networks: "Networks",
    device: "torch.device",
    limits: "list[Limit]",
    plot: Path | None,
    as_json: bool,
) -> None:
    from restok_cli.evaluation.evaluate import evaluate
    from restok_cli.evaluation.result import show
    from restok_cli.evaluation.runs import show_runs

    evaluations = evaluate(requests, networks, device)
    if rank() > 0:
        return
    (request, *others), found = requests, evaluations[0]
    if plot is not None and found.curve is not None:
        from restok_cli.evaluation.plot import draw_curve

        draw_curve(found.curve, plot)
    if others:
        show_runs(
            {each.samples: one.report() for each, one in zip(requests, evaluations, strict=True)}, limits, as_json
        )
    else:
        lines = found.lines(request.reference or request.samples)
        show(found.report(), lines, found.measurements, limits, as_json)
