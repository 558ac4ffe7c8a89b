"""Numbers of a network that are not finite: no command makes an image or a code of them without a word."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_har
from pictures import write_pictures

from restok_cli.api import load_generator, load_tokenizer
from restok_cli.data.images import Pixels, decode_pixels, to_uint8
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.errors import RestokError
from restok_cli.inference.coding import decode_codes
from restok_cli.model.config import HarConfig
from restok_cli.model.guidance import SamplingOptions
from restok_cli.model.sampling import draw, sample
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.modules import save_har, save_tokenizer
from restok_cli.training.tokenizer_loop import save_preview, validate

DAMAGED = "its weights are damaged, or its training diverged"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_config) -> Path:
    """A folder with `tokenizer`, whose last convolution overflows, and `har`, which draws its codes."""
    folder = tmp_path_factory.mktemp("overflowing")
    torch.manual_seed(0)
    tokenizer = Tokenizer(tiny_config).eval()
    tokenizer.pixel_decoder.conv_out.weight.data.fill_(3e38)
    save_tokenizer(tokenizer, folder / "tokenizer")
    har = make_har(HarConfig(codebook_size=64, num_codes=32, num_classes=98, width=32, num_layers=1, num_heads=1))
    save_har(har, open_tokenizer(folder / "tokenizer"), open_dataset("sample").class_names, folder / "har")
    write_pictures(folder / "images", ["a.png", "b.png"], 40, 33)
    return folder


@pytest.fixture
def here(tmp_path, models, monkeypatch) -> Path:
    for name in ("tokenizer", "har", "images"):
        (tmp_path / name).symlink_to(models / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "command, name",
    [
        ("generate --model har --count 3 -o out", "image 0"),
        ("generate --model har --count 3 -o out.npz", "image 0"),
        ("generate --model har --count 3 -o out --shards", "image 0"),
        ("generate --model har --count 1 -o out.png", "image 0"),
        ("reconstruct images --model tokenizer -o out", "a"),
        ("reconstruct images/b.png --model tokenizer -o out.png --ladder ladder.png", "b"),
        ("evaluate images --model tokenizer --num-codes 4 --metric psnr", "a"),
        ("evaluate images --model tokenizer --perturb 0.5 --nearest 4 --features random", "a"),
        ("tune har --features random --metric is --first 16 --images 16 --try cfg_scale=1,2 -o out", "image 0"),
    ],
)
def test_a_command_names_the_first_image_and_leaves_nothing(fails, here, command, name):
    message = fails(1, *command.split())
    assert f"restok: {name}: the tokenizer makes pixels of it that are not finite numbers" in message
    assert DAMAGED in message
    left = {path.name for path in here.iterdir()} - {"tokenizer", "har", "images"}
    assert left <= {"out"} and (command.startswith("tune") or not left)
    assert not [*here.glob("out/features/*.npy")]


def test_codes_are_drawn_and_made_and_no_image_is(fails, restok, here):
    assert restok("generate", "--model", "har", "--count", 3, "--codes", "-o", "drawn.npz").code == 0
    assert restok("encode", "images", "--model", "tokenizer", "-o", "codes.npz").code == 0
    for arguments, name in (
        (("codes.npz", "-o", "out"), "a"),
        (("codes.npz", "-o", "out", "--grid", "grid.png", "--ladder", "ladder.png"), "a"),
        (("drawn.npz", "-o", "out"), "000000"),
        (("--mix", "images/a.png", "images/b.png", "--keep", 4, "-o", "out.png"), "mixed"),
        (("--mix", "images/a.png", "images/b.png", "--keep", 4, "-o", "out.png", "--ladder", "l.png"), "0 kept"),
    ):
        assert f"{name}: the tokenizer makes pixels" in fails(1, "decode", *arguments, "--model", "tokenizer")
    left = {path.name for path in here.iterdir()} - {"tokenizer", "har", "images"}
    assert left == {"drawn.npz", "codes.npz"}


def test_python_raises_it_too(here):
    tokenizer, generator = load_tokenizer("tokenizer"), load_generator("har")
    with pytest.raises(RestokError, match="image 0: the tokenizer"):
        tokenizer.decode(np.zeros((2, 32), int))
    with pytest.raises(RestokError, match="image 0: the tokenizer"):
        generator.generate(count=2)
    with pytest.raises(RestokError, match="image 0: the tokenizer"):
        next(generator.stream())


@pytest.mark.parametrize("command", ["--temperature 1e-40", "--cfg-scale 1e39", "--temperature 1e-40 --codes"])
def test_options_that_make_logits_infinite_draw_nothing(fails, tiny_models, tmp_path, command):
    words = ("generate", "--model", tiny_models / "har", "--count", 3, *command.split())
    output = tmp_path / ("out.npz" if "--codes" in command else "out")
    message = fails(1, *words, "-o", output)
    assert "image 0: the generator gives its codes logits that are not finite numbers" in message
    assert "--temperature and --cfg-scale nearer to 1" in message
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"top_k": 3}, {"top_p": 0.5}], ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_code_of_logits_that_are_not_finite_is_minus_one(options, bad):
    logits, uniforms = torch.randn(3, 4, 9), torch.rand(3, 4)
    options = SamplingOptions(**options)
    expected = draw(logits, uniforms, options)
    expected[1, 2], expected[2, 0] = -1, -1
    logits[1, 2, 5], logits[2, 0] = bad, -math.inf
    assert torch.equal(draw(logits, uniforms, options), expected)


def test_of_an_image_whose_logits_are_not_finite_no_code_is_drawn_and_others_have_theirs(tiny_har):
    uniforms, options = torch.rand(3, 32), SamplingOptions()
    expected = sample(tiny_har, torch.tensor([5, 6, 7]), uniforms, options)
    tiny_har.class_embedding.weight.data[6] = math.nan
    expected = expected.where(torch.tensor([[True], [False], [True]]), -1)
    assert torch.equal(sample(tiny_har, torch.tensor([5, 6, 7]), uniforms, options), expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_one_value_is_enough_and_the_other_images_are_as_they_were(bad, dtype):
    images = torch.rand(4, 3, 8, 8).to(dtype)
    images[2, 1, 3, 3] = bad
    codes = torch.zeros(4, 2, dtype=torch.int64)
    codes[3, 1] = -1  # which no table of codewords takes
    pixels = decode_pixels(lambda codes: images[: len(codes)] + 0 * codes.min().clamp(max=0), codes)
    assert pixels.finite.tolist() == [True, True, False, False]
    assert torch.equal(pixels.images[:2], to_uint8(images)[:2])
    assert torch.equal(Pixels(*(part[:2] for part in pixels)).checked(["a", "b"], dtype), pixels.images[:2])
    pixels.checked(["a", "b"], dtype)  # of two images and what fills their batch
    with pytest.raises(RestokError, match=r"^c: .*(--dtype float32|earlier checkpoint)$"):
        pixels.checked(["a", "b", "c", "d"], dtype)


def test_a_pixel_decoder_that_16_bits_do_not_hold_asks_for_float32(tiny_tokenizer):
    tiny_tokenizer.pixel_decoder.conv_in.weight.data *= 1e6  # which a norm behind it takes back
    codes = torch.randint(64, (2, 32), generator=torch.Generator().manual_seed(0))
    images = decode_codes(tiny_tokenizer, codes).checked(["a", "b"], tiny_tokenizer.dtype)
    assert images.float().std() > 1
    tiny_tokenizer.to_dtype(torch.bfloat16, torch.float16)
    with pytest.raises(RestokError, match=r"^a: the tokenizer makes pixels .* give --dtype float32$"):
        decode_codes(tiny_tokenizer, codes).checked(["a", "b"], tiny_tokenizer.dtype)


@pytest.mark.parametrize("kind, bad", [("tokenizer", math.nan), ("tokenizer", -math.inf), ("har", math.inf)])
def test_weights_that_are_not_finite_are_refused_by_name(fails, tiny_models, tiny_tokenizer, tmp_path, kind, bad):
    name = "quantizer.codebook"
    if kind == "tokenizer":
        tiny_tokenizer.quantizer.codebook.data[3, 1] = bad
        save_tokenizer(tiny_tokenizer, tmp_path / "model")
        command = ("encode", tiny_models / "tokenizer", "--model", tmp_path / "model", "-o", tmp_path / "codes.npz")
        write_pictures(tmp_path / "images", ["a.png"], 40, 33)
        command = ("encode", tmp_path / "images", *command[2:])
    else:
        har = make_har(HarConfig(codebook_size=64, num_codes=32, num_classes=98, width=32, num_layers=1, num_heads=1))
        har.head.weight.data[1, 1], name = bad, "head.weight"
        names = open_dataset("sample").class_names
        save_har(har, open_tokenizer(tiny_models / "tokenizer"), names, tmp_path / "model")
        command = ("generate", "--model", tmp_path / "model", "--codes", "-o", tmp_path / "codes.npz")
    assert f"{name} has numbers that are not finite; what wrote it was damaged" in fails(1, *command)
    assert not (tmp_path / "codes.npz").exists()


def test_a_validation_has_no_psnr_and_a_preview_says_why_it_shows_nothing(
    tiny_tokenizer, sample_data, tmp_path, capsys
):
    def run() -> dict[str, float]:
        numbers = validate(tiny_tokenizer, sample_data, 4, CPU, None, 1, lambda batches: batches)
        save_preview(tiny_tokenizer, sample_data, CPU, tmp_path / "preview.png", lambda batches: batches)
        assert (tmp_path / "preview.png").is_file()
        return numbers

    assert math.isfinite(run()["validation_psnr"]) and not capsys.readouterr().err
    tiny_tokenizer.pixel_decoder.conv_out.weight.data.fill_(3e38)
    assert math.isnan(run()["validation_psnr"])
    assert capsys.readouterr().err.count("preview.png: the model makes pixels that are not finite numbers") == 1
