import json
import multiprocessing
import os
import shutil
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import imagenets
import pytest
from bombs import sparse_member
from imagenets import CLASS_IDS, NAMES, VALIDATION, splits_of, train_pictures, validation_pictures

from restok_cli.cli import run
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.sources import preparation
from restok_cli.data.sources.imagenet import read_classes, read_devkit

LAYOUTS = {
    "tars": imagenets.write_tars,
    "class tars": imagenets.write_class_tars,
    "folders": imagenets.write_folders,
    "kaggle": imagenets.write_kaggle,
    "parquet": imagenets.write_parquet,
}


@pytest.fixture
def prepared(restok, tmp_path):
    """Write an ImageNet in some layout, prepare it, and open the data set."""

    def call(layout, *options):
        LAYOUTS[layout](tmp_path / layout)
        out = tmp_path / f"{layout} prepared"
        result = restok("prepare", "imagenet", tmp_path / layout, out, *options)
        assert result.code == 0, result.err
        return open_dataset(out)

    return call


def contents(split):
    """Key -> (class id, bytes)."""
    return {split.key(i): (split.class_id(i), split.read(i)) for i in range(len(split))}


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stem(name):
    return name.removesuffix(".JPEG")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_every_picture_its_class_and_its_own_bytes(prepared, layout):
    dataset = prepared(layout, "--jobs", 1)
    assert dataset.num_classes == 1000
    assert {class_id: dataset.class_names[class_id] for class_id in NAMES} == NAMES
    suffix = {synset: f"_{synset}" if layout == "parquet" else "" for synset in CLASS_IDS}
    assert contents(dataset.split("train")) == {
        stem(name) + suffix[synset]: (CLASS_IDS[synset], data)
        for synset, files in train_pictures().items()
        for name, data in files.items()
    }
    assert contents(dataset.split("validation")) == {
        stem(name) + suffix[synset]: (CLASS_IDS[synset], data)
        for synset, (name, data) in zip(VALIDATION, validation_pictures().items(), strict=True)
    }


def test_files_give_the_same_shards_however_they_are_packed(prepared):
    fingerprints = {layout: prepared(layout, "--jobs", 1).fingerprint for layout in LAYOUTS if layout != "parquet"}
    assert len(set(fingerprints.values())) == 1, fingerprints


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_in_every_layout_the_next_start_ends_with_the_same_bytes(restok, tmp_path, monkeypatch, layout, jobs):
    LAYOUTS[layout](tmp_path / "in")
    command = ("prepare", "imagenet", tmp_path / "in", tmp_path / "out", "--samples-per-shard", 4, "--jobs", jobs)
    assert restok(*command).code == 0
    expected = files_of(tmp_path / "out")
    assert len([name for name in expected if name.endswith(".tar")]) == 5
    shutil.rmtree(tmp_path / "out")

    write, work, main = preparation.write_shard, tmp_path / "out/.partial", []

    def kill_at_the_third(path, samples):
        if len(list(work.glob("*-*.json"))) >= 2:
            os.kill(main[0], signal.SIGKILL)
            time.sleep(60)  # workers end with it
        return write(path, samples)

    def start():
        main.append(os.getpid())
        run([str(argument) for argument in command])

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_shard", kill_at_the_third)
        process = multiprocessing.get_context("fork").Process(target=start)
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    finished = {path.name: path.stat().st_ino for path in work.glob("*-*.json")}
    assert 2 <= len(finished) < 5 and not (tmp_path / "out/dataset.json").exists()
    result = restok(*command)
    assert result.code == 0 and "images done before; going on" in result.err
    assert files_of(tmp_path / "out") == expected


def test_rows_of_parquet_files_keep_their_order_over_shards(prepared):
    dataset = prepared("parquet", "--samples-per-shard", 4, "--jobs", 2)
    train = dataset.split("train")
    names = [name for files in train_pictures().values() for name in files]
    assert [train.key(i).rpartition("_")[0] for i in range(len(train))] == [stem(name) for name in names]
    assert len(dataset.manifest.splits["train"].shards) == 3


def test_the_thousand_classes_come_in_the_order_of_their_synsets_with_names_of_their_own():
    classes = read_classes()
    assert len(classes) == 1000 == len(set(classes.values()))
    assert list(classes) == sorted(classes)
    assert (classes["n02012849"], classes["n03126707"]) == ("crane (bird)", "crane (machine)")


