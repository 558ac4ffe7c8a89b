"""Progress for people: plain lines where there is no terminal."""

import re
import sys
from contextlib import suppress

from restok_cli import cli, console
from restok_cli.console import Progress, columns, track


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


HOSTILE = "\x1b]0;owned\x07 \x9b31m \r\n \u202egpj.exe \u2066 \u2028 \udcff [red]é🙂"
SHOWN = r"\x1b]0;owned\x07 \x9b31m \r\n \u202egpj.exe \u2066 \u2028 \xff [red]é🙂"


def test_nothing_that_a_terminal_obeys_is_printed_or_kept(capsys, tmp_path):
    with console.kept_lines(tmp_path / "log.txt"):
        console.note(HOSTILE)
    console.say(HOSTILE)
    out, err = capsys.readouterr()
    assert out == err == f"{SHOWN}\n"
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").endswith(f" {SHOWN}\n")


def test_a_name_on_a_progress_bar_is_text_only(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    list(track("ab", f"look into {HOSTILE}", 2, "items"))
    assert f"look into {SHOWN}" in capsys.readouterr().err


def test_a_traceback_is_escaped_line_by_line(capsys, monkeypatch):
    def fail(*_):
        raise AssertionError(HOSTILE)

    monkeypatch.setattr(cli, "run", fail)
    with suppress(SystemExit):
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "restok: Traceback (most recent call last):" and len(lines) > 3
    assert r"\x1b]0;owned\x07 \x9b31m" in "\n".join(lines) and "\x1b" not in "".join(lines)


def test_columns_are_as_wide_as_their_widest_cells_and_leave_no_blanks_at_the_end():
    rows = [("", "value", "what"), ("psnr", "1", ""), ("is", "23", "x")]
    assert columns(rows, "<><") == ["      value  what", "psnr      1", "is       23  x"]
    assert columns(rows, "<>")[2] == "is       23     x"
