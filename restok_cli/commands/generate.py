"""`restok generate`: classes to pictures, or to codes."""

import json
import math
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from restok_cli.commands.options import (
    PICTURE_FOLDER,
    PICTURE_MANIFEST,
    PICTURE_REQUEST,
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
    check_output_file,
    check_picture_folder,
    check_resume,
    check_sheets,
    is_given,
    open_device,
    torch_dtype,
)
from restok_cli.console import note
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import check_apart, check_output_folder, publish_folder, whole_file, whole_folder
from restok_cli.processes import barrier, connect, local_device, rank, run_in_processes

if TYPE_CHECKING:
    import numpy as np
    import torch

    from restok_cli.commands.drawing import Job
    from restok_cli.data.code_files import Codes
    from restok_cli.model.checkpoint import ModelFolder
    from restok_cli.model.sampling import SamplingOptions

GRID_COLUMNS, MAX_GRID = 8, 1024
LADDER_ROWS = 8
SCHEDULES = {  # those that an option of guidance has a meaning in
    "cfg_start": ("step", "rectangular"),
    "cfg_stop": ("rectangular",),
    "cfg_peak": ("triangular", "linear-constant"),
}
PAPER = {"cfg_scale": 3.75, "cfg_schedule": "step", "cfg_start": 0.25, "top_p": 0.95}  # its gFID of 2.34


