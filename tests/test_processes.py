"""Several processes of one command: which number each has, and whose words are repeated."""

import json
import os
import signal

import pytest

from restok_cli import processes
from restok_cli.errors import UsageError
from restok_cli.processes import Words, leave_words, parse_num_processes, take_place


def test_tasks_of_a_slurm_step_find_their_place(monkeypatch):
    # all of the environment, since what `take_place` adds to it must be gone afterwards
    slurm = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    monkeypatch.setattr(os, "environ", slurm)
    take_place()
    assert (processes.rank(), processes.world_size()) == (0, 16)


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
