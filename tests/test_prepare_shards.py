"""Shards that others have made, described where they lie."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from foreign_shards import picture, read_by_restok, read_by_webdataset, sample, write_tar

from restok_cli.data.loading.streaming import read_shards
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.errors import RestokError


@pytest.fixture
def wds(tmp_path):
    """In the layout of timm/imagenet-1k-wds: two shards of three samples to train, one of two to validate."""
    for number in range(2):
        files = [file for i in range(3) for file in sample(f"n0{number}_{i}", 10 * number + i, i * 7)]
        write_tar(tmp_path / "wds" / f"imagenet1k-train-{number:04d}.tar", files)
    files = [file for i in range(2) for file in sample(f"val_{i}", 90 + i, i)]
    write_tar(tmp_path / "wds" / "imagenet1k-validation-00.tar", files)
    return tmp_path / "wds"


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("jobs", [1, 2])
def test_shards_are_read_as_webdataset_reads_them_and_stay_as_they_are(restok, wds, tmp_path, in_place, jobs):
    before = {path.name: path.read_bytes() for path in wds.iterdir()}
    out = wds if in_place else tmp_path / "out"
    result = restok("prepare", "shards", wds, *([] if in_place else [out]), "--jobs", jobs)
    assert (result.code, result.out) == (0, f"{out}\n"), result.err
    assert "8 images, 15 classes: train 6, validation 2" in result.err
    assert read_by_restok(out, "train") == read_by_webdataset(wds, "*-train-*.tar")
    assert read_by_restok(out, "validation") == read_by_webdataset(wds, "*-validation-*.tar")
    assert open_dataset(out).class_names == [str(i) for i in range(15)]
    assert {path.name: path.read_bytes() for path in wds.glob("*.tar")} == before
    if not in_place:
        assert {path.name: path.read_bytes() for path in wds.iterdir()} == before
        assert all(path.is_symlink() for path in out.glob("*.tar"))
    assert restok("prepare", "verify", out).code == 0


@pytest.mark.parametrize("pattern", ["imagenet1k-train-{0000..0001}.tar", "imagenet1k-tr*.tar"])
def test_patterns_name_shards(restok, wds, tmp_path, pattern):
    assert restok("prepare", "shards", wds / pattern, tmp_path / "out").code == 0
    assert open_dataset(tmp_path / "out").splits == ["train"]
    assert len(read_by_restok(tmp_path / "out", "train")) == 6


def test_the_fingerprint_is_the_same_in_place_and_by_links(restok, wds, tmp_path):
    restok("prepare", "shards", wds, tmp_path / "out")
    restok("prepare", "shards", wds)
    assert open_dataset(wds).fingerprint == open_dataset(tmp_path / "out").fingerprint


def test_class_names_come_from_a_file_or_are_those_of_imagenet(restok, fails, wds, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"name {i}\n" for i in range(20)))
    assert restok("prepare", "shards", wds, tmp_path / "a", "--class-names", names).code == 0
    assert open_dataset(tmp_path / "a").class_names == [f"name {i}" for i in range(20)]
    assert restok("prepare", "shards", wds, tmp_path / "b", "--class-names", "imagenet").code == 0
    assert open_dataset(tmp_path / "b").class_names[360] == "otter"
    names.write_text("a\nb\n")
    message = fails(1, "prepare", "shards", wds, tmp_path / "c", "--class-names", names)
    assert "imagenet1k-train-0000.tar holds class 14, beyond the 2 classes stated" in message
    assert "give a text file" in fails(2, "prepare", "shards", wds, tmp_path / "c", "--class-names", tmp_path / "no")
    assert not (tmp_path / "c").exists()


def test_what_is_no_sample_is_listed_and_left_out(restok, tmp_path):
    whole = picture(1)
    files = [
        *sample("good", 0, 3),
        *[("cut.jpg", whole[:-20]), ("cut.cls", b"1")],
        *[("text.txt", b"no image"), ("text.cls", b"1")],
        *[("two.jpg", whole), ("two.png", picture(2, "PNG")), ("two.cls", b"1")],
        *[("odd.jpg", whole), ("odd.cls", b"cat")],
        *sample("folder.d/last", 5, 2),
    ]
    write_tar(tmp_path / "in/a-000.tar", [*files, ("._good.jpg", b"macOS")])
    result = restok("prepare", "shards", tmp_path / "in", tmp_path / "out", "--json")
    assert json.loads(result.out)["unreadable"] == 4
    bad = [json.loads(line) for line in (tmp_path / "out/bad.jsonl").read_text().splitlines()]
    assert {entry["file"]: entry["reason"] for entry in bad} == {
        "cut in a-000.tar": "cannot be decoded as an image (the file is cut short)",
        "text in a-000.tar": "0 images under this key instead of one, among .txt .cls",
        "two in a-000.tar": "2 images under this key instead of one, among .jpg .png .cls",
        "odd in a-000.tar": "its .cls is 'cat', no class id: expected a number, counted from 0",
    }
    assert [class_id for _, class_id, _ in read_by_restok(tmp_path / "out", "train")] == [3, 2]
    assert restok("prepare", "verify", tmp_path / "out").code == 0


def test_damage_between_pictures_names_the_samples_around_it(restok, wds, tmp_path):
    """In these shards a sample's json comes after its image, so the checksum of the next one covers it."""
    restok("prepare", "shards", wds)
    shard = wds / "imagenet1k-train-0000.tar"
    contents = bytearray(shard.read_bytes())
    contents[contents.index(b'{"name": "n00_1"}') + 3] ^= 4
    shard.write_bytes(contents)
    result = restok("prepare", "verify", wds, "--json")
    ((file, name, what),) = [problem.values() for problem in json.loads(result.out)["problems"]]
    assert (file, name, what) == ("imagenet1k-train-0000.tar", "n00_1 or n00_2 (number 2)", "damaged")


