import math
from io import BytesIO

import numpy as np
import pytest
import torch
from pictures import noise
from PIL import Image

from restok_cli.data.image_files import center_crop, read_image
from restok_cli.data.images import to_tensor
from restok_cli.data.loading.transforms import Transform, make_views, random_crop, random_resized_box
from restok_cli.data.shards.code_layout import NUM_VIEWS
from restok_cli.errors import ImageError


def encoded(image, kind, **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def smooth(width=200, height=150):
    """An image such as cameras make: neighbouring pixels are alike."""
    return noise(0, 12, 10).resize((width, height), Image.Resampling.BICUBIC)


def transform(crop, flip=False, size=(32, 48), area=(0.5, 1.0)):
    return Transform(7, size, crop, (1.0, 1.25), area, flip)


@pytest.mark.parametrize("size", [(200, 200), (300, 150), (120, 480), (400, 40)])
@pytest.mark.parametrize("output", [(32, 32), (24, 48)])
def test_random_resized_boxes_keep_to_area_aspect_and_picture(size, output):
    rng = np.random.default_rng(0)
    boxes = [random_resized_box(*size, output, (0.5, 1.0), rng) for _ in range(300)]
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        aspect = (right - left) / (bottom - top) * output[0] / output[1]
        assert 0.95 * 3 / 4 < aspect < 1.05 * 4 / 3
        share = (right - left) * (bottom - top) / math.prod(size)
        touches = right - left == size[0] or bottom - top == size[1]
        assert 0.49 < share <= 1 or touches
    assert len(set(boxes)) > 30


class Given:
    """Stands for a random generator: the size of the image and the place of the crop, as they are to be."""

    def __init__(self, *numbers):
        self.numbers, self.ranges = list(numbers), []

    def integers(self, *bounds, endpoint):
        assert endpoint
        self.ranges.append(bounds)
        return self.numbers.pop(0)


def plain_crop(image, length, left, top, size):
    """By Pillow alone: halved while the shorter side is twice too long, resized so that it has `length`, cut."""
    while min(image.size) >= 2 * length:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = length / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    return to_tensor(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("size", [(75, 50), (40, 95), (64, 64), (20, 30), (131, 163), (301, 515)], ids=str)
@pytest.mark.parametrize(("length", "left", "top"), [(32, 0, 0), (36, 3, 4), (40, 8, 1)])
def test_random_crops_are_halved_resized_and_cut_by_plain_pillow(size, length, left, top):
    image = smooth(*size)
    left, top = (left, top) if size[0] <= size[1] else (top, left)
    place = (min(left, length - 32), top)
    expected = plain_crop(image, length, *place, 32)
    rng = Given(length, *place)
    assert torch.equal(random_crop(image, (32, 32), (1.0, 1.25), rng), expected)
    assert rng.ranges[0] == (32, 40)
    fast = random_crop(to_tensor(image), (32, 32), (1.0, 1.25), Given(length, *place))
    assert fast.shape == (3, 32, 32) and (fast.int() - expected).abs().max() <= 2


@pytest.mark.parametrize("size", [(600, 600), (1200, 600), (600, 1200)])
def test_random_crops_show_four_fifths_to_all_of_the_shorter_side_anywhere_and_squeeze_nothing(size):
    """In an image whose colours are its coordinates, each crop tells what it shows."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    image = Image.fromarray(np.stack([x, y, y], axis=-1).round().astype(np.uint8))
    rng = np.random.default_rng(0)
    crops = torch.stack([random_crop(image, (32, 32), (1.0, 1.25), rng) for _ in range(300)]) / 255
    left, right = (crops[:, 0, 16, [1, 30]] * size[0]).T
    top, bottom = (crops[:, 1, [1, 30], 16] * size[1]).T
    assert (right - left - (bottom - top)).abs().max() < 0.02 * max(size)
    shown = (right - left) / 600 * 32 / 29  # those pixels are 29 apart
    assert 0.78 < shown.min() < 0.82 and 0.98 < shown.max() < 1.02
    for low, high, side in ((left, right, size[0]), (top, bottom, size[1])):
        assert low.min() < 0.06 * side and high.max() > 0.94 * side


@pytest.mark.parametrize("size", [(70, 50), (50, 70), (90, 24), (20, 300)])
@pytest.mark.parametrize("output", [(24, 48), (48, 24)])
def test_random_crops_of_other_shapes_are_cut_from_the_resized_picture_too(size, output):
    image = smooth(*size)
    scale = max(output[1] / size[0], output[0] / size[1])
    whole = image.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BICUBIC)
    crop = random_crop(image, output, (1.0, 1.0), np.random.default_rng(0))
    places = [(left, top) for left in range(whole.width - output[1] + 1) for top in range(whole.height - output[0] + 1)]
    pieces = [to_tensor(whole.crop((x, y, x + output[1], y + output[0]))) for x, y in places]
    assert any(torch.equal(crop, piece) for piece in pieces)


@pytest.mark.parametrize("crop", ["random-resized", "random"])
@pytest.mark.parametrize("sides", [(1, 1), (1, 40), (40, 1), (33, 2)])
def test_the_smallest_pictures_have_crops_too(crop, sides):
    for kind in ("PNG", "JPEG"):
        assert transform(crop)(encoded(noise(0, *sides), kind), "a", 0, 0).shape == (3, 32, 48)


def test_a_crop_of_everything_is_a_plain_resize():
    image = smooth(96, 64)
    result = transform("random-resized", area=(1.0, 1.0))(encoded(image, "PNG"), "a", 0, 0)
    assert torch.equal(result, to_tensor(image.resize((48, 32), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("crop", ["random-resized", "random"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_files_give_the_crops_that_pillow_makes_up_to_rounding(crop, mode):
    data = encoded(smooth().convert(mode), "JPEG", quality=95)
    same_pixels = encoded(read_image(data, "a"), "PNG")
    for sample in range(10):
        fast, slow = (transform(crop, flip=True)(file, "a", 3, sample).int() for file in (data, same_pixels))
        assert fast.shape == (3, 32, 48)
        assert (fast - slow).abs().max() <= 3
        assert (fast - slow).float().abs().mean() < 0.5


def test_cmyk_jpeg_files_are_read_as_in_evaluation():
    data = encoded(smooth().convert("CMYK"), "JPEG")
    same_pixels = encoded(read_image(data, "a"), "PNG")
    results = [transform("random")(file, "a", 0, 0) for file in (data, same_pixels)]
    assert torch.equal(*results)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_centre_crop_is_that_of_evaluation(kind):
    data = encoded(smooth(), kind)
    result = transform("centre")(data, "a", 0, 0)
    assert torch.equal(result, to_tensor(center_crop(read_image(data, "a"), (32, 48))))


@pytest.mark.parametrize("crop", ["random-resized", "random"])
def test_crops_depend_on_seed_epoch_and_sample_alone(crop):
    data, make = encoded(smooth(), "JPEG"), transform(crop)
    first = make(data, "a", 1, 2)
    assert first.dtype == torch.uint8
    assert torch.equal(make(data, "b", 1, 2), first)
    for other in (make(data, "a", 1, 3), make(data, "a", 2, 2), make._replace(seed=8)(data, "a", 1, 2)):
        assert not torch.equal(other, first)


@pytest.mark.parametrize("crop", ["random-resized", "random", "centre"])
def test_half_of_the_pictures_are_mirrored(crop):
    data = encoded(smooth(), "JPEG")
    straight, flipping = transform(crop), transform(crop, flip=True)
    mirrored = 0
    for sample in range(100):
        before, after = straight(data, "a", 0, sample), flipping(data, "a", 0, sample)
        assert torch.equal(after, before) or torch.equal(after, before.flip(2))
        mirrored += not torch.equal(after, before)
    assert 30 < mirrored < 70


@pytest.mark.parametrize("crop", ["random-resized", "random", "centre"])
def test_damaged_jpeg_files_are_refused_by_name(crop):
    data = encoded(smooth(), "JPEG")
    for share in (0.0, 0.001, 0.5, 0.95):
        with pytest.raises(ImageError, match=r"^cats/7: cannot be decoded"):
            transform(crop)(data[: int(share * len(data))], "cats/7", 0, 0)


def test_ten_crops_are_centre_and_corners_of_a_larger_centre_crop_and_mirrored():
    image = smooth()
    views = make_views(image, (40, 50), "ten-crop")
    enlarged = to_tensor(center_crop(image, (44, 55)))
    places = [(2, 2), (0, 0), (0, 5), (4, 0), (4, 5)]
    straight = torch.stack([enlarged[:, top : top + 40, left : left + 50] for top, left in places])
    assert torch.equal(views, torch.cat([straight, straight.flip(-1)]))


def test_other_views_are_the_crop_of_evaluation_and_its_mirror_image():
    image = smooth()
    centre = to_tensor(center_crop(image, (32, 32)))
    assert torch.equal(make_views(image, (32, 32), "centre"), centre[None])
    assert torch.equal(make_views(image, (32, 32), "flip"), torch.stack([centre, centre.flip(2)]))
    assert {views: len(make_views(image, (32, 32), views)) for views in NUM_VIEWS} == NUM_VIEWS
