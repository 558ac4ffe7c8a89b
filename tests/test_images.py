from io import BytesIO

import numpy as np
import pytest
import torch
from pictures import noise, write_pictures
from PIL import Image

from restok_cli.data.image_files import center_crop, read_image
from restok_cli.data.images import make_grid, save_image, to_float, to_tensor, to_uint8
from restok_cli.data.loading.jpeg import decode_jpeg, find_jpeg_decoder
from restok_cli.data.loading.transforms import resize_box
from restok_cli.data.sources.walk import find_images
from restok_cli.errors import RestokError, UsageError


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_rgb_pictures_are_read_unchanged_from_bytes_and_files(tmp_path):
    image = noise(0)
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", "a.png"), image)
    assert np.array_equal(read_image(encoded(image), "a.png"), image)


def test_transparency_is_laid_on_white():
    half_red = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert read_image(encoded(half_red), "a").getpixel((0, 0)) == (255, 127, 127)
    assert read_image(encoded(Image.new("LA", (4, 4), (0, 0))), "a").getpixel((0, 0)) == (255, 255, 255)


def test_transparent_colour_of_a_palette_becomes_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    read = read_image(encoded(palette, transparency=0), "a")
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (40, 50, 60)]


def test_sixteen_bit_gray_keeps_its_high_byte():
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    read = np.asarray(read_image(encoded(Image.fromarray(values)), "a"))
    assert read.tolist() == [[[v >> 8] * 3 for v in (0, 255, 256, 32768, 65535)]]


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "PNG"), ("1", "PNG"), ("CMYK", "JPEG"), ("P", "GIF"), ("CMYK", "TIFF")]
)
def test_other_modes_become_rgb(mode, kind):
    image = Image.new("RGB", (8, 8), "white").convert(mode)
    read = read_image(encoded(image, kind), "a")
    assert read.mode == "RGB"
    assert read.getpixel((3, 3)) == (255, 255, 255)


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_image(data, "a").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_truncated_pictures_are_refused_by_name(kind):
    data = encoded(noise(0, 64, 64), kind)
    for share in (0.0, 0.01, 0.5, 0.9):
        with pytest.raises(RestokError, match=r"^cats/7\.x: cannot be decoded"):
            read_image(data[: int(share * len(data))], "cats/7.x")


def test_files_that_are_no_pictures_or_not_there_are_refused_in_one_line(tmp_path):
    for source in (
        b"no image at all",
        encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"),
        tmp_path / "x",
    ):
        with pytest.raises(RestokError) as error:
            read_image(source, "name")
        assert str(error.value).startswith("name: ")
        assert "\n" not in str(error.value) and "BytesIO" not in str(error.value)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30, "subsampling": 2}, {"keep_rgb": True}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_files_are_decoded_to_the_pixels_of_read_image(mode, options):
    data = encoded(noise(0, 61, 47).convert(mode), "JPEG", **options)
    assert torch.equal(decode_jpeg(data), to_tensor(read_image(data, "a")))


def test_what_is_no_whole_rgb_or_gray_jpeg_is_left_to_read_image():
    jpeg = encoded(noise(0, 64, 64), "JPEG")
    cmyk = encoded(noise(0).convert("CMYK"), "JPEG")
    for data in (b"", jpeg[:2], jpeg[:100], jpeg[:-2], cmyk, encoded(noise(0), "PNG"), encoded(noise(0), "WEBP")):
        assert decode_jpeg(data) is None


@pytest.mark.parametrize("way", ["removed", "built without"])
def test_where_torchvision_decodes_no_jpeg_pillow_gives_the_same_pixels_and_that_is_said_once(monkeypatch, capsys, way):
    data = encoded(noise(0, 61, 47), "JPEG")
    expected = decode_jpeg(data)
    if way == "removed":
        monkeypatch.delattr("torchvision.io.decode_jpeg")
    else:
        monkeypatch.setattr("torchvision.io.image._has_image_ops", lambda: False)
    find_jpeg_decoder.cache_clear()
    try:
        assert torch.equal(decode_jpeg(data), expected) and torch.equal(decode_jpeg(data), expected)
        assert decode_jpeg(data[:100]) is None
    finally:
        find_jpeg_decoder.cache_clear()
    assert capsys.readouterr().err.count("this torchvision decodes no JPEG files") == 1


@pytest.mark.filterwarnings("error")
def test_that_torchvision_will_give_up_decoding_is_not_told_with_every_picture():
    assert decode_jpeg(encoded(noise(0), "JPEG")) is not None


def test_a_piece_is_resized_as_pillow_does_it_up_to_rounding():
    image = noise(0, 8, 6).resize((200, 150), Image.Resampling.BICUBIC)
    for box, size in (((10, 20, 190, 140), (32, 48)), ((0, 0, 200, 150), (150, 200)), ((50, 60, 53, 64), (9, 9))):
        naive = to_tensor(image.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))
        resized = resize_box(to_tensor(image), box, size)
        assert resized.dtype == torch.uint8 and resized.is_contiguous()
        assert (resized.int() - naive.int()).abs().max() <= 2


