"""`restok demo`: every command as a person would type it, in order."""

import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, redirect_stdout

import pytest
from browser import look
from launchers import RESTOK

from restok_cli import cli
from restok_cli.commands import demo
from restok_cli.commands.demo import Step, make_steps, run_step
from restok_cli.errors import Failed


def run_here(step: Step) -> None:
    """The command of a step in this process, as `run_step` runs it in one of its own."""
    with ExitStack() as stack:
        # what a run notes of itself
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(sys, "argv", ["restok", *step.words])
        if step.output is not None:
            file = stack.enter_context(open(step.output, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(file))
        else:
            stack.enter_context(redirect_stdout(sys.stderr))
        assert cli.run(step.words) == 0


@pytest.mark.slow
def test_the_quick_demo_runs_the_commands_that_it_shows_and_ends_with_a_report(restok, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "run_step", run_here)
    result = restok("demo", "--quick", "-o", "a demo")
    assert result.code == 0, result.err
    assert result.out == "a demo/report.html\n"
    shown = re.findall(r"^\$ restok (.*)$", result.err, re.MULTILINE)
    steps = [step for step in shown if "a demo" in step]
    verbs = [shlex.split(step)[0] for step in steps]
    assert verbs[:4] == ["prepare", "train-tokenizer", "prepare", "train-har"]
    assert verbs[4:] == ["reconstruct", "generate", "evaluate", "evaluate", "report"]
    assert shown[-1] == "generate --steps 9"  # which draws with the trained sample model
    folder = tmp_path / "a demo"
    assert len(list((folder / "pictures").glob("*.png"))) == 96 and (folder / "emoji.png").exists()
    assert len(list((folder / "reconstructed").glob("*.png"))) == 202
    seen = look(folder / "report.html", tmp_path)
    assert seen["errors"] == seen["console"] == seen["fetched"] == []
    assert seen["images"] == seen["decoded"] == 2 and len(seen["lines"]) > 20
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "restok train-har &#39;a demo/codes&#39;" in text  # as the run noted
    assert "gFID-96" in text and "PSNR-202" in text

    message = fails(2, "demo", "--quick", "-o", folder)
    assert message.endswith("a demo already holds files; give another folder, or --overwrite to replace them")


def test_a_step_is_a_process_whose_output_goes_where_it_is_shown_to(tmp_path, capfd):
    words = ["config", "show", "sample", "--kind", "har"]
    run_step(Step("", words, tmp_path / "kept"))
    assert capfd.readouterr() == ("", "")
    run_step(Step("", words, None))
    assert capfd.readouterr() == ("", (tmp_path / "kept").read_text())
    with pytest.raises(Failed) as caught:
        run_step(Step("", ["config", "show", "nothing"], tmp_path / "failed"))
    assert caught.value.code == 2 and not (tmp_path / "failed").exists()


def test_overwriting_is_left_to_the_commands_which_refuse_what_they_did_not_make(fails, tmp_path):
    folder = tmp_path / "demo"
    for name in ("data/mine.txt", "mine.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert "demo holds mine.txt, which this command did not make" in fails(2, "demo", "-o", folder, "--overwrite")
    (folder / "mine.txt").unlink()
    result = subprocess.run((*RESTOK, "demo", "-o", folder, "--overwrite"), capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""  # the exit code of the command that failed, and its line
    assert f"$ restok prepare sample {folder}/data --overwrite\n" in result.stderr
    assert result.stderr.count("$ restok") == 1
    last = result.stderr.splitlines()[-1]
    assert last == f"restok: {folder}/data holds mine.txt, which this command did not make; give another folder"
    assert (folder / "data" / "mine.txt").exists()


def test_every_command_that_writes_may_overwrite_what_an_older_demo_left(tmp_path):
    for step in make_steps(tmp_path, quick=True, overwrite=True):
        assert ("--overwrite" in step.words) == (step.output is None)
    assert not any("--overwrite" in step.words for step in make_steps(tmp_path, quick=True, overwrite=False))


def test_commands_are_written_as_a_shell_reads_them(tmp_path):
    for step in make_steps(tmp_path / "two words", quick=False, overwrite=False):
        words, output = step.words, [">", str(step.output)] if step.output else []
        assert shlex.split(str(step)) == ["restok", *words, *output]


@pytest.mark.slow
def test_a_signal_reaches_the_command_at_work_which_saves(tmp_path):
    """Sent to the demo alone, in its first training."""
    process = subprocess.Popen(
        (*RESTOK, "demo", "-o", "demo"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "demo" / "tokenizer" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 143 and out == ""
    said = [line for line in err.splitlines() if line.startswith("restok: ")]
    assert len(said) == 1, err
    step = int(re.match(r"restok: interrupted after step (\d+); the same command with --resume goes on", said[0])[1])
    assert (tmp_path / "demo" / "tokenizer" / "checkpoints" / f"step-{step:06d}").exists()
    assert not (tmp_path / "demo" / "har").exists()
