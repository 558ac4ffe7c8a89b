"""A small ImageNet in each form in which people have the real one: four of the classes, six images to validate."""

import csv
import io
import json
import tarfile
from pathlib import Path

from pictures import noise

CLASS_IDS = {"n01440764": 0, "n01443537": 1, "n02444819": 360, "n15075141": 999}
NAMES = {0: "tench", 1: "goldfish", 360: "otter", 999: "toilet tissue"}
ILSVRC_IDS = {"n01440764": 449, "n01443537": 450, "n02444819": 212, "n15075141": 889}  # of the real devkit
VALIDATION = ["n15075141", "n01440764", "n02444819", "n01440764", "n01443537", "n15075141"]


def _jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    noise(seed).save(file, "JPEG")
    return file.getvalue()


def train_pictures() -> dict[str, dict[str, bytes]]:
    """synset -> file name -> bytes."""
    return {
        synset: {f"{synset}_{40 * n + 7}.JPEG": _jpeg(10 * class_id + n) for n in range(3)}
        for synset, class_id in CLASS_IDS.items()
    }


def validation_pictures() -> dict[str, bytes]:
    """File name -> bytes."""
    return {f"ILSVRC2012_val_{n:08d}.JPEG": _jpeg(5000 + n) for n in range(1, len(VALIDATION) + 1)}


def tar_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def write_devkit(folder: Path, packed: bool = True) -> None:
    file = "data/ILSVRC2012_validation_ground_truth.txt"
    truth = "".join(f"{ILSVRC_IDS[synset]}\n" for synset in VALIDATION).encode()
    if packed:
        with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
            tar.addfile(*_member("ILSVRC2012_devkit_t12/readme.txt", b"hello"))
            tar.addfile(*_member(f"ILSVRC2012_devkit_t12/{file}", truth))
            tar.addfile(*_member("ILSVRC2012_devkit_t12/data/meta.mat", bytes(range(256)) * 40))
    else:
        _write(folder / "ILSVRC2012_devkit_t12" / file, truth)


def _member(name: str, data: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, io.BytesIO(data)


def write_tars(folder: Path) -> None:
    """As image-net.org hands it out."""
    folder.mkdir()
    class_tars = {f"{synset}.tar": tar_of(files) for synset, files in train_pictures().items()}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_of(class_tars))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_of(dict(reversed(validation_pictures().items()))))
    write_devkit(folder)


def write_class_tars(folder: Path) -> None:
    """The outer tars unpacked, the class tars not; the devkit unpacked."""
    for synset, files in train_pictures().items():
        _write(folder / "train" / f"{synset}.tar", tar_of(files))
    for name, data in validation_pictures().items():
        _write(folder / "val" / name, data)
    write_devkit(folder, packed=False)


def write_folders(folder: Path) -> None:
    """Unpacked into class folders."""
    _write_train(folder / "train")
    for synset, (name, data) in zip(VALIDATION, validation_pictures().items(), strict=True):
        _write(folder / "val" / synset / name, data)


def write_kaggle(folder: Path) -> None:
    """As Kaggle's archive unpacks."""
    _write_train(folder / "ILSVRC/Data/CLS-LOC/train")
    for name, data in validation_pictures().items():
        _write(folder / "ILSVRC/Data/CLS-LOC/val" / name, data)
    with open(folder / "LOC_val_solution.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ImageId", "PredictionString"])
        for synset, name in reversed(list(zip(VALIDATION, validation_pictures(), strict=True))):
            table.writerow([name.removesuffix(".JPEG"), f"{synset} 85 1 499 272 {synset} 1 2 3 4 "])


def write_parquet(folder: Path) -> None:
    """As the hub hands it out: two files and several row groups of train, and a test split without labels."""
    rows = [
        (f"{name.removesuffix('.JPEG')}_{synset}.JPEG", data, CLASS_IDS[synset])
        for synset, files in train_pictures().items()
        for name, data in files.items()
    ]
    names = [*CLASS_IDS][:2] + [str(i) for i in range(2, 1000)]
    stated = {"huggingface": json.dumps({"info": {"features": {"label": {"names": names}}}})}
    write_rows(folder / "data/train-00000-of-00002.parquet", rows[:7], row_group_size=3, metadata=stated)
    write_rows(folder / "data/train-00001-of-00002.parquet", rows[7:], row_group_size=3)
    validation = [
        (f"{name.removesuffix('.JPEG')}_{synset}.JPEG", data, CLASS_IDS[synset])
        for synset, (name, data) in zip(VALIDATION, validation_pictures().items(), strict=True)
    ]
    write_rows(folder / "data/validation-00000-of-00001.parquet", validation, row_group_size=4)
    write_rows(folder / "data/test-00000-of-00001.parquet", [("test_1.JPEG", _jpeg(1), -1)], row_group_size=4)


def write_rows(
    path: Path,
    rows: list[tuple[str | None, bytes | None, int]],
    row_group_size: int,
    metadata: dict[str, str] | None = None,
) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": data, "path": name} for name, data, _ in rows]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    labels = [label for _, _, label in rows]
    table = pyarrow.table({"image": pyarrow.array(images, kind), "label": pyarrow.array(labels, pyarrow.int64())})
    write_table(table.replace_schema_metadata(metadata), path, row_group_size=row_group_size)


def _write_train(folder: Path) -> None:
    for synset, files in train_pictures().items():
        for name, data in files.items():
            _write(folder / synset / name, data)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def splits_of(result):
    assert result.code == 0, result.err
    return json.loads(result.out)["splits"]
