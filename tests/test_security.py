"""Files from outside: what docs/security.md promises of them."""

import json
import random
import subprocess
import sys
import tarfile
import zipfile
from itertools import islice
from pathlib import Path

import bombs
import numpy as np
import pytest
import torch
from bombs import END, LIMIT, SIZE, member, png, sparse_member
from pictures import write_pictures
from webdataset.filters import shuffle

from restok_cli.data.loading import streaming
from restok_cli.data.loading.batching import Deal
from restok_cli.data.loading.loader import batches
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.errors import RestokError
from restok_cli.weights import read_tensors

ALLOWED = 64 << 20  # bytes that the peak of memory may grow by at a bomb of SIZE


LARGE = f"has {SIZE:,} bytes, more than the {LIMIT:,} that --max-member-bytes admits"
HOLES = f"has {8 << 30:,} bytes, more than the {LIMIT:,} that --max-member-bytes admits"
TOO_LONG = r"bad header, of more than 1,048,576 bytes"

SAID = {  # of each bomb, in a part of the answer or of the error
    "stream: member": ["a", LARGE, "c"],
    "stream: sparse": ["a", HOLES, "c"],
    "stream: gzip": ["a", LARGE],
    "stream: bzip2": ["a", LARGE],
    "stream: pax": [TOO_LONG],
    "stream: name": [TOO_LONG],
    "stream: headers": ["bad header"],
    "stream: cut": ["unexpected end of data"],
    "tar: member": ["a", LARGE, "c"],
    "tar: sparse": ["a", HOLES, "c"],
    "tar: hole": ["a", "is stored as a sparse file", "c"],
    "tar: pax": [TOO_LONG],
    "tar: name": [TOO_LONG],
    "tar: headers": ["bad header"],
    "tar: cut": ["unexpected end of data"],
    "tar: globals": ["300"],
    "training: member": ["a", LARGE, "c"],
    "training: sparse": ["a", HOLES, "c"],
    "shard: gzip": [f"does not unpack to {LIMIT} bytes"],
    "npz: images": ["--max-decoded-pixels admits them"],
    "npz: lying images": ["arr_0 is not the 30000 bytes that its header speaks of"],
    "npz: codes": ["its arrays would take"],
    "npz: lying codes": ["codes is not the 8 bytes that its header speaks of"],
    "npz: statistics": ["its arrays would take"],
    "npz: lying statistics": ["mu is not the 4 bytes that its header speaks of"],
    "line of codes": ["line 1 has more than"],
    "names": ["names.txt has more than"],
    "config": ["config.yaml has more than"],
    "aliases": ["more than 100,000 values, with what its aliases stand for"],
    "data set": ["dataset.json has more than"],
    "list of pictures": ["manifest.jsonl, line 1 has more than"],
    "image": ["a.png: has 125,830,164 bytes, more than the 1,048,576 that --max-member-bytes admits"],
    "parquet": ["1200000"],
}


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, tuple[str, int]]:
    """Of each bomb, what its reader said, and the bytes by which the peak of memory grew: in a process of its own."""
    folder = tmp_path_factory.mktemp("bombs")
    bombs.write_bombs(folder)
    done = subprocess.run([sys.executable, bombs.__file__, folder], capture_output=True, text=True, check=True)
    answers = map(json.loads, done.stdout.splitlines())
    return {
        name: ("\n".join(map(str, said)) if isinstance(said, list) else str(said), grown)
        for name, said, grown in answers
    }


@pytest.mark.parametrize("bomb", SAID)
def test_nothing_is_unpacked_before_its_size_is_known(told, bomb):
    said, grown = told[bomb]
    assert all(part in said for part in SAID[bomb]), said
    assert said.count("\n") == (len(SAID[bomb]) - 1), said
    assert grown < ALLOWED


def test_every_bomb_is_tried(told):
    assert told.keys() == SAID.keys()


# --- bad files of tars, by the commands ---------------------------------------------------------------------------


