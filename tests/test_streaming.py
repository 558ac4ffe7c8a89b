import json
import multiprocessing
import os
import signal
import tarfile
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import islice
from pathlib import Path

import pytest
import torch
from pictures import dealt, noise
from webdataset import TarWriter

from restok_cli.data.image_files import center_crop, read_image
from restok_cli.data.images import to_tensor
from restok_cli.data.loading.loader import batches, evaluation_batches
from restok_cli.data.shards.dataset import StreamedSplit, open_dataset
from restok_cli.errors import Interrupted, RestokError
from restok_cli.pretrained.modules import save_tokenizer

CLASS_NAMES = [str(i) for i in range(100)]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Serve a folder on this machine; gives its URL."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def picture(i: int) -> bytes:
    file = BytesIO()
    noise(i, 24 + i, 20).save(file, "PNG")
    return file.getvalue()


def write_shard(path, samples, **changed):
    """Sample i has the key key<i>, its number as class, and an image of its own."""
    with TarWriter(str(path), encoder=False) as writer:
        for i in samples:
            writer.write({"__key__": f"key{i}", "cls": str(i).encode(), "png": picture(i)} | changed.get(f"key{i}", {}))
    return str(path)


@pytest.fixture
def shards(tmp_path):
    """Ten samples in three shards."""
    parts = (range(4), range(4, 7), range(7, 10))
    return [write_shard(tmp_path / f"{i}.tar", part) for i, part in enumerate(parts)]


def load(urls, count, **options):
    options = {
        "image_size": (16, 16),
        "batch_size": 5,
        "seed": 7,
        "random_zoom": (1, 1.25),
        "random_crop_area": (0.5, 1.0),
        "random_flip": True,
    } | options
    split = StreamedSplit("train", urls, options.pop("num_samples", 10), CLASS_NAMES)
    return list(islice(batches(split, **dealt(options)), count))


def classes(loaded):
    return torch.cat([batch.class_ids for batch in loaded]).tolist()


def test_an_epoch_holds_every_sample_once_in_another_order_than_the_next(shards):
    found = classes(load(shards, 40))
    epochs = [found[i : i + 10] for i in range(0, 200, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 20
    assert len({epoch[0] for epoch in epochs}) > 5


def test_shards_come_through_a_web_server(shards, tmp_path, serve):
    address = serve(tmp_path)
    (batch,) = load([f"{address}/{i}.tar" for i in range(3)], 1, batch_size=10, crop="centre", random_flip=False)
    assert batch.images.dtype == torch.uint8
    assert sorted(batch.class_ids.tolist()) == list(range(10))
    for image, i in zip(batch.images, batch.class_ids.tolist(), strict=True):
        assert torch.equal(image, to_tensor(center_crop(read_image(picture(i), "a"), (16, 16))))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_seed_and_workers_give_the_same_batches(shards, num_workers):
    one, two = (load(shards, 6, num_workers=num_workers) for _ in range(2))
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, two, strict=True))
    assert classes(one) != classes(load(shards, 6, num_workers=num_workers, seed=8))
    assert classes(one) != classes(load(shards, 6, num_workers=num_workers, first_step=1))


def test_workers_and_processes_divide_the_shards(tmp_path):
    urls = [write_shard(tmp_path / f"{i}.tar", range(2 * i, 2 * i + 2)) for i in range(4)]
    found = []
    for rank in range(2):
        found += load(urls, 4, batch_size=2, num_workers=2, rank=rank, world_size=2, num_samples=8)
    assert sorted(classes(found)) == list(range(8))


