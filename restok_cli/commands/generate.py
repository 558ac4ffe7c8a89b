"""`restok generate`: classes to pictures, or to codes."""

import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from restok_cli.commands.options import (
    PICTURE_FOLDER,
    SAMPLE_MODEL,
    STDOUT,
    AnyBatchSize,
    AsJson,
    Device,
    Dtype,
    GeneratorOption,
    NumProcesses,
    Overwrite,
    Seed,
    is_given,
    open_device,
    parse_model,
    torch_dtype,
)
from restok_cli.errors import RestokError, UsageError
from restok_cli.inference.outputs import MAX_GRID, Destination, check_destination, check_room, draw
from restok_cli.processes import connect, local_device, run_in_processes

if TYPE_CHECKING:
    import torch

    from restok_cli.inference.generating import Job
    from restok_cli.model.sampling import SamplingOptions
    from restok_cli.pretrained.folder import ModelFolder

SCHEDULES = {  # those that an option of guidance has a meaning in
    "cfg_start": ("step", "rectangular"),
    "cfg_stop": ("rectangular",),
    "cfg_peak": ("triangular", "linear-constant"),
}
PRESETS = {
    "paper": {"cfg_scale": 3.75, "cfg_schedule": "step", "cfg_start": 0.25, "top_p": 0.95},  # its gFID of 2.34
    "sample": {"cfg_scale": 1.25, "temperature": 0.5},  # tests/benchmarks/remembering.py
}


Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="OUT", help="A folder for PNG files, an .npz, or - (a tar stream on stdout)."
    ),
]
Steps = Annotated[
    int | None, typer.Option(help="Sampling steps; fewer than all stop at a coarser level. Default: all.")
]
Count = Annotated[int, typer.Option(min=1, help="How many pictures.")]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="C",
        help="A class by name, number or synset, all, or random; may be repeated. Default: all in turn.",
    ),
]
SamplingPreset = Annotated[
    Literal["paper", "sample"] | None,
    typer.Option(
        help="The paper's guidance (3.75, step from 0.25, top-p 0.95), or what suits the model that comes with restok,"
        " where it is the default."
    ),
]
CfgScale = Annotated[float, typer.Option(min=0, help="Classifier-free guidance; 1 = none.")]
CfgSchedule = Annotated[
    Literal[
        *("constant", "linear", "linear-reversed", "linear-constant", "triangular"),
        *("rectangular", "step", "cosine", "cosine-reversed"),
    ],
    typer.Option(help="How guidance goes from 1 to its scale, or back, over the steps."),
]
CfgStart = Annotated[float, typer.Option(min=0, max=1, help="Where step and rectangular begin.")]
CfgStop = Annotated[float, typer.Option(min=0, max=1, help="Where rectangular ends.")]
CfgPeak = Annotated[
    float, typer.Option(min=0.01, max=0.99, help="Where triangular and linear-constant are at their scale.")
]
Temperature = Annotated[float, typer.Option(min=0, help="Below 1: safer, 0: always the likeliest code.")]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always the likeliest code: --temperature 0.")]
TopK = Annotated[int, typer.Option(min=0, help="Draw from the K likeliest codes; 0 = all.")]
TopP = Annotated[float, typer.Option(min=0, max=1, help="Draw from the likeliest codes that reach P.")]
OwnTokenizer = Annotated[
    Path | None,
    typer.Option(parser=parse_model, metavar="M", help="Decode with this copy of the generator's tokenizer."),
]
Grid = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write all pictures as one captioned PNG.",
        show_default=f"{PICTURE_FOLDER}.png where -o is left out",
    ),
]
Ladder = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write a PNG of the first 8 growing level by level.")
]
Shards = Annotated[bool, typer.Option("--shards", help="Make OUT a data set of tar shards, as prepare does.")]
OnlyCodes = Annotated[
    bool, typer.Option("--codes", help="Only draw codes, to an .npz, .safetensors or .jsonl file, or - (lines).")
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the models first: minutes, then faster.")]
Quantize = Annotated[
    Literal["int8"] | None, typer.Option(help="Draw codes with 8-bit products: faster on a CPU, other codes.")
]
GoOn = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on where this command stopped; a higher --count draws more beside what is there."
    ),
]


