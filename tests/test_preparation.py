"""Preparing on several processes, stopped at any moment and started again: always the same bytes."""

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from pictures import noise, write_pictures
from PIL import Image

from restok_cli.commands.preparing.prepare import app
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.sources import folders, preparation
from restok_cli.files import whole_file
from restok_cli.locks import locked_folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def mixed(tmp_path):
    """Images of two classes: nine kept, two that are re-encoded, one broken."""
    write_pictures(tmp_path / "in", [f"{kind}/{i}.png" for kind in "ab" for i in range(4)] + ["a/large.jpg"], 40, 30)
    exif = Image.Exif()
    exif[0x112] = 0  # unknown
    Image.open(tmp_path / "in/b/0.png").save(tmp_path / "in/b/0.png", exif=exif)
    exif[0x112] = 6  # a phone's, held upright
    Image.open(tmp_path / "in/a/large.jpg").save(tmp_path / "in/a/large.jpg", exif=exif)
    noise(77).convert("CMYK").save(tmp_path / "in/a/cmyk.jpg", exif=exif)
    noise(78).save(tmp_path / "in/b/bitmap.bmp")
    (tmp_path / "in/b/broken.jpg").write_bytes(b"no image")
    return tmp_path / "in"


@pytest.fixture
def prepare(restok, mixed, tmp_path):
    """Prepare the images into a folder; return the result of the command."""

    def call(out, *options):
        return restok("prepare", "folder", mixed, tmp_path / out, "--samples-per-shard", 3, *options)

    return call


@pytest.mark.parametrize("options", [(), ("--resize", 20)])
def test_any_number_of_jobs_gives_the_same_bytes(prepare, tmp_path, options):
    for jobs in (1, 2, 5):
        assert prepare(f"out{jobs}", "--jobs", jobs, *options).code == 0
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2") == contents(tmp_path / "out5")
    assert len(list((tmp_path / "out1").glob("*.tar"))) == 5


def test_what_was_changed_is_told_on_the_terminal_in_the_manifest_and_in_the_sample(prepare, tmp_path):
    result = prepare("out", "--json")
    counts = json.loads(result.out)
    assert (counts["images"], counts["re_encoded"], counts["unreadable"]) == (11, 2, 1)
    assert "1 image re-encoded: BMP file" in result.err
    assert "1 image re-encoded: CMYK colours" in result.err
    assert "2 images to be shown turned, as EXIF says" in result.err
    provenance = open_dataset(tmp_path / "out").manifest.provenance
    assert (provenance["re_encoded"], provenance["left_out"], provenance["check"]) == ("2", "1", "quick")
    told = {}
    for shard in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(shard) as tar:
            files = {name: tar.extractfile(name).read() for name in tar.getnames()}
        told |= {name.partition(".")[0]: json.loads(data) for name, data in files.items() if name.endswith(".json")}
    assert told["a_cmyk"] == {"file": "a/cmyk.jpg", "width": 20, "height": 16, "change": "CMYK colours"}
    assert told["a_large"] == {"file": "a/large.jpg", "width": 40, "height": 30}


def test_pictures_are_shrunk_on_request(prepare, tmp_path):
    prepare("out", "--resize", 20)
    dataset = open_dataset(tmp_path / "out")
    sizes = {
        split.key(i): split.image(i).size for split in map(dataset.split, dataset.splits) for i in range(len(split))
    }
    assert sizes["a_0"] == sizes["a_large"] == (27, 20)
    assert sizes["b_bitmap"] == (20, 16)
    assert dataset.manifest.provenance["resize"] == "20"
    prepare("small", "--max-pixels", 300)
    dataset = open_dataset(tmp_path / "small")
    assert dataset.split("train").image(0).size == (20, 15)
    assert dataset.manifest.provenance["max_pixels"] == "300"


