"""Standard streams, full disks and signals: each ends in one line, and the exit code of a shell."""

import errno
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from launchers import RESTOK

from restok_cli import cli
from restok_cli.errors import Interrupted
from restok_cli.files import whole_file


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("models",)], ids=" ".join)
def test_a_reader_that_closes_the_pipe_ends_restok_quietly(arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        (*RESTOK, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 1


def test_a_full_disk_under_stdout_is_told():
    with open("/dev/full", "w") as full:
        result = subprocess.run((*RESTOK, "--version"), stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    # of what the shell has opened, nobody can take back what is there
    assert re.fullmatch(
        r"restok: No space left on device; what was being written, [^\n]* cut short[^\n]*\n", result.stderr
    )


def test_a_full_disk_is_that_of_what_is_written_not_of_what_is_copied(tmp_path):
    with pytest.raises(OSError) as caught, whole_file(tmp_path / "copy"):
        raise OSError(errno.ENOSPC, "No space left on device", "source", None, "copy")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "copy"), None)
    with pytest.raises(OSError) as caught, whole_file(tmp_path / "array"), open("/dev/full", "wb") as file:
        np.zeros(10000).tofile(file)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "array"))


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2</dev/null", "2>/dev/full"])
def test_closed_streams_are_no_reason_to_fail(closed, tmp_path):
    command = f"{sys.executable} -m restok_cli config show sample --kind har {closed}"
    result = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert ("model:" in result.stdout) == (">&- " not in f"{closed.replace('2>&-', '')} ")


def test_what_is_printed_is_utf_8_and_names_that_are_not_keep_their_bytes(tmp_path):
    """Whatever the locale and Python's own variable say, on the way out as on the way in."""
    code = (
        "import sys; from restok_cli.__main__ import open_streams; open_streams();"
        "line = sys.stdin.readline(); print(line, end=''); print(len(line), file=sys.stderr)"
    )
    line = "猫 é\u2028\u0085 ".encode() + b"caf\xe9\n"
    for name in ("ascii", "latin-1"):
        environment = os.environ | {"PYTHONIOENCODING": name, "LC_ALL": "C"}
        result = subprocess.run((sys.executable, "-c", code), input=line, capture_output=True, env=environment)
        assert (result.stdout, result.stderr) == (line, b"11\n")


def test_signals_have_the_exit_codes_of_a_shell(fails, monkeypatch):
    def interrupt(**_options):
        raise KeyboardInterrupt

    def stop(**_options):
        raise Interrupted(signal.SIGTERM, "interrupted after step 5")

    monkeypatch.setattr(cli, "app", interrupt)
    assert fails(130, "evaluate") == "restok: interrupted"
    monkeypatch.setattr(cli, "app", stop)
    assert fails(143, "evaluate") == "restok: interrupted after step 5"
