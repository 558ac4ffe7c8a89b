"""Options that several commands share, and what they mean. Nothing heavy is imported until it is needed."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from restok_cli.console import quiet
from restok_cli.errors import UsageError
from restok_cli.files import HUB_PREFIX, MAX_DECODED_PIXELS, MAX_MEMBER_BYTES, STDOUT, parse_model
from restok_cli.machine import check_device_name
from restok_cli.processes import parse_num_processes, run_in_processes, world_size

IMAGE_FOLDER = Path("pictures")  # where generate writes and evaluate reads, unless told otherwise
SAMPLE_MODEL_NAME = "sample, the one of emoji that comes with restok"


# What is not there is known at once, before torch is imported, which takes seconds.


def check_models(kind: Literal["tokenizer", "har", "any"], *models: Path | None) -> None:
    """Raises UsageError where one of the models that are given is none of that kind; of the hub that shows later."""
    from restok_cli.pretrained.folder import open_any, open_har, open_tokenizer

    open_one = {"tokenizer": open_tokenizer, "har": open_har, "any": open_any}[kind]
    for model in models:
        if model is not None and not str(model).startswith(HUB_PREFIX):
            open_one(model)


def check_drawing(model: Path, classes: list[str] | None, num_steps: int | None) -> None:
    """Raises UsageError where the model is no generator, or has not these classes or steps."""
    from restok_cli.data.classes import choose_classes, usual_names
    from restok_cli.model.config import check_num_steps
    from restok_cli.pretrained.folder import open_har

    if str(model).startswith(HUB_PREFIX):
        return
    folder = open_har(model)
    check_num_steps(folder.config, num_steps)
    with quiet():  # how a word is understood is said when it is drawn
        choose_classes(classes, usual_names(folder.class_names), count=1, seed=0)


def check_there(wanted: str, *sources: str | Path | None, option: str = "") -> None:
    """Raises UsageError where one of the `sources` that `option` is given, of which each is `wanted`, is not there."""
    for source in sources:
        if source is not None and str(source) not in ("-", "sample") and not os.path.lexists(source):
            raise UsageError(f"{option}{source}: no such file or folder; give {wanted}")


def check_reference(reference: str | None, cache: Path | None, no_cache: bool = False) -> None:
    """Raises UsageError where what --reference names is neither there nor in the cache."""
    from restok_cli.metrics.cache_folder import default_cache, find_reference

    if reference is not None:
        found = find_reference(reference, None if no_cache else cache or default_cache())
        check_there("images, statistics (.npz) or a name", found, option="--reference ")


def start_processes(count: int, images: list[str]) -> None:
    """Start the processes that share these images; each of them goes on from here."""
    check_there("images or folders of images", *images)
    if "-" in images and max(count, world_size()) > 1:
        raise UsageError("- is one stream, which one process reads; leave --num-processes out, or give files")
    run_in_processes(count)


def parse_batch_size(text: str | int) -> int:
    """The number that --batch-size gives (or that is its default), 0 for auto. Raises UsageError."""
    if text == "auto":
        return 0
    if not str(text).isdecimal() or int(text) < 1:
        raise UsageError(f"--batch-size {text}: give a number from 1 on, or auto")
    return int(text)


class ImageSize(NamedTuple):
    """Of the images of a tokenizer."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def parse_image_size(text: str) -> ImageSize:
    """The size that --image-size gives. Raises UsageError."""
    found = re.fullmatch(r"([1-9]\d{0,7})(?:x([1-9]\d{0,7}))?", text, re.ASCII)
    if found is None:
        raise UsageError(f"--image-size {text}: give the pixels of a side, such as 128, or width x height: 128x96")
    width, height = found.groups(default=found[1])
    return ImageSize(height=int(height), width=int(width))


DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="A folder made by `restok prepare`, or the word sample.")
]
RunOutput = Annotated[
    Path, typer.Option("--output", "-o", metavar="RUN", help="The folder of the run.", show_default=False)
]
ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES",
        help="Image files, folders of them, one data set, or - (a tar stream on stdin).",
        show_default=False,
    ),
]
MaxDecodedPixels = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help=f"Images of more pixels than this are left out, since they may fill all memory."
        f" Default: {MAX_DECODED_PIXELS:,}.",
        show_default=False,
    ),
]
MaxMemberBytes = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help=f"Image files, and files in tars, of more bytes than this are left out unread."
        f" Default: {MAX_MEMBER_BYTES:,}.",
        show_default=False,
    ),
]
TokenizerOption = Annotated[
    Path,
    typer.Option(
        "--model",
        parser=parse_model,
        metavar="M",
        help="A tokenizer, or a generator with its tokenizer; photo suits photographs.",
        show_default=SAMPLE_MODEL_NAME,
    ),
]
GeneratorOption = Annotated[
    Path,
    typer.Option(
        "--model",
        parser=parse_model,
        metavar="M",
        help="A generator: a run of train-har, or its model folder.",
        show_default=SAMPLE_MODEL_NAME,
    ),
]
Split = Annotated[Literal["validation", "train"], typer.Option(help="The split to take of a data set.")]
MaxSteps = Annotated[int | None, typer.Option(min=1, help="Optimizer steps of the whole run. Default: the preset's.")]
ImageSizeOption = Annotated[
    ImageSize | None,
    typer.Option(
        "--image-size",
        parser=parse_image_size,
        metavar="N|WxH",
        help="Pixels of an image: 128, or 128x96 (width x height). Default: the preset's, or those of --tokenizer.",
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="Decides everything random: the same seed gives the same result.")
]
Preset = Annotated[
    str | None,
    typer.Option(help="What to build and how to train it; `restok models` lists them. Default: sample, or the file's."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings over the preset's: YAML, or a run whose settings to take."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as schedule.seed=3; repeatable."),
]
RunSeed = Annotated[
    int | None, typer.Option(min=0, max=2**32 - 1, help="Decides everything random. Default: the preset's.")
]
Init = Annotated[
    Path | None,
    typer.Option(
        parser=parse_model,
        metavar="M",
        help="Start from the weights of this model: a folder, a run, hf:owner/name, sample or photo.",
    ),
]
EarlyStop = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="End after N validations in a row without a better one; the best is kept."),
]
StopAt = Annotated[
    int | None,
    typer.Option(min=1, metavar="STEP", help="Save and end after this step, as if interrupted; --resume goes on."),
]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="NAME", help="Also log to tensorboard, wandb or trackio; repeatable."),
]
AllowPipe = Annotated[
    bool, typer.Option("--allow-pipe", help="Run the shell commands (pipe:) that DATA names for its shards.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Try a step of everything, print what the run will take, and train nothing.")
]
SkipPreflight = Annotated[
    bool, typer.Option("--skip-preflight", help="Start at once, without trying a step of everything first.")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images per step. Default: the preset's.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on exactly where the run in RUN stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output where it is there already.")]
Device = Annotated[
    str,
    typer.Option(
        parser=check_device_name,
        metavar="NAME",
        help="auto (CUDA if there is any, else the CPU), cpu, cuda, cuda:1, mps.",
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic", help="Compute the same bits each time on a GPU, too, for batches of one size: slower."
    ),
]
Dtype = Annotated[
    Literal["auto", "float32", "bf16"],
    typer.Option(help="Precision of the model; auto: bf16 on a GPU, float32 on a CPU (some are faster in bf16)."),
]
NumProcesses = Annotated[
    int, typer.Option(parser=parse_num_processes, metavar="N", help="Processes that share the work; auto: one per GPU.")
]
AnySplit = Annotated[
    Literal["validation", "train", "all"], typer.Option(help="The split to take where a data set is given.")
]
InceptionWeights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", exists=True, dir_okay=False, help="Weights of Inception. Default: torch's cache, or download."
    ),
]
VggWeights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Weights of VGG-16, for lpips and vgg16."),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where features and references are kept. Default: restok in $XDG_CACHE_HOME or ~/.cache."
    ),
]
OwnTokenizer = Annotated[
    Path | None,
    typer.Option(parser=parse_model, metavar="M", help="Decode with this copy of the generator's tokenizer."),
]
Steps = Annotated[
    int | None, typer.Option(help="Sampling steps; fewer than all stop at a coarser level. Default: all.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither look features up nor keep them.")]
ImagesHeld = Annotated[
    int, typer.Option("--batch-size", min=1, help="Images held at a time; changes speed and memory, not results.")
]
ResultAsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object with the protocol instead of a table.")
]
AnyBatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size", parser=parse_batch_size, metavar="N", help="Images at a time; auto: what the device holds."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the path.")]


@dataclass
class Computing:
    """Where and how a model computes: what `Computation` takes."""

    batch_size: AnyBatchSize = 16
    device: Device = "auto"
    dtype: Dtype = "auto"
    deterministic: Deterministic = False


LinesAsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")]

# of the `prepare` commands
OverwriteDataset = Annotated[bool, typer.Option("--overwrite", help="Replace the data set that OUT already holds.")]
CountsAsJson = Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object instead of OUT.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Processes to work with; the result is the same. Default: one per core.")
]
Check = Annotated[
    Literal["quick", "full"],
    typer.Option(
        help="How to look for broken images: quick reads structure (no image, cut short, PNG checksums),"
        " full decodes every one, which takes ten times as long."
    ),
]


def features_folder(folder: Path | None, no_cache: bool) -> Path | None:
    """The folder where features are kept, None for none. Raises UsageError where both options are given."""
    if folder is not None and no_cache:
        raise UsageError("--cache says where features are kept, and --no-cache that they are not; give one of them")
    from restok_cli.metrics.cache import open_cache

    return None if no_cache else open_cache(folder)


def is_given(context: typer.Context, option: str) -> bool:
    """Whether the command line names the option, rather than leaving it at its default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def check_split(context: typer.Context, *sources: str | None) -> None:
    """Raises UsageError where --split names a part, and none of the sources is a data set, or codes of one."""
    from restok_cli.data.shards.code_layout import is_codes
    from restok_cli.data.shards.layout import is_dataset

    split, found = context.params["split"], (is_dataset(each) or is_codes(each) for each in sources if each)
    if is_given(context, "split") and split != "all" and not any(found):
        raise UsageError(
            f"--split {split}: only what `restok prepare` made has splits, and all of the images are "
            "taken; leave it out, or give the folder of those that are meant"
        )


def check_json(as_json: bool, output: Path) -> None:
    """Raises UsageError where --json would have to print into the output itself."""
    if as_json and output == STDOUT:
        raise UsageError("--json prints one object beside the output, and on stdout is that itself; give another -o")


def check_resume(resume: bool, overwrite: bool) -> None:
    """Raises UsageError where both are asked for."""
    if resume and overwrite:
        raise UsageError("--resume keeps the run in the output folder and --overwrite replaces it; give one of them")
