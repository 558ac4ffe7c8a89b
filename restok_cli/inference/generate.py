"""The work of `restok generate`: classes to images, or to codes."""

from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from restok_cli.cuda.compiler import compile_model, is_wanted
from restok_cli.data.classes import choose_classes, usual_names
from restok_cli.data.shards.layout import NO_CLASS
from restok_cli.devices import torch_dtype
from restok_cli.errors import RestokError
from restok_cli.inference.blocks import Job
from restok_cli.inference.coding import Computation, choose_batch_size
from restok_cli.inference.generate_destination import Destination, check_room
from restok_cli.inference.mixing import Like, codes_of_image, keeping
from restok_cli.inference.outputs import write_outputs
from restok_cli.model.config import check_num_steps
from restok_cli.model.guidance import SamplingOptions
from restok_cli.model.har import Har
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import (
    HarFolder,
    TokenizerFolder,
    find_tokenizer,
    fingerprint,
    found_fingerprint,
    open_har,
)
from restok_cli.pretrained.modules import load_for_use, load_model
from restok_cli.processes import gather, run_in_processes


class GenerateOptions(NamedTuple):
    """The images that are asked for, and how they are drawn and computed, as the options of the command name it."""

    classes: list[str] | None
    count: int
    seed: int
    num_steps: int | None
    given: dict[str, Any]  # options of sampling that are not left at their default
    computation: Computation
    compiled: bool | Literal["auto"]  # where there is a GPU and a compiler
    num_processes: int
    like: Like | None = None


def generate_outputs(
    model: Path, tokenizer: Path | None, options: GenerateOptions, sampling: SamplingOptions, to: Destination
) -> int:
    """Draw images, or codes, in all processes, and write them; return in how many steps.

    Raises UsageError where that cannot be had, RestokError for damaged models.
    """
    like = options.like
    run_in_processes(options.num_processes)

    device, dtype = options.computation.open()
    options = options._replace(compiled=is_wanted(options.compiled, device, "--compile off"))
    files = find_files(model, tokenizer, to.codes and like is None)
    if files.tokenizer is not None:
        check_room(to, options.count, files.tokenizer.config.image_size)
    job = open_job(files, options, sampling, device, dtype)
    if like is not None and job.tokenizer is not None:
        codes = codes_of_image(f"--like {like.image}", like.image, job.tokenizer)
        job = keeping(job, codes, like.keep, options.classes is not None, options.given)
        job = job._replace(tokenizer=None) if to.codes else job
    write_outputs(job, describe(job, files, options, dtype, to.codes), to)
    return job.num_steps


class GeneratorFiles(NamedTuple):
    """Where the models lie, and which they are."""

    har: HarFolder
    tokenizer: TokenizerFolder | None  # None where only codes are wanted
    har_fingerprint: str
    tokenizer_fingerprint: str  # empty where only codes are wanted and nobody wrote down whose they are


def find_files(model: Path, tokenizer: Path | None = None, codes: bool = False) -> GeneratorFiles:
    """Raises UsageError where there is no generator, or no tokenizer for images, or another one; RestokError where the
    generator's own was changed.
    """
    har = open_har(model)
    if codes and tokenizer is None:
        return GeneratorFiles(har, None, fingerprint(har), har.tokenizer_fingerprint or "")
    found = find_tokenizer(har, model, tokenizer)
    known = found_fingerprint(har, found, tokenizer)
    if har.tokenizer_fingerprint not in (None, known):
        raise RestokError(f"{found.path} is not the tokenizer that {model} was trained with; copy the model again")
    return GeneratorFiles(har, None if codes else found, fingerprint(har), known)


def open_job(
    files: GeneratorFiles, options: GenerateOptions, sampling: SamplingOptions, device: torch.device, dtype: str
) -> Job:
    """The models, loaded, and what to draw. Raises UsageError for impossible steps and classes."""
    num_steps = check_num_steps(files.har.config, options.num_steps)
    names = usual_names(files.har.class_names)
    class_ids = choose_classes(options.classes, names, options.count, options.seed)
    compiled = options.compiled is True
    har, tokenizer = load_models(files, device, dtype, compiled)
    batch_size = choose_batch_size(min(options.computation.batch_size, options.count), tokenizer, device)
    batch_size = min(options.count, *gather(batch_size))  # by what each device holds: blocks are the same for all
    return Job(har, tokenizer, class_ids, names, options.seed, sampling, num_steps, batch_size, device, None, compiled)


def load_models(
    files: GeneratorFiles, device: torch.device, dtype: str, compiled: bool = False
) -> tuple[Har, Tokenizer | None]:
    """The models in `files`, ready to use."""
    # what is rewritten for a CPU cannot be compiled
    load = load_model if compiled and device.type == "cpu" else load_for_use
    har = load(files.har, device, torch_dtype(dtype))
    tokenizer = files.tokenizer and load(files.tokenizer, device, torch_dtype(dtype))
    if compiled:
        compile_model(har)
        if tokenizer is not None:  # --like encodes one image, which is not worth it
            compile_model(tokenizer.decoder)
            compile_model(tokenizer.pixel_decoder)
    return har, tokenizer


def describe(job: Job, files: GeneratorFiles, options: GenerateOptions, dtype: str, codes: bool) -> dict[str, Any]:
    """All that the images depend on, and how they become bytes."""
    request = {
        "restok": version("restok"),
        "model": files.har_fingerprint,
        "tokenizer": files.tokenizer_fingerprint,
        "count": len(job.class_ids),
        "classes": options.classes or ["none" if NO_CLASS in job.class_ids else "all"],
        "seed": job.seed,
        "steps": job.num_steps,
        **job.sampling._asdict(),
        "dtype": dtype,
        "device": job.device.type,
        "computed": "compiled" if job.compiled else "exact",
        "codes_only": codes,
    }
    if job.kept_codes is not None:
        request["kept"] = job.kept_codes.tolist()
    if not codes:
        request["rounding"] = "half up"
    if job.device.type != "cpu" or dtype != "float32" or job.compiled:
        request["batch_size"] = job.batch_size  # other sizes may round differently there
    if options.computation.is_deterministic_on(job.device):
        request["deterministic"] = True
    return request