def test_the_full_check_is_done_on_request(restok, tmp_path):
    write_pictures(tmp_path / "in", ["a.png", "b.png"])
    file = io.BytesIO()
    noise(5).save(file, "WEBP", lossless=True)
    damaged = bytearray(file.getvalue())
    damaged[40:80] = bytes(40)
    (tmp_path / "in/c.webp").write_bytes(damaged)
    for check, unreadable in (("quick", 0), ("full", 1)):
        result = restok("prepare", "folder", tmp_path / "in", tmp_path / check, "--check", check, "--json")
        assert json.loads(result.out)["unreadable"] == unreadable


def test_a_shard_of_broken_pictures_is_left_out(restok, tmp_path):
    write_pictures(tmp_path / "in/val", ["good.png"])
    (tmp_path / "in/train").mkdir()
    for i in range(3):
        (tmp_path / f"in/train/{i}.png").write_bytes(b"broken")
    result = restok(
        "prepare", "folder", tmp_path / "in", tmp_path / "out", "--samples-per-shard", 2, "--jobs", 2, "--json"
    )
    assert json.loads(result.out)["splits"] == {"validation": 1}
    assert restok("prepare", "verify", tmp_path / "out").code == 0


def test_timm_reads_the_shards(prepare, tmp_path):
    from timm.data.readers.reader_wds import ReaderWds

    prepare("out", "--validation-fraction", 0.3)
    dataset = open_dataset(tmp_path / "out")
    assert set(dataset.splits) == {"train", "validation"}
    for name in dataset.splits:
        reader = ReaderWds(str(tmp_path / "out"), split=name)
        split = dataset.split(name)
        assert reader.num_samples == len(split)
        read = sorted((image.convert("RGB").tobytes(), class_id) for image, class_id in reader)
        assert read == sorted((split.image(i).tobytes(), split.class_id(i)) for i in range(len(split)))


# --- stopped and started again -----------------------------------------------------------------------------------


def test_processes_that_end_since_another_failed_leave_nothing_half_written(prepare, tmp_path, monkeypatch):
    def fail_while_the_other_writes(path, _samples):
        with whole_file(path) as temporary:
            temporary.touch()
            if path.name == "train-000000.tar":
                while len(list(path.parent.glob(".*.tar*.tmp"))) < 2:
                    time.sleep(0.01)
                raise OSError(28, "No space left on device", str(path))
            time.sleep(600)

    monkeypatch.setattr(preparation, "write_shard", fail_while_the_other_writes)
    result = prepare("out", "--jobs", 2)
    assert result.code == 1 and "No space left on device; nothing half-written was kept" in result.err
    assert [path.name for path in (tmp_path / "out/.partial").iterdir()] == ["plan.json"]


def stop_after(monkeypatch, count):
    """Let so many shards be finished, then raise what Ctrl-C raises."""
    make, made = preparation._make_shard, []

    def stopping(*arguments):
        if len(made) == count:
            raise KeyboardInterrupt
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(preparation, "_make_shard", stopping)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_stopped_preparation_goes_on_and_makes_no_shard_twice(prepare, tmp_path, monkeypatch, count):
    prepare("whole")
    with monkeypatch.context() as patch:
        stop_after(patch, count)
        assert prepare("out", "--jobs", 1).code == 130
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".partial"]
    finished = {path.name: path.stat().st_ino for path in (tmp_path / "out/.partial").glob("*.tar")}
    assert len(finished) == count
    result = prepare("out")
    assert result.code == 0 and ("images done before; going on" in result.err) == bool(count)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert all((tmp_path / "out" / name).stat().st_ino == inode for name, inode in finished.items())


def test_bad_pictures_of_the_first_start_are_still_listed(prepare, mixed, tmp_path, monkeypatch):
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        patch.setattr(preparation, "publish", interrupt)
        assert prepare("out", "--jobs", 1).code == 130
    (mixed / "b/broken.jpg").write_bytes(b"still no image")
    result = prepare("out", "--json")
    assert json.loads(result.out)["unreadable"] == 1
    assert "b/broken.jpg" in (tmp_path / "out/bad.jsonl").read_text()


