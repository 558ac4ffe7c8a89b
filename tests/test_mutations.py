"""Every reader of files, given its files damaged or made up in every way: it never breaks, and is never silently wrong.

Held in each run: the exit code is 0, 1 or 2, and where it is not 0, one line says why; no traceback and no warning; no
control character on the terminal; no program started; no file written outside of the output; no more than 1 GiB of
memory above the start; and where the exit code is 0, the output equals that of the whole files, or a line says what
does not. `pytest tests/test_mutations.py --mutations 3000` runs a campaign; each number is a seed, and what fails names
it.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from fnmatch import fnmatch
from pathlib import Path
from random import Random
from typing import NamedTuple

import imagenets
import pytest
import torch
import typer
from conftest import make_har
from mutations import Data, mutate
from pictures import write_pictures
from safetensors.torch import load_file
from test_prepare_codes import make_data
from test_report import write_result, write_run
from watching import Ran, Streamed, bounded_memory, run

from restok_cli import cli
from restok_cli.data.arrays import read_header
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.modules import save_har, save_released, save_tokenizer

USERS_OWN = "its values are the user's own: other values are another wish"
WORDS = "its name and where it came from are words for people, who may change them"
LOG = "it grows while it is read, and says what was logged"
AUTHORS_OWN = "the released layout has no digest in it: that of the hub is compared by `restok models verify`"
NO_DIGEST = "has no digest: what decodes to another image is another image"


class Reader(NamedTuple):
    command: str  # in a folder with the input `in` and the output `written`
    files: str  # that are damaged, as patterns in `in`
    start: str = ""  # what of `in` is in the place of the output before
    untold: str = ""  # why the output may differ and nobody is told; "" where it may not
    compared: str = "*"  # of the output, a pattern for what comes after its name
    verifies: bool = False  # says whether the files are whole: exit code 0 is for those alone
    by_line: bool = False  # each line of the file is complete: some of them, in any order, are another wish
    one_in: int = 1  # of the mutations, where each takes long


SUFFIXES = ("png", "jpg", "webp", "avif", "gif", "bmp", "tiff", "ppm", "tga", "ico", "jp2")
TINY = "--model in/tokenizer"
TRAIN = "train-har in/data --tokenizer in/tokenizer --preset tiny --max-steps 2 --batch-size 2 --skip-preflight"
MADE_BY_COMMANDS = (
    *(f"encode in/data --model in/tokenizer -o in/codes.{suffix}" for suffix in ("jsonl", "npz", "safetensors")),
    "prepare codes in/data in/cache --tokenizer in/tokenizer --views centre",
    "models card in/har --licence mit",
    "generate --model in/har --count 3 -o in/drawn",
    "generate --model in/har --count 3 -o - > in/stream.tar",
    "generate --model in/har --count 3 -o in/a.npz",
    "generate --model in/har --count 3 --seed 1 -o in/b.npz",
    "evaluate --make-reference in/drawn -o in/statistics.npz --features random",
    "evaluate in/drawn --reference in/statistics.npz --features random --cache in/features",
    f"{TRAIN} --stop-at 1 -o in/trained",
)
READERS = {
    "config": Reader("config show in/config.yaml --kind tokenizer", "config.yaml", untold=USERS_OWN, one_in=2),
    "class names": Reader(
        "prepare shards in/shards written/out --class-names in/names.txt --jobs 1", "names.txt", untold=USERS_OWN
    ),
    "data set": Reader("prepare verify in/data --jobs 1", "data/*.tar data/*.npy", verifies=True),
    "data set that is read": Reader(f"encode in/data {TINY} -o written/out.jsonl", "data/*", one_in=4),
    "index": Reader("prepare verify in/data --jobs 1", "data/*.npy", verifies=True),
    "description of a data set": Reader("prepare verify in/data --jobs 1", "data/*.json data/*.jsonl", untold=WORDS),
    "codes in lines": Reader(f"decode in/codes.jsonl {TINY} -o written/out", "codes.jsonl", by_line=True),
    "codes in npz": Reader(f"decode in/codes.npz {TINY} -o written/out", "codes.npz"),
    "codes in safetensors": Reader(f"decode in/codes.safetensors {TINY} -o written/out", "codes.safetensors"),
    "code cache": Reader("prepare verify in/cache --jobs 1", "cache/*", verifies=True),
    "code cache that is read": Reader("evaluate in/cache --metric codebook", "cache/*"),
    "results": Reader("evaluate --compare in/a.json in/b.json", "a.json b.json", untold=USERS_OWN),
    "run": Reader(
        "report in/run --metrics in/a.json -o written/out.html",
        "run/* run/previews/* a.json",
        untold=LOG,
        one_in=8,
    ),
    "checkpoint": Reader(
        f"{TRAIN} --resume -o written/out",
        "trained/checkpoints/*/* trained/*",
        start="trained",
        compared="/model/model.safetensors",
        one_in=20,
    ),
    "model": Reader(f"reconstruct in/drawn {TINY} -o written/out", "tokenizer/*", one_in=2),
    "model that is shown": Reader("models show in/tokenizer", "tokenizer/*", one_in=2),
    "model that is verified": Reader(
        "models verify in/har", "har/config.json har/*.safetensors har/tokenizer/[cm]o*", verifies=True
    ),
    "model card": Reader(
        "models card written/out --overwrite", "har/card.json", start="har", untold=USERS_OWN, one_in=2
    ),
    "generator": Reader("generate --model in/har --count 2 -o written/out", "har/* har/tokenizer/*", one_in=4),
    "released model": Reader("models convert in/released written/out", "released/*"),
    "pickled model": Reader("models convert in/pickled written/out", "pickled/*", untold=AUTHORS_OWN),
    "tar": Reader("evaluate in/stream.tar --reference in/drawn --metric mse", "stream.tar", untold=NO_DIGEST),
    "tar stream": Reader(
        "evaluate - --reference in/drawn --metric mse < in/stream.tar", "stream.tar", untold=NO_DIGEST
    ),
    "tar stream to encode": Reader(
        f"encode - {TINY} -o written/out.jsonl < in/stream.tar", "stream.tar", untold=NO_DIGEST, one_in=8
    ),
    "shards to prepare": Reader("prepare shards in/shards written/out --jobs 1", "shards/*", untold=NO_DIGEST),
    **{
        name: Reader(f"prepare imagenet in/{name} written/out --jobs 1", f"{name}/**/*", untold=NO_DIGEST, one_in=8)
        for name in ("tars", "class_tars", "kaggle", "parquet")
    },
    "pictures": Reader(
        "evaluate in/pictures --reference in/pictures --metric mse", "pictures/*", untold=NO_DIGEST, one_in=2
    ),
    "images to encode": Reader(
        f"encode in/pictures {TINY} -o written/out.jsonl", "pictures/*", untold=NO_DIGEST, one_in=8
    ),
    "images to prepare": Reader(
        "prepare folder in/pictures written/out --jobs 1", "pictures/*", untold=NO_DIGEST, one_in=4
    ),
    "images in npz": Reader("evaluate in/a.npz --reference in/b.npz --metric mse", "a.npz b.npz", untold=NO_DIGEST),
    "statistics": Reader(
        "evaluate in/drawn --reference in/statistics.npz --features random", "statistics.npz", untold=NO_DIGEST
    ),
    "features": Reader(
        "evaluate in/drawn --reference in/statistics.npz --features random --cache written/out",
        "features/*/*/*",
        start="features",
        one_in=2,
    ),
    "drawn images": Reader(
        "generate --model in/har --count 3 --resume -o written/out", "drawn/*", start="drawn", one_in=8
    ),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory, tiny_config) -> Iterator[Path]:
    """A folder with every input in `in`, where commands are run."""
    here = tmp_path_factory.mktemp("mutations")
    (here / "written").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setattr(tempfile, "tempdir", str(here / "written"))
        patch.setattr(cli, "app", typer.main.get_command(cli.app))  # once, and not for every run
        patch.setenv("XDG_CACHE_HOME", str(here / "written" / "cache"))
        make_inputs(Path("in"), tiny_config)
        yield here


def make_inputs(folder: Path, tiny_config) -> None:
    """Every file as restok writes it, or as people have it, and small."""
    torch.manual_seed(0)
    small = {"image_height": 16, "image_width": 16, "num_latent_tokens": 8, "num_stages": 2, "encoder_layers": 2}
    small |= {"pixel_encoder": "patch"}
    save_tokenizer(Tokenizer(TokenizerConfig(**tiny_config.model_dump() | small)).eval(), folder / "tokenizer")
    har = make_har(HarConfig(codebook_size=64, num_codes=8, num_classes=2, width=8, num_layers=1, num_heads=1))
    save_har(har, open_tokenizer(folder / "tokenizer"), ["cat", "dog"], folder / "har")
    save_released(har, folder / "released")
    shutil.copytree(folder / "released", folder / "pickled")
    (folder / "pickled" / "checksums.json").unlink()
    weights = folder / "pickled" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    make_data(folder / "data", {"train": 5, "validation": 2})
    imagenets.write_tars(folder / "tars")
    imagenets.write_class_tars(folder / "class_tars")
    imagenets.write_kaggle(folder / "kaggle")
    imagenets.write_parquet(folder / "parquet")
    write_all_formats(folder / "pictures")
    write_run(folder / "run", lines=8, previews=(4, 8))
    shutil.copy(folder / "run" / "config.yaml", folder / "config.yaml")
    (folder / "names.txt").write_text("cat\ndog\n")
    write_result(folder / "a.json", 20.0)
    write_result(folder / "b.json", 21.0)
    for command in MADE_BY_COMMANDS:
        command, _, file = command.partition(" > ")
        with redirect_stdout(Streamed(errors="strict")) as out:
            assert cli.run(command.split()) == 0
        if file:
            Path(file).write_bytes(out.bytes())
    (folder / "shards").mkdir()
    shutil.copy(folder / "stream.tar", folder / "shards" / "train-0000.tar")


def write_all_formats(folder: Path) -> None:
    names = [f"{number}.{suffix}" for number, suffix in enumerate(SUFFIXES)]
    write_pictures(folder, names, 16, 16)
    (folder / "names.txt").write_text("no image")


# --- the tests ----------------------------------------------------------------------------------------------------


def read_files(patterns: str) -> Data:
    """The files of the input that the patterns name."""
    paths = (path for pattern in patterns.split() for path in Path("in").glob(pattern) if path.is_file())
    return {str(path): path.read_bytes() for path in paths}


def put(files: dict[str, bytes | None]) -> None:
    """Have files with these contents, as new ones: a former run may still have the old ones mapped."""
    for name, data in files.items():
        Path(name).unlink(missing_ok=True)
        if data is not None:
            Path(name).write_bytes(data)


def run_on(reader: Reader, here: Path) -> Ran:
    """Run a reader's command into a new output."""
    shutil.rmtree("written")
    Path("written").mkdir()
    if reader.start:
        shutil.copytree(Path("in", reader.start), "written/out")
    ran = run(reader.command, here / "written")
    paths = (path for path in Path("written").rglob("*") if fnmatch(str(path), f"written/out{reader.compared}"))
    return ran._replace(files={str(path): path.read_bytes() for path in paths if path.is_file()})


