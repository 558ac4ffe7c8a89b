"""Sizes of images: what prepare says of them, and who warns that they are enlarged."""

from pictures import write_pictures

from restok_cli.data.image_sizes import enlarged, shorter_edges
from restok_cli.data.shards.dataset import open_dataset


def test_sizes_are_those_of_the_files_and_prepare_tells_them(restok, tmp_path):
    for number, (width, height) in enumerate([(40, 33), (64, 64), (100, 70)]):
        write_pictures(tmp_path / "images", [f"{number}.png"], width, height)
    result = restok("prepare", "folder", tmp_path / "images", tmp_path / "data", "--validation-fraction", 0)
    assert "sizes: the shorter edge has 33 to 70 pixels, 64 in the middle" in result.err
    again = restok("prepare", "shards", tmp_path / "data/*.tar", tmp_path / "linked")
    assert "sizes: the shorter edge has 33 to 70 pixels, 64 in the middle" in again.err
    assert sorted(open_dataset(tmp_path / "data").image_sizes()) == [(33, 40), (64, 64), (70, 100)]


def test_images_are_too_small_where_a_tenth_of_them_is():
    sizes = [(64, 64)] * 9 + [(64, 63)]
    assert enlarged(sizes, (64, 63)) == enlarged([*sizes, (64, 64)], (64, 64)) == enlarged([], (64, 64)) == ""
    assert enlarged(sizes, (64, 64)).startswith("1 of 10 images looked at are smaller than 64x64 and are enlarged")
    assert enlarged(sizes, (65, 64)).startswith("10 of 10 images")
    assert str(shorter_edges([48, 48])) == "the shorter edge has 48 pixels"


def test_training_warns_of_enlarging(restok, tmp_path):
    write_pictures(tmp_path / "images", [f"{i}.png" for i in range(20)], 40, 33)
    assert restok("prepare", "folder", tmp_path / "images", tmp_path / "data").code == 0
    command = ("train-tokenizer", tmp_path / "data", "--preset", "tiny", "--dry-run", "-o", tmp_path / "run")
    command += ("--batch-size", 2, "--set", "schedule.micro_batch_size=2")
    assert "enlarged" not in restok(*command).err
    warning = "18 of 18 images looked at are smaller than 64x64 and are enlarged"
    assert warning in restok(*command, "--image-size", 64).err
