"""Files and folders are whole or absent."""

import errno
import fcntl
import json
import os
import pickle
import shutil
import threading
from pathlib import Path

import pytest

from restok_cli import files
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import (
    check_apart,
    check_output_file,
    check_output_folder,
    clear_beside,
    discard_folder,
    remove_leftovers,
    synced_early,
    temporary_folder,
    text_lines,
    whole_file,
    whole_folder,
)
from restok_cli.inference.unfinished import alone
from restok_cli.locks import LOCK_FILE, locked_folder
from restok_cli.schema import read_json_lines

ENDED = 2**30  # no process has such a number


def test_a_file_appears_whole(tmp_path):
    with whole_file(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("all of it")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "all of it"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OSError, match="disk"), whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise OSError("disk")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("within", [whole_file, whole_folder, locked_folder, alone])
def test_folders_that_were_made_for_what_fails_are_gone_again(tmp_path, within):
    (tmp_path / "there").mkdir()
    with pytest.raises(RestokError), within(tmp_path / "there" / "new" / "deep" / "out"):
        raise RestokError("refused")
    with pytest.raises(RestokError), within(tmp_path / "there" / "one" / "out"):
        (tmp_path / "there" / "one" / "thesis.tex").touch()
        raise RestokError("refused")
    assert {path.name for path in (tmp_path / "there").rglob("*")} == {"one", "thesis.tex"}
    with pytest.raises(OSError, match="too long"), within(tmp_path / "there" / "one" / "more" / ("x" * 300) / "out"):
        pass
    assert not (tmp_path / "there" / "one" / "more").exists()


def test_a_large_file_is_synced_while_it_is_written_and_no_longer(tmp_path, monkeypatch):
    synced, threads = threading.Semaphore(0), threading.active_count()

    def fsync(descriptor: int) -> None:
        assert os.fstat(descriptor).st_ino == (tmp_path / "a").stat().st_ino
        synced.release()

    monkeypatch.setattr(files, "SYNC_SECONDS", 0.001)
    monkeypatch.setattr(os, "fsync", fsync)
    with open(tmp_path / "a", "wb") as file, synced_early(file):
        for _ in range(3):
            file.write(b"piece")
            assert synced.acquire(timeout=60)
    assert threading.active_count() == threads
    assert (tmp_path / "a").read_bytes() == 3 * b"piece"


def test_what_the_disk_says_while_a_file_is_written_is_not_lost(tmp_path, monkeypatch):
    told = threading.Event()

    def fsync(descriptor: int) -> None:
        told.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "SYNC_SECONDS", 0.001)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"), open(tmp_path / "a", "wb") as file, synced_early(file):
        assert told.wait(timeout=60)


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_full_disk_is_that_of_the_output(tmp_path, whole):
    for details in ((), ("source.png", None, "copy.png")):  # as of a write, and as of shutil.copy
        with pytest.raises(OSError, match="No space") as error, whole(tmp_path / "out"):
            raise OSError(errno.ENOSPC, "No space left on device", *details)
        assert pickle.loads(pickle.dumps(error.value)).filename == str(tmp_path / "out")  # as a worker hands it over
    with pytest.raises(OSError) as error, whole(tmp_path / "out"):
        raise OSError(errno.EIO, "Input/output error", "source.png")
    assert error.value.filename == "source.png"


