"""`restok generate`: classes to images, or to codes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from restok_cli.commands.groups import grouped
from restok_cli.commands.options import (
    IMAGE_FOLDER,
    AsJson,
    Computing,
    GeneratorOption,
    NumProcesses,
    Overwrite,
    OwnTokenizer,
    Seed,
    Steps,
    check_drawing,
    check_json,
    check_models,
    check_resume,
    check_there,
    is_given,
)
from restok_cli.errors import UsageError
from restok_cli.files import SAMPLE_MODEL, STDOUT
from restok_cli.model.guidance import GuidanceSchedule, SamplingOptions

if TYPE_CHECKING:
    from restok_cli.inference.generate_destination import Destination

DEFAULTS = SamplingOptions()


def refuse_quantize(value: str | None) -> None:
    if value is not None:
        raise UsageError(
            f"--quantize {value}: 8-bit products are gone, which drew from another distribution than the model's; leave"
            " it out, or give --dtype bf16, which many CPUs compute faster than float32"
        )


Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="A folder for PNG files, a .png for one image, an .npz, or - (a tar stream).",
    ),
]
Count = Annotated[int, typer.Option(min=1, help="How many images.")]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="C",
        help="A class by name, number or synset, all, or random; may be repeated. Default: all in turn.",
    ),
]
SamplingPreset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="paper, its guidance (3.75, step from 0.25, top-p 0.95); sample, what suits the model that comes with"
        " restok, where it is the default; or a file of these options, such as `restok tune` writes.",
    ),
]
CfgScale = Annotated[
    float, typer.Option(min=0, help="Strength of classifier-free guidance towards the class; 1 = none.")
]
CfgSchedule = Annotated[
    GuidanceSchedule, typer.Option(help="How guidance goes from 1 to its scale, or back, over the steps.")
]
CfgStart = Annotated[
    float, typer.Option(min=0, max=1, help="Where step and rectangular begin: 0 is the first step, 1 the last.")
]
CfgStop = Annotated[float, typer.Option(min=0, max=1, help="Where rectangular ends, likewise.")]
CfgPeak = Annotated[
    float, typer.Option(min=0.01, max=0.99, help="Where triangular and linear-constant reach their scale, likewise.")
]
Temperature = Annotated[float, typer.Option(min=0, help="Below 1: safer, 0: always the likeliest code.")]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always the likeliest code: --temperature 0.")]
TopK = Annotated[int, typer.Option(min=0, help="Draw from the K likeliest codes; 0 = all.")]
TopP = Annotated[
    float, typer.Option(min=0, max=1, help="Draw from the likeliest codes, whose probabilities reach P; 1 = all.")
]
Grid = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write all images as one captioned PNG.",
        show_default=f"{IMAGE_FOLDER}.png where -o is left out",
    ),
]
Ladder = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write a PNG of the first 8 growing level by level; with --like, of ever more codes kept.",
    ),
]
LikeImage = Annotated[
    Path | None,
    typer.Option(
        "--like", metavar="FILE", help="Keep the first codes of this image and draw the rest; --keep says how many."
    ),
]
Keep = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="How many codes of --like to keep; few keep its layout alone.")
]
Shards = Annotated[bool, typer.Option("--shards", help="Make OUT a data set of tar shards, as prepare does.")]
OnlyCodes = Annotated[
    bool, typer.Option("--codes", help="Only draw codes, to an .npz, .safetensors or .jsonl file, or - (lines).")
]
Compile = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        "--compile", help="Compile the models first, for thousands of images; auto: on a GPU where the compiler works."
    ),
]
Quantize = Annotated[str | None, typer.Option("--quantize", callback=refuse_quantize, hidden=True)]  # of older versions
GoOn = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on where this command stopped; a higher --count draws more beside what is there."
    ),
]


@dataclass
class Asked:
    """The images that are asked for."""

    steps: Steps = None
    count: Count = 16
    class_: Classes = None
    like: LikeImage = None
    keep: Keep = None
    seed: Seed = 0


@dataclass
class Sampling:
    """How codes are drawn: the options of `SamplingOptions`, and others for them."""

    preset: SamplingPreset = None
    cfg_scale: CfgScale = DEFAULTS.cfg_scale
    cfg_schedule: CfgSchedule = DEFAULTS.cfg_schedule
    cfg_start: CfgStart = DEFAULTS.cfg_start
    cfg_stop: CfgStop = DEFAULTS.cfg_stop
    cfg_peak: CfgPeak = DEFAULTS.cfg_peak
    temperature: Temperature = DEFAULTS.temperature
    greedy: Greedy = False
    top_k: TopK = DEFAULTS.top_k
    top_p: TopP = DEFAULTS.top_p

    def given(self, context: typer.Context) -> dict[str, Any]:
        """Those that the command line names. Raises UsageError for --greedy beside --temperature."""
        given = {name: getattr(self, name) for name in SamplingOptions._fields if is_given(context, name)}
        if self.greedy and "temperature" in given:
            raise UsageError("--greedy is --temperature 0; give one of them")
        return given | ({"temperature": 0.0} if self.greedy else {})


@dataclass
class Placing:
    """Where the images go: what `Destination` takes."""

    output: Output = IMAGE_FOLDER
    grid: Grid = None
    ladder: Ladder = None
    shards: Shards = False
    codes: OnlyCodes = False
    resume: GoOn = False
    overwrite: Overwrite = False

    def destination(self, context: typer.Context, count: int) -> "Destination":
        """With a grid beside the folder where nobody said where to write, and `count` images fit on one."""
        from restok_cli.inference.generate_destination import MAX_GRID, Destination

        to = Destination(**vars(self))
        if to.grid is None and not (is_given(context, "output") or to.codes or to.shards) and count <= MAX_GRID:
            return to._replace(grid=IMAGE_FOLDER.with_suffix(".png"))
        return to


@grouped
def generate(
    *,
    context: typer.Context,
    model: GeneratorOption = SAMPLE_MODEL,
    asked: Asked,
    sampling: Sampling,
    tokenizer: OwnTokenizer = None,
    placing: Placing,
    num_processes: NumProcesses = 1,
    compile_: Compile = "off",
    _quantize: Quantize = None,
    computing: Computing,
    as_json: AsJson = False,
) -> None:
    """Draw images: each in 9 steps where an autoregressive model would take 128.

    A folder gets 000000.png, 000001.png, …, manifest.jsonl with the class and
    seed of each, and request.json with model and options; an .npz has the form of
    the ADM evaluator. Image i depends on the model, the seed, i, its class and
    the sampling options: not on how many others are made, or where. Prints OUT.

    With --like, all begin with the first codes of one of your pictures, and
    are of the class that --class names, or of none.

    Examples: a grid of emoji; hearts; 50,000 images for a gFID, and the same in
    a pipe; codes; images like a photograph:

      restok generate --model runs/har --steps 9 --grid emoji.png
      restok generate --model runs/har --class heart --cfg-scale 2 -o hearts
      restok generate --model runs/har --count 50000 --preset paper -o 50k.npz
      restok generate --model runs/har --count 64 -o - | tar tf -
      restok generate --codes -o - | restok decode - -o decoded
      restok generate --model runs/har --like photo.jpg --keep 16 -o alike
    """
    check_resume(placing.resume, placing.overwrite)
    check_json(as_json, placing.output)
    if (asked.like is None) != (asked.keep is None):
        raise UsageError("--like FILE and --keep N belong together; give both or none")
    check_models("tokenizer", tokenizer)
    check_drawing(model, asked.class_, asked.steps)
    check_there("an image file", asked.like, option="--like ")
    given = sampling.given(context)
    from restok_cli.inference.sampling_options import default_preset, sampling_options

    drawn_by = sampling_options(given, sampling.preset or default_preset(model))

    from restok_cli.inference.generate_destination import check_destination

    to, count = placing.destination(context, asked.count), asked.count
    check_destination(to, count, [path for path in (model, tokenizer, asked.like) if path])

    from restok_cli.inference.coding import Computation
    from restok_cli.inference.generate import GenerateOptions, generate_outputs
    from restok_cli.inference.mixing import Like

    options = GenerateOptions(
        *(asked.class_, count, asked.seed, asked.steps, given, Computation(**vars(computing))),
        *("auto" if compile_ == "auto" else compile_ == "on", num_processes),
        like=Like(asked.like, asked.keep) if asked.like and asked.keep else None,
    )
    num_steps = generate_outputs(model, tokenizer, options, drawn_by, to)
    if to.output != STDOUT:
        result = {"path": str(to.output), "images": count, "steps": num_steps, "seed": asked.seed}
        print(json.dumps(result) if as_json else to.output)
