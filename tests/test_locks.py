"""A folder or file is one process's alone, while that lives."""

import errno
import fcntl
import os
import socket
from pathlib import Path

import pytest

from restok_cli.errors import UsageError
from restok_cli.files import (
    clear_beside,
    whole_file,
)
from restok_cli.locks import LOCK_FILE, held, locked, locked_folder, made_folder

ENDED = 2**30  # no process has such a number


def test_a_lock_on_a_full_disk_holds_and_goes(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("restok_cli.locks.os.write", full)
    monkeypatch.setattr("restok_cli.locks.LET_GO_SECONDS", 0)
    with (
        locked_folder(tmp_path / "out"),
        pytest.raises(UsageError, match="another process"),
        locked_folder(tmp_path / "out"),
    ):
        pass
    assert not (tmp_path / "out").exists()


def test_a_locked_folder_is_for_one_process_until_it_ends_however_it_does(tmp_path, program, monkeypatch):
    lock = tmp_path / LOCK_FILE
    other = program(f"""
        from pathlib import Path
        from restok_cli.locks import locked
        with locked(Path({str(lock)!r}), Path("out")):
            print("locked", flush=True)
            input()
    """)
    assert other.stdout.readline() == "locked\n"
    named = rf"out is being written by process {other.pid} on .*; wait until that has ended"
    with monkeypatch.context() as patch, pytest.raises(UsageError, match=named):
        patch.setattr("restok_cli.locks.time.sleep", lambda _: pytest.fail("waited for one that goes on"))
        locked(lock, Path("out")).__enter__()
    other.kill()  # which leaves the file
    other.wait()
    lock.write_text("process 4194304 on a machine with a longer name than this one has, as far as anybody knows\n")
    with locked(lock, Path("out")):
        assert lock.read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
        with pytest.raises(UsageError, match="is being written by"), locked(lock, Path("out")):
            pass
    assert not lock.exists()


def test_a_lock_on_a_file_that_its_last_owner_deletes_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Between opening and locking it; a third process may have made another."""
    lock, flock = tmp_path / LOCK_FILE, fcntl.flock
    meanwhile = iter((lock.unlink, lambda: (lock.unlink(), lock.touch())))

    def lock_late(descriptor, how):
        next(meanwhile, lambda: None)()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    open_files = len(os.listdir("/proc/self/fd"))
    with (
        locked(lock, Path("out")),
        pytest.raises(UsageError, match=f"process {os.getpid()}"),
        locked(lock, Path("out")),
    ):
        pass
    assert next(meanwhile, None) is None and len(os.listdir("/proc/self/fd")) == open_files


def test_a_process_of_another_user_is_alive(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    (tmp_path / f".out.{ENDED}.tmp").touch()
    with monkeypatch.context() as patch:
        patch.setattr("restok_cli.locks.os.kill", refuse)
        clear_beside(tmp_path / "out")
        assert list(tmp_path.iterdir())
    clear_beside(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_lock_outlives_its_owner_until_the_last_worker_has_ended(tmp_path, program):
    lock = tmp_path / LOCK_FILE
    owner = program(f"""
        import os, time
        from pathlib import Path
        from restok_cli.locks import locked
        with locked(Path({str(lock)!r}), Path("out")):
            if os.fork() == 0:
                time.sleep(0.5)
                Path({str(tmp_path / "last")!r}).touch()
                os._exit(0)
            print("locked", flush=True)
            input()
    """)
    owner.stdout.readline()
    owner.kill()
    owner.wait()
    with locked(lock, Path("out")):
        assert (tmp_path / "last").exists()


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / f".out.{ENDED}.tmp").touch()
    with locked(tmp_path / LOCK_FILE, tmp_path), whole_file(tmp_path / "out") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "out").read_text() == "new"
    assert (tmp_path / f".out.{ENDED}.tmp").exists()  # whose it is nobody can tell


def test_a_folder_that_another_process_takes_away_while_it_is_empty_is_made_again(tmp_path):
    output = tmp_path / "runs/a"
    with made_folder(tmp_path / "runs"):
        pass  # as the other one, which failed
    with held(output, os.O_CREAT | os.O_RDWR):
        assert output.is_file()