def write_tar(path: Path) -> Path:
    """Two good images, one that is large for LIMIT in the middle, and one with a hole."""
    large = member("b.png", bytes(LIMIT + 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        member("a.png", png(0)) + large + sparse_member("d.png", png(2), 8 << 30) + member("c.png", png(1)) + END
    )
    return path


@pytest.mark.parametrize("command", ["prepare shards", "prepare imagenet", "encode", "reconstruct", "stdin", "tar"])
def test_a_member_that_is_too_large_is_left_out_like_a_broken_picture(
    restok, tiny_models, tmp_path, monkeypatch, command
):
    tar = write_tar(tmp_path / "in/a.tar")
    tokenizer = ("--model", tiny_models / "tokenizer", "--device", "cpu")
    limit = ("--max-member-bytes", LIMIT)
    evaluate = ("--metric", "is", "--features", "random", "--json", "--device", "cpu", "--no-cache")
    if command == "prepare imagenet":
        (tmp_path / "imagenet/train").mkdir(parents=True)
        tar = tar.rename(tmp_path / "imagenet/train/n01440764.tar")
    with open(tar, "rb") as file:
        monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": file}))
        result = {
            "prepare shards": lambda: restok("prepare", "shards", tmp_path / "in", tmp_path / "out", "--json", *limit),
            "prepare imagenet": lambda: restok(
                "prepare", "imagenet", tmp_path / "imagenet", tmp_path / "out", "--json", *limit
            ),
            "encode": lambda: restok("encode", "-", "-o", tmp_path / "a.npz", *tokenizer, *limit),
            "reconstruct": lambda: restok("reconstruct", "-", "-o", tmp_path / "out", *tokenizer, *limit),
            "stdin": lambda: restok("evaluate", "-", *evaluate, *limit),
            "tar": lambda: restok("evaluate", tar, *evaluate, *limit),
        }[command]()
    assert result.code == 0, result.err
    said = result.err
    if command.startswith("prepare"):
        assert json.loads(result.out)["unreadable"] == 2
        said += (tmp_path / "out/bad.jsonl").read_text()
        assert len(open_dataset(tmp_path / "out").split("train")) == 2
    elif command == "encode":
        assert np.load(tmp_path / "a.npz")["keys"].tolist() == ["a", "c"]
    assert f"has {LIMIT + 1:,} bytes, more than the {LIMIT:,} that --max-member-bytes admits" in said
    assert f"has {8 << 30:,} bytes" in said or "is stored as a sparse file" in said


def test_pictures_of_a_data_set_are_bounded_where_it_is_read(restok, fails, tiny_models, tmp_path):
    write_pictures(tmp_path / "in", ["a.png", "b.png"])
    data = tmp_path / "data"
    assert restok("prepare", "folder", tmp_path / "in", data, "--validation-fraction", 0).code == 0
    limit = ("--max-member-bytes", min(file.stat().st_size for file in (tmp_path / "in").iterdir()) - 1)
    assert restok("prepare", "verify", data).code == 0
    result = restok("prepare", "verify", data, *limit)
    assert result.code == 1 and result.out.count("--max-member-bytes admits") == 2
    result = restok("prepare", "folder", tmp_path / "in", tmp_path / "b", *limit)
    assert result.code == 1 and result.err.count("--max-member-bytes admits") == 2
    encode = ("encode", data, "--split", "train", "--model", tiny_models / "tokenizer", "--device", "cpu")
    assert restok(*encode, "-o", tmp_path / "a.npz").code == 0
    assert restok(*encode, "-o", tmp_path / "b.npz", *limit).err.count("--max-member-bytes admits") == 2
    train = ("train-tokenizer", data, "--preset", "tiny", "--max-steps", 1, "--skip-preflight", "--device", "cpu")
    told = fails(1, *train, "-o", tmp_path / "run", "--set", f"data.max_member_bytes={limit[1]}")
    assert "cannot be decoded" in told


def test_streamed_pictures_are_bounded(tmp_path, capfd):
    tar = write_tar(tmp_path / "a.tar")
    split = streaming.StreamedSplit("train", [str(tar)], 0, [], LIMIT)
    options = {"random_zoom": (1, 1), "random_crop_area": (1, 1), "random_flip": False}
    epochs = islice(batches(split, (16, 16), Deal(2, seed=0), **options, broken_limit=1), 2)
    assert [batch.images.shape for batch in epochs] == [(2, 3, 16, 16)] * 2
    said = capfd.readouterr().err
    assert f"{tar}: b.png: has {LIMIT + 1:,} bytes" in said


def test_gzipped_shards_that_would_fill_memory_are_refused_when_the_set_is_opened(fails, tmp_path):
    assert open_dataset("sample")
    folder = tmp_path / "data"
    folder.mkdir()
    shards = [{"file": f"train-{i:06d}.tar.gz", "num_samples": 1, "bytes": 200 << 20, "sha256": ""} for i in range(2)]
    for shard in shards:
        (folder / shard["file"]).write_bytes(b"")
    manifest = {"name": "a", "splits": {"train": {"num_samples": 2, "shards": shards}}, "class_names": []}
    manifest |= {"image_size": None, "provenance": {}, "fingerprint": ""}
    (folder / "dataset.json").write_text(json.dumps(manifest))
    assert "gzipped shards, which are held in memory" in fails(1, "encode", folder, "-o", tmp_path / "a.npz")


# --- headers ------------------------------------------------------------------------------------------------------


def header(**fields: bytes) -> bytes:
    """A header of a tar with some fields as they are given."""
    places = {"size": 124, "kind": 156}
    data = bytearray(member("a.png", b""))
    for name, value in fields.items():
        data[places[name] : places[name] + len(value)] = value
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def pax(**fields: str) -> bytes:
    records = "".join(f"{len(name) + len(value) + 5} {name}={value}\n" for name, value in fields.items())
    return member("x", records.encode(), kind=tarfile.XHDTYPE)


NEGATIVE = b"\xff" * 10 + b"\xec\x00"  # -5120, in the numbers of GNU tar
HEADERS = {
    "negative size": header(size=NEGATIVE),
    "size of 2**80": header(size=b"\x80\x01" + bytes(10)),
    "negative size by pax": pax(size="-900") + header(),
    "huge size by pax": pax(size="9" * 40) + header(),
    "sparse, stored in negative size": header(size=NEGATIVE, kind=tarfile.GNUTYPE_SPARSE),
    "sparse map without an end": pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}) + header() + b"9" * 512,
    "sparse map of words": pax(**{"GNU.sparse.map": "a,b"}) + header(),
    "sparse size of words": pax(**{"GNU.sparse.size": "x"}) + header(),
    "extended sparse header that is cut": sparse_member("a.png", b"", 9)[:482] + b"\x01" + bytes(29),
    "name without an end": header(size=b"00000001000\0", kind=tarfile.GNUTYPE_LONGNAME),
    "negative name": header(size=NEGATIVE, kind=tarfile.GNUTYPE_LONGNAME),
    "negative pax": header(size=NEGATIVE, kind=tarfile.XHDTYPE),
}