def is_selection(changed: dict[str, bytes | None], files: Data) -> bool:
    """Whether changed files hold nothing but lines of the whole ones."""
    return all(set((data or b"").splitlines()) <= set(files[name].splitlines()) for name, data in changed.items())


def differ(changed: dict[str, bytes | None], files: Data) -> bool:
    """Whether changed files do not say what the whole ones say, be it in other words."""
    return any(data is None or parsed(data) != parsed(files[name]) for name, data in changed.items())


def parsed(data: bytes) -> object:
    """What JSON or an array says, however it is written; of other files, their bytes."""
    with suppress(ValueError, RecursionError):
        return json.loads(data)
    file = io.BytesIO(data)
    with suppress(ValueError):
        return read_header(file), file.read()
    return data


def problems_of(ran: Ran, whole: Ran, reader: Reader) -> list[str]:
    """What a run on damaged files did wrong; `whole` is the one on whole files."""
    if ran.code == 0 and not reader.untold and not ran.lines - whole.lines:
        if ran.out != whole.out:
            return [*ran.troubles, f"prints other numbers and says nothing: {ran.out.decode(errors='replace')!r}"]
        if ran.files != whole.files:
            return [*ran.troubles, "writes other files and says nothing"]
    return ran.troubles


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        (lambda: subprocess.run(["true"]), "starts a program"),
        (lambda: os.system("true"), "starts a program"),
        (lambda: Path("in/file").write_text("x"), "writes outside of the output: open in/file"),
        (lambda: os.rename("written/file", "in/file"), "writes outside of the output: os.rename in/file"),
        (lambda: print("\x1b[31m", file=sys.stderr), r"prints '\x1b'"),
        (lambda: print("\x9b"), r"prints '\x9b'"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: warnings.warn("of something", stacklevel=1), "warns: of something"),
        (lambda: sys.exit(3), "SystemExit: 3"),
        (lambda: 1, "exit code 1 is not explained by one last line"),
        (lambda: bytearray(2**31) and 0, "MemoryError"),
    ],
)
def test_what_no_command_may_do_is_seen(here, monkeypatch, fault, trouble):
    Path("written/file").touch()
    monkeypatch.setattr(cli, "run", lambda _: fault())
    with bounded_memory():
        ran = run("any", here / "written")
    for file in ("in/file", "written/file"):
        Path(file).unlink(missing_ok=True)
    assert any(trouble in found for found in ran.troubles), ran


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_or_told(here, name, request):
    reader = READERS[name]
    files = read_files(reader.files)
    whole = run_on(reader, here)
    assert (whole.code, whole.troubles) == (0, []), whole
    assert problems_of(run_on(reader, here), whole, reader) == [], "two runs on the same files differ"
    failures = []
    with bounded_memory():
        for number in range(request.config.getoption("mutations") // reader.one_in):
            what, changed = mutate(Random(f"{name} {number}"), files)
            put(changed)
            try:
                ran = run_on(reader, here)
            finally:
                put({file: files[file] for file in changed})
            if reader.by_line and is_selection(changed, files):
                continue
            if reader.verifies and ran.code == 0 and differ(changed, files):
                failures.append(f"mutation {number}, {what}: it is not found")
            failures += [f"mutation {number}, {what}: {problem}" for problem in problems_of(ran, whole, reader)]
    assert read_files(reader.files) == files
    assert not failures, f"{len(failures)} of `restok {reader.command}`:\n" + "\n\n".join(failures[:20])
