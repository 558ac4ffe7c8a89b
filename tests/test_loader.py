import math
from io import BytesIO
from itertools import islice

import numpy as np
import pytest
import torch
from pictures import noise

from restok_cli.data.images import center_crop, to_tensor
from restok_cli.data.loader import batches, evaluation_batches, random_crop, sample_order
from restok_cli.data.shards import Sample, open_dataset
from restok_cli.data.writer import write_dataset
from restok_cli.errors import RestokError

PICTURES = 10


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return make_split(tmp_path_factory.mktemp("set"), PICTURES)


def make_split(folder, count, broken=()):
    samples = []
    for i in range(count):
        file = BytesIO()
        noise(i, 24 + i, 20).save(file, "PNG")
        data = b"broken" if i in broken else file.getvalue()
        samples.append(Sample(f"key{i}", "png", data, (20, 24 + i), i, {}))
    write_dataset(
        folder,
        {"train": samples},
        name="test",
        class_names=[str(i) for i in range(count)],
        provenance={},
        samples_per_shard=4,
    )
    return open_dataset(folder).split("train")


def load(split, count, *, num_workers=0, **options):
    options = {
        "image_size": (16, 16),
        "batch_size": 4,
        "seed": 7,
        "random_crop_area": (0.5, 1.0),
        "random_flip": True,
    } | options
    return list(islice(batches(split, num_workers=num_workers, **options), count))


def assert_equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.class_ids, b.class_ids)


def test_batches_are_uint8_with_their_class_ids(split):
    (batch,) = load(split, 1, image_size=(12, 18))
    assert batch.images.shape == (4, 3, 12, 18) and batch.images.dtype == torch.uint8
    assert batch.class_ids.shape == (4,) and batch.class_ids.dtype == torch.int64


def test_same_seed_gives_the_same_batches(split):
    assert_equal(load(split, 6), load(split, 6))
    assert not torch.equal(load(split, 1)[0].images, load(split, 1, seed=8)[0].images)


def test_workers_give_the_same_batches(split):
    assert_equal(load(split, 8, num_workers=2), load(split, 8))


@pytest.mark.parametrize("first_step", [1, 2, 3, 5, 11])
def test_starting_late_equals_skipping_batches(split, first_step):
    assert_equal(load(split, 3, first_step=first_step), load(split, first_step + 3)[first_step:])


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 23])
def test_every_sample_comes_exactly_once_an_epoch_whatever_the_batch(batch_size):
    steps = -(-3 * PICTURES // batch_size)
    visits = [pair for batch in islice(sample_order(PICTURES, batch_size, seed=0), steps) for pair in batch]
    epochs = [visits[i : i + PICTURES] for i in range(0, 3 * PICTURES, PICTURES)]
    for number, epoch in enumerate(epochs):
        assert sorted(epoch) == [(number, i) for i in range(PICTURES)]
    assert epochs[0] != [(0, i) for _, i in epochs[1]]
    assert all(len(batch) == batch_size for batch in islice(sample_order(PICTURES, batch_size, seed=0), steps))


def test_the_order_is_a_fair_shuffle():
    first = [next(sample_order(5, 1, seed))[0][1] for seed in range(2000)]
    assert all(320 < count < 480 for count in np.bincount(first))


def test_the_order_never_changes_with_versions():
    assert [i for _, i in next(sample_order(10, 10, seed=1))] == [3, 5, 2, 9, 7, 0, 8, 6, 1, 4]


def test_a_batch_may_be_larger_than_the_set(split):
    (batch,) = load(split, 1, batch_size=25)
    assert batch.class_ids.bincount().tolist() == [2 + int(i in batch.class_ids[20:].tolist()) for i in range(PICTURES)]


def test_without_randomness_training_pictures_are_the_centre_crops(split):
    for batch in load(split, 3, random_crop_area=None, random_flip=False):
        for image, class_id in zip(batch.images, batch.class_ids.tolist(), strict=True):
            assert torch.equal(image, to_tensor(center_crop(split.image(class_id), (16, 16))))


def test_flips_mirror_about_half_of_the_pictures_anew_each_epoch(split):
    flipped = []
    for batch in load(split, 40, batch_size=PICTURES, random_crop_area=None):
        for image, class_id in zip(batch.images, batch.class_ids.tolist(), strict=True):
            straight = to_tensor(center_crop(split.image(class_id), (16, 16)))
            mirrored = torch.equal(image, straight.flip(2))
            assert mirrored or torch.equal(image, straight)
            flipped.append((class_id, mirrored))
    assert 150 < sum(mirrored for _, mirrored in flipped) < 250
    assert all((i, False) in flipped and (i, True) in flipped for i in range(PICTURES))


@pytest.mark.parametrize("size", [(200, 200), (300, 150), (120, 480), (400, 40)])
@pytest.mark.parametrize("output", [(32, 32), (24, 48)])
def test_random_crops_keep_to_area_aspect_and_picture(size, output, monkeypatch):
    boxes = []
    image = noise(0, *size)
    monkeypatch.setattr(type(image), "resize", lambda self, to, how, box: boxes.append(box))
    rng = np.random.default_rng(0)
    for _ in range(300):
        random_crop(image, output, (0.5, 1.0), rng)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        aspect = (right - left) / (bottom - top) * output[0] / output[1]
        assert 0.95 * 3 / 4 < aspect < 1.05 * 4 / 3
        share = (right - left) * (bottom - top) / math.prod(size)
        touches = right - left == size[0] or bottom - top == size[1]
        assert 0.49 < share <= 1 or touches
    assert len(set(boxes)) > 30


def test_a_crop_of_everything_is_a_plain_resize():
    image = noise(0, 48, 48)
    crop = random_crop(image, (16, 16), (1.0, 1.0), np.random.default_rng(0))
    assert np.array_equal(crop, image.resize((16, 16), resample=3))


def test_global_random_state_is_left_alone(split):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load(split, 2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_sample_stops_training_with_its_name_in_one_line(tmp_path, num_workers):
    split = make_split(tmp_path, 6, broken={3})
    with pytest.raises(RestokError, match=r"^sample key3 of .*train-000000\.tar: cannot be decoded[^\n]*$"):
        load(split, 6, num_workers=num_workers)


def test_evaluation_batches_are_every_centre_crop_in_order(split):
    found = list(evaluation_batches(split, image_size=(16, 12), batch_size=4))
    assert [len(batch.class_ids) for batch in found] == [4, 4, 2]
    assert torch.cat([batch.class_ids for batch in found]).tolist() == list(range(PICTURES))
    naive = torch.stack([to_tensor(center_crop(split.image(i), (16, 12))) for i in range(PICTURES)])
    assert torch.equal(torch.cat([batch.images for batch in found]), naive)
