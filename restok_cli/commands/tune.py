"""`restok tune`: the options of sampling that suit a generator."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands.groups import grouped
from restok_cli.commands.options import (
    AnySplit,
    Cache,
    Computing,
    InceptionWeights,
    NumProcesses,
    Overwrite,
    OwnTokenizer,
    ResultAsJson,
    Seed,
    Steps,
    VggWeights,
    check_drawing,
    check_models,
    check_reference,
    check_resume,
    check_split,
    is_given,
    parse_model,
)
from restok_cli.console import note, say
from restok_cli.errors import UsageError, did_you_mean
from restok_cli.files import SAMPLE_MODEL, check_output_file
from restok_cli.metrics.table import METRICS

if TYPE_CHECKING:
    from restok_cli.inference.tune_result import Tuning

OF_SETS = tuple(name for name, metric in METRICS.items() if metric.basis == "features" and metric.against != "pairs")

GeneratorArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        parser=parse_model,
        help="A generator: a run of train-har, its model folder, or sample, the one of emoji that comes with restok.",
        show_default=False,
    ),
]
MetricName = Annotated[
    str,
    typer.Option(
        "--metric",
        metavar="NAME",
        help=f"What to search by: one of {', '.join(OF_SETS)}. gfid, fid, sfid and is tell candidates apart with the"
        " fewest images, since they compare in pairs.",
        autocompletion=lambda incomplete: [name for name in OF_SETS if name.startswith(incomplete)],
    ),
]
ReferenceName = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="REF",
        help="What to compare with, as evaluate takes it. Default for the sample model: the emoji it was trained on.",
    ),
]
Network = Annotated[
    str,
    typer.Option(
        metavar="NETWORK",
        help="Behind the metric: inception, dinov2, clip, vgg16, timm:NAME, or random, for smoke tests only.",
    ),
]
TimmWeights = Annotated[
    Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Weights of dinov2, clip or timm:NAME.")
]
SpaceFile = Annotated[
    Path | None,
    typer.Option("--space", metavar="FILE", help="YAML of the values to try, such as `cfg_scale: [1, 1.5, 2]`."),
]
Tries = Annotated[
    list[str] | None,
    typer.Option(
        "--try",
        metavar="NAME=V,V",
        help="Values to try of cfg_scale, cfg_schedule, cfg_start, cfg_stop, cfg_peak, temperature, top_k or top_p; may"
        " be repeated. What neither this nor --space names stays as it is. Default: a grid of guidance, temperature,"
        " top_p and top_k.",
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="C", help="As generate takes it. Default: random, of all classes."),
]
FirstImages = Annotated[int, typer.Option("--first", min=2, metavar="N", help="Images of each candidate at first.")]
Images = Annotated[
    int, typer.Option("--images", min=2, metavar="N", help="Images of each in the last round, and on fresh seeds.")
]
TuneOutput = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="The folder for what is drawn and found.")
]
GoOn = Annotated[
    bool,
    typer.Option("--resume", help="Take what DIR holds, also for other values, metrics, references, more images."),
]
Plot = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw the metric against the Inception Score (PNG, PDF, SVG).")
]


@dataclass
class Scoring:
    """By what images are judged."""

    metric: MetricName = "gfid"
    reference: ReferenceName = None
    split: AnySplit = "validation"
    features: Network = "inception"
    inception_weights: InceptionWeights = None
    vgg_weights: VggWeights = None
    timm_weights: TimmWeights = None
    cache: Cache = None

    @property
    def weights(self) -> dict[str, Path | None]:
        """As `open_network` takes them."""
        return {name: value for name, value in vars(self).items() if name.endswith("_weights")}

    @property
    def given(self) -> dict[str, Path | None]:
        """Weights by the options that name them."""
        return {f"--{name.replace('_', '-')}": file for name, file in self.weights.items()}


@dataclass
class Drawing:
    """The images of a candidate."""

    first: FirstImages = 64
    images: Images = 1000
    class_: Classes = None
    steps: Steps = None
    seed: Seed = 0


@grouped
def tune(
    *,
    context: typer.Context,
    model: GeneratorArgument = SAMPLE_MODEL,
    scoring: Scoring,
    space: SpaceFile = None,
    try_: Tries = None,
    drawing: Drawing,
    tokenizer: OwnTokenizer = None,
    output: TuneOutput = Path("tuned"),
    plot: Plot = None,
    num_processes: NumProcesses = 1,
    resume: GoOn = False,
    overwrite: Overwrite = False,
    computing: Computing,
    as_json: ResultAsJson = False,
) -> None:
    """Find the guidance and temperature that suit a generator.

    All combinations draw a few images, the best third draws three times as
    many, and so on (successive halving). The best one, those that differ from
    it in one value, and what is taken now are then measured on images of the
    next seed. Where these cannot tell them apart, it says so, and takes the
    mildest guidance. DIR/preset.yaml is for `restok generate --preset`.

    Every image is drawn once and its features kept in DIR: a stopped search
    goes on by --resume. Images are those that generate draws, of random classes
    unless --class says otherwise.

    Examples: the whole grid by gFID; some values, for the emoji; from where it
    stopped, by another metric of more images; images by what was found:

      restok tune runs/har --reference data/photos
      restok tune --features random --try cfg_scale=1,1.5,2 --images 200
      restok tune runs/har --reference adm.npz --metric kid --images 5000 --resume
      restok generate --model runs/har --preset tuned/preset.yaml
    """
    check_resume(resume, overwrite)
    check_models("tokenizer", tokenizer)
    check_drawing(model, drawing.class_, drawing.steps)
    _check_scoring(scoring, plot, output, resume or overwrite, model)
    scoring = _with_default_reference(scoring, context, model)
    from restok_cli.inference.tune_result import check_folder
    from restok_cli.inference.tune_search import check_request, read_space

    check_request(scoring.metric, scoring.reference, drawing.first, drawing.images)
    check_folder(output, resume, overwrite, [path for path in (model, tokenizer) if path])
    values = read_space(space, try_ or [])

    from restok_cli.inference.coding import Computation
    from restok_cli.inference.generate import GenerateOptions
    from restok_cli.inference.tune import TuneRequest, search_options
    from restok_cli.metrics.cache_folder import default_cache

    options = GenerateOptions(
        *(drawing.class_, drawing.images, drawing.seed, drawing.steps, {}),
        *(Computation(**vars(computing)), False, num_processes),
    )
    request = TuneRequest(
        *(model, tokenizer, scoring.metric, scoring.reference, scoring.split, values, drawing.first),
        *(plot is not None, scoring.features, scoring.weights, scoring.cache or default_cache(), options),
    )
    tuning = search_options(request, output, resume, overwrite)
    if tuning is not None:
        report(tuning, output, plot, as_json)


def report(tuning: "Tuning", output: Path, plot: Path | None, as_json: bool) -> None:
    """Print what was found, and draw it where `plot` says."""
    from restok_cli.inference.tune_result import PRESET_FILE, tuning_report, tuning_table
    from restok_cli.metrics.protocol import remarks

    if plot is not None:
        from restok_cli.evaluation.plot import draw_trade

        rounds = [list(measured.values()) for measured in (*tuning.rungs, tuning.fresh)]
        draw_trade(rounds, "is", tuning.metric, plot)
    if as_json:
        print(json.dumps(tuning_report(tuning), indent=2, allow_nan=False))
    else:
        say(*tuning_table(tuning), str(output / PRESET_FILE))
    for line in remarks([measurement for found in tuning.fresh.values() for measurement in found.values()]):
        note(line)


def _with_default_reference(scoring: Scoring, context: typer.Context, model: Path) -> Scoring:
    """Compare what the sample model draws, where nothing else was named, with the emoji that it was trained on.

    Raises UsageError where what is named is not there.
    """
    check_reference(scoring.reference, scoring.cache)
    check_split(context, scoring.reference)
    if scoring.reference is not None or not METRICS[scoring.metric].against or model != SAMPLE_MODEL:
        return scoring
    note("compared with the emoji that the sample model was trained on")
    return replace(scoring, reference="sample", split=scoring.split if is_given(context, "split") else "train")


def _check_scoring(scoring: Scoring, plot: Path | None, output: Path, replaces: bool, model: Path) -> None:
    """Raises UsageError where the metric is none of sets of images, or nothing can be drawn of it, or not there."""
    metric = scoring.metric
    if metric not in OF_SETS:
        near = did_you_mean(metric, OF_SETS)
        raise UsageError(f"--metric {metric}: no metric of sets of images{near}; choose from {', '.join(OF_SETS)}")
    from restok_cli.evaluation.request import check_plot, check_weights

    check_weights([metric], [scoring.features], scoring.given)
    if plot is None:
        return
    check_plot(plot)
    check_output_file("--plot", plot, plot.suffix.lower(), replaces, model)
    if metric == "is":
        raise UsageError("--plot draws a metric against IS; give another --metric")