def test_the_synsets_are_those_of_timm():
    folder = Path(find_spec("timm").origin).parent  # importing it takes seconds
    assert (folder / "data/_info/imagenet_synsets.txt").read_text().split() == list(read_classes())


def test_the_devkit_calls_the_classes_by_the_numbers_of_2012(tmp_path):
    """The first ten of the real ground truth, and what everybody knows these images to show."""
    truth = tmp_path / "data/ILSVRC2012_validation_ground_truth.txt"
    truth.parent.mkdir()
    truth.write_text("490\n361\n171\n822\n297\n482\n13\n704\n599\n164\n" + "".join(f"{i}\n" for i in range(1, 1001)))
    ranks = {synset: rank for rank, synset in enumerate(read_classes())}
    found = [ranks[synset] for synset in read_devkit(tmp_path).values()]
    assert found[:10] == [65, 970, 230, 809, 516, 57, 334, 415, 674, 332]
    assert sorted(found[10:]) == list(range(1000))


def test_the_devkit_numbers_validation_pictures_from_one(tmp_path):
    imagenets.write_devkit(tmp_path)
    assert read_devkit(tmp_path / "ILSVRC2012_devkit_t12.tar.gz") == dict(enumerate(VALIDATION, start=1))


def test_a_split_that_is_not_whole_is_told(restok, tmp_path):
    imagenets.write_tars(tmp_path / "in")
    (tmp_path / "in" / "ILSVRC2012_img_val.tar").unlink()
    result = restok("prepare", "imagenet", tmp_path / "in", tmp_path / "out", "--json")
    assert json.loads(result.out)["splits"] == {"train": 12}
    assert "train: 12 images, where the whole ImageNet has 1281167" in result.err


def test_what_is_no_imagenet_is_refused(fails, tmp_path):
    assert "nowhere: no such folder" in fails(2, "prepare", "imagenet", tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "in").mkdir()
    assert "in holds no ImageNet: expected ILSVRC2012_img_train.tar, train/" in fails(
        2, "prepare", "imagenet", tmp_path / "in", tmp_path / "out"
    )
    imagenets.write_folders(tmp_path / "other")
    (tmp_path / "other/train/n01440764").rename(tmp_path / "other/train/cats")
    message = fails(2, "prepare", "imagenet", tmp_path / "other", tmp_path / "out")
    assert "is of class cats, which is none of ImageNet's 1000; `restok prepare folder` takes any" in message
    imagenets._write(tmp_path / "other/train/flat.JPEG", imagenets._jpeg(1))
    message = fails(2, "prepare", "imagenet", tmp_path / "other", tmp_path / "out")
    assert "flat.JPEG is in no class folder or class tar, which would tell its class" in message
    assert not (tmp_path / "out").exists()


