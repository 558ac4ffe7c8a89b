"""Models go to the hub as they are and come back the same; here to a stand-in on this machine."""

import json
import shutil
import subprocess
import sys

import huggingface_hub.constants
import pytest
from hub import TOKEN, running_hub

MODEL = ["README.md", "card.json", "checksums.json", "config.json", "model.safetensors"]


@pytest.fixture
def hub(monkeypatch):
    """A running stand-in to which this process is logged in."""
    with running_hub() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def har(tiny_models, tmp_path):
    """A generator's folder with something in it that is nobody's business."""
    folder = shutil.copytree(tiny_models / "har", tmp_path / "har")
    (folder / "notes.txt").write_text("private")
    (folder / ".env").write_text("HF_TOKEN=…")
    return folder


def test_a_generator_goes_with_its_tokenizer_its_card_and_nothing_else(restok, hub, har):
    result = restok("models", "push", har, "owner/name", "--licence", "mit")
    assert result.code == 0, result.err
    assert result.out == f"{hub.url}/owner/name\n"
    assert len(hub.commits) == 1 and hub.private == {"owner/name": False}
    tokenizer = [f"tokenizer/{name}" for name in ("checksums.json", "config.json", "model.safetensors")]
    there = hub.files["owner/name@main"]
    assert sorted(there) == sorted([*MODEL, *tokenizer])
    for file in ("config.json", "model.safetensors", *tokenizer):
        assert there[file] == (har / file).read_bytes()


def test_the_card_on_the_hub_names_the_model_as_it_is_called_there(restok, hub, har):
    before = {file.name: file.read_bytes() for file in har.iterdir() if file.is_file()}
    assert restok("models", "push", har, "owner/name", "--licence", "MIT").code == 0
    card = hub.files["owner/name@main"]["README.md"].decode()
    assert card.startswith("---\nlicense: mit\n")
    assert "restok generate --model hf:owner/name --steps 7 " in card
    assert json.loads(hub.files["owner/name@main"]["card.json"])["licence"] == "mit"
    assert {file.name: file.read_bytes() for file in har.iterdir() if file.is_file()} == before


def test_an_edited_card_goes_as_it_is_and_is_not_given_metrics(restok, fails, hub, har):
    (har / "README.md").write_text("my own words")
    assert restok("models", "push", har, "owner/name").code == 0
    assert hub.files["owner/name@main"]["README.md"] == b"my own words"
    line = fails(2, "models", "push", har, "owner/name", "--licence", "mit")
    assert "README.md was edited, and would not get the metrics and the licence" in line


def test_a_second_push_to_a_private_model_and_a_branch(restok, hub, har):
    assert restok("models", "push", har, "owner/name", "--private").code == 0
    result = restok("models", "push", har / "tokenizer", "owner/name", "--revision", "half-way")
    assert result.out == f"{hub.url}/owner/name/tree/half-way\n", result.err
    assert hub.private == {"owner/name": True}
    assert sorted(hub.files["owner/name@half-way"]) == MODEL


def test_files_of_an_earlier_push_that_the_model_lacks_go_and_those_of_others_stay(restok, hub, har):
    assert restok("models", "push", har, "owner/name").code == 0
    hub.files["owner/name@main"] |= {".gitattributes": b"", "samples/a.png": b"", "tokenizer/notes.txt": b""}
    assert restok("models", "push", har / "tokenizer", "owner/name").code == 0
    assert len(hub.commits) == 2
    assert sorted(hub.files["owner/name@main"]) == [".gitattributes", *MODEL, "samples/a.png", "tokenizer/notes.txt"]


def test_a_dry_run_lists_what_would_go_and_sends_nothing(restok, hub, har):
    result = restok("models", "push", har, "owner/name", "--dry-run")
    listed = dict(line.split("  ") for line in result.out.splitlines())
    assert listed["model.safetensors"] == f"{(har / 'model.safetensors').stat().st_size:,} bytes"
    assert sorted(listed) == sorted(
        [*MODEL, *(f"tokenizer/{name}" for name in ("checksums.json", "config.json", "model.safetensors"))]
    )
    assert not hub.private


def test_what_the_hub_refuses_is_one_line(fails, hub, har, monkeypatch):
    assert "me/it/x: no name for the hub" in fails(2, "models", "push", har, "me/it/x")
    assert "give owner/name" in fails(2, "models", "push", har, "name")
    assert "hf:owner/name is on the hub already" in fails(2, "models", "push", "hf:owner/name", "owner/other")
    hub.forbidden = True
    line = fails(1, "models", "push", har, "owner/name")
    assert "the hub refuses owner/name (403" in line and "the token must have write access" in line
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert "the hub does not know who you are; run `hf auth login`" in fails(1, "models", "push", har, "owner/name")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in fails(1, "models", "push", har, "owner/name")


@pytest.mark.slow
def test_what_was_pushed_to_a_mirror_draws_the_same_pictures(restok, har, hub, tmp_path, monkeypatch):
    """In a process of its own, since the hub's client reads HF_ENDPOINT when it is imported."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    push = ["models", "push", str(har), "owner/name"]
    generate = ["generate", "--model", "hf:owner/name", "--count", "2", "-o", str(tmp_path / "back")]
    code = "import json, sys; from restok_cli.cli import run; sys.exit(any(map(run, json.loads(sys.argv[1]))))"
    command = (sys.executable, "-c", code, json.dumps([push, generate]))
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{hub.url}/owner/name\n{tmp_path / 'back'}\n"
    assert restok("generate", "--model", har, "--count", 2, "-o", tmp_path / "here").code == 0
    for name in ("000000.png", "000001.png"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