def test_a_folder_replaces_the_old_one_with_everything_in_it(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    with whole_folder(tmp_path / "model") as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "new").touch()
    assert [file.name for file in (tmp_path / "model").rglob("*")] == ["deep", "new"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_folder_keeps_the_old_one_and_leaves_nothing(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "model") as temporary:
        (temporary / "new").touch()
        raise KeyboardInterrupt
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["old"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    replace = os.replace

    def fail_once(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(OSError, match="no"), whole_folder(tmp_path / "model") as temporary:
        (temporary / "new").touch()
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["old"]
    assert len(list(tmp_path.iterdir())) == 1


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    for name in (".model.12.tmp", ".model.12.old", "model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").touch()
    for name in (".step-000500.pt.12.tmp", ".hidden", "step.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".hidden", "model", "step.tmp"]


@pytest.mark.parametrize(("left", "kept"), [(("old", "tmp"), "tmp"), (("old",), "old")])
@pytest.mark.parametrize("clear", [remove_leftovers, lambda folder: clear_beside(folder / "model")])
def test_an_output_that_was_moved_aside_when_a_process_was_killed_is_not_lost(tmp_path, clear, left, kept):
    for suffix in left:
        (tmp_path / f".model.{ENDED}.{suffix}").mkdir()
        (tmp_path / f".model.{ENDED}.{suffix}" / suffix).touch()
    clear(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["model", f"model/{kept}"]


def test_what_a_killed_process_left_beside_an_output_goes_and_what_others_write_stays(tmp_path):
    written = tmp_path / f".codes.npz.{ENDED + 1}.tmp"  # by a process of another machine, which holds it
    stay = [f".codes.npz.{os.getpid()}.tmp", written.name, f".other.npz.{ENDED}.tmp", ".codes.npz.draft.tmp"]
    for name in (*stay, f".codes.npz.{ENDED}.tmp"):
        (tmp_path / name).touch()
    with open(written) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        clear_beside(tmp_path / "codes.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stay)


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_an_output_clears_the_leftovers_of_those_before_it_but_not_of_one_at_the_same_time(tmp_path, whole, program):
    """Whose number is not known here, as in a container, tells by its lock that it works."""
    beside = program(f"""
        from restok_cli.files import {whole.__name__}
        with {whole.__name__}({str(tmp_path / "out")!r}) as temporary:
            print(temporary, flush=True)
            input()
    """)
    temporary = Path(beside.stdout.readline().strip())
    renamed = temporary.rename(tmp_path / f".out.{ENDED}.tmp")
    with whole(tmp_path / "out") as other:
        assert renamed.exists() and other != renamed
    beside.kill()
    beside.wait()
    with whole(tmp_path / "out"):
        assert not renamed.exists()


def test_a_folder_that_is_discarded_in_part_is_a_leftover(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed here
    discard_folder(tmp_path / "work", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [f".out.{os.getpid()}.tmp"]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with whole_folder(tmp_path / "link") as temporary:
        (temporary / "new").touch()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "new").exists()


def test_an_output_folder_with_files_needs_overwrite_and_must_hold_ours_alone(tmp_path):
    def check(path, overwrite):
        check_output_folder(path, overwrite, {"ours.json", "deep/ours.png"}.__contains__)

    check(tmp_path / "new", overwrite=False)
    check(tmp_path, overwrite=False)
    (tmp_path / LOCK_FILE).touch()  # of a process that was killed
    check(tmp_path, overwrite=False)
    (tmp_path / "deep").mkdir()
    (tmp_path / "ours.json").touch()
    (tmp_path / "deep" / "ours.png").touch()
    with pytest.raises(UsageError, match="already holds files; give another folder, or --overwrite"):
        check(tmp_path, overwrite=False)
    check(tmp_path, overwrite=True)
    (tmp_path / "deep" / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"holds deep/thesis\.tex, which this command did not make"):
        check(tmp_path, overwrite=True)
    for path in (tmp_path / "ours.json", tmp_path / "ours.json" / "new"):
        with pytest.raises(UsageError, match=r"ours\.json is a file; give a folder"):
            check(path, overwrite=True)


def test_an_output_where_one_may_not_write_is_refused_before_the_work(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir()
    monkeypatch.setattr(os, "access", lambda place, _: place != closed)  # for root, all is open
    check_output_folder(tmp_path / "out" / "deep", False, str)
    check_output_file("--grid", tmp_path / "grid.png", ".png", False)
    refused = rf"you may not write to {closed}; give another output"
    for path in (closed, closed / "out", closed / "out" / "deep"):
        with pytest.raises(UsageError, match=refused):
            check_output_folder(path, False, str)
    with pytest.raises(UsageError, match=refused):
        check_output_file("--grid", closed / "grid.png", ".png", False)


def test_a_folder_or_file_that_cannot_be_renamed_is_refused_where_it_would_be_replaced(tmp_path, monkeypatch):
    mounted, file = tmp_path / "parent" / "out", tmp_path / "parent" / "file.npz"
    mounted.mkdir(parents=True)
    file.touch()
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "ismount", lambda place: place in (mounted, file))
        check_output_folder(mounted, False, str)  # what is filled, as that of a run
        with pytest.raises(
            UsageError, match=rf"something is mounted there; give a new name in it, such as {mounted}/new"
        ):
            check_output_folder(mounted, False, str, whole=True)
        with pytest.raises(UsageError, match="something is mounted there; give a new name in another folder"):
            check_output_file("-o", file, ".npz", True)
    monkeypatch.setattr(os, "access", lambda place, _: place != mounted.parent)
    check_output_folder(mounted, False, str)
    check_output_folder(mounted / "new", False, str, whole=True)
    with pytest.raises(UsageError, match=rf"you may not write to {mounted.parent}; give a new name in it"):
        check_output_folder(mounted, False, str, whole=True)


def test_an_output_that_would_replace_an_input_is_refused(tmp_path):
    check_apart(tmp_path / "out", tmp_path / "in", tmp_path / "out-2")
    check_apart(tmp_path / "in" / "out", tmp_path / "in")
    for output in (tmp_path / "in", tmp_path, tmp_path / "other" / ".." / "in"):
        with pytest.raises(UsageError, match=r"would replace .*in, which is read"):
            check_apart(output, tmp_path / "in")


def test_json_lines_end_at_line_feeds_alone_and_damage_is_named_by_line(tmp_path):
    names = ["a\u2028b", "c\x85d", "e\x0bf", "g\rh", "i\x1cj", "k"]
    file = tmp_path / "a.jsonl"
    file.write_bytes("".join(json.dumps({"file": name}, ensure_ascii=False) + "\n" for name in names).encode())
    assert [line["file"] for line in read_json_lines(file)] == names
    assert [json.loads(line)["file"] for line in text_lines(file)] == names
    for broken in ("{", "[1]", "1", "\udc80"):
        file.write_bytes(f'{{"file": "a"}}\n\n{broken}\n'.encode(errors="surrogateescape"))
        with pytest.raises(RestokError, match=r"a\.jsonl, line 3 is damaged"):
            read_json_lines(file)
    file.write_bytes(b"")
    assert read_json_lines(file) == text_lines(file) == []


def test_a_temporary_folder_is_gone_afterwards_and_that_of_a_killed_process_with_the_next(tmp_path):
    (tmp_path / f".run.{ENDED}.tmp").mkdir()
    with pytest.raises(ZeroDivisionError), temporary_folder(tmp_path / "run") as folder:
        (folder / "file").touch()
        assert list(tmp_path.iterdir()) == [folder]
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_pipe_is_not_replaced(tmp_path):
    """A file in the place of /dev/null would break the machine for all."""
    os.mkfifo(pipe := tmp_path / "pipe.png")
    with pytest.raises(UsageError, match=r"--grid .*pipe\.png is a device or a pipe"):
        check_output_file("--grid", pipe, ".png", True)
    with pytest.raises(RestokError, match="is a device or a pipe"), whole_file(pipe) as temporary:
        temporary.write_text("new")
    assert pipe.is_fifo() and [*tmp_path.iterdir()] == [pipe]
