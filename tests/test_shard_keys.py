"""Shards that others have made: the keys and suffixes of their files."""

import json
import tarfile
from io import BytesIO

import numpy as np
import pytest
import webdataset
from foreign_shards import picture, read_by_restok, sample, write_tar
from PIL import Image

from restok_cli.data.image_files import center_crop, read_image, split_image_name
from restok_cli.data.images import to_tensor
from restok_cli.data.loading.batching import Deal
from restok_cli.data.loading.loader import batches
from restok_cli.data.loading.streaming import read_shards
from restok_cli.data.shards.dataset import StreamedSplit, open_dataset
from restok_cli.data.shards.tars import split_name
from restok_cli.data.streams import read_stream
from restok_cli.errors import RestokError


@pytest.mark.parametrize("name", ["a.jpg", "b/c.seg.png", "d.e/f.jpg", ".hidden", "plain", "i.JPG"])
def test_keys_are_told_as_webdataset_tells_them(name):
    key, extension = webdataset.tariterators.base_plus_ext(name)
    if key is None:
        assert split_name(name)[0] == ""
    else:
        assert split_name(name) == (key, extension.lower())


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("photo.v1.png", "photo.v1"),
        ("2024.01.02", "2024.01.02"),
        ("a.b/c", "a.b/c"),
        ("x/IMG.JPEG", "x/IMG"),
        ("x/.png", "x/.png"),
        ("scan.dat", "scan.dat"),
    ],
)
def test_names_of_peoples_pictures_end_before_the_suffix_of_a_picture_alone(name, stem):
    assert split_image_name(name)[0] == stem


@pytest.mark.parametrize("folder", [".", "v1.0/a", "x" * 90 + "/" + "y" * 60])
def test_encode_takes_pictures_in_folders_of_any_name(restok, tmp_path, folder):
    write_tar(tmp_path / "wds" / "train-0.tar", [(f"{folder}/{i}.jpg", picture(i)) for i in range(2)])
    assert restok("prepare", "shards", tmp_path / "wds").code == 0
    result = restok("encode", tmp_path / "wds", "-o", tmp_path / "codes.npz", "--split", "train")
    assert result.code == 0, result.err
    keys = np.load(tmp_path / "codes.npz")["keys"]
    assert keys.tolist() == [f"{folder}/{i}".removeprefix("./") for i in range(2)]


def test_keys_that_come_twice_are_refused_unless_one_is_left_out(restok, fails, tmp_path):
    write_tar(tmp_path / "in/a.tar", [*sample("a", 0), *sample("b", 1), *sample("a", 2)])
    assert "a.tar holds the key a twice: keys must be unique" in fails(1, "prepare", "shards", tmp_path / "in")
    write_tar(tmp_path / "in/a.tar", sample("a", 0))
    write_tar(tmp_path / "in/b.tar", sample("a", 1))
    assert f"b.tar holds the key a as {tmp_path}/in/a.tar does" in fails(1, "prepare", "shards", tmp_path / "in")
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"a.tar", "b.tar"}
    write_tar(tmp_path / "in/b.tar", [("a.jpg", b"broken"), *sample("b", 1)])
    assert restok("prepare", "shards", tmp_path / "in").code == 0
    assert restok("prepare", "verify", tmp_path / "in").code == 0


@pytest.mark.parametrize("key", ["path", "size"])
def test_a_global_header_that_makes_one_file_of_all_is_refused(fails, tmp_path, key):
    global_header = {"comment": "of git archive", key: "1"}
    tar = BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT, pax_headers=global_header) as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    (tmp_path / "a.tar").write_bytes(tar.getvalue())
    message = f"a global header gives all files one {key}; make the tar without it"
    assert message in fails(1, "prepare", "shards", tmp_path / "a.tar")
    with pytest.raises(RestokError, match=message):
        list(read_shards([str(tmp_path / "a.tar")], []))
    with pytest.raises(RestokError, match=message):
        list(read_stream(BytesIO(tar.getvalue())))


def test_hidden_folders_hold_no_samples_and_a_dot_before_a_name_tells_none_apart(restok, fails, tmp_path):
    hidden = [*sample(".ipynb_checkpoints/a", 0, 0), *sample("__MACOSX/a", 1, 0)]
    write_tar(tmp_path / "in/0.tar", [("./a.cls", b"0"), ("a.jpg", picture(2)), *hidden])
    assert restok("prepare", "shards", tmp_path / "in").code == 0
    assert read_by_restok(tmp_path / "in", "train") == [("a", 0, picture(2))]
    assert [one.key for one in read_shards([str(tmp_path / "in/0.tar")], ["x"])] == ["a"]
    assert restok("prepare", "verify", tmp_path / "in").code == 0
    write_tar(tmp_path / "in/1.tar", sample("./a", 3, 0))
    assert "1.tar holds the key a as" in fails(1, "prepare", "shards", tmp_path / "in", "--overwrite")


