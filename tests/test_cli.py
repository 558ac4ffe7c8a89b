"""The front door: help, errors in one line, exit codes."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from launchers import RESTOK
from pictures import write_pictures

from restok_cli import cli
from restok_cli.metrics.cache_folder import default_cache
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.modules import save_har, save_tokenizer

COMMANDS = (
    (),
    ("prepare",),
    ("prepare", "imagenet"),
    ("prepare", "folder"),
    ("prepare", "shards"),
    ("prepare", "verify"),
    ("prepare", "sample"),
    ("train-tokenizer",),
    ("train-har",),
    ("reconstruct",),
    ("generate",),
    ("encode",),
    ("decode",),
    ("evaluate",),
    ("models",),
    ("models", "show"),
    ("models", "convert"),
    ("models", "halve"),
    ("models", "card"),
    ("models", "push"),
    ("curves",),
    ("report",),
    ("demo",),
    ("config",),
    ("config", "show"),
    ("config", "diff"),
    ("config", "validate"),
    ("config", "schema"),
    ("doctor",),
)


@pytest.fixture
def models(tmp_path, tiny_tokenizer, tiny_har):
    """A folder with a tokenizer, a generator, another tokenizer and an image."""
    save_tokenizer(tiny_tokenizer, tmp_path / "tokenizer")
    save_har(tiny_har, open_tokenizer(tmp_path / "tokenizer"), [f"class {i}" for i in range(98)], tmp_path / "har")
    tiny_tokenizer.quantizer.codebook.data += 1
    save_tokenizer(tiny_tokenizer, tmp_path / "other")
    write_pictures(tmp_path / "images", ["a.png", "b.png"])
    return tmp_path


def test_bare_restok_shows_the_way(restok):
    result = restok()
    assert result.code == 0 and result.err == ""
    order = ["prepare", "train-tokenizer", "train-har", "reconstruct", "generate", "encode", "decode", "evaluate"]
    order += ["models"]
    assert re.findall(rf"^│ ({'|'.join(order)}) ", result.out, re.MULTILINE) == order


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_shows_an_example_that_exists(restok, command):
    result = restok(*command, "--help")
    assert result.code == 0 and result.err == ""
    examples = re.findall(r"^ +restok (\S+)", result.out, re.MULTILINE)
    assert examples and set(examples) <= {command[0] for command in COMMANDS if command}
    assert not any(former in result.out for former in cli.FORMER_NAMES.values())
    lines = [line.strip() for line in result.out.splitlines()]
    wrapped = [
        line
        for line, after in pairwise(lines)
        if line.startswith("restok ") and after and not after.startswith("restok ")
    ]
    assert not wrapped


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_leaves_no_word_alone_on_a_line(restok, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    text, _, panels = restok(*command, "--help").out.partition("╭─ ")
    _, _, commands = panels.partition("╭─ Commands ")
    lines = [line.strip(" │") for part in (text, commands.partition("╰")[0]) for line in part.splitlines()]
    assert [after for before, after in pairwise(lines) if before and len(after.split()) == 1] == []


def test_help_has_each_option_and_example_whole_in_a_narrow_terminal(restok, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for command in COMMANDS:
        found = typer.main.get_command(cli.app)
        for word in command:
            found = found.commands[word]
        text = restok(*command, "--help").out
        shown = [parameter for parameter in found.params if not getattr(parameter, "hidden", False)]
        options = {name for parameter in shown for name in parameter.opts if name.startswith("-")}
        assert options <= set(re.findall(r"--?[a-zA-Z][a-z-]*(?!…)", text))
        assert "\\[" not in text  # by which Rich is told that a bracket begins no style
        helps = [parameter.help or "" for parameter in shown if hasattr(parameter, "help")]
        assert not re.findall(r"(?<!\\)\[[a-z]", " ".join(helps)), "Rich takes it for a style, and shows nothing"
        if not hasattr(found, "commands"):
            examples = re.findall(r"^ +(restok .+)$", found.help, re.MULTILINE)
            assert re.findall(r"^ {4}(restok .+)$", text, re.MULTILINE) == examples


def test_options_in_the_examples_exist(restok):
    for command in COMMANDS:
        text = restok(*command, "--help").out
        for example in re.findall(r"^ +restok ([^\n]*)$", text, re.MULTILINE):
            found = typer.main.get_command(cli.app)
            for word in example.split():
                if word in getattr(found, "commands", {}):
                    found = found.commands[word]
            known = {option for parameter in found.params for option in parameter.opts}
            assert set(re.findall(r"(?<=\s)--?[a-z-]+", example)) <= known, example


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from restok_cli.cli import run; run(['--help']); run(['generate', '--help']);"
        "heavy = {'torch', 'numpy', 'PIL', 'webdataset', 'safetensors', 'einops', 'huggingface_hub', 'yaml', 'jinja2'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_version_is_that_of_the_package(restok):
    assert restok("--version").out == f"restok {version('restok')}\n"


def test_no_color_means_no_escape_codes():
    environment = os.environ | {"NO_COLOR": "1"}
    environment.pop("FORCE_COLOR", None)  # which rich 13 takes for a wish even where it is empty
    result = subprocess.run((*RESTOK, "--help"), capture_output=True, text=True, check=True, env=environment)
    assert "\x1b" not in result.stdout + result.stderr


def test_unknown_commands_and_options_are_refused_with_the_nearest_one(fails):
    assert fails(2, "generat").endswith("Did you mean 'generate'? Try 'restok --help'.")
    line = fails(2, "generate", "--modle", "x", "-o", "y")
    assert "--modle" in line and "--model" in line and "Try 'restok generate --help'" in line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            "a library that restok needs is missing",
        ),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "memory is too little, or limited"),
    ],
)
def test_a_library_that_cannot_be_loaded_is_told_in_one_line(fails, monkeypatch, error, line):
    def broken(**_):
        raise error

    monkeypatch.setattr("restok_cli.cli.app", broken)
    assert f"{error}: {line}" in fails(1, "models")


def test_missing_and_wrong_options_are_usage_errors(fails, models):
    assert "Missing argument 'IMAGES" in fails(2, "reconstruct", "-o", models / "out")
    assert "Missing argument 'DATA'" in fails(2, "train-tokenizer", "-o", models / "run")
    assert "Invalid value for '--count'" in fails(2, "generate", "--model", "x", "-o", "y", "--count", "many")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train-tokenizer nowhere -o run", "nowhere: no such data set; give a folder that `restok prepare folder"),
        ("train-tokenizer images -o run", "not a data set; `restok prepare folder images OUT` makes one"),
        ("train-tokenizer sample --preset tny -o run", "no preset named tny (did you mean tiny?)"),
        (
            "train-tokenizer sample -o run --device tpu9",
            "--device tpu9: no such device; take one of auto, cpu,",
        ),
        ("train-tokenizer sample -o images", "images already holds files; give another folder, or --overwrite"),
        ("train-tokenizer sample -o images --overwrite", "images holds a.png, which this command did not make"),
        ("train-tokenizer sample -o run --resume", "run holds no run to resume"),
        ("train-tokenizer sample -o run --resume --overwrite", "give one of them"),
        ("train-har sample --tokenizer nowhere -o run", "nowhere: no such folder; give a model folder"),
        ("train-har sample --tokenizer images -o run", "images is not a model: it holds no config.json"),
        ("reconstruct nowhere.png --model tokenizer -o out", "nowhere.png: no such file or folder"),
        ("reconstruct images sample --model tokenizer -o out", "sample is a data set, which stands alone"),
        ("reconstruct empty --model tokenizer -o out", "empty holds no images"),
        ("reconstruct images --model images -o out", "images is not a model"),
        ("reconstruct images --model tokenizer -o out --num-codes 33", "this tokenizer makes 32 codes an image"),
        ("reconstruct images/a.png images --model tokenizer -o out", "would both become a.png"),
        ("reconstruct images --model tokenizer -o other", "other already holds files"),
        ("generate --model har -o out --steps 9", "--steps 9: this model takes 1 to 7 steps"),
        ("generate --model tokenizer -o out", "holds a tokenizer, but a generator is needed"),
        ("generate --model har -o out --tokenizer other", "trained on the codes of another tokenizer than other"),
        ("generate --model har -o out --class clas7", "--class clas7: no such class"),
        ("generate --model har -o out --class 98", "--class 98: no such class"),
        ("generate --model har -o out --cfg-schedule line", "'line' is not one of 'constant', 'linear', "),
        ("generate --model har -o out --grid images/a.png", "--grid images/a.png already exists"),
        ("generate --model har -o out --grid a.txt", "--grid a.txt: give a file name that ends in .png"),
        ("generate --model har -o out --cfg-scale inf", "--cfg-scale inf: give a finite number"),
        ("generate --model har -o har --overwrite", "har holds checksums.json, which this command did not make"),
        ("generate --model har -o images/a.png/out", "images/a.png is a file; give a folder"),
        ("train-har sample --tokenizer tokenizer -o .", "the output . would replace tokenizer, which is read"),
        ("reconstruct images --model tokenizer -o images --overwrite", "images holds a.png, which this command"),
        ("models convert har har --overwrite", "har holds tokenizer/checksums.json, which this command did not make"),
        ("generate --model har -o out --seed 4294967296", "Invalid value for '--seed'"),
        ("prepare folder images/a.png out", "images/a.png is a file; give a folder of images"),
        ("prepare folder images.tar out", "give a folder of images; `restok prepare shards` takes tars"),
        ("prepare imagenet images/a.png out", "images/a.png is a file; give the folder that holds ImageNet"),
        ("generate --count", "requires an argument. Try 'restok generate --help'."),
        ("evaluate images", "gfid needs something to compare with"),
        ("encode images --json", "--json prints one object beside the output, and on stdout is that itself"),
        ("generate --json -o -", "--json prints one object beside the output"),
        ("decode codes.npz --json -o -", "--json prints one object beside the output"),
        ("reconstruct images --json -o -", "--json prints one object beside the output"),
        ("models --json show har", "--json before show is of the list of models; give it after that"),
    ],
)
def test_wrong_input_is_one_line_that_says_what_to_do(fails, models, monkeypatch, arguments, message):
    monkeypatch.chdir(models)
    (models / "empty").mkdir()
    assert message in fails(2, *arguments.split())
    assert not (models / "out").exists() and not (models / "run").exists()


def test_pictures_that_cannot_be_decoded_are_named_counted_and_left_out(restok, models):
    (models / "images" / "broken.png").write_bytes(b"no image")
    out = models / "out"
    result = restok("reconstruct", models / "images", "--model", models / "tokenizer", "-o", out)
    assert result.code == 0 and result.out == f"{out}\n"
    assert "broken.png: cannot be decoded" in result.err and "1 left out" in result.err
    assert sorted(file.name for file in out.iterdir()) == ["a.png", "b.png", "manifest.jsonl"]


def test_no_decodable_picture_at_all_is_a_failure_that_leaves_nothing(fails, models):
    (models / "broken.png").write_bytes(b"no image")
    line = fails(1, "reconstruct", models / "broken.png", "--model", models / "tokenizer", "-o", models / "out")
    assert "of 1 image, none could be decoded" in line
    assert not (models / "out").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(models):
    """A limit on file size stands for the full disk: writing fails in the same way and the same place."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
        "from restok_cli.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    arguments = ("generate", "--model", models / "har", "-o", models / "out", "--count", "2")
    result = subprocess.run((sys.executable, "-c", code, *arguments), capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == ""
    assert (
        f"{models / 'out'}: File too large; nothing half-written was kept: raise the limit (ulimit -f)" in result.stderr
    )
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in models.iterdir()) == ["har", "images", "other", "tokenizer"]


