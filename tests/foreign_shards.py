"""Shards as others make them."""

import io
import json
import tarfile

import webdataset
from pictures import noise

from restok_cli.data.shards.dataset import open_dataset


def picture(seed, kind="JPEG"):
    file = io.BytesIO()
    noise(seed).save(file, kind)
    return file.getvalue()


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def sample(name, seed, class_id=None):
    """The files of a sample in the order of timm's shards: cls, jpg, json."""
    files = [(f"{name}.jpg", picture(seed)), (f"{name}.json", json.dumps({"name": name}).encode())]
    return files if class_id is None else [(f"{name}.cls", b"%d" % class_id), *files]


def read_by_restok(folder, split):
    split = open_dataset(folder).split(split)
    return [(split.key(i), split.class_id(i), split.read(i)) for i in range(len(split))]


def read_by_webdataset(folder, pattern):
    shards = [str(path) for path in sorted(folder.glob(pattern))]
    samples = webdataset.WebDataset(shards, shardshuffle=False)
    return [(sample["__key__"], int(sample["cls"]), sample["jpg"]) for sample in samples]