def test_shards_without_classes_have_none_but_some_samples_cannot(restok, fails, tmp_path):
    write_tar(tmp_path / "in/a.tar", [*sample("a", 0), *sample("b", 1)])
    result = restok("prepare", "shards", tmp_path / "in")
    assert "no sample has a class, which is read of .cls alone, not of .json" in result.err
    assert open_dataset(tmp_path / "in").num_classes == 0
    result = restok("prepare", "shards", tmp_path / "in", "--overwrite", "--num-classes", 0)
    assert result.code == 0 and "no sample has" not in result.err
    write_tar(tmp_path / "mixed/a.tar", [*sample("a", 0), *sample("b", 1, 1)])
    assert "a.tar holds samples without a class (.cls), others have one" in fails(
        1, "prepare", "shards", tmp_path / "mixed"
    )
    assert [path.name for path in (tmp_path / "mixed").iterdir()] == ["a.tar"]


@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
def test_a_cut_shard_is_refused_wherever_it_is_cut(fails, tmp_path, blocks):
    write_tar(tmp_path / "in/a.tar", sample("a", 0, 1))
    contents = (tmp_path / "in/a.tar").read_bytes()
    (tmp_path / "in/a.tar").write_bytes(contents[: 512 * blocks])
    message = fails(1, "prepare", "shards", tmp_path / "in")
    assert "a.tar is" in message and "download it again" in message
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.tar"]


def test_shards_behind_urls_are_named_not_read(restok, fails, tmp_path):
    url = "https://example.com/cats-{train,val}-{000..002}.tar"
    restok("prepare", "sample", tmp_path / "out")
    result = restok("prepare", "shards", url, tmp_path / "out", "--class-names", "imagenet", "--json", "--overwrite")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dataset.json"]
    told = json.loads(result.out)
    assert told["images"] is None and told["splits"] == {"train": None, "validation": None}
    assert told["urls"] == {"train": 3, "validation": 3}
    assert "6 URLs named: train 3, validation 3; nothing was read, so the images are not counted" in result.err
    dataset = open_dataset(tmp_path / "out")
    assert dataset.manifest.splits["train"].urls == [f"https://example.com/cats-train-00{i}.tar" for i in range(3)]
    assert dataset.num_classes == 1000
    result = restok("prepare", "verify", tmp_path / "out")
    assert result.code == 1 and "the shards of train are elsewhere" in result.err
    assert "could be checked; download its shards" in result.err and "as they were prepared" not in result.out
    assert "give a folder OUT" in fails(2, "prepare", "shards", url)


