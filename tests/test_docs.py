"""What README.md and docs/ tell people to type: every command exists, and runs, unless the table below says why not.

A new command in the documents is run as it stands, small, in a folder of its document's own, in the order of the page.
Where that cannot be, add a line to SMALLER or CANNOT_RUN; where it reads a file of the reader's, put one into `stage`.
"""

import io
import re
import runpy
import shlex
import shutil
import sys
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import imagenets
import pytest
import typer
import yaml
from pictures import write_pictures

from restok_cli import cli
from restok_cli.cli import run
from restok_cli.data.shards.dataset import Dataset, Split
from restok_cli.data.shards.layout import Sample
from restok_cli.data.shards.writer import write_dataset
from restok_cli.planning import bench
from restok_cli.settings.presets import read_preset
from restok_cli.settings.training import RUN_CONFIGS
from restok_cli.settings.yaml_file import flatten

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# What is typed here in the place of what stands there, one after the other.
SMALLER = (
    (r" --num-processes \S+", ""),
    (r" --set (data\.num_workers|optimizer\.learning_rate)=\S+", ""),
    (r"(train-\S+) (DATA|CODES|data) ", r"\1 few "),
    (r" --preset (restok-|har-|sample)\S*", ""),
    (r" --init (sample|photo)", ""),
    (r"^restok probe sample", "restok probe runs/har"),
    (r"^(restok probe (?!.*--l2).*)", r"\1 --l2 1"),  # of too few images to choose it by
    (r"(?<!prepare )(?<!--tokenizer )(?<!--model )(?<!--init )\bsample\b", "few"),
    (r"\bOTHER\b", "RUN"),
    (r" --max-steps \d+", ""),
    (r"--stop-at \d+", "--stop-at 1"),
    (r"^restok (train-\S+) (.*)", r"restok \1 \2 --preset tiny --max-steps 2"),
    (r"^(restok train-\S+ (?!codes|emoji-codes).*)", r"\1 --set data.crop=centre"),  # those were cropped before
    (r"^(restok train-(?!.*--resume).*)", r"\1 --skip-preflight"),
    (r"^restok plan (train-\S+)(.*)", r"restok plan \1 --preset tiny --no-choices\2"),
    (r"^restok plan generate(.*)", r"restok plan generate --preset tiny --tokenizer tiny\1"),
    (r"^restok plan encode(.*)", r"restok plan encode --tokenizer tiny\1"),
    (r"^restok bench(?: --model sample| --har har-\S+)?", "restok bench --preset tiny --har tiny --runs 1"),
    (r"--steps 9", "--steps 7"),  # the tiny generator has no more
    (r"--count \d+", "--count 8"),
    (r" --class all ", " "),  # of a thousand classes eight are not as many of each
    (r"VIRTUAL_imagenet256_labeled.npz", "data/imagenet"),
    (r"other.json", "gfid.json"),
    (r"^(restok tune)(?! runs/)(.*)", r"\1 runs/har --reference few\2"),
    (r"^(restok tune .*?)(?: --try \S+)+", r"\1"),
    (r"^(restok tune .*)", r"\1 --features random --first 16 --images 16 --try cfg_scale=1,2"),
    (r"^(restok tune (?!.*--resume).*)", r"\1 --overwrite"),
    (r"^(restok evaluate (?!.*--(features|compare)).*)", r"\1 --features random"),
    (r" --metric fid-inf", ""),  # of fewer than three images for a feature
)

# What only its words are looked at of.
CANNOT_RUN = {
    r"^(torchrun|srun) ": "several nodes",
    r" hf:": "needs the hub; test_released.py loads folders of that layout",
    r"_weights=|\.weights=": "needs the weights of other networks",
    r"^restok demo": "takes minutes; test_demo.py runs it with --quick",
    r"^restok config suggest": "measures the whole model; test_suggest.py runs it without measuring",
    r"^restok models push (?!.*--dry-run)": "needs the hub; test_models_push.py runs it against a stand-in",
}
OTHER_PROGRAMS = ("python3", ".", "pip", "pyright", "pytest", "ruff")


class Command(NamedTuple):
    """One line of a page, continuation lines included."""

    place: str  # README.md:12
    text: str


