"""Progress for people: plain lines where there is no terminal."""

import re
import sys
from contextlib import suppress

from restok_cli import console
from restok_cli.console import Progress, track


def test_progress_without_a_terminal_is_plain_lines_with_rate_and_eta(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    with Progress("train", 3, "steps") as progress:
        for _ in range(3):
            progress.show(loss=0.125)
            progress.advance()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 3
    for i, line in enumerate(lines, start=1):
        assert re.fullmatch(rf"train: {i}/3 steps · [\d.]+ steps/s · eta 0:\d\d · loss=0.125", line)


def test_plain_lines_come_seconds_apart(capsys):
    for _ in track(range(1000), "fast", 1000, "items"):
        pass
    assert capsys.readouterr().err.count("\n") == 1


def test_progress_on_a_terminal_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(track("ab", "work", 2, "items")) == ["a", "b"]
    out, err = capsys.readouterr()
    assert out == "" and "2/2" in err and "━" in err


def test_a_dumb_terminal_gets_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert list(track("ab", "work", 2, "items")) == ["a", "b"]
    assert re.fullmatch(r"work: 2/2 items · [^\n\x1b]*\n", capsys.readouterr().err)


def test_the_line_of_a_long_run_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress("train-tokenizer", 500_000, "steps", 123_400) as progress:
        progress.show(reconstruction=0.0123456)
        progress.advance()
    lines = re.split(r"\r|\n|\x1b\[2K", re.sub(r"\x1b\[[\d;?]*m|\x1b\[\?25.", "", capsys.readouterr().err))
    last = [line for line in lines if line.strip()][-1]
    assert len(last) <= 80 and "…" not in last
    assert "123401/500000" in last and "reconstruction=0.01235" in last


def test_what_nobody_can_be_told_stops_no_work(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        console.note("still here")
        monkeypatch.undo()
        with suppress(OSError):
            full.close()


def test_a_resumed_run_counts_from_where_it_was_and_rates_only_what_it_did():
    progress = Progress("train", 100, "steps", done=90)
    assert progress.rate == 0
    progress.advance()
    assert progress.count == 91