def generate(
    context: typer.Context,
    model: GeneratorOption = SAMPLE_MODEL,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="OUT", help="A folder for PNG files, an .npz, or - (a tar stream on stdout)."
        ),
    ] = PICTURE_FOLDER,
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps; fewer than all stop at a coarser level. Default: all.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 16,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="C",
            help="A class by name, number or synset, all, or random; may be repeated. Default: all in turn.",
        ),
    ] = None,
    seed: Seed = 0,
    preset: Annotated[
        Literal["paper"] | None, typer.Option(help="The paper's guidance: 3.75, step from 0.25, top-p 0.95.")
    ] = None,
    cfg_scale: Annotated[float, typer.Option(min=0, help="Classifier-free guidance; 1 = none.")] = 1.0,
    cfg_schedule: Annotated[
        Literal[
            "constant",
            "linear",
            "linear-reversed",
            "linear-constant",
            "triangular",
            "rectangular",
            "step",
            "cosine",
            "cosine-reversed",
        ],
        typer.Option(help="How guidance goes from 1 to its scale, or back, over the steps."),
    ] = "constant",
    cfg_start: Annotated[float, typer.Option(min=0, max=1, help="Where step and rectangular begin.")] = 0.25,
    cfg_stop: Annotated[float, typer.Option(min=0, max=1, help="Where rectangular ends.")] = 1.0,
    cfg_peak: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Where triangular and linear-constant are at their scale.")
    ] = 0.5,
    temperature: Annotated[float, typer.Option(min=0, help="Below 1: safer, 0: always the likeliest code.")] = 1.0,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest code: --temperature 0.")] = False,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from the K likeliest codes; 0 = all.")] = 0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Draw from the likeliest codes that reach P.")] = 1.0,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="M", help="Decode with this copy of the generator's tokenizer.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write all pictures as one captioned PNG.",
            show_default=f"{PICTURE_FOLDER}.png where -o is left out",
        ),
    ] = None,
    ladder: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a PNG of the first 8 growing level by level.")
    ] = None,
    shards: Annotated[
        bool, typer.Option("--shards", help="Make OUT a data set of tar shards, as prepare does.")
    ] = False,
    codes: Annotated[
        bool, typer.Option("--codes", help="Only draw codes, to an .npz, .safetensors or .jsonl file, or - (lines).")
    ] = False,
    batch_size: AnyBatchSize = 16,
    num_processes: NumProcesses = 1,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the models first: minutes, then faster.")
    ] = False,
    quantize: Annotated[
        Literal["int8"] | None, typer.Option(help="Draw codes with 8-bit products: faster on a CPU, other codes.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where this command was stopped.")] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Draw pictures: each in 9 steps where an autoregressive model would take 128.

    A folder gets 000000.png, 000001.png, …, manifest.jsonl with the class and seed
    of each, and request.json with model and options; an .npz has the form of the
    ADM evaluator. Picture i depends on the model, the seed, i, its class and the
    sampling options: not on how many others are made, where, or when. Prints OUT.

    Examples: a grid of emoji; hearts; 50,000 pictures for a gFID, and the same in
    a pipe; codes:

      restok generate --model runs/har --steps 9 --grid emoji.png
      restok generate --model runs/har --class heart --cfg-scale 2 -o hearts
      restok generate --model runs/har --count 50000 --preset paper -o 50k.npz
      restok generate --model runs/har --count 64 -o - | tar tf -
      restok generate --model runs/har --codes -o - | restok decode - -o decoded
    """
    if grid is None and not (is_given(context, "output") or codes or shards) and count <= MAX_GRID:
        grid = PICTURE_FOLDER.with_suffix(".png")
    check_resume(resume, overwrite)
    if resume and output == STDOUT:
        raise UsageError("--resume needs an output that stays; give a folder or a file by -o")
    models = [model, tokenizer] if tokenizer else [model]
    if not resume:
        check_output(output, codes, shards, overwrite, *models)
    check_apart(output, *models)
    check_sheets(grid, ladder, overwrite or (resume and is_begun(output)), *models)
    if codes and (grid or ladder):
        raise UsageError("--codes draws no pictures; leave --grid and --ladder out, or --codes")
    if grid and count > MAX_GRID:
        raise UsageError(f"--grid shows at most {MAX_GRID} pictures, not {count}; leave it out or give a lower --count")
    for name, value in (("--cfg-scale", cfg_scale), ("--temperature", temperature)):
        if not math.isfinite(value):
            raise UsageError(f"{name} {value}: give a finite number")
    if quantize and (compile_ or dtype != "float32"):
        raise UsageError(f"--quantize {quantize} works with neither --compile nor another --dtype; leave one out")
    if greedy and is_given(context, "temperature"):
        raise UsageError("--greedy is --temperature 0; give one of them")
    run_in_processes(num_processes)

    from restok_cli.model.sampling import SamplingOptions

    how = "compiled" if compile_ else quantize or "exact"
    temperature = 0.0 if greedy else temperature
    sampling = SamplingOptions(cfg_scale, cfg_schedule, cfg_start, cfg_stop, cfg_peak, temperature, top_k, top_p)
    if preset == "paper":
        sampling = sampling._replace(**{name: PAPER[name] for name in PAPER if not is_given(context, name)})
    check_schedule(context, sampling)
    torch_device = local_device(open_device("cpu" if quantize and device == "auto" else device))
    if quantize and torch_device.type != "cpu":
        raise UsageError(f"--quantize {quantize} is for a CPU; leave it out, or give --device cpu")
    connect(torch_device)
    model_files = find_files(model, tokenizer, codes)
    job = open_job(model_files, class_, count, seed, sampling, steps, batch_size, torch_device, dtype, how)
    request = describe(job, model_files, class_, dtype, how, codes)
    if output == STDOUT:
        to_stdout(job, request, codes, grid)
    else:
        to_files(job, request, output, shards, codes, grid, resume, overwrite)
    if ladder is not None and rank() == 0:
        write_ladder(job, ladder)
    result = {"path": str(output), "pictures": count, "steps": job.num_steps, "seed": seed}
    if output != STDOUT:
        print(json.dumps(result) if as_json else output)


def check_schedule(context: typer.Context, sampling: "SamplingOptions") -> None:
    """Raises UsageError for options of guidance that its schedule does not have, or that leave nothing of it."""
    for option, schedules in SCHEDULES.items():
        if is_given(context, option) and sampling.cfg_schedule not in schedules:
            raise UsageError(
                f"--{option.replace('_', '-')} changes nothing in a {sampling.cfg_schedule} schedule; leave it out, or"
                f" give --cfg-schedule {' or '.join(schedules)}"
            )
    if sampling.cfg_schedule == "rectangular" and sampling.cfg_start >= sampling.cfg_stop:
        raise UsageError(
            f"--cfg-start {sampling.cfg_start} and --cfg-stop {sampling.cfg_stop}: guidance ends before it begins;"
            " give a lower --cfg-start"
        )


# --- what to draw with ---------------------------------------------------------------------------------------------


class ModelFiles(NamedTuple):
    """Where the models lie, and which they are."""

    har: "ModelFolder"
    tokenizer: "ModelFolder | None"  # None where only codes are wanted
    har_fingerprint: str
    tokenizer_fingerprint: str  # empty where only codes are wanted and nobody wrote down whose they are


def find_files(model: Path, tokenizer: Path | None, codes: bool) -> ModelFiles:
    """Raises UsageError where there is no generator, or no tokenizer for pictures, or another one."""
    from restok_cli.model.checkpoint import find_tokenizer, fingerprint, open_har

    har = open_har(model)
    if codes and tokenizer is None:
        return ModelFiles(har, None, fingerprint(har), har.tokenizer_fingerprint or "")
    found = find_tokenizer(har, model, tokenizer)
    return ModelFiles(har, None if codes else found, fingerprint(har), fingerprint(found))


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
    from restok_cli.commands.coding import auto_batch_size
    from restok_cli.commands.drawing import Job
    from restok_cli.data.classes import choose_classes, usual_names
    from restok_cli.model.checkpoint import load_for_use, load_model
    from restok_cli.model.packing import quantize_linears
    from restok_cli.model.sampling import check_num_steps

    num_steps = check_num_steps(files.har.config, steps)
    names = usual_names(files.har.class_names)
    class_ids = choose_classes(classes, names, count, seed)
    load = load_model if how == "compiled" else load_for_use
    har = (load_model if how == "int8" else load)(files.har, device, torch_dtype(dtype))
    tokenizer = files.tokenizer and load(files.tokenizer, device, torch_dtype(dtype))
    batch_size = min(batch_size or auto_batch_size(tokenizer, device), count)
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


# --- where it goes -------------------------------------------------------------------------------------------------


def check_output(output: Path, codes: bool, shards: bool, overwrite: bool, *models: Path) -> None:
    """Raises UsageError where the output is not one for what is asked, or is there and may not be replaced."""
    if codes:
        if shards:
            raise UsageError("--shards are of pictures and --codes draws none; give one of them")
        if output != STDOUT:
            from restok_cli.data.code_files import check_code_file

            check_code_file(output)
            check_output_file("-o", output, output.suffix, overwrite, *models)
    elif shards:
        if output == STDOUT:
            raise UsageError("--shards need a folder, and - is a tar stream already; leave --shards out")
        from restok_cli.data.shards import own_files

        check_output_folder(output, overwrite, own_files(output).__contains__)
    elif output.suffix == ".npz":
        check_output_file("-o", output, ".npz", overwrite, *models)
    elif output != STDOUT:
        check_picture_folder(output, overwrite)


def to_stdout(job: "Job", request: dict[str, Any], codes: bool, grid: Path | None) -> None:
    """Codes as JSON lines, or pictures as a tar stream."""
    from restok_cli.commands.drawing import in_order, stream_pictures
    from restok_cli.data.code_files import write_code_lines

    if codes:
        for drawn in in_order(job, lambda drawn: drawn):
            write_code_lines(_as_codes(job, request, drawn.block, drawn.codes.numpy()), sys.stdout)
        return
    shown = []
    for files in stream_pictures(job, sys.stdout.buffer if rank() == 0 else None):
        if grid is not None:
            shown += files
    if grid is not None and rank() == 0:
        write_grid(job, shown, grid)


def to_files(
    job: "Job",
    request: dict[str, Any],
    output: Path,
    shards: bool,
    codes: bool,
    grid: Path | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """A folder of pictures, or what is made of one: an .npz, a data set. Or a file of codes."""
    from restok_cli.commands.drawing import fill_folder
    from restok_cli.data.unfinished import unfinished

    if resume:
        if codes and output.exists():
            raise UsageError(f"-o {output} is there, and does not say what it was drawn with; leave --resume out")
        same = request_of(output, shards) == ({k: str(v) for k, v in request.items()} if shards else request)
        if same and is_whole(output, shards, len(job.class_ids)):
            note(f"{output} is complete: nothing is left to do")
            if grid is not None and rank() == 0:
                write_grid(job, read_pictures(output, shards, len(job.class_ids)), grid)
            return
        check_output(output, codes, shards, overwrite or same)  # what has lost some of its files is made anew
    with unfinished(output, request, resume, rank() == 0) as folder:
        barrier()  # process 0 has made the folder
        fill_folder(job, folder, code_names if codes else picture_names)
        barrier()  # the others have filled it
        if rank() > 0:
            return
        if codes:
            write_block_codes(job, request, folder, output)
            return
        files = [folder / name for name in picture_names(range(len(job.class_ids)))]
        if grid is not None:
            write_grid(job, [file.read_bytes() for file in files], grid)
        if shards:
            from restok_cli.data.packing import write_shards

            records = [job.record(i) for i in range(len(files))]
            with whole_folder(output) as temporary:
                write_shards(temporary, files, records, job.class_names, {k: str(v) for k, v in request.items()})
        elif output.suffix == ".npz":
            from restok_cli.data.packing import write_npz

            with whole_file(output) as temporary:
                write_npz(temporary, files, job.class_ids, json.dumps(request))
        else:
            lines = [json.dumps({"file": file.name, **job.record(i)}) + "\n" for i, file in enumerate(files)]
            (folder / PICTURE_MANIFEST).write_text("".join(lines), encoding="utf-8")
            publish_folder(folder, output.resolve())


def picture_names(block: range) -> list[str]:
    return [f"{index:06d}.png" for index in block]


def code_names(block: range) -> list[str]:
    return [f"{block.start:06d}-{block.stop:06d}.npy"]


def is_begun(output: Path) -> bool:
    """Whether --resume finds something at `output`: of the same request, or it is refused before anything is drawn."""
    from restok_cli.data.unfinished import unfinished_folder

    return unfinished_folder(output).is_dir() or output.is_file() or (output.is_dir() and any(output.iterdir()))


def request_of(output: Path, shards: bool) -> dict[str, Any] | None:
    """What the pictures at `output` were drawn with; None where that cannot be told."""
    import zipfile

    from restok_cli.data.shards import read_manifest

    with suppress(OSError, ValueError, zipfile.BadZipFile, RestokError):
        if shards:
            return read_manifest(output).provenance
        if output.suffix == ".npz":
            with zipfile.ZipFile(output) as archive:
                return json.loads(archive.comment)
        return json.loads((output / PICTURE_REQUEST).read_text(encoding="utf-8"))
    return None


def is_whole(output: Path, shards: bool, count: int) -> bool:
    """Whether no file is missing from the pictures at `output`."""
    from restok_cli.data.shards import open_dataset
    from restok_cli.data.unfinished import is_finished

    if output.suffix == ".npz" and not shards:
        return True
    if not shards:
        return all(is_finished(output / name) for name in (*picture_names(range(count)), PICTURE_MANIFEST))
    try:
        return bool(open_dataset(output.resolve()))
    except RestokError:
        return False


def read_pictures(output: Path, shards: bool, count: int) -> list[bytes]:
    """The PNG files of the pictures at `output`, which is whole."""
    import numpy as np
    import torch

    from restok_cli.data.images import png_bytes
    from restok_cli.data.shards import open_dataset

    if shards:
        part = open_dataset(output.resolve()).split("validation")
        return [part.read(i) for i in range(count)]
    if output.suffix == ".npz":
        with np.load(output) as npz:
            return [png_bytes(image) for image in torch.from_numpy(npz["arr_0"]).permute(0, 3, 1, 2)]
    return [(output / name).read_bytes() for name in picture_names(range(count))]


def write_block_codes(job: "Job", request: dict[str, Any], folder: Path, output: Path) -> None:
    """Put the codes of all blocks into one file."""
    import numpy as np

    from restok_cli.data.code_files import write_codes

    rows = np.concatenate([np.load(folder / name) for block in job.blocks for name in code_names(block)])
    write_codes(_as_codes(job, request, range(len(rows)), rows), output)


def _as_codes(job: "Job", request: dict[str, Any], block: range, rows: "np.ndarray") -> "Codes":
    import numpy as np

    from restok_cli.data.code_files import Codes
    from restok_cli.data.shards import NO_CLASS

    class_ids = np.array([job.class_ids[i] if job.class_names else NO_CLASS for i in block])
    keys = [f"{i:06d}" for i in block]
    return Codes(rows.astype(np.int32), keys, class_ids, job.har.config.codebook_size, request["tokenizer"])


def write_grid(job: "Job", files: list[bytes], path: Path) -> None:
    """Write the pictures as one, each over the name of its class."""
    import torch

    from restok_cli.data.images import make_grid, read_image, save_image, to_tensor

    images = torch.stack([to_tensor(read_image(file, f"picture {i}")) for i, file in enumerate(files)])
    captions = [job.class_names[i] for i in job.class_ids] if job.class_names else None
    with whole_file(path) as temporary:
        save_image(make_grid(images, GRID_COLUMNS, captions), temporary)


def write_ladder(job: "Job", path: Path) -> None:
    """Write the first pictures growing level by level."""
    from restok_cli.commands.drawing import ladder
    from restok_cli.data.images import save_image

    with whole_file(path) as temporary:
        save_image(ladder(job, LADDER_ROWS), temporary)