def commands_of(page: Path) -> list[Command]:
    """What stands in blocks of `sh`, and behind the prompts in blocks of `console`."""
    found, fence, pending = [], "", None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("```"):
            fence = "" if fence else line[3:].strip() or "text"
        elif pending is not None:
            pending = pending._replace(text=pending.text.removesuffix("\\") + line.strip())
        elif fence == "console" and line.startswith("$ "):
            pending = Command(f"{page.name}:{number}", line[2:])
        elif fence == "sh" and line.strip() and not line.startswith("#"):
            pending = Command(f"{page.name}:{number}", line)
        if pending is not None and not pending.text.endswith("\\"):
            found.append(pending)
            pending = None
    return found


def python_of(page: Path) -> str:
    """Blocks of `python` one after the other, each line at the number that it has on the page."""
    lines, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        inside = line == "```python" or (inside and line != "```")
        lines.append(line if inside and line != "```python" else "")
    return "\n".join(lines)


def pipelines(text: str) -> list[list[list[str]]]:
    """A shell line as its `&&`-parts, each a list of commands between pipes, each a list of words.

    Without those of other programs, which are not looked at.
    """
    if text.startswith("export "):
        return []
    parts = [[[]]]
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    for word in lexer:
        if word in ("&&", ";"):
            parts.append([[]])
        elif word == "|":
            parts[-1].append([])
        else:
            parts[-1][-1].append(word)
    return [part for part in parts if part[0][0] not in OTHER_PROGRAMS]


def restok_words(words: list[str]) -> list[str] | None:
    """The arguments of restok in a command that starts it, also by torchrun or srun."""
    for start in (["restok"], ["-m", "restok_cli"]):
        for i in range(len(words)):
            if words[i : i + len(start)] == start:
                return words[i + len(start) :]
    return None


def redirected(words: list[str]) -> tuple[list[str], str | None]:
    """A command without its `> FILE`, and the file."""
    return (words[: words.index(">")], words[-1]) if ">" in words else (words, None)


ALL = [command for page in PAGES for command in commands_of(page)]


def test_the_pages_have_commands():
    assert len(ALL) > 30
    for page in PAGES:
        has_block = re.search(r"^```(sh|console)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert bool(has_block) == bool(commands_of(page)), page.name


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.place)
def test_every_command_in_the_docs_can_be_typed(command):
    for words in chain.from_iterable(pipelines(command.text)):
        arguments = restok_words(words)
        assert arguments is not None, f"{command.place}: if {words[0]} is known, add it to OTHER_PROGRAMS: {command}"
        found, (rest, _) = typer.main.get_command(cli.app), redirected(arguments)
        while rest and rest[0] in getattr(found, "commands", {}):
            found, rest = found.commands[rest[0]], rest[1:]
        if hasattr(found, "commands"):
            assert not rest or rest[0].startswith("-"), f"{command.place}: no command {rest[0]} in: {command.text}"
            continue
        try:
            found.make_context(found.name, list(rest))
        except cli.ClickUsageError as error:
            if "does not exist" not in str(error):  # a file of the reader's
                pytest.fail(f"{command.place}: {error.format_message()} in: {command.text}")


def take(split: Split, count: int) -> list[Sample]:
    """Its first samples, 64×64."""
    return [Sample(split.key(i), "png", split.read(i), (64, 64), split.class_id(i), {}) for i in range(count)]


def stage(folder: Path, models: Path, sample_data: Dataset) -> None:
    """The files that the pages' readers have, and the models that they trained before."""
    write_pictures(folder / "pets", [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(6)], 32, 32)
    write_pictures(folder, ["smile.png"], 32, 32)
    imagenets.write_folders(folder / "downloads")
    few = folder / "few"
    few.mkdir()
    splits = {"train": take(sample_data.split("train"), 40), "validation": take(sample_data.held_out, 16)}
    write_dataset(few, splits, name="few", class_names=sample_data.class_names, provenance={})
    (folder / "my-wds").mkdir()
    for file in few.glob("*.tar"):
        shutil.copy(file, folder / "my-wds")
    for name, split in (("a", "train"), ("b", "validation")):
        (folder / name).mkdir()
        shutil.copy(few / f"{split}-000000.tar", folder / name)
    (folder / "run.yaml").write_text("preset: restok-s-128\n")
    (folder / "space.yaml").write_text("cfg_scale: [1, 2]\n")
    (folder / "tuned").mkdir()
    (folder / "tuned" / "preset.yaml").write_text("cfg_scale: 2.0\ntemperature: 0.5\n")
    shutil.copytree(models / "tokenizer", folder / "runs" / "tokenizer")
    shutil.copytree(models / "har", folder / "runs" / "har")


