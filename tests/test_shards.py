import json
import os
import pickle
import re
import resource
import signal
import tarfile
from contextlib import contextmanager

import numpy as np
import pytest
import webdataset
from pictures import write_pictures

from restok_cli.data.shards import dataset
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.shards.layout import NO_CLASS, Sample
from restok_cli.data.shards.writer import write_dataset
from restok_cli.errors import ImageError, RestokError, UsageError
from restok_cli.files import whole_folder


def sample(i: int, class_id: int = 0) -> Sample:
    picture = np.random.default_rng(i).integers(0, 256, 300 + 217 * i, np.uint8).tobytes()
    return Sample(f"key{i}", "png", picture, (8, 8), class_id, {"file": f"é {i}.png"})


def write(folder, splits, **options):
    folder.mkdir(parents=True, exist_ok=True)
    options = {"name": "test", "class_names": ["a", "b"], "provenance": {"source": "test"}} | options
    return write_dataset(folder, splits, **options)


@pytest.fixture
def samples():
    return [sample(i, i % 2) for i in range(11)]


@pytest.fixture
def folder(tmp_path, samples):
    write(tmp_path / "set", {"train": samples[:8], "validation": samples[8:]}, samples_per_shard=3)
    return tmp_path / "set"


def test_every_sample_is_read_back_as_it_was_written(folder, samples):
    data = open_dataset(folder)
    assert (data.name, data.class_names, data.num_classes) == ("test", ["a", "b"], 2)
    assert data.splits == ["train", "validation"]
    for name, written in (("train", samples[:8]), ("validation", samples[8:])):
        split = data.split(name)
        assert len(split) == len(written)
        for i, (key, _, picture, _, class_id, _) in enumerate(written):
            assert (split.key(i), split.read(i), split.class_id(i)) == (key, picture, class_id)
        assert split.class_ids.dtype == np.int32
        assert split.class_ids.tolist() == [s.class_id for s in written]


@pytest.mark.parametrize("most_checked", [dataset.MOST_CHECKED, 0])
def test_a_sample_comes_with_its_name_by_opening_its_shard_once(folder, samples, monkeypatch, most_checked):
    """On a disk of the net an opening takes longer than the reading."""
    opened, pread = [], os.pread
    split = open_dataset(folder).split("train")
    _ = [shard.index for shard in split.shards]
    monkeypatch.setattr(dataset, "MOST_CHECKED", most_checked)
    monkeypatch.setattr(os, "pread", lambda *place: opened.append(place) or pread(*place))
    for i in range(8):
        path = folder / f"train-{i // 3:06d}.tar"
        assert split.file(i) == (samples[i].data, f"{path}: key{i}.png")
        assert opened.pop() and not opened