def test_what_cannot_be_described_is_refused(fails, wds, tmp_path):
    assert "nowhere.tar: no such shard" in fails(2, "prepare", "shards", tmp_path / "nowhere.tar", tmp_path / "out")
    missing = wds / "imagenet1k-train-{0000..0002}.tar"
    assert "imagenet1k-train-0002.tar: no such shard" in fails(2, "prepare", "shards", missing, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "no shards there" in fails(2, "prepare", "shards", tmp_path / "empty", tmp_path / "out")
    for part in ("0000,7", "nowhere"):  # of a pattern, every part must name shards
        half = wds / f"imagenet1k-train-{{{part}}}*.tar"
        assert "no shards there" in fails(2, "prepare", "shards", half, tmp_path / "out")
    assert "a brace is missing" in fails(2, "prepare", "shards", wds / "{a.tar", tmp_path / "out")
    assert "is no plain tar" in fails(2, "prepare", "shards", __file__, tmp_path / "out")
    assert "leave it away" in fails(2, "prepare", "shards", wds, wds)
    for name in ("imagenet1k-train-0000.npy", "bad.jsonl"):
        (wds / name).write_bytes(b"years of work")
        assert f"{name} is in the way" in fails(2, "prepare", "shards", wds)
        assert (wds / name).read_bytes() == b"years of work"
        (wds / name).unlink()
    (wds / "a.b.tar").touch()
    assert "a.b.tar: only letters" in fails(2, "prepare", "shards", wds)
    for name in ("a.tar.gz", "a.tgz"):
        (wds / name).touch()
        assert f"{name} is no plain tar, so that it cannot be indexed; unpack it" in fails(2, "prepare", "shards", wds)
        (wds / name).unlink()
    (wds / "more").mkdir()
    (wds / "more/B.TAR").touch()
    assert "more/B.TAR lies deeper than the tars of a folder that are taken" in fails(2, "prepare", "shards", wds)
    assert not (tmp_path / "out").exists()


def test_describing_again_needs_overwrite_and_keeps_the_shards(restok, fails, wds):
    restok("prepare", "shards", wds)
    before = {path.name: path.read_bytes() for path in wds.iterdir()}
    assert "is a data set already; give --overwrite" in fails(2, "prepare", "shards", wds)
    assert restok("prepare", "shards", wds, "--overwrite").code == 0
    assert {path.name: path.read_bytes() for path in wds.iterdir()} == before


@pytest.mark.parametrize("name", ["a [1]/b-0.tar", "b-{0..1}.tar", "b-?.tar"])
def test_folders_and_files_may_be_called_as_patterns_are(restok, tmp_path, name):
    write_tar(tmp_path / "in" / name, sample("a", 0, 0))
    source = (tmp_path / "in" / name).parent if "/" in name else tmp_path / "in" / name
    assert restok("prepare", "shards", source, tmp_path / "out").code == 0
    assert len(open_dataset(tmp_path / "out").split("train")) == 1


def test_patterns_longer_than_a_name_may_be_are_patterns(restok, tmp_path):
    names = [f"shard-with-a-{'very-' * 20}long-name-{i}" for i in range(3)]
    for i, name in enumerate(names):
        write_tar(tmp_path / f"{name}.tar", sample(f"{i}", i, 0))
    assert restok("prepare", "shards", f"{tmp_path}/{{{','.join(names)}}}.t*r", tmp_path / "out").code == 0


def test_what_timm_is_told_is_of_all_shards_that_are_described_anew(restok, wds):
    assert restok("prepare", "shards", wds).code == 0
    write_tar(wds / "imagenet1k-train-0002.tar", sample("more", 50, 1))
    assert restok("prepare", "shards", wds, "--overwrite").code == 0
    told = json.loads((wds / "_info.json").read_text())["splits"]["train"]
    assert told["num_samples"] == 7 and told["filenames"][-1] == "imagenet1k-train-0002.tar"


@pytest.mark.parametrize("step", [0, 1, 2, 3, 5])
def test_stopped_before_its_end_a_set_of_links_can_be_made_anew(restok, wds, tmp_path, monkeypatch, step):
    out, moved, replace = tmp_path / "out", [], os.replace

    def stop(source, target):
        if Path(target).parent == out:
            moved.append(target)
        if len(moved) > step:
            raise OSError(errno.EIO, "stopped")
        replace(source, target)

    assert restok("prepare", "shards", wds, out).code == 0
    (wds / "imagenet1k-train-0001.tar").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", stop)
        assert restok("prepare", "shards", wds, out, "--overwrite").code == 1
    assert restok("prepare", "shards", wds, out).code == 2
    assert restok("prepare", "shards", wds, out, "--overwrite").code == 0
    names = [f"{split}-000000.{suffix}" for split in ("train", "validation") for suffix in ("npy", "tar")]
    assert sorted(path.name for path in out.iterdir()) == ["_info.json", "dataset.json", *names]


def test_the_description_that_timm_has_written_stays(restok, wds):
    (wds / "_info.json").write_text("timm's own")
    restok("prepare", "shards", wds)
    assert (wds / "_info.json").read_text() == "timm's own"


def test_links_that_are_replaced_leave_the_shards_alone(restok, wds, tmp_path):
    restok("prepare", "shards", wds, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in wds.iterdir()}
    assert restok("prepare", "sample", tmp_path / "out", "--overwrite").code == 0
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    assert {path.name: path.read_bytes() for path in wds.iterdir()} == before
    assert restok("prepare", "shards", wds, tmp_path / "out", "--overwrite").code == 0
    assert np.load(tmp_path / "out/train-000001.npy").shape == (3,)
    assert not (tmp_path / "out/NOTICE").exists()


def test_shards_are_never_replaced_by_links_to_themselves(restok, fails, wds, tmp_path):
    before = {path.name: path.read_bytes() for path in wds.iterdir()}
    restok("prepare", "shards", wds, tmp_path / "links")
    message = fails(2, "prepare", "shards", tmp_path / "links", wds, "--overwrite")
    assert "links/train-000000.tar is a link to a shard in" in message and "give another folder OUT" in message
    write_tar(tmp_path / "other/x-000000.tar", sample("a", 0, 0))
    both = f"{{{tmp_path}/other/x-000000,{wds}/imagenet1k-train-0001}}.tar"
    assert "is where the shards lie" in fails(2, "prepare", "shards", both, wds, "--overwrite")
    assert "lie in different folders; give a folder OUT" in fails(2, "prepare", "shards", both)
    assert {path.name: path.read_bytes() for path in wds.iterdir()} == before


def test_shards_described_in_place_are_not_replaced_by_any_data_set(restok, fails, tmp_path):
    write_tar(tmp_path / "mine/train-000000.tar", sample("a", 0, 0))
    restok("prepare", "shards", tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    (tmp_path / "mine/_info.json").unlink()
    write_tar(tmp_path / "other/x-000000.tar", sample("b", 1, 0))
    for command in (["sample"], ["shards", tmp_path / "other"], ["shards", "https://example.com/a.tar"]):
        message = fails(2, "prepare", *command, tmp_path / "mine", "--overwrite")
        assert "mine holds train-000000.tar, which this command did not make" in message
    before.pop("_info.json")
    assert {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()} == before


def test_a_foreign_list_beside_shards_is_not_replaced(fails, wds):
    (wds / "bad.jsonl").write_text("years of work")
    assert "bad.jsonl is in the way" in fails(2, "prepare", "shards", wds)
    assert (wds / "bad.jsonl").read_text() == "years of work"


def test_impossible_classes_are_told_without_a_list_of_all_below(restok, fails, tmp_path):
    huge = [("huge.jpg", picture(1)), ("huge.cls", b"9" * 30)]
    write_tar(tmp_path / "in/a.tar", [*sample("good", 0, 3), *huge])
    assert restok("prepare", "shards", tmp_path / "in").code == 0
    assert open_dataset(tmp_path / "in").num_classes == 4
    assert "9', no class id" in (tmp_path / "in/bad.jsonl").read_text()
    write_tar(tmp_path / "large/a.tar", sample("a", 0, 999_999))
    message = fails(1, "prepare", "shards", tmp_path / "large")
    assert "a.tar holds class 999999, more than there are samples" in message and "--class-names" in message


def test_splits_are_told_by_whole_words_of_the_file_or_of_its_folder(restok, fails, tmp_path):
    names = ["latest-0", "carnival-0", "train/0", "val/0", "set/cats-test-0"]
    for i, name in enumerate(names):
        write_tar(tmp_path / f"x/{name}.tar", sample("a" if i == 2 else f"b{i}", i, 0))
    pattern = f"{tmp_path}/x/{{{','.join(names)}}}.tar"
    result = restok("prepare", "shards", pattern, tmp_path / "out")
    assert "train 3, validation 1, test 1" in result.err and "splits by name: train " in result.err
    write_tar(tmp_path / "train-val-0.tar", sample("a", 0))
    message = fails(2, "prepare", "shards", tmp_path / "train-val-0.tar", tmp_path / "o")
    assert "names train and validation" in message and "or state the splits: give SHARDS [OUT], or train=" in message


def test_shards_and_classes_that_numbers_speak_of_and_that_are_not_there_are_said(restok, tmp_path):
    for i in (0, 2):
        write_tar(tmp_path / f"in/train-{i:05d}-of-00003.tar", sample(f"{i}", i, 2 * i + 1))
    write_tar(tmp_path / "in/val-00000-of-00001.tar", sample("0", 9, 1))
    timm = {"splits": {"train": {"filenames": ["gone.tar", "train-00000-of-00003.tar", 7]}, "validation": [7]}}
    (tmp_path / "in/_info.json").write_text(json.dumps(timm))
    said = restok("prepare", "shards", tmp_path / "in").err
    assert f"train: {tmp_path}/in/_info.json speaks of 1 shard more, gone.tar the first\n" in said
    assert "train: 2 of the 3 shards that their names speak of\n" in said and "validation: 1 of" not in said
    assert "4 classes below 5 without a sample, 0 the first: class ids count from 0" in said


def test_stated_splits_are_never_guessed(restok, fails, tmp_path):
    for name in ("a/val-0", "a/val-1", "b/train-0", "c/x"):
        write_tar(tmp_path / f"{name}.tar", sample(name.replace("/", "_"), 1))
    words = [f"train={tmp_path}/a/*.tar", f"val={tmp_path}/b", f"train={tmp_path}/c/x.tar"]
    result = restok("prepare", "shards", *words, tmp_path / "out")
    assert "no classes: train 3, validation 1" in result.err and "splits by name" not in result.err
    assert [key for key, *_ in read_by_restok(tmp_path / "out", "train")] == ["a_val-0", "a_val-1", "c_x"]
    assert restok("prepare", "shards", f"test={tmp_path}/c", "--json").code == 0  # where it lies
    assert open_dataset(tmp_path / "c").splits == ["test"]
    twice = fails(2, "prepare", "shards", *words, f"test={tmp_path}/b", tmp_path / "o")
    assert "b/train-0.tar is named twice (for validation and for test)" in twice
    for folder in "ab":  # which a writer among several may leave
        write_tar(tmp_path / folder / "val-empty.tar", {})
    assert restok("prepare", "shards", *words, tmp_path / "out", "--overwrite").code == 0
    shutil.copy(tmp_path / "b/train-0.tar", tmp_path / "c/copy.tar")
    copies = fails(1, "prepare", "shards", *words, f"test={tmp_path}/c/copy.tar", tmp_path / "o")
    assert "b/train-0.tar and" in copies and "c/copy.tar hold the same samples, which would be in two splits" in copies
    assert "only one source has no split" in fails(2, "prepare", "shards", tmp_path / "a", "b", tmp_path / "o")
    assert "the split of these is not stated" in fails(2, "prepare", "shards", tmp_path / "a", words[1])
    mixed = fails(2, "prepare", "shards", words[0], "val=https://host/a.tar", tmp_path / "o", "--num-classes", 0)
    assert "some of the shards are behind URLs, others are not" in mixed


def test_hidden_tars_are_passed_over(restok, wds, tmp_path):
    (wds / "._imagenet1k-train-0000.tar").write_bytes(b"macOS")
    assert restok("prepare", "shards", wds, tmp_path / "out").code == 0


def test_classes_behind_urls_must_be_stated(restok, fails, tmp_path):
    url = "https://example.com/a-{0..1}.tar"
    assert "their classes must be stated: give --class-names" in fails(2, "prepare", "shards", url, tmp_path / "a")
    for count in (0, 3):
        assert restok("prepare", "shards", url, tmp_path / f"{count}", "--num-classes", count).code == 0
        assert open_dataset(tmp_path / f"{count}").class_names == [str(i) for i in range(count)]
    message = fails(2, "prepare", "shards", url, tmp_path / "a", "--num-classes", 2, "--class-names", "imagenet")
    assert "leave --num-classes out" in message


def test_stated_classes_are_checked_against_those_that_are_there(restok, fails, wds, tmp_path):
    assert restok("prepare", "shards", wds, tmp_path / "out", "--num-classes", 20).code == 0
    assert open_dataset(tmp_path / "out").num_classes == 20
    assert "holds class 14, beyond the 0 classes" in fails(
        1, "prepare", "shards", wds, tmp_path / "o", "--num-classes", 0
    )
    write_tar(tmp_path / "in/a.tar", sample("a", 0))
    assert "2 classes stated, but the samples" in fails(1, "prepare", "shards", tmp_path / "in", "--num-classes", 2)


def test_names_of_classes_end_at_line_feeds_alone(restok, fails, tmp_path):
    write_tar(tmp_path / "in/a.tar", sample("a", 0, 1))
    names = tmp_path / "names.txt"
    names.write_bytes("\ufeffone\u2028still one\r\nzwei\n".encode())
    assert restok("prepare", "shards", tmp_path / "in", "--class-names", names).code == 0
    assert open_dataset(tmp_path / "in").class_names == ["one\u2028still one", "zwei"]
    names.write_text("a\n\nb\n")
    line = fails(2, "prepare", "shards", tmp_path / "in", tmp_path / "o", "--class-names", names)
    assert "line 2: empty, where the name of class 1 is expected" in line


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            [("{}.jpg", picture(0)), ("{}.png", picture(1, "PNG"))],
            "2 images under this key instead of one, among .jpg",
        ),
        ([("{}.jpg", picture(0)), ("{}.cls", b"n01440764")], "its .cls is 'n01440764', no class id: expected a number"),
        ([("{}.txt", b"x")], "0 images under this key instead of one, among .txt"),
    ],
    ids=["two images", "synset", "none"],
)
def test_shards_of_which_nothing_is_left_are_refused_with_the_reason(fails, tmp_path, files, reason):
    write_tar(tmp_path / "in/val-0.tar", [(name.format(i), data) for i in range(3) for name, data in files])
    write_tar(tmp_path / "in/train-0.tar", sample("a", 0))
    message = fails(1, "prepare", "shards", tmp_path / "in")
    assert f"the validation shards ({tmp_path}/in/val-0.tar, …) hold no samples: of 3, none can be taken" in message
    assert f"(0 in val-0.tar: {reason}" in message