@pytest.mark.parametrize("what", HEADERS)
def test_headers_that_make_no_sense_are_damage_in_one_line(fails, tmp_path, monkeypatch, what):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tar").write_bytes(member("0.png", png()) + HEADERS[what] + member("1.png", png()) + END)
    assert "a.tar is cut short or damaged" in fails(1, "prepare", "shards", tmp_path / "in")
    with open(tmp_path / "in/a.tar", "rb") as file:
        monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": file}))
        assert "ends or breaks" in fails(1, "evaluate", "-", "--metric", "is", "--features", "random", "--no-cache")


def test_weights_in_a_packed_zip_file_are_refused_and_not_taken_for_numbers(tmp_path):
    torch.save({"a": torch.arange(9.0)}, tmp_path / "a.bin")
    assert read_tensors(tmp_path / "a.bin")["a"].tolist() == list(range(9))
    with (
        zipfile.ZipFile(tmp_path / "a.bin") as plain,
        zipfile.ZipFile(tmp_path / "b.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for info in plain.infolist():
            packed.writestr(info.filename, plain.read(info))
    with pytest.raises(
        RestokError, match=r"b\.bin cannot be read as weights \(.* in it is packed, as torch packs none\)"
    ):
        read_tensors(tmp_path / "b.bin")


# --- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 999, 1000, 1001, 1500])
def test_streamed_samples_come_in_the_order_of_webdatasets_shuffle(count):
    samples = [streaming.StreamedSample(str(i), 0, "", b"x") for i in range(count)]
    ours = list(streaming._shuffled(iter(samples), random.Random("seed")))
    assert ours == list(shuffle(1000, rng=random.Random("seed"))(iter(samples)))


def test_of_large_samples_fewer_wait_to_be_drawn(monkeypatch):
    monkeypatch.setattr(streaming, "SHUFFLE_BYTES", 1000)
    read = 0

    def samples():
        nonlocal read
        for i in range(300):
            read += 1
            yield streaming.StreamedSample(str(i), 0, "", bytes(150))

    found = []
    for sample in streaming._shuffled(samples(), random.Random("seed")):
        found.append(sample.key)
        assert read - len(found) <= 1000 // 150 + 1
    assert sorted(found, key=int) == [str(i) for i in range(300)] != found


# --- programs -----------------------------------------------------------------------------------------------------