def test_a_sample_that_was_damaged_since_is_named_where_it_is_read(folder, samples):
    tar, whole = folder / "train-000000.tar", (folder / "train-000000.tar").read_bytes()
    index = np.load(folder / "train-000000.npy")
    ends = index["offset"].astype(int) + -(-index["length"].astype(int) // 512) * 512
    for position in range(100, len(whole) - 1024, 97):
        tar.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        split, damaged = open_dataset(folder).split("train"), []
        for i in range(3):
            try:
                assert split.read(i) == samples[i].data
            except ImageError as error:
                assert f"{tar} is not as it was prepared; `restok prepare verify`" in str(error)
                damaged.append(i)
        assert damaged == [i for i in range(3) if (ends[i - 1] if i else 0) <= position < ends[i]], position


def test_class_names_that_were_changed_are_told(folder, capsys):
    open_dataset(folder)
    assert capsys.readouterr().err == ""
    manifest = folder / "dataset.json"
    manifest.write_text(manifest.read_text().replace('"b"', '"c"'))
    assert open_dataset(folder).class_names == ["a", "c"]
    assert capsys.readouterr().err.startswith(f"{manifest}: class names or shards are not those that were prepared")


def test_webdataset_reads_the_same_samples(folder, samples):
    shards = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    assert len(shards) == 3
    read = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [s["__key__"] for s in read] == [s.key for s in samples[:8]]
    assert [s["png"] for s in read] == [s.data for s in samples[:8]]
    assert [int(s["cls"]) for s in read] == [s.class_id for s in samples[:8]]
    assert [json.loads(s["json"]) for s in read] == [s.info for s in samples[:8]]


def test_shards_are_what_webdataset_writes_by_itself(tmp_path, samples):
    samples += [sample(0)._replace(key="k" * 80, data=bytes(size)) for size in (0, 1, 511, 512, 513, 2**21)]
    samples += [sample(0)._replace(key=key) for key in ("ключ", "folder/" + "k" * 90, "k" * 95)]
    write(tmp_path, {"train": samples})
    plain = tmp_path / "plain.tar"
    with webdataset.TarWriter(str(plain), user="", group="", mtime=0, encoder=False) as writer:
        writer.tarstream.format = tarfile.USTAR_FORMAT
        for key, suffix, picture, _, class_id, info in samples:
            text = json.dumps(info, ensure_ascii=False).encode()
            writer.write({"__key__": key, "cls": str(class_id).encode(), "json": text})
            writer.write({"__key__": key, suffix: picture})
    assert (tmp_path / "train-000000.tar").read_bytes() == plain.read_bytes()


def test_samples_without_classes_have_none(tmp_path):
    write(tmp_path, {"train": [sample(0, NO_CLASS)]}, class_names=[])
    split = open_dataset(tmp_path).split("train")
    assert split.class_id(0) == -1 and split.class_ids.tolist() == [-1]
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        assert tar.getnames() == ["key0.json", "key0.png"]


def test_the_same_samples_give_the_same_bytes(tmp_path, samples):
    for name in ("one", "two"):
        write(tmp_path / name, {"train": iter(samples)}, samples_per_shard=4)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    with tarfile.open(tmp_path / "one" / "train-000000.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in tar} == {(0, 0, 0, "", "")}


def test_the_fingerprint_follows_samples_order_and_class_names(tmp_path, samples):
    def fingerprint(folder, splits, **options):
        return write(tmp_path / folder, splits, **options).fingerprint

    base = fingerprint("a", {"train": samples})
    assert fingerprint("b", {"train": samples}, name="other") == base
    others = {
        fingerprint("c", {"train": samples[:-1]}),
        fingerprint("d", {"train": samples[::-1]}),
        fingerprint("e", {"validation": samples}),
        fingerprint("f", {"train": samples}, class_names=["a", "c"]),
    }
    assert len(others) == 4 and base not in others


def test_picture_size_is_told_where_all_share_one(tmp_path, samples):
    assert write(tmp_path / "a", {"train": samples}).image_size == (8, 8)
    assert write(tmp_path / "b", {"train": [*samples, sample(99)._replace(size=(8, 9))]}).image_size is None


def test_a_split_without_samples_is_left_out_and_a_set_without_any_refused(tmp_path, samples):
    assert list(write(tmp_path / "a", {"train": samples, "validation": []}).splits) == ["train"]
    with pytest.raises(RestokError, match="not one image could be read"):
        write(tmp_path / "b", {"train": []})


def test_splits_can_be_pickled_also_after_reading(folder):
    split = open_dataset(folder).split("train")
    split.read(4)
    copy = pickle.loads(pickle.dumps(split))
    assert [copy.read(i) for i in range(8)] == [split.read(i) for i in range(8)]
    assert len(pickle.dumps(split)) < 2000


def test_samples_out_of_range_are_an_index_error(folder):
    split = open_dataset(folder).split("train")
    for i in (-1, 8):
        with pytest.raises(IndexError):
            split.read(i)


def test_an_unknown_split_is_refused_with_the_ones_there_are(folder):
    with pytest.raises(UsageError, match=r"no split valid \(did you mean validation\?\); it has train and validation"):
        open_dataset(folder).split("valid")


def test_folders_that_are_no_data_set_say_which_command_makes_one(tmp_path):
    write_pictures(tmp_path, ["a.png"])
    with pytest.raises(UsageError, match=rf"is not a data set; `restok prepare folder {tmp_path} OUT`"):
        open_dataset(tmp_path)
    with pytest.raises(UsageError, match="no such data set"):
        open_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}', '{"format_version": 2}'])
def test_a_damaged_or_newer_manifest_is_refused(folder, text):
    (folder / "dataset.json").write_text(text)
    with pytest.raises(RestokError, match=r"dataset\.json (is|has format)"):
        open_dataset(folder)


def test_a_missing_or_cut_shard_is_named_when_the_set_is_opened(folder):
    shard = folder / "train-000001.tar"
    contents = shard.read_bytes()
    shard.write_bytes(contents[:-512])
    with pytest.raises(RestokError, match=r"train-000001\.tar has \d+ bytes instead of \d+"):
        open_dataset(folder)
    shard.unlink()
    with pytest.raises(RestokError, match=r"train-000001\.tar is missing"):
        open_dataset(folder)


def test_a_missing_or_foreign_index_is_named(folder):
    index = folder / "train-000000.npy"
    index.write_bytes(index.read_bytes()[:-16])
    with pytest.raises(RestokError, match=r"train-000000\.npy"):
        open_dataset(folder).split("train").read(0)
    np.save(index, np.zeros(3))
    with pytest.raises(RestokError, match="does not index the 3 samples"):
        open_dataset(folder).split("train").read(0)
    index.unlink()
    with pytest.raises(RestokError, match="is missing"):
        open_dataset(folder).split("train").class_id(0)


def test_labels_that_were_changed_in_an_index_are_refused(folder):
    path = folder / "train-000000.npy"
    index = np.load(path)
    index["class_id"][0] = 1 - index["class_id"][0]  # another of the two classes
    np.save(path, index)
    with pytest.raises(RestokError, match=r"train-000000\.npy is not as it was prepared: copy the data set again"):
        open_dataset(folder).split("train").class_id(0)
    manifest = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text(re.sub(r'"index_crc32": \d+', '"index_crc32": null', manifest))
    assert open_dataset(folder).split("train").class_id(0) == index["class_id"][0]  # in older data sets nobody knows


def test_a_shard_cut_after_opening_is_named(folder):
    split = open_dataset(folder).split("train")
    shard = folder / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(RestokError, match=r"train-000000\.tar ends before byte"):
        split.read(2)


def test_a_broken_picture_is_named_by_key_and_shard(folder):
    with pytest.raises(RestokError, match=r"train-000001\.tar: key4\.png: cannot be decoded"):
        open_dataset(folder).split("train").image(4)


def test_a_set_of_more_shards_than_files_may_be_open_is_read(tmp_path):
    written = [sample(0)] * 40
    write(tmp_path, {"train": written}, samples_per_shard=1)
    split = open_dataset(tmp_path).split("train")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, limits[1]))
    try:
        assert [split.read(i) for i in range(40)] == [split.read(39)] * 40
        assert split.class_ids.tolist() == [0] * 40
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_shard_that_goes_away_while_it_is_read_is_named(folder):
    split = open_dataset(folder).split("train")
    split.read(0)
    (folder / "train-000000.tar").unlink()
    with pytest.raises(RestokError, match=r"train-000000\.tar cannot be read \(No such file"):
        split.read(0)