def generate(
    context: typer.Context,
    model: GeneratorOption = SAMPLE_MODEL,
    output: Output = PICTURE_FOLDER,
    steps: Steps = None,
    count: Count = 16,
    class_: Classes = None,
    seed: Seed = 0,
    preset: SamplingPreset = None,
    cfg_scale: CfgScale = 1.0,
    cfg_schedule: CfgSchedule = "constant",
    cfg_start: CfgStart = 0.25,
    cfg_stop: CfgStop = 1.0,
    cfg_peak: CfgPeak = 0.5,
    temperature: Temperature = 1.0,
    greedy: Greedy = False,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    tokenizer: OwnTokenizer = None,
    grid: Grid = None,
    ladder: Ladder = None,
    shards: Shards = False,
    codes: OnlyCodes = False,
    batch_size: AnyBatchSize = 16,
    num_processes: NumProcesses = 1,
    compile_: Compile = False,
    quantize: Quantize = None,
    resume: GoOn = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Draw pictures: each in 9 steps where an autoregressive model would take 128.

    A folder gets 000000.png, 000001.png, …, manifest.jsonl with the class and
    seed of each, and request.json with model and options; an .npz has the form of
    the ADM evaluator. Picture i depends on the model, the seed, i, its class and
    the sampling options: not on how many others are made, or where. Prints OUT.

    Examples: a grid of emoji; hearts; 50,000 pictures for a gFID, and the same in
    a pipe; codes:

      restok generate --model runs/har --steps 9 --grid emoji.png
      restok generate --model runs/har --class heart --cfg-scale 2 -o hearts
      restok generate --model runs/har --count 50000 --preset paper -o 50k.npz
      restok generate --model runs/har --count 64 -o - | tar tf -
      restok generate --codes -o - | restok decode - -o decoded
    """
    if grid is None and not (is_given(context, "output") or codes or shards) and count <= MAX_GRID:
        grid = PICTURE_FOLDER.with_suffix(".png")
    destination = Destination(output, shards, codes, grid, ladder, resume, overwrite)
    check_destination(destination, count, [model, tokenizer] if tokenizer else [model])
    check_computation(compile_, quantize, device, dtype)
    if greedy:
        if is_given(context, "temperature"):
            raise UsageError("--greedy is --temperature 0; give one of them")
        temperature = 0.0
    run_in_processes(num_processes)

    from restok_cli.model.sampling import SamplingOptions

    if preset is None and model == SAMPLE_MODEL:
        preset = "sample"
    sampling = SamplingOptions(cfg_scale, cfg_schedule, cfg_start, cfg_stop, cfg_peak, temperature, top_k, top_p)
    sampling = with_preset(context, sampling, preset)
    torch_device = local_device(open_device("cpu" if quantize and device == "auto" else device))
    connect(torch_device)
    how = "compiled" if compile_ else quantize or "exact"
    files = find_files(model, tokenizer, codes)
    if files.tokenizer is not None:
        check_room(destination, count, files.tokenizer.config.image_size)
    job = open_job(files, class_, count, seed, sampling, steps, batch_size, torch_device, dtype, how)
    draw(job, describe(job, files, class_, dtype, how, codes), destination)
    if output != STDOUT:
        result = {"path": str(output), "pictures": count, "steps": job.num_steps, "seed": seed}
        print(json.dumps(result) if as_json else output)


def check_computation(compile_: bool, quantize: str | None, device: str, dtype: str) -> None:
    """Raises UsageError where 8-bit products are asked for beside what they do not work with."""
    if quantize and (compile_ or dtype != "float32"):
        raise UsageError(f"--quantize {quantize} works with neither --compile nor another --dtype; leave one out")
    if quantize and device.split(":")[0] not in ("auto", "cpu"):
        raise UsageError(f"--quantize {quantize} is for a CPU; leave it out, or give --device cpu")


def with_preset(context: typer.Context, sampling: "SamplingOptions", preset: str | None) -> "SamplingOptions":
    """The options, with the preset's for those that the command line does not name.

    Raises UsageError for numbers that are none, for options of guidance that its schedule does not have, and for those
    that leave nothing of it.
    """
    wanted = PRESETS[preset] if preset else {}
    sampling = sampling._replace(**{name: wanted[name] for name in wanted if not is_given(context, name)})
    for name in ("cfg_scale", "temperature"):
        if not math.isfinite(value := getattr(sampling, name)):
            raise UsageError(f"--{name.replace('_', '-')} {value}: give a finite number")
    for name, schedules in SCHEDULES.items():
        if is_given(context, name) and sampling.cfg_schedule not in schedules:
            raise UsageError(
                f"--{name.replace('_', '-')} changes nothing in a {sampling.cfg_schedule} schedule; leave it out, or"
                f" give --cfg-schedule {' or '.join(schedules)}"
            )
    if sampling.cfg_schedule == "rectangular" and sampling.cfg_start >= sampling.cfg_stop:
        raise UsageError(
            f"--cfg-start {sampling.cfg_start} and --cfg-stop {sampling.cfg_stop}: guidance ends before it begins;"
            " give a lower --cfg-start"
        )
    return sampling


# --- what to draw with ---------------------------------------------------------------------------------------------


class ModelFiles(NamedTuple):
    """Where the models lie, and which they are."""

    har: "ModelFolder"
    tokenizer: "ModelFolder | None"  # None where only codes are wanted
    har_fingerprint: str
    tokenizer_fingerprint: str  # empty where only codes are wanted and nobody wrote down whose they are


def find_files(model: Path, tokenizer: Path | None, codes: bool) -> ModelFiles:
    """Raises UsageError where there is no generator, or no tokenizer for pictures, or another one; RestokError where
    the generator's own was changed.
    """
    from restok_cli.pretrained.folder import find_tokenizer, fingerprint, open_har

    har = open_har(model)
    if codes and tokenizer is None:
        return ModelFiles(har, None, fingerprint(har), har.tokenizer_fingerprint or "")
    found = find_tokenizer(har, model, tokenizer)
    known = fingerprint(found)
    if har.tokenizer_fingerprint not in (None, known):
        raise RestokError(f"{found.path} is not the tokenizer that {model} was trained with; copy the model again")
    return ModelFiles(har, None if codes else found, fingerprint(har), known)


def open_job(
    files: ModelFiles,
    classes: list[str] | None,
    count: int,
    seed: int,
    sampling: "SamplingOptions",
    steps: int | None,
    batch_size: int,
    device: "torch.device",
    dtype: str,
    how: str,
) -> "Job":
    """The models, loaded, and what to draw. Raises UsageError for impossible steps and classes."""
    from restok_cli.cpu.rewrite import quantize_linears
    from restok_cli.data.classes import choose_classes, usual_names
    from restok_cli.inference.coding import choose_batch_size
    from restok_cli.inference.generating import Job
    from restok_cli.model.sampling import check_num_steps
    from restok_cli.pretrained.folder import load_for_use, load_model

    num_steps = check_num_steps(files.har.config, steps)
    names = usual_names(files.har.class_names)
    class_ids = choose_classes(classes, names, count, seed)
    load = load_model if how == "compiled" else load_for_use
    har = (load_model if how == "int8" else load)(files.har, device, torch_dtype(dtype))
    tokenizer = files.tokenizer and load(files.tokenizer, device, torch_dtype(dtype))
    batch_size = min(choose_batch_size(min(batch_size, count), tokenizer, device), count)
    job = Job(har, tokenizer, class_ids, names, seed, sampling, num_steps, batch_size, device)
    if how == "compiled":
        compile_models(job)
    elif how == "int8":
        quantize_linears(har)
    return job


def compile_models(job: "Job") -> None:
    """Replace what takes the time by what torch.compile makes of it, when first called."""
    import torch

    job.har.transform = torch.compile(job.har.transform, dynamic=True)  # one graph for steps of all sizes
    if job.tokenizer is not None:
        job.tokenizer.decode = torch.compile(job.tokenizer.decode)


def describe(
    job: "Job", files: ModelFiles, classes: list[str] | None, dtype: str, how: str, codes: bool
) -> dict[str, Any]:
    """All that the pictures depend on, and how they become bytes."""
    request = {
        "restok": version("restok"),
        "model": files.har_fingerprint,
        "tokenizer": files.tokenizer_fingerprint,
        "count": len(job.class_ids),
        "classes": classes or ["all"],
        "seed": job.seed,
        "steps": job.num_steps,
        **job.sampling._asdict(),
        "dtype": dtype,
        "device": job.device.type,
        "computed": how,
        "codes_only": codes,
    }
    if not codes:
        request["rounding"] = "half up"
    if job.device.type != "cpu" or dtype != "float32" or how != "exact":
        request["batch_size"] = job.batch_size  # other sizes may round differently there
    return request