def test_decompression_bombs_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(RestokError, match="bomb: cannot be decoded"):
        read_image(encoded(noise(0)), "bomb")


def adm_center_crop(image: Image.Image, size: int) -> np.ndarray:
    """As guided-diffusion does it, step by step."""
    while min(image.size) >= 2 * size:
        image = image.resize(tuple(side // 2 for side in image.size), Image.BOX)
    scale = size / min(image.size)
    pixels = np.array(image.resize(tuple(round(side * scale) for side in image.size), Image.BICUBIC))
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


@pytest.mark.parametrize("sides", [(500, 375), (37, 91), (64, 64), (33, 32), (128, 64), (10, 11), (1000, 32)])
def test_centre_crop_is_that_of_adm(sides):
    image = noise(1, *sides)
    assert np.array_equal(center_crop(image, 32), adm_center_crop(image, 32))


@pytest.mark.parametrize("sides", [(1, 999), (3000, 2), (40, 2999), (5000, 33)])
def test_centre_crop_of_a_long_picture_makes_no_large_one(sides, monkeypatch):
    image, sizes, resize = noise(1, *sides), [], Image.Image.resize
    expected = adm_center_crop(image, 32).astype(int)

    def recording(self, size, *arguments, **options):
        sizes.append(size)
        return resize(self, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", recording)
    assert np.abs(np.asarray(center_crop(image, 32)).astype(int) - expected).max() <= 1
    assert sizes == [(32, 32)]


def test_centre_crop_to_a_rectangle_keeps_the_middle():
    image = noise(1, 40, 40)
    assert center_crop(image, (20, 40)).size == (40, 20)
    assert np.array_equal(center_crop(image, (20, 40)), np.asarray(image)[10:30])
    assert center_crop(noise(2, 301, 97), (24, 48)).size == (48, 24)


def test_uint8_survives_the_way_to_float_and_back():
    values = torch.arange(256, dtype=torch.uint8)
    floats = to_float(values)
    assert floats.dtype == torch.float32 and floats[0] == 0 and floats[-1] == 1
    assert torch.equal(to_uint8(floats), values)


def test_floats_are_rounded_half_up_and_cut_to_the_range():
    floats = torch.tensor([-1.0, 0.49 / 255, 0.5 / 255, 1.49 / 255, 254.5 / 255, 7.0])
    assert to_uint8(floats).tolist() == [0, 0, 1, 1, 255, 255]


def test_saved_pictures_read_back_equal(tmp_path):
    image = to_tensor(noise(3))
    save_image(image, tmp_path / "a.png")
    assert torch.equal(to_tensor(read_image(tmp_path / "a.png", "a")), image)


def test_a_grid_holds_every_picture_in_reading_order():
    images = torch.stack([to_tensor(noise(seed)) for seed in range(5)])
    grid = make_grid(images, columns=3)
    assert grid.dtype == torch.uint8 and grid.shape == (3, 2 + 2 * 82, 2 + 3 * 102)  # enlarged five times
    for i, image in enumerate(images):
        top, left = 2 + i // 3 * 82, 2 + i % 3 * 102
        cell = grid[:, top : top + 80, left : left + 100]
        assert all(torch.equal(cell[:, y::5, x::5], image) for y in range(5) for x in range(5))
    assert (grid[:, 2 + 82 :, 2 + 2 * 102 :] == 255).all()


def test_large_pictures_are_not_enlarged_in_a_grid():
    images = torch.zeros(1, 3, 100, 96, dtype=torch.uint8)
    assert make_grid(images, columns=1).shape == (3, 104, 100)


def test_captions_are_drawn_below_their_pictures_and_cut_to_fit():
    images = torch.full((2, 3, 16, 96), 255, dtype=torch.uint8)
    grid = make_grid(images, columns=2, captions=["a caption far too long for ninety-six pixels", ""])
    assert (grid[:, :18] == 255).all()
    assert (grid[:, 18:, :98] < 255).any()
    assert (grid[:, :, 98:] == 255).all()


def test_captions_have_plain_letters_for_those_that_the_font_lacks():
    images = torch.zeros((1, 3, 16, 96), dtype=torch.uint8)
    accented, plain = (make_grid(images, 1, [caption]) for caption in ("Über\u00a0señor ﬁ", "Uber senor fi"))
    assert torch.equal(accented, plain)
    assert torch.equal(make_grid(images, 1, ["a\n日"]), make_grid(images, 1, ["a??"]))


def test_pictures_are_found_sorted_and_hidden_files_are_not(tmp_path):
    names = ["b/2.PNG", "b/10.jpg", "a.png", "c/d/e.webp", "b/._2.png", ".git/x.png"]
    write_pictures(tmp_path, names)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    found = [*find_images(tmp_path / "c" / "d" / "e.webp"), *find_images(tmp_path)]
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "c/d/e.webp",
        "a.png",
        "b/10.jpg",
        "b/2.PNG",
        "c/d/e.webp",
    ]


def test_missing_paths_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no images"):
        find_images(tmp_path)