def test_synsets_are_the_classes_of_imagenet(restok, fails, tmp_path):
    synsets = {"n01440764": 0, "n15075141\n": 999}
    samples = [
        (f"{i}.{kind}", data)
        for i, said in enumerate(synsets)
        for kind, data in (("cls", said.encode()), ("jpg", picture(i)))
    ]
    write_tar(tmp_path / "in/a.tar", samples)
    for stated in ((), ("--num-classes", 1000)):
        line = fails(1, "prepare", "shards", tmp_path / "in", tmp_path / "x", *stated)
        assert "its .cls is 'n01440764', no class id" in line and "--class-names imagenet takes synsets" in line
    out = tmp_path / "out"
    assert restok("prepare", "shards", tmp_path / "in", out, "--class-names", "imagenet").code == 0
    assert [class_id for _, class_id, _ in read_by_restok(out, "train")] == list(synsets.values())
    assert restok("prepare", "verify", out).code == 0
    names = open_dataset(out).class_names
    streamed = read_shards([str(tmp_path / "in/a.tar")], names)
    assert [sample.class_id for sample in streamed] == list(synsets.values())
    with pytest.raises(
        RestokError, match=r"its \.cls is 'n01440764', no class id: .*--class-names imagenet takes synsets"
    ):
        list(read_shards([str(tmp_path / "in/a.tar")], names[:999]))
    write_tar(tmp_path / "in/a.tar", [("0.jpg", picture(0)), ("0.cls", b"n99999999")])
    line = fails(1, "prepare", "shards", tmp_path / "in", out, "--class-names", "imagenet", "--overwrite")
    assert "its .cls is 'n99999999', neither a class id, counted from 0, nor a synset of ImageNet's" in line


def test_shards_are_the_same_samples_indexed_and_streamed(restok, tmp_path):
    files = [("0.image.jpg", picture(0)), ("0.cls", b"1"), ("1.jpg", picture(1)), ("1.seg.png", picture(2, "PNG"))]
    write_tar(
        tmp_path / "in/a.tar",
        [*files, ("1.image.cls", b"0"), ("._2.jpg", b"macOS"), ("d.e/3.JPG", picture(3)), ("d.e/3.cls", b"2")],
    )
    restok("prepare", "shards", tmp_path / "in")
    streamed = read_shards([str(tmp_path / "in/a.tar")], ["a", "b", "c"])
    found = [(sample.key, sample.class_id, sample.data) for sample in streamed]
    assert found == read_by_restok(tmp_path / "in", "train") and len(found) == 3