def test_a_group_without_a_sub_command_shows_its_help(restok):
    result = restok("prepare")
    assert result.code == 2 and "restok prepare folder" in result.out and result.err == ""


@pytest.mark.parametrize(
    ("words", "before"),
    [
        (("generate", "-o", ""), "-o"),
        (("reconstruct", "sample", "--grid="), "--grid"),
        (("evaluate", ""), "evaluate"),
        (("evaluate", "--reference", ""), "--reference"),
        (("",), "restok"),
    ],
)
def test_an_empty_word_is_not_the_current_folder(fails, words, before):
    assert f"nothing is given after {before}, only an empty word" in fails(2, *words)


@pytest.mark.parametrize(
    "words", [("encode", "a\0b"), ("config", "show", "restok-b-128", "--set", r'loss.lpips_weights="a\0b"')]
)
def test_a_nul_character_is_in_no_path(fails, words):
    assert r"a\x00b: a NUL character is in no file's name" in fails(2, *words)


OUT_OF_MEMORY = [MemoryError(), type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.")]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ("decode codes.npz", "give a smaller --batch-size, or another --device"),
        ("decode codes.npz --batch-size 1", "give another --device"),
        ("models convert a b", "it needs a machine with more of it, or a smaller model"),
    ],
)
def test_running_out_of_memory_is_one_line_with_advice_that_can_help(fails, monkeypatch, error, arguments, advice):
    def fail(_command, _context):
        raise error

    monkeypatch.setattr(typer.core.TyperCommand, "invoke", fail)
    assert fails(1, *arguments.split()) == f"restok: out of memory; {advice}"