@pytest.mark.parametrize("num_samples", [3, 10])
def test_fewer_shards_or_samples_than_workers_are_shared_evenly(tmp_path, num_samples):
    url = write_shard(tmp_path / "0.tar", range(num_samples))
    found = []
    for rank in range(2):
        options = {"batch_size": 2, "num_workers": 2, "rank": rank, "world_size": 2, "num_samples": num_samples}
        found += load([url], 12 * num_samples // 2, **options)
    counts = Counter(classes(found))
    assert sorted(counts) == list(range(num_samples))
    assert set(counts.values()) == {12}


def test_what_cannot_be_promised_is_said_once(shards, capsys):
    load(shards, 1)
    load(shards, 1, rank=1, world_size=5)
    assert capsys.readouterr().err == (
        "the train shards are elsewhere and streamed: the order depends on the number of workers and processes,"
        " and a resumed run goes on with an epoch of its own\n"
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_shard_that_is_cut_anywhere_is_an_error(tmp_path, num_workers):
    whole = write_shard(tmp_path / "0.tar", range(4))
    contents = (tmp_path / "0.tar").read_bytes()
    with tarfile.open(whole) as tar:
        members = tar.getmembers()
    last, after = members[-1], members[3].offset
    cuts = [0, 100, after, after + 100, last.offset_data, last.offset_data + 10, last.offset_data + last.size]
    cuts.append(-(-(last.offset_data + last.size) // 512) * 512)
    for cut in cuts if num_workers == 0 else cuts[2:3]:
        (tmp_path / "cut.tar").write_bytes(contents[:cut])
        with pytest.raises(RestokError, match=r"^shard [^\n]*cut\.tar cannot be read to its end \([^\n]*\)$"):
            load([str(tmp_path / "cut.tar")], 3, batch_size=2, num_workers=num_workers)


def test_a_shard_that_is_not_there_is_named_in_one_line(shards, tmp_path, serve):
    address = serve(tmp_path)
    for url, reason in (
        (f"{address}/none.tar", "the command that fetches it ended with exit code 22"),
        (str(tmp_path / "none.tar"), "No such file or directory"),
        ("nonsense://a/b.tar", "nonsense://a/b.tar: no gopen handler defined"),
    ):
        with pytest.raises(RestokError) as error:
            load([url], 1)
        assert str(error.value) == f"shard {url} cannot be read to its end ({reason})"


def test_a_shell_command_is_run_where_the_person_allowed_it(shards, tmp_path):
    info = {"num_samples": 10, "urls": [f"pipe:cat {' '.join(shards[:1])}"]}
    fields = {"name": "a", "class_names": [str(i) for i in range(10)], "image_size": None, "provenance": {}}
    manifest = fields | {"splits": {"train": info}, "fingerprint": "x"}
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    split = open_dataset(tmp_path, allow_pipe=True).split("train")
    options = {
        "image_size": (8, 8),
        "batch_size": 4,
        "seed": 0,
        "random_zoom": (1, 1.25),
        "random_crop_area": (1, 1),
        "random_flip": False,
    }
    assert sorted(next(batches(split, **dealt(options))).class_ids.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_broken_samples_are_named_once_and_passed_over(tmp_path, capsys, num_workers):
    damaged = {"key3": {"png": b"broken"}, "key5": {"png": picture(5), "jpg": picture(6)}}
    url = write_shard(tmp_path / "0.tar", range(8), **damaged)
    options = {"batch_size": 2, "num_samples": 8, "num_workers": num_workers}
    found = classes(load([url], 9, broken_limit=0.25, **options))
    assert Counter(found) == dict.fromkeys((0, 1, 2, 4, 6, 7), 3)
    lines = capsys.readouterr().err.splitlines()
    assert sum(f"left out: {url}: key3.png: cannot be decoded" in line for line in lines) == 1
    assert (
        sum(f"left out: sample key5 of {url}: 2 images under this key instead of one, among" in line for line in lines)
        == 1
    )
    with pytest.raises(RestokError, match=r"2 samples cannot be decoded \(key3, key5\), more than the 1 that may be"):
        load([url], 9, **options)


def test_further_pictures_of_samples_are_said_once(tmp_path, capsys):
    changed = {f"key{i}": {"seg.png": picture(9), "mask.png": picture(8)} for i in (1, 2)}
    url = write_shard(tmp_path / "0.tar", range(4), **changed)
    load([url], 9, batch_size=2, num_workers=1)
    said = capsys.readouterr().err
    for extension in ("seg.png", "mask.png"):
        line = f"the train shards hold .{extension}, passed over: a sample's image is <key>.jpg or the like"
        assert said.count(line) == 1


def test_a_set_of_broken_samples_alone_is_an_error_also_where_nobody_counted(tmp_path):
    url = write_shard(tmp_path / "0.tar", range(3), **{f"key{i}": {"png": b"broken"} for i in range(3)})
    with pytest.raises(RestokError, match="2 samples cannot be decoded"):
        load([url], 1, num_samples=0)
    with pytest.raises(RestokError, match="3 samples cannot be decoded"):
        load([url], 1, num_samples=3, broken_limit=1)


def test_names_with_dots_that_webdataset_takes_for_one_sample_are_not_mixed_up(tmp_path):
    changed = {f"key{i}": {"__key__": f"IMG.202{i}", "cls": b"0"} for i in range(2)}
    url = write_shard(tmp_path / "0.tar", [0, 1], **changed)
    with pytest.raises(RestokError, match=r"sample IMG of .*: 2 \.cls under this key instead of one"):
        list(evaluation_batches(StreamedSplit("a", [url], 2, CLASS_NAMES[:10]), image_size=(8, 8), batch_size=2))


@pytest.mark.parametrize("text", [b"100", b"-1", b"cat", b""])
def test_a_class_that_does_not_exist_is_named_with_its_sample(tmp_path, text):
    url = write_shard(tmp_path / "0.tar", range(3), key1={"cls": text})
    what = "class is 100, but the data set has classes 0 to 99" if text == b"100" else f".cls is '{text.decode()}', no"
    with pytest.raises(RestokError, match=rf"^sample key1 of {url}: its {what}"):
        load([url], 3)


def test_classes_of_a_set_that_is_said_to_have_none_are_refused(shards):
    with pytest.raises(RestokError, match=r"sample key0 of .*: its class is 0, but the data set has none; describe it"):
        list(evaluation_batches(StreamedSplit("a", shards, 10, []), image_size=(8, 8), batch_size=20))


def test_files_of_a_sample_that_lie_apart_are_refused_with_what_to_do(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, data in (("a.png", picture(0)), ("b.png", picture(1)), ("a.cls", b"0"), ("b.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, BytesIO(data))
    split = StreamedSplit("a", [str(tmp_path / "0.tar")], 2, CLASS_NAMES[:2])
    with pytest.raises(RestokError, match=r"sample a of .*0\.tar: its class is missing.*--sort=name"):
        list(evaluation_batches(split, image_size=(8, 8), batch_size=2))


def test_shards_without_samples_are_an_error_and_no_endless_search(tmp_path):
    url = write_shard(tmp_path / "0.tar", [])
    with pytest.raises(RestokError, match=r"the shards of split train hold no samples"):
        load([url], 1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_whose_shards_are_empty_in_an_epoch_goes_on_with_the_next(tmp_path, rank):
    full, empty = write_shard(tmp_path / "0.tar", range(4)), write_shard(tmp_path / "1.tar", [])
    loaded = load([full, empty], 4, batch_size=8, rank=rank, world_size=2)
    assert Counter(classes(loaded)) == dict.fromkeys(range(4), 4)


def test_evaluation_sees_every_sample_once_in_order(shards):
    split = StreamedSplit("validation", shards, 0, CLASS_NAMES)
    found = list(evaluation_batches(split, image_size=(16, 12), batch_size=4))
    assert [len(batch.class_ids) for batch in found] == [4, 4, 2]
    assert classes(found) == list(range(10))
    naive = torch.stack([to_tensor(center_crop(read_image(picture(i), "a"), (16, 12))) for i in range(10)])
    assert torch.equal(torch.cat([batch.images for batch in found]), naive)
    share = list(evaluation_batches(split, image_size=(16, 12), batch_size=4, rank=1, world_size=2))
    assert classes(share) == [4, 5, 6, 7]
    first = list(evaluation_batches(split, image_size=(16, 12), batch_size=4, rank=1, world_size=2, limit=5))
    assert classes(first) == [4]


@pytest.mark.parametrize("command", ["train-tokenizer", "train-har"])
def test_training_runs_shell_commands_only_where_allowed(shards, tmp_path, restok, fails, tiny_tokenizer, command):
    save_tokenizer(tiny_tokenizer, tmp_path / "tokenizer")
    manifest = {"name": "a", "class_names": [str(i) for i in range(10)], "image_size": None, "provenance": {}}
    splits = {"train": {"num_samples": 4, "urls": [f"pipe:cat {shards[0]}"]}}
    manifest |= {"fingerprint": "x", "splits": splits}
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    arguments = [command, tmp_path, "--preset", "tiny", "--max-steps", 1, "--skip-preflight", "-o", tmp_path / "run"]
    if command == "train-har":
        arguments += ["--tokenizer", tmp_path / "tokenizer"]
    assert "would run the shell command 'cat " in fails(2, *arguments)
    result = restok(*arguments, "--allow-pipe")
    assert result.code == 0, result.err


def running(seconds: str) -> bool:
    """Whether a program sleeps for so long."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == f"sleep\0{seconds}\0".encode():
                return True
    return False


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_program_that_fetches_and_stalls_ends_with_the_training_at_once(tmp_path, num_workers):
    write_shard(tmp_path / "a.tar", range(40))
    seconds = f"1000.{os.getpid()}{num_workers}"

    def interrupt(number, _frame):
        raise Interrupted(number, "interrupted")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        with pytest.raises(Interrupted):
            load([f"pipe:cat {tmp_path / 'a.tar'}; sleep {seconds}"], 999, num_workers=num_workers)
    finally:
        signal.signal(signal.SIGALRM, before)
    deadline = time.monotonic() + 10
    while running(seconds) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(seconds) and not multiprocessing.active_children()
