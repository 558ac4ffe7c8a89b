"""Files and folders are whole or absent."""

import errno
import json
import os
import threading

import pytest

from restok_cli import files
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import (
    check_apart,
    check_output_folder,
    read_json_lines,
    remove_leftovers,
    synced_early,
    text_lines,
    whole_file,
    whole_folder,
)


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
    for name in (".model.12.tmp", ".model.12.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").touch()
    for name in (".step-000500.pt.12.tmp", ".hidden", "step.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".hidden", "step.tmp"]


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