def test_validation_pictures_without_labels_are_refused(fails, tmp_path):
    imagenets.write_tars(tmp_path / "in")
    (tmp_path / "in/ILSVRC2012_devkit_t12.tar.gz").unlink()
    message = fails(2, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")
    assert "labels of the validation images are missing: put ILSVRC2012_devkit_t12.tar.gz" in message


@pytest.mark.parametrize("file", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"])
@pytest.mark.parametrize("part", [0.3, 0.7])
def test_a_cut_download_is_named(fails, tmp_path, file, part):
    imagenets.write_tars(tmp_path / "in")
    data = (tmp_path / "in" / file).read_bytes()
    (tmp_path / "in" / file).write_bytes(data[: int(part * len(data))])
    message = fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")
    assert file in message and "download it again" in message


def test_a_tar_cut_between_two_pictures_is_named_too(fails, tmp_path):
    """Python's tarfile takes such a tar for complete."""
    imagenets.write_tars(tmp_path / "in")
    tar = tmp_path / "in/ILSVRC2012_img_val.tar"
    first = next(iter(reversed(validation_pictures().values())))
    tar.write_bytes(tar.read_bytes()[: 512 + -(-len(first) // 512) * 512])
    assert "ILSVRC2012_img_val.tar is cut short" in fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")


def test_labels_of_another_imagenet_are_refused(fails, tmp_path):
    imagenets.write_kaggle(tmp_path / "in")
    table = tmp_path / "in/LOC_val_solution.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    message = fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")
    assert "has no label for ILSVRC2012_val_00000001.JPEG" in message
    for name in ("ILSVRC2012_test_00000001.JPEG", "ILSVRC2010_val_00000001.JPEG", "cat_1.JPEG"):  # whose numbers fit
        imagenets.write_class_tars(tmp_path / name)
        (tmp_path / name / "val" / name).write_bytes(imagenets._jpeg(0))
        assert f"has no label for {name}" in fails(1, "prepare", "imagenet", tmp_path / name, tmp_path / "out")


def test_a_source_that_changes_meanwhile_stops_the_command(fails, tmp_path, monkeypatch):
    """A tar that vanishes must not become a list of a million broken images."""
    imagenets.write_tars(tmp_path / "in")
    make = preparation.Plan.facts

    def vanish(plan):
        (tmp_path / "in/ILSVRC2012_img_val.tar").write_bytes(b"")
        return make(plan)

    monkeypatch.setattr(preparation.Plan, "facts", vanish)
    message = fails(1, "prepare", "imagenet", tmp_path / "in", tmp_path / "out", "--jobs", 1)
    assert "ILSVRC2012_img_val.tar ends before byte" in message
    assert not (tmp_path / "out/dataset.json").exists()


def test_a_sparse_file_in_a_class_tar_is_left_out_and_said(restok, tmp_path):
    """Where it lies in the tar, other files follow in the place of its holes."""
    imagenets.write_class_tars(tmp_path / "in")
    tar = tmp_path / "in/train/n01440764.tar"
    tar.write_bytes(sparse_member("n01440764_99.JPEG", imagenets._jpeg(1), 5000) + tar.read_bytes())
    result = restok("prepare", "imagenet", tmp_path / "in", tmp_path / "out", "--json", "--jobs", 1)
    assert splits_of(result) == {"train": 12, "validation": 6}
    assert "left out: n01440764_99.JPEG: is stored as a sparse file" in result.err


def test_files_called_alike_in_every_class_get_keys_of_their_own(restok, tmp_path):
    """The same ones however they are packed."""
    pictures = {
        synset: {f"sketch_{i}.JPEG": imagenets._jpeg(9 * class_id + i) for i in range(2)}
        for synset, class_id in CLASS_IDS.items()
    }
    for synset, files in pictures.items():
        imagenets._write(tmp_path / "folders/val" / synset / "sketch_0.JPEG", imagenets._jpeg(CLASS_IDS[synset] + 5000))
        imagenets._write(tmp_path / "tars/val" / synset / "sketch_0.JPEG", imagenets._jpeg(CLASS_IDS[synset] + 5000))
        for name, data in files.items():
            imagenets._write(tmp_path / "folders/Train" / synset / name, data)
        imagenets._write(tmp_path / "tars/train" / f"{synset}.tar", imagenets.tar_of(files))
        imagenets._write(tmp_path / "tars/train" / f"._{synset}.tar", b"hidden")
    fingerprints = []
    for layout in ("folders", "tars"):
        result = restok("prepare", "imagenet", tmp_path / layout, tmp_path / f"{layout}-out", "--json", "--jobs", 1)
        assert splits_of(result) == {"train": 8, "validation": 4}
        assert restok("prepare", "verify", tmp_path / f"{layout}-out").code == 0
        fingerprints.append(open_dataset(tmp_path / f"{layout}-out").fingerprint)
    assert fingerprints[0] == fingerprints[1]


def test_tars_of_test_pictures_are_passed_over_and_said(restok, tmp_path):
    imagenets.write_folders(tmp_path / "in")
    names = ["ILSVRC2012_img_test.tar", "ILSVRC2012_img_test_v10102019.tar"]
    for name in names:
        (tmp_path / "in" / name).write_bytes(imagenets.tar_of({"ILSVRC2012_test_00000001.JPEG": imagenets._jpeg(1)}))
    result = restok("prepare", "imagenet", tmp_path / "in", tmp_path / "out", "--json", "--jobs", 1)
    assert splits_of(result) == {"train": 12, "validation": 6}
    why = "test images, which have no labels"
    assert json.loads(result.out)["passed_over"] == {why: 2}
    for name, line in zip(names, (tmp_path / "out/bad.jsonl").read_text().splitlines(), strict=True):
        assert f"{tmp_path / 'in' / name} is left out: nobody has the labels of its images" in result.err
        assert json.loads(line) == {"file": name, "reason": why}


def test_split_folders_are_known_in_any_case_and_test_where_it_has_classes(restok, fails, tmp_path):
    imagenets.write_folders(tmp_path / "in")
    (tmp_path / "in/val").rename(tmp_path / "in/VALID")
    (tmp_path / "in/train").rename(tmp_path / "in/Train")
    imagenets._write(tmp_path / "in/test/images/1.JPEG", imagenets._jpeg(1))
    (tmp_path / "in/Train/n02012849").mkdir()
    (tmp_path / "in/Train/notes.txt").write_text("no image")
    command = ("prepare", "imagenet", tmp_path / "in", tmp_path / "out", "--json", "--jobs", 1, "--overwrite")
    result = restok(*command)
    assert splits_of(result) == {"train": 12, "validation": 6}
    for said in ("in/test is left out", "Train taken as train", "n02012849 holds no images", "passed over a file"):
        assert said in result.err
    assert json.loads((tmp_path / "out/bad.jsonl").read_text())["file"] == "Train/notes.txt"
    (tmp_path / "in/test/images").rename(tmp_path / "in/test/n01440764")
    assert splits_of(restok(*command)) == {"train": 12, "validation": 6, "test": 1}
    shutil.rmtree(tmp_path / "in/test/n01440764")
    assert splits_of(restok(*command)) == {"train": 12, "validation": 6}
    (tmp_path / "in/val").mkdir()
    (tmp_path / "in/VALID").rename(tmp_path / "old")
    assert "in/val holds no images; fill it" in fails(2, *command)
    (tmp_path / "in/train").mkdir()
    assert "Train and train are all for train" in fails(2, *command)


def test_what_lies_beside_class_tars_is_refused(fails, tmp_path):
    imagenets.write_class_tars(tmp_path / "in")
    command = ("prepare", "imagenet", tmp_path / "in", tmp_path / "out")
    (tmp_path / "in/train/n02012849").mkdir()
    assert "holds class tars, but n02012849 beside them" in fails(2, *command)
    (tmp_path / "in/train/n02012849").rmdir()
    (tmp_path / "in/train/MD5SUMS").write_text("of the class tars")  # which is passed over
    for name in ("a.JPEG", "n02012849.tar.gz"):
        (tmp_path / "in/train" / name).touch()
        assert f"holds class tars, but {name} beside them" in fails(2, *command)
        (tmp_path / "in/train" / name).unlink()


TABLE = "ImageId,PredictionString\n" + "".join(
    f"ILSVRC2012_val_{n:08d},{synset} 1 2 3 4\n" for n, synset in enumerate(VALIDATION, start=1)
)


@pytest.mark.parametrize(
    "table",
    [
        b"\xef\xbb\xbf" + TABLE.encode(),
        TABLE.encode("utf-16"),
        TABLE.replace(",", ";").replace("\n", "\r\n").encode(),
        TABLE.replace(",", "\t").replace("\n", "\n\n").encode(),
    ],
)
def test_kaggles_table_is_read_as_spreadsheets_save_it(prepared, tmp_path, monkeypatch, table):
    write = LAYOUTS["kaggle"]

    def write_with_table(folder):
        write(folder)
        (folder / "LOC_val_solution.csv").write_bytes(table)

    monkeypatch.setitem(LAYOUTS, "kaggle", write_with_table)
    split = prepared("kaggle", "--jobs", 1).split("validation")
    ids = {split.key(i): split.class_id(i) for i in range(len(split))}
    assert ids == {f"ILSVRC2012_val_{n:08d}": CLASS_IDS[synset] for n, synset in enumerate(VALIDATION, start=1)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_00000002,n01440764 1 2 3 4", "_00000002,", "line 3, column PredictionString: empty"),
        ("_00000002,n01440764 1 2 3 4", "_00000002", "line 3, column PredictionString: empty"),
        ("_00000002,n01440764", "_00000002,tench", "line 3, column PredictionString: tench, where a synset such as"),
        ("ILSVRC2012_val_00000002", " ", "line 3, column ImageId: empty"),
        ("_val_00000002", "_val_00000001", "line 3: ILSVRC2012_val_00000001 is n01440764 here, but n15075141 above"),
        ("PredictionString", "Class", "line 1: no column PredictionString, only ImageId, Class"),
        ("ImageId,PredictionString", "", "line 1: no column ImageId, only an empty line"),
        ("n01440764", "\udcff", "line 3: no text in UTF-8"),
    ],
)
def test_what_is_wrong_in_kaggles_table_is_told_with_line_and_column(fails, tmp_path, old, new, message):
    imagenets.write_kaggle(tmp_path / "in")
    table = TABLE.replace(old, new, 1).encode(errors="surrogateescape")
    (tmp_path / "in/LOC_val_solution.csv").write_bytes(table)
    assert f"LOC_val_solution.csv, {message}" in fails(2, "prepare", "imagenet", tmp_path / "in", tmp_path / "out")