def test_files_of_a_sample_may_lie_apart(restok, tmp_path):
    order = [3, 1, 0, 2]
    files = [(f"{i}.jpg", picture(i)) for i in order] + [(f"{i}.cls", b"%d" % (i % 2)) for i in range(4)]
    write_tar(tmp_path / "in/train-0.tar", files)
    assert restok("prepare", "shards", tmp_path / "in").code == 0
    expected = [(str(i), i % 2, picture(i)) for i in order]
    assert read_by_restok(tmp_path / "in", "train") == expected
    assert restok("prepare", "verify", tmp_path / "in").code == 0


def test_the_picture_and_class_of_a_sample_may_have_longer_extensions(restok, tmp_path):
    files = [("0.image.jpg", picture(0)), ("0.cls", b"1"), ("1.jpg", picture(1)), ("1.seg.png", picture(2, "PNG"))]
    write_tar(tmp_path / "in/a.tar", [*files, ("1.image.cls", b"0")])
    result = restok("prepare", "shards", tmp_path / "in", "--json")
    assert json.loads(result.out)["passed_over"] == {"a .seg.png beside a sample's image": 1}
    assert read_by_restok(tmp_path / "in", "train") == [("0", 1, picture(0)), ("1", 0, picture(1))]
    assert "1 .seg.png passed over in the train shards: a sample's image is <key>.jpg" in result.err


def test_a_tga_is_known_by_its_suffix_indexed_and_streamed(restok, tmp_path):
    tga = [picture(i, "TGA") for i in range(3)]
    write_tar(
        tmp_path / "in/a.tar", [("0.tga", tga[0]), ("1.image.TGA", tga[1]), ("2.png", tga[2]), ("3.tga", b"none")]
    )
    result = restok("prepare", "shards", tmp_path / "in", "--json")
    assert json.loads(result.out)["images"] == 2
    assert [json.loads(line)["file"] for line in (tmp_path / "in/bad.jsonl").read_text().splitlines()] == [
        "2 in a.tar",
        "3 in a.tar",
    ]
    indexed, streamed = open_dataset(tmp_path / "in").split("train"), StreamedSplit("train", [], 0, [])
    expected = [np.asarray(read_image(data, "a.tga")) for data in tga[:2]]
    assert all(np.array_equal(indexed.image(i), expected[i]) for i in range(2))
    crops = {"crop": "centre", "random_flip": False, "random_crop_area": (1, 1), "random_zoom": (1, 1)}
    streamed.urls = [str(tmp_path / "in/b.tar")]
    write_tar(tmp_path / "in/b.tar", [("0.tga", tga[0]), ("1.image.TGA", tga[1])])
    for split in (indexed, streamed):
        batch = next(batches(split, (8, 8), Deal(2, seed=0), **crops))
        assert sorted(image.sum() for image in batch.images) == sorted(
            to_tensor(center_crop(Image.fromarray(pixels), (8, 8))).sum() for pixels in expected
        )


def test_keys_that_are_not_utf_8_stay_apart(restok, tmp_path):
    names = ["caf\udce8", "caf\udce9", "caf\udcc3\udca9"]  # of which the last is é
    write_tar(tmp_path / "in/a.tar", [(f"{name}.jpg", picture(i)) for i, name in enumerate(names)])
    result = restok("prepare", "shards", tmp_path / "in")
    assert result.code == 0, result.err
    keys = ["caf\\xe8", "caf\\xe9", "café"]
    assert [key for key, *_ in read_by_restok(tmp_path / "in", "train")] == keys
    assert [sample.key for sample in read_shards([str(tmp_path / "in/a.tar")], [])] == keys
    assert restok("prepare", "verify", tmp_path / "in").code == 0


def test_keys_may_begin_anew_in_each_split(restok, tmp_path):
    for i, split in enumerate(("train", "val")):
        write_tar(tmp_path / f"in/{split}-0.tar", [*sample("0", 2 * i, 0), *sample("1", 2 * i + 1, 1)])
    assert restok("prepare", "shards", tmp_path / "in").code == 0
    result = restok("prepare", "verify", tmp_path / "in")
    assert (result.code, result.out) == (0, "4 samples in 2 shards are as they were prepared\n"), result.err
