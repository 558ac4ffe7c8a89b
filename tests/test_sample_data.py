import hashlib
import io
import json
import tarfile
from collections import Counter

import pytest
import webdataset
from pictures import noise

from restok_cli.assets.build_sample import build_sample
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.shards.layout import SAMPLE_FOLDER


@pytest.fixture(scope="module")
def dataset():
    return open_dataset("sample")


def test_it_has_1906_emoji_in_98_named_classes(dataset):
    assert sum(len(dataset.split(name)) for name in dataset.splits) == 1906
    assert dataset.num_classes == len(set(dataset.class_names)) == 98
    assert dataset.class_names[:2] == ["face-smiling", "face-affection"]
    assert dataset.manifest.image_size == (64, 64)


def test_it_fits_into_five_megabytes_with_notice_and_licence():
    files = list(SAMPLE_FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) <= 5_000_000
    assert "Noto Emoji" in (SAMPLE_FOLDER / "NOTICE").read_text()
    assert "Apache License" in (SAMPLE_FOLDER / "LICENSE").read_text()


def test_every_class_of_two_pictures_is_in_both_splits(dataset):
    train, validation = (Counter(dataset.split(name).class_ids.tolist()) for name in ("train", "validation"))
    assert set(train) == set(range(98))
    assert all(validation[c] >= 1 or train[c] == 1 for c in range(98))
    assert 0.09 < validation.total() / 1906 < 0.11


def test_every_picture_is_64_by_64_rgb_and_every_key_unique(dataset):
    keys = []
    for split in map(dataset.split, dataset.splits):
        for i in range(len(split)):
            image = split.image(i)
            assert (image.mode, image.size) == ("RGB", (64, 64))
            keys.append(split.key(i))
    assert len(set(keys)) == 1906
    assert "1f600" in keys


def test_shards_have_the_hashes_that_the_manifest_tells(dataset):
    assert set(dataset.splits) == {"train", "validation"}
    for split in dataset.splits:
        for shard, info in zip(dataset.split(split).shards, dataset.manifest.splits[split].shards, strict=True):
            assert shard.path.suffix == ".gz"
            assert len(shard._unpacked) == info.bytes
            assert hashlib.sha256(shard._unpacked).hexdigest() == info.sha256


def test_webdataset_reads_the_gzipped_shards(dataset):
    split = dataset.split("validation")
    read = list(webdataset.WebDataset(str(split.shards[0].path), shardshuffle=False))
    assert [s["webp"] for s in read] == [split.read(i) for i in range(len(split))]
    assert [s["__key__"] for s in read] == [split.key(i) for i in range(len(split))]
    assert [int(s["cls"]) for s in read] == split.class_ids.tolist()
    assert all(json.loads(s["json"])["name"] for s in read)


def write_emoji(folder, count):
    folder.mkdir()
    entries = []
    with tarfile.open(folder / "noto-emoji-64.tar", "w") as tar:
        for i in range(count):
            file = io.BytesIO()
            noise(i, 8, 8).convert("RGBA").save(file, "PNG")
            member = tarfile.TarInfo(f"1f60{i}.png")
            member.size = file.tell()
            tar.addfile(member, io.BytesIO(file.getvalue()))
            entries.append({"file": member.name, "name": f"face {i}", "subcategory": f"kind-{i // 4}"})
    (folder / "index.json").write_text(json.dumps(entries))


def test_building_it_twice_gives_the_same_bytes(tmp_path):
    write_emoji(tmp_path / "source", 8)
    first, second = (build_sample(tmp_path / "source", tmp_path / name) for name in ("first", "second"))
    assert first == second
    assert first.class_names == ["kind-0", "kind-1"]
    files = {file.name: file.read_bytes() for file in (tmp_path / "first").iterdir()}
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "second").iterdir()}
    assert {"train-000000.tar.gz", "validation-000000.tar.gz", "NOTICE", "LICENSE"} < set(files)
