"""Every example of every help text runs as it stands, or smaller as the tables say, in a folder with what it reads.

A new example is run by itself. Where it needs a file, put that into `stage`; where it must be smaller or cannot run,
add a line to SMALLER or CANNOT_RUN, with the reason.
"""

import re
import shlex
import shutil
from collections.abc import Iterator

import pytest
import typer
from pictures import write_pictures
from test_docs import pipe, pipelines, stage

from restok_cli import cli

# Beside the tables of test_docs, whose `pipe` makes commands smaller (tiny models, 2 steps, 8 images, few samples).
CANNOT_RUN = {
    r"^restok demo": "takes minutes; test_demo.py runs it with --quick",
    r"^restok models presets .*--memory": "counts for minutes; test_presets.py counts with a stand-in",
    r"^restok config suggest": "measures the whole model; test_suggest.py runs it without measuring",
    r"^restok models push (?!.*--dry-run)": "needs the hub; test_models_push.py runs it against a stand-in",
    r"https?://|hf:": "needs the net; test_streaming.py and test_checkpoint.py run the like against stand-ins",
    r"^restok report runs/a |^restok curves runs/a ": "two runs; test_report.py and test_curves.py compare such",
}
# What help shows of step numbers beside the presets; these run in test_config.py for every preset.
# Outputs that are no option's: the ones of an earlier example go.
MADE = r"^restok (?:prepare (?:folder|imagenet|shards)|models (?:convert|halve)) \S+ (\S+)|^restok prepare sample (\S+)"
FULL_SIZE = r"restok train-\S+ sample (--tokenizer \S+ )?--max-steps 500"


def commands(group: typer.core.TyperGroup, path: str = "restok") -> Iterator[tuple[str, str]]:
    """The names and help texts of a command and all below it."""
    yield path, group.help or ""
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{path} {name}")


EXAMPLES = [
    (path, line.strip())
    for path, text in commands(typer.main.get_command(cli.app))
    for line in text.splitlines()
    if line.strip().startswith("restok ")
]


def reason(line: str) -> str | None:
    """Why an example is not run; None where it is."""
    return next((why for pattern, why in CANNOT_RUN.items() if re.search(pattern, line)), None)


def test_there_are_examples_and_no_line_of_the_table_is_left_over():
    assert len(EXAMPLES) > 50
    for pattern in CANNOT_RUN:
        assert any(re.search(pattern, line) for _, line in EXAMPLES), pattern


@pytest.mark.parametrize("line", [line for _, line in EXAMPLES if re.match(FULL_SIZE, line)])
def test_the_settings_of_a_first_try_go_together(line, restok):
    """Their real presets and numbers of steps, which are too slow to train with here."""
    kind = line.split()[1].removeprefix("train-")
    assert restok("config", "show", "sample", "--kind", kind, "--set", "schedule.max_steps=500").code == 0


@pytest.fixture(scope="module")
def staged(tmp_path_factory, tiny_models, sample_data):
    """A folder with all that the examples read, made by the commands that the reader would have used before."""
    folder = tmp_path_factory.mktemp("examples")
    stage(folder, tiny_models, sample_data)
    write_pictures(folder / "photos", [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(6)], 32, 32)
    write_pictures(folder, ["photo.jpg", "a.jpg", "b.jpg"], 32, 32)
    shutil.copytree(folder / "my-wds", folder / "imagenet-1k-wds")
    (folder / "M").symlink_to("runs/har")
    before = (
        "prepare folder photos data/photos",
        "train-tokenizer few --preset tiny --max-steps 1 --skip-preflight -o runs/trained",
        "train-har few --tokenizer runs/trained --preset tiny --max-steps 1 --skip-preflight -o runs/har-trained",
        "encode photo.jpg --model runs/tokenizer -o codes.npz",
        "generate --model runs/har --count 8 -o pictures",
        "reconstruct few --model runs/tokenizer -o reconstructed",
        "generate --model runs/har --count 8 -o samples.npz",
        "generate --model runs/har --count 8 --seed 1 -o adm.npz",
        *(f"evaluate pictures --reference few --features random --json > {name}.json" for name in ("a", "b", "result")),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in before:
            for part in pipelines(f"restok {line}"):
                pipe(part, patch, "before the examples")
    for seed, name in enumerate(("samples.npz", "adm.npz")):
        (folder / f"seed-{seed}.npz").symlink_to(name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("path", "line"), EXAMPLES, ids=[f"{i}-{path}" for i, (path, _) in enumerate(EXAMPLES)])
def test_every_example_runs(path, line, staged, monkeypatch):
    if reason(line):
        return
    monkeypatch.chdir(staged)
    if line.startswith("restok config "):  # needs nothing smaller
        assert cli.run(shlex.split(line.partition(" > ")[0])[1:]) == 0
        return
    if made := re.search(MADE, line):
        shutil.rmtree(made[made.lastindex], ignore_errors=True)
    if " -o " not in line and (made := re.match(r"restok (generate|reconstruct) ", line)):
        shutil.rmtree({"generate": "pictures", "reconstruct": "reconstructed"}[made[1]], ignore_errors=True)
    # a tiny model has 32 codes, and what an earlier example reconstructed is the data set
    line = line.replace("1,4,16,128", "1,4,16,32").replace("rfid --reference photos", "rfid --reference few")
    for part in pipelines(line):
        pipe([words for words in part if words[0] == "restok"], monkeypatch, f"{path} --help")  # and not tar
