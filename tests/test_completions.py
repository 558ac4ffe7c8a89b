"""What a TAB gives, in real shells."""

from pathlib import Path

import pytest
from shells import SCRIPTS, complete, press

from restok_cli.data.classes import find_class
from restok_cli.data.sources.imagenet import read_classes
from restok_cli.metrics.table import CHOICES
from restok_cli.settings.presets import preset_names

SHELLS = ("bash", "zsh", "fish")
NAMES = ("restok.bash", "_restok", "restok.fish", "restok.ps1")


@pytest.fixture
def here(tmp_path) -> Path:
    """A folder with two folders and two files."""
    folder = tmp_path / "here"
    for name in ("photos", "my runs"):
        (folder / name).mkdir(parents=True)
    for name in ("a b.yaml", "run.npz"):
        (folder / name).touch()
    return folder


def test_scripts_are_those_that_the_commands_make(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import build

    build.build(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(NAMES)
    for name in NAMES:
        said = "run python completions/build.py, and commit what it writes"
        assert (tmp_path / name).read_bytes() == (SCRIPTS / name).read_bytes(), f"{name} is old: {said}"


def test_help_says_nothing_of_completion(restok):
    assert "completion" not in restok("--help").out


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_and_sub_commands_are_offered(shell, here):
    offered = complete(shell, "restok ", here)
    assert {"prepare", "train-tokenizer", "train-har", "generate", "evaluate", "doctor"} <= set(offered)
    assert complete(shell, "restok prepare ver", here) == ["verify"]
    assert complete(shell, "restok generate ver", here) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_options_are_those_of_the_command(shell, here):
    assert complete(shell, "restok prepare verify --", here) == ["--help", "--jobs", "--json", "--max-member-bytes"]
    assert complete(shell, "restok generate --steps 9 --cl", here) == ["--class"]


@pytest.mark.parametrize("shell", SHELLS)
def test_values_are_those_that_the_code_knows(shell, here):
    assert complete(shell, "restok evaluate --metric ", here) == sorted([*CHOICES, "all"])
    for kind in ("tokenizer", "har"):
        assert complete(shell, f"restok train-{kind} sample --preset ", here) == preset_names(kind)
    schedules = complete(shell, "restok generate --cfg-schedule ", here)
    assert len(schedules) == 9 and {"step", "cosine-reversed"} <= set(schedules)
    assert complete(shell, "restok config schema ", here) == ["har", "tokenizer"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_value_may_stand_behind_an_equals_sign_or_hold_one(shell, here):
    assert complete(shell, "restok evaluate --metric=gf", here) == ["--metric=gfid"]
    assert complete(shell, "restok evaluate --fail-under ms-", here) == ["ms-ssim="]
    assert complete(shell, "restok train-har --set schedule.max", here) == ["schedule.max_steps="]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_value_may_hold_a_colon(shell, here):
    model = "hf:xushu-me/llamagen_l_c2i_restok_l_128.r256_in1k"
    assert complete(shell, "restok generate --model hf:xushu-me/l", here) == [model]


@pytest.mark.parametrize("shell", SHELLS)
def test_paths_are_offered_where_one_is_asked_for(shell, here):
    assert complete(shell, "restok train-tokenizer ", here) == ["my runs", "photos", "sample"]
    assert complete(shell, "restok config validate r", here) == ["run.npz"]
    assert complete(shell, "restok train-har sample --tokenizer m", here) == ["my runs"]
    assert complete(shell, "restok evaluate --compare run.npz a", here) == ["a b.yaml"]
    assert complete(shell, "restok encode sample ph", here) == ["photos"]
    assert complete(shell, "restok evaluate --inception-weights r", here) == ["run.npz"]  # of grouped options
    assert complete(shell, "restok generate --count ", here) == []


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("golden\\ r\t", "golden retriever"),
        ('"golden r\t', "golden retriever"),
        ("yellow\t", "yellow lady's slipper"),
        ("'yellow\t", "yellow lady's slipper"),
        ("sky\t", "sky & weather"),
    ],
)
def test_names_are_typed_as_the_shell_takes_them(shell, keys, name, here):
    assert press(shell, f"restok generate --class {keys}", here) == ["generate", "--class", name]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_class_is_offered_by_a_name_that_finds_it(shell, here, sample_data):
    offered = complete(shell, "restok generate --class ", here)
    names, imagenet = sample_data.class_names, list(read_classes().values())
    assert set(offered) == {"all", "random", *names, *imagenet}
    for known in (names, imagenet):
        assert [find_class(name, known) for name in known] == list(range(len(known)))