def remote(folder, urls, num_samples=0):
    """A data set whose training shards are elsewhere."""
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["splits"]["train"] = {"num_samples": num_samples, "urls": urls}
    (folder / "dataset.json").write_text(json.dumps(manifest))


def test_shards_that_are_elsewhere_cannot_be_read_by_number(folder):
    remote(folder, ["http://127.0.0.1:1/{a}.tar"], num_samples=8)
    split = open_dataset(folder).split("train")
    assert len(split) == 8
    for look in (split.read, split.image, split.key, split.class_id, lambda _: split.class_ids):
        with pytest.raises(UsageError, match="can only be streamed in training; for all else download"):
            look(0)
    remote(folder, ["http://127.0.0.1:1/{a}.tar"])
    with pytest.raises(UsageError, match="can only be streamed"):
        len(open_dataset(folder).split("train"))


def test_a_shell_command_in_place_of_a_shard_needs_permission(folder):
    remote(folder, ["pipe:cat a.tar"])
    with pytest.raises(UsageError, match=r"would run the shell command 'cat a\.tar'; if it may, give --allow-pipe"):
        open_dataset(folder)
    assert open_dataset(folder, allow_pipe=True).split("train").urls == ["pipe:cat a.tar"]


@pytest.mark.parametrize("split", [{"num_samples": 1}, {"num_samples": 0, "shards": [], "urls": []}])
def test_a_split_of_nothing_is_a_damaged_manifest(folder, split):
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["splits"]["train"] = split
    (folder / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(RestokError, match=r"is wrong: splits\.train"):
        open_dataset(folder)


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path, samples):
    def failing():
        yield from samples[:7]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "set") as temporary:
        write(temporary, {"train": failing()}, samples_per_shard=3)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def full_disk(num_bytes: int):
    """Files can grow to so many bytes only: writing on is an OSError, as on a full disk."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path, samples):
    with full_disk(10_000), pytest.raises(OSError, match="File too large"), whole_folder(tmp_path / "set") as temporary:
        write(temporary, {"train": samples})
    assert list(tmp_path.iterdir()) == []
