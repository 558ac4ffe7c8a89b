"""Several processes of one command: which number each has, and whose words are repeated."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from restok_cli import processes
from restok_cli.errors import Interrupted, RestokError, UsageError
from restok_cli.processes import Words, check_alike, leave_words, parse_num_processes, take_place


def test_tasks_of_a_slurm_step_find_their_place(monkeypatch):
    # all of the environment, since what `take_place` adds to it must be gone afterwards
    slurm = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    monkeypatch.setattr(os, "environ", slurm)
    monkeypatch.setattr(processes, "has_terminal", lambda: False)
    take_place()
    assert (processes.rank(), processes.world_size()) == (0, 16)


@pytest.mark.parametrize("names", processes.MPI_NAMES)
def test_processes_that_accelerate_starts_by_mpirun_find_their_place(monkeypatch, names):
    mpi = dict(zip(names, ("0", "4", "1"), strict=True))
    for launched, size in (({}, 1), ({"ACCELERATE_MIXED_PRECISION": "no"}, 4)):
        monkeypatch.setattr(os, "environ", mpi | launched)
        take_place()
        assert (processes.rank(), processes.world_size()) == (0, size)
    assert os.environ["LOCAL_RANK"] == "1"


def test_a_shell_in_a_slurm_step_is_none_of_its_tasks(monkeypatch):
    shell = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "MASTER_ADDR": "localhost"}
    monkeypatch.setattr(os, "environ", shell)
    monkeypatch.setattr(processes, "has_terminal", lambda: True)
    take_place()
    assert processes.world_size() == 1
    for name in ("SLURM_PTY_PORT", "SLURM_PTY_WIN_COL"):  # under tmux, nohup, or from an editor
        monkeypatch.setattr(os, "environ", shell | {name: "80"})
        monkeypatch.setattr(processes, "has_terminal", lambda: False)
        take_place()
        assert processes.world_size() == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1"},
        {"RANK": ""},
        {"RANK": "first"},
        {"RANK": "3", "WORLD_SIZE": "1", "LOCAL_RANK": "3"},
        {"RANK": "", "WORLD_SIZE": ""},
    ],
    ids=str,
)
def test_a_rank_without_others_is_nobodys(monkeypatch, environment):
    monkeypatch.setattr(os, "environ", environment)
    stdout = sys.stdout
    take_place()
    assert (processes.rank(), processes.world_size()) == (0, 1) and sys.stdout is stdout


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: expected a number"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK=-1: expected a number"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "WORLD_SIZE=2 and RANK=2: expected a RANK below WORLD_SIZE"),
        ({"WORLD_SIZE": "2"}, "expected a RANK below WORLD_SIZE"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "x"}, "SLURM_PROCID=x: expected a number"),
    ],
    ids=str,
)
def test_numbers_of_the_environment_that_make_no_sense_are_one_line(monkeypatch, environment, message):
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(processes, "has_terminal", lambda: False)
    with pytest.raises(UsageError, match=re.escape(message)):
        take_place()


def wait_for_others(seconds: float) -> subprocess.Popen:
    """A process that waits for another one so long at most, and where Python hears no signals."""
    code = (
        "import signal, time; from restok_cli import processes;"
        "signal.signal(signal.SIGTERM, lambda *_: None);"
        f"processes.QUIET_SECONDS, processes.JOIN_SECONDS = 0.01, {seconds}\n"
        "with processes.waiting_for_others(): time.sleep(60)"
    )
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}
    return subprocess.Popen((sys.executable, "-c", code), env=os.environ | place, stderr=subprocess.PIPE, text=True)


def test_waiting_for_processes_that_never_come_is_said_and_ends():
    waiting = wait_for_others(0.01)
    said, given_up = waiting.communicate(timeout=30)[1].splitlines()
    assert waiting.returncode == 1 and said == "process 0 waits for the other 1 at here:29500"
    assert re.match(r"restok: process 0 of 2 waited .* minutes for the others at here:29500; are all of", given_up)


def test_who_waits_for_other_processes_hears_signals():
    waiting = wait_for_others(60)
    assert waiting.stderr.readline() == "process 0 waits for the other 1 at here:29500\n"
    waiting.send_signal(signal.SIGTERM)
    assert waiting.communicate(timeout=30)[1] == "restok: interrupted\n" and waiting.returncode == 143


def test_waiting_leaves_nothing_behind():
    before, num_threads = signal.set_wakeup_fd(-1), threading.active_count()
    with processes.waiting_for_others():
        pass
    assert signal.set_wakeup_fd(before) == -1 and threading.active_count() == num_threads


def test_a_process_of_its_own_imports_nothing_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit('of the user')")
    monkeypatch.chdir(tmp_path)
    python, *options = processes.restok_words("--version")
    assert options == ["-P", "-m", "restok_cli", "--version"]
    command = (python, "-P", "-c", "import random; random.random()")
    assert subprocess.run(command, capture_output=True).returncode == 0
    monkeypatch.chdir(Path(processes.__file__).parent.parent)  # where it may not be installed at all
    assert processes.restok_words("--version")[1:] == ("-m", "restok_cli", "--version")


def test_numbers_of_processes_are_checked():
    assert parse_num_processes("3") == 3 and parse_num_processes(1) == 1
    assert parse_num_processes("auto") >= 1
    for text in ("0", "-1", "two", ""):
        with pytest.raises(UsageError, match=f"--num-processes {text}: give a number from 1 on, or auto"):
            parse_num_processes(text)


def test_last_words_are_left_only_for_one_who_reads_them(tmp_path, monkeypatch):
    assert not leave_words("gone", 1)
    monkeypatch.setenv(processes.LAST_WORDS, str(tmp_path))
    assert leave_words("gone", 1)
    text, code, _ = json.loads((tmp_path / "0.json").read_text())
    assert (text, code) == ("gone", 1)
    monkeypatch.setenv(processes.LAST_WORDS, str(tmp_path / "cleared"))
    assert not leave_words("gone", 1)


@pytest.mark.parametrize("words", [("generate", "--seeed", 1), ("generate", "--greedy", "--temperature", 1)], ids=str)
def test_a_mistake_in_options_is_left_to_the_first_process_where_that_has_made_it_too(restok, monkeypatch, words):
    said = restok(*words).err
    assert said.startswith("restok: ") and said.count("\n") == 1
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "QUIET_SECONDS", 0)
    assert restok(*words) == (2, "", said)  # nobody stopped it meanwhile

    def stopped(_):
        raise Interrupted(signal.SIGTERM, "interrupted")

    monkeypatch.setattr(processes.time, "sleep", stopped)
    assert restok(*words) == (2, "", "")


@pytest.mark.parametrize(
    ("exit_codes", "words", "code", "text"),
    [
        ({0: 1, 1: 2}, {0: Words("lost the other", 1, 9), 1: Words("no such file", 2, 5)}, 2, "no such file"),
        ({0: -signal.SIGTERM, 1: 2}, {1: Words("no such file", 2, 5)}, 2, "no such file"),
        (
            {0: 128 + signal.SIGTERM, 1: 2},
            {0: Words("saved", 143, 1), 1: Words("no such file", 2, 5)},
            2,
            "no such file",
        ),
        ({0: 1, 1: -signal.SIGKILL}, {0: Words("lost the other", 1, 9)}, 1, "process 1 was killed by signal 9"),
        ({1: 3}, {}, 1, "process 1 ended with exit code 3 and said nothing"),
    ],
)
def test_the_process_that_failed_first_is_heard(exit_codes, words, code, text):
    failure = processes._first_failure(exit_codes, words)
    assert failure.code == code and str(failure).startswith(text)


def test_processes_that_were_told_different_things_are_refused(monkeypatch):
    first = {"config": "{}", "data set": "ab"}
    monkeypatch.setattr(processes, "gather", lambda mine: [first, first, mine])
    check_alike(first)
    with pytest.raises(RestokError, match="process 2 has another data set than process 0; start all with the same"):
        check_alike(first | {"data set": "cd"})