def smaller(text: str) -> str:
    for pattern, replacement in SMALLER:
        text = re.sub(pattern, replacement, text)
    return text


def clear_outputs(words: list[str]) -> None:
    """Forget what an earlier command on the page made in the same place, as readers do."""
    for option, value in pairwise(words):
        if option in ("-o", "--output", "--grid", "--ladder", "--plot") and value != "-" and "--resume" not in words:
            shutil.rmtree(value) if Path(value).is_dir() else Path(value).unlink(missing_ok=True)


def pipe(commands: list[list[str]], monkeypatch, place: str) -> None:
    """Run commands in this process, each on what the one before wrote; `> FILE` keeps what the last one wrote."""
    data = b""
    for words in commands:
        words, target = redirected(words)
        arguments = shlex.split(smaller(" ".join(map(shlex.quote, words))))[1:]
        clear_outputs(arguments)
        output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
            patch.setattr(sys, "stdout", output)
            code = run(arguments)
        data = output.buffer.getvalue()
        assert code == 0, f"{place}: failed with {code}, see stderr: restok {shlex.join(arguments)}"
        if target:
            Path(target).write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(pipelines(c.text) for c in commands_of(page))], ids=lambda page: page.name
)
def test_every_command_of_a_page_runs(page, tiny_models, sample_data, tmp_path, monkeypatch):
    stage(tmp_path, tiny_models, sample_data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "rate", lambda *_: 1e12)  # test_examples.py has the machine's own
    monkeypatch.setattr(bench, "fastest", lambda *_: ("made up", 1e12))
    done = 0
    for command in commands_of(page):
        for commands in pipelines(command.text):
            texts = [" ".join(words) for words in commands]
            if any(re.search(pattern, text) for pattern in CANNOT_RUN for text in texts):
                continue
            pipe(commands, monkeypatch, command.place)
            done += 1
    assert done


def test_python_of_the_pages_runs(tiny_models, sample_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage(tmp_path, tiny_models, sample_data)
    pages = [page for page in PAGES if python_of(page).strip()]
    for page in pages:
        exec(compile(python_of(page), page.name, "exec"), {})
    assert pages and (tmp_path / "coarse-cat.png").is_file()


def test_no_line_of_the_tables_is_left_over():
    texts = [" ".join(words) for command in ALL for words in chain.from_iterable(pipelines(command.text))]
    for pattern in CANNOT_RUN:
        assert any(re.search(pattern, text) for text in texts), f"no command needs {pattern} in CANNOT_RUN any more"


def test_the_page_of_settings_is_what_the_config_classes_say():
    made = runpy.run_path(str(ROOT / "docs" / "make_configuration.py"))
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == made["text"](), (
        "docs/configuration.md is out of date: run `python docs/make_configuration.py`"
    )


@pytest.mark.parametrize(("kind", "preset"), [("tokenizer", "restok-l-128"), ("har", "har-l")])
def test_the_page_of_training_has_the_numbers_of_the_presets(kind, preset):
    values = flatten(RUN_CONFIGS[kind].parse(read_preset(kind, preset), preset).model_dump(mode="json"))
    sections = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split("\n## ")
    section = next(text for text in sections if f"`{preset}`" in text.partition("\n")[0])
    stated = dict(re.findall(r"^\| `([\w.]+)` \| (.+?) \|", section, re.MULTILINE))
    assert len(stated) > 10
    assert {name: yaml.safe_load(value) for name, value in stated.items()} == {name: values[name] for name in stated}


def test_every_setting_has_a_meaning_and_every_link_a_target():
    for line in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            assert len(line.split(" | ")[-1].strip(" |")) > 5, line
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