def test_advice_about_memory_names_only_what_the_command_has():
    advice = cli.spare_memory
    assert advice({"batch_size": 16, "count": 1, "device": "cpu"}) == "give another --device"
    assert advice({"batch_size": None, "assignments": None}) == "give a smaller schedule.micro_batch_size by --set"
    assert advice({"jobs": None}) == "give fewer --jobs"


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        ("--output=~/drawn", "--output=/home/me/drawn"),
        ("--output=~", "--output=/home/me"),
        ("-o~/drawn", "-o/home/me/drawn"),
        ("loss.lpips_weights=~/w.pth", "loss.lpips_weights=/home/me/w.pth"),
        ("--set=loss.lpips_weights=~/w.pth", "--set=loss.lpips_weights=/home/me/w.pth"),
        ("optimizer.decay_steps=~", "optimizer.decay_steps=~"),  # YAML's null
        ("--output=a~/b", "--output=a~/b"),
        ("~", "~"),  # the shell has seen it, and was told to leave it
        ("--class=~x", "--class=~x"),
    ],
)
def test_a_tilde_after_an_option_or_a_name_is_the_home_folder(monkeypatch, word, expanded):
    monkeypatch.setenv("HOME", "/home/me")
    assert cli.expand_paths(word) == expanded


def test_without_a_home_folder_a_tilde_and_a_default_cache_are_no_folder_of_that_name(fails, monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without a line in /etc/passwd
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert "~/x: the home folder is not known; set HOME" in fails(2, "decode", "codes.npz", "--output=~/x")
    assert default_cache() is None


def test_commands_that_write_alone_refuse_several_processes(fails, restok, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # elsewhere there may be the pictures of README's first command
    monkeypatch.setenv("WORLD_SIZE", "4")
    for words in ("prepare folder in out", "decode c.npz", "report run", "models push run me/model"):
        assert "works in one process, and 4 are started" in fails(2, *words.split())
    assert "MASTER_ADDR and MASTER_PORT are not set" in fails(2, "generate", "--count", "2")
    assert restok("config", "show", "sample", "--kind", "har").code == 0


@pytest.mark.parametrize("arguments", ["generate -o LOOP", "encode IMAGE -o LOOP/c.npz", "decode LOOP -o x"], ids=str)
def test_links_that_lead_in_a_circle_are_one_line(fails, models, arguments):
    loop = models / "loop"
    loop.symlink_to(models / "back")
    (models / "back").symlink_to(loop)
    words = [word.replace("LOOP", str(loop)) for word in arguments.split()]
    words = [word.replace("IMAGE", str(models / "images" / "a.png")) for word in words]
    assert re.search(r"/loop(/c\.npz)?: a link that leads back to itself", fails(1, *words))


def hear_interrupts() -> None:
    """A shell that runs the tests in the background makes all that they start deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5, 4.5])
def test_ctrl_c_ends_with_one_line_and_leaves_nothing_but_whole_pictures(models, seconds):
    """From the moment that torch begins to load, which swallows exceptions, to the middle of the work."""
    arguments = ("generate", "--model", models / "har", "-o", models / "out", "--count", "100000")
    command = (*RESTOK, *map(str, arguments))
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    )
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    said = [line for line in err.splitlines() if not line.startswith("generate: ")]
    left = {path.name for path in models.iterdir()} - {"har", "other", "images", "tokenizer"}
    if left:  # images, which are kept to be continued
        assert left == {".out.unfinished"}
        assert said == ["restok: interrupted; the same command with --resume goes on"]
    else:
        assert said == ["restok: interrupted"]