@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.parametrize("moves", [0, 4, 11])
def test_stopped_while_files_move_it_goes_on_too(prepare, restok, tmp_path, monkeypatch, moves, replacing):
    prepare("whole", "--jobs", 1)
    if replacing:
        restok("prepare", "sample", tmp_path / "out")
    move, moved = os.replace, []

    def stopping(old, new):
        if Path(new).parent == tmp_path / "out" and Path(new).name != ".partial":
            if len(moved) == moves:
                raise KeyboardInterrupt
            moved.append(new)
        move(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(preparation.os, "replace", stopping)
        assert prepare("out", "--overwrite", "--jobs", 1).code == 130
    assert not (tmp_path / "out/dataset.json").exists()
    assert prepare("out").code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_a_stopped_move_left_is_replaced_by_something_else(prepare, restok, tmp_path, monkeypatch):
    restok("prepare", "sample", tmp_path / "out")

    def interrupt(_folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "sync", interrupt)
        assert prepare("out", "--overwrite", "--jobs", 1).code == 130
    assert prepare("out", "--overwrite", "--samples-per-shard", 100).code == 0
    prepare("whole", "--samples-per-shard", 100)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_going_on_with_something_else_is_refused_with_what_differs(prepare, fails, mixed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        prepare("out", "--resize", 20, "--jobs", 1)
    command = ("prepare", "folder", mixed, tmp_path / "out", "--samples-per-shard", 3)
    message = fails(2, *command, "--resize", 24)
    assert "half-done data set with --resize 20 (now 24); go on with what it was, or give another folder" in message
    (mixed / "a/0.png").rename(mixed / "a/other.png")
    assert "other images than are in the source now" in fails(2, *command, "--resize", 20)
    noise(9).save(mixed / "a/9.png")
    assert "train pictures 10 (now 11)" in fails(2, *command, "--resize", 20)
    assert prepare("out", "--overwrite").code == 0
    prepare("whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_the_old_data_set_stays_until_the_new_one_is_whole(prepare, restok, fails, mixed, tmp_path, monkeypatch):
    restok("prepare", "sample", tmp_path / "out")
    before = contents(tmp_path / "out")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert prepare("out", "--overwrite", "--jobs", 1).code == 130
    assert open_dataset(tmp_path / "out").name == "sample"
    assert {name: data for name, data in contents(tmp_path / "out").items() if "/" not in name} == before
    assert "--overwrite" in fails(2, "prepare", "folder", mixed, tmp_path / "out")
    result = prepare("out", "--overwrite")
    assert result.code == 0 and "done before; going on" in result.err
    prepare("whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_nothing_foreign_is_deleted_by_going_on(prepare, fails, mixed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        prepare("out", "--jobs", 1)
    (tmp_path / "out/thesis.tex").write_text("years of work")
    message = fails(2, "prepare", "folder", mixed, tmp_path / "out", "--samples-per-shard", 3)
    assert "holds thesis.tex, which this command did not make" in message


def test_a_damaged_record_is_named(prepare, fails, mixed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        prepare("out", "--jobs", 1)
    record = next(path for path in (tmp_path / "out/.partial").glob("*.json") if path.name != "plan.json")
    record.write_text("{")
    message = fails(1, "prepare", "folder", mixed, tmp_path / "out", "--samples-per-shard", 3)
    assert f"{record.name} is wrong: " in message and "; delete it, and run the command again" in message
    record.unlink()
    assert prepare("out").code == 0


def test_two_at_once_do_not_touch_each_others_files(prepare, fails, mixed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        prepare("out", "--jobs", 1)
    before = contents(tmp_path / "out")
    with locked_folder(tmp_path / "out"):
        line = fails(2, "prepare", "folder", mixed, tmp_path / "out", "--samples-per-shard", 3)
        assert f"{tmp_path / 'out'} is being written by process {os.getpid()} on " in line
    assert contents(tmp_path / "out") == before
    assert prepare("out").code == 0
    assert not {".restok.lock", ".partial"} & set(os.listdir(tmp_path / "out"))


def test_the_slower_of_two_replaces_nothing(prepare, mixed, tmp_path, monkeypatch):
    def slowly(*arguments):
        patch.undo()
        assert prepare("out").code == 0  # while this one still looks for images
        return folders.walk_folder(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "walk_folder", slowly)
        result = prepare("out")
    assert result.code == 2 and "already holds a data set; give another folder, or --overwrite" in result.err


def test_each_of_several_tasks_refuses_to_make_the_same(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr("restok_cli.processes.QUIET_SECONDS", 0)  # in which the first one may speak for all
    for rank in ("0", "1"):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        result = prepare("out")
        assert result.code == 2 and "works in one process, and 2 are started" in result.err
    assert not (tmp_path / "out").exists()


def test_what_a_process_left_that_was_killed_while_it_tidied_up_goes(prepare, fails, mixed, tmp_path):
    assert prepare("out").code == 0
    left = tmp_path / f"out/..partial.{2**30}.tmp"
    left.mkdir()
    (left / "train-000000.json").touch()
    assert "already holds files" in fails(2, "prepare", "folder", mixed, tmp_path / "out")
    assert not left.exists()


@pytest.mark.parametrize(("jobs", "limit"), [(1, 9000), (2, 9000), (1, 10)])
def test_a_full_disk_is_told_of_what_did_not_fit_and_the_same_command_goes_on(prepare, tmp_path, jobs, limit):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        result = prepare("out", "--jobs", jobs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.code == 1
    file = r"/train-00000\d\.tar" if limit == 9000 else ""
    assert re.search(rf"restok: .*/out/\.partial{file}: File too large; nothing half-written", result.err)
    assert prepare("out").code == 0


@pytest.fixture(scope="module")
def slow_to_prepare(tmp_path_factory):
    """Images that take a while to shrink, and what they become."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "in").mkdir()
    for i in range(40):
        noise(i, 8, 8).resize((1000, 1000), Image.Resampling.BICUBIC).save(folder / f"in/{i}.png", compress_level=1)
    app(command(folder, "whole")[4:], standalone_mode=False)
    return folder


def command(folder, out):
    options = ("--resize", "256", "--samples-per-shard", "2", "--jobs", "2")
    return [sys.executable, "-m", "restok_cli", "prepare", "folder", str(folder / "in"), str(folder / out), *options]


def processes_of(out):
    """The ids of the processes that have the folder in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(out) in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_until(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came true")


def default_signals():
    """In the child: hear Ctrl-C also where the shell of the tests made its children deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["killed", "interrupted"]
)
def test_killed_at_work_no_process_stays_and_the_next_start_ends_with_the_same_bytes(slow_to_prepare, number, code):
    out = slow_to_prepare / f"out{code}"
    process = subprocess.Popen(
        command(slow_to_prepare, out.name), stderr=subprocess.PIPE, text=True, preexec_fn=default_signals
    )
    wait_until(lambda: len(list(out.glob(".partial/train-*.json"))) >= 2)
    assert len(processes_of(out)) == 3
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    wait_until(lambda: not processes_of(out))
    assert not (out / "dataset.json").exists()
    if number != signal.SIGKILL:
        assert [line for line in errors.splitlines() if not line.startswith("prepare:")] == [
            "restok: interrupted; the same command goes on where this one was"
        ]
    result = subprocess.run(command(slow_to_prepare, out.name), check=True, capture_output=True, text=True)
    assert "images done before; going on" in result.stderr
    assert contents(out) == contents(slow_to_prepare / "whole")
