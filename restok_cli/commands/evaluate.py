"""`restok evaluate`: numbers for images and codes, and the protocol that makes them comparable."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands.groups import grouped
from restok_cli.commands.measuring import FORMS, MakingReference, Measuring, Seeing
from restok_cli.commands.options import (
    IMAGE_FOLDER,
    Device,
    NumProcesses,
    Overwrite,
    ResultAsJson,
    check_models,
    check_reference,
    check_split,
    check_there,
    is_given,
)
from restok_cli.console import note
from restok_cli.errors import UsageError
from restok_cli.files import SAMPLE_MODEL, check_output_file
from restok_cli.metrics.table import METRICS
from restok_cli.processes import connect, local_device, rank, run_in_processes

if TYPE_CHECKING:
    import torch

    from restok_cli.evaluation.request import Limit, Networks, Request

Samples = Annotated[
    list[str],
    typer.Argument(
        metavar="SAMPLES",
        help=f"{FORMS[0].upper()}{FORMS[1:]}. Several are runs of one method with other seeds: their mean and spread.",
    ),
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
    overwrite: Overwrite = False,
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
    sources = [making.make_reference] if making.make_reference is not None else samples
    request = measuring.request(sources[0])
    _check_apart(context, request, making, plot, overwrite)
    if request.per_image and not as_json:
        raise UsageError("--per-image adds to what --json prints; give --json too")
    requests = [request]
    if making.make_reference is None:
        request = settle(_with_default_reference(request, context), [limit.metric for limit in limits], seeing.names)
        requests = of_each(request, samples)
    check_models("any", measuring.model)
    check_reference(request.reference, seeing.cache, seeing.no_cache)
    check_there(FORMS, *sources)
    check_split(context, *sources, request.reference)
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
    if (making.make_reference is None) != (making.output is None):
        raise UsageError("--make-reference DATA and -o REF go together: of which images, and where to")
    idle = request.metrics or request.reference or request.decodes or request.per_image
    if making.make_reference is not None and idle:
        raise UsageError(
            "--make-reference makes statistics and measures nothing; leave --metric, --reference, --num-codes,"
            " --perturb and --per-image out"
        )
    if making.make_reference is not None and (is_given(context, "fail_under") or is_given(context, "samples")):
        raise UsageError("--make-reference DATA names its images and measures nothing; leave SAMPLES, --fail-under out")
    if making.make_reference is None and is_given(context, "reference_images"):
        raise UsageError("--reference-images is for --make-reference; leave it out")
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
