"""The Python interface: the bytes of the commands, what goes in and comes out, and what is refused."""

import copy
import inspect
import math
import pickle
import subprocess
import sys
import threading
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from drawings import pngs
from pictures import noise, write_pictures
from PIL import Image

import restok_cli
from restok_cli import api
from restok_cli.commands.generate import generate as generate_command
from restok_cli.data.code_files import read_codes
from restok_cli.data.images import png_bytes
from restok_cli.inference.sampling_options import RANGES
from restok_cli.model.guidance import SamplingOptions

PUBLIC = [
    "DecodedImages",
    "GeneratedImages",
    "ImageGenerator",
    "ImageTokenizer",
    "RestokError",
    "UsageError",
    "load_generator",
    "load_tokenizer",
]


@pytest.fixture(scope="module")
def tokenizer(tiny_models) -> restok_cli.ImageTokenizer:
    return restok_cli.load_tokenizer(tiny_models / "tokenizer", device="cpu")


@pytest.fixture(scope="module")
def generator(tiny_models) -> restok_cli.ImageGenerator:
    return restok_cli.load_generator(tiny_models / "har", device=torch.device("cpu"))


def files_of(images: restok_cli.DecodedImages) -> list[bytes]:
    """The images as the commands write them."""
    return [png_bytes(image) for image in torch.from_numpy(images.images).permute(0, 3, 1, 2)]


def test_the_public_names_are_these_and_come_without_torch():
    assert restok_cli.__all__ == api.__all__ == PUBLIC and set(PUBLIC) <= set(dir(restok_cli))
    for name in PUBLIC:
        public = getattr(restok_cli, name)
        assert public is getattr(api, name) and public.__doc__
        methods = (method for key, method in vars(public).items() if inspect.isclass(public) and key[0] != "_")
        assert all(inspect.getdoc(method) for method in methods if inspect.isfunction(method)), name
    with pytest.raises(AttributeError, match="has no attribute 'load_tokeniser'"):
        restok_cli.load_tokeniser  # noqa: B018
    code = "import sys, restok_cli; print(sorted({'torch', 'numpy', 'PIL', 'pydantic'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_options_of_sampling_are_those_of_the_model_and_of_the_command():
    assert tuple(api.Sampling.__annotations__) == SamplingOptions._fields
    parameters = inspect.signature(generate_command).parameters
    for name, (low, high) in RANGES.items():
        (option,) = parameters[name].annotation.__metadata__
        assert (option.min, option.max) == (low, None if high == math.inf else high)


# --- the bytes of the commands ---------------------------------------------------------------------------------------


def test_generate_gives_what_the_command_writes(generator, generate, tmp_path):
    generate("-o", "out", "--class", "heart", "--class", 3, "--seed", 5)
    options = {"count": 11, "seed": 5, "cfg_scale": 2, "cfg_schedule": "step", "top_p": 0.95}
    result = generator.generate(["heart", 3], **options)
    assert files_of(result) == list(pngs(tmp_path / "out").values())
    generate("--codes", "-o", "codes.npz", "--class", "heart", "--class", 3, "--seed", 5)
    assert result.codes.tolist() == read_codes(tmp_path / "codes.npz").codes.tolist()
    assert [generator.class_names[i] for i in result.class_ids[:1]] == ["heart"] and len(result) == 11
    assert files_of(generator.generate(["heart", 3], batch_size=3, **options)) == files_of(result)


def test_the_sample_model_alone_gives_what_the_command_alone_writes(restok, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert restok("generate", "--seed", 0, "--count", 3).code == 0
    result = restok_cli.load_generator().generate(seed=0, count=3)
    assert files_of(result) == list(pngs(tmp_path / "pictures").values())
    assert inspect.signature(restok_cli.ImageGenerator.generate).parameters["count"].default == 16


def test_encode_and_decode_give_what_the_commands_write(tokenizer, restok, tiny_models, tmp_path):
    write_pictures(tmp_path / "in", ["a.png", "b.jpg"], 40, 33)
    paths, model = sorted((tmp_path / "in").iterdir()), ("--model", tiny_models / "tokenizer")
    assert restok("encode", tmp_path / "in", "-o", tmp_path / "codes.npz", *model).code == 0
    codes = tokenizer.encode(paths)
    assert codes.dtype == torch.int64 and codes.tolist() == read_codes(tmp_path / "codes.npz").codes.tolist()
    for num_codes in (32, 4):
        output = tmp_path / str(num_codes)
        assert restok("decode", tmp_path / "codes.npz", "-o", output, "--tokens", num_codes, *model).code == 0
        assert files_of(tokenizer.decode(codes[:, :num_codes])) == list(pngs(output).values())


def test_numbers_may_be_those_of_numpy(generator):
    result = generator.generate([np.int64(3)], count=np.int64(2), top_p=np.float32(0.5), top_k=np.int32(8))
    assert np.array_equal(result.images, generator.generate(3, count=2, top_p=0.5, top_k=8).images)
    again = generator.generate(torch.tensor(3), count=2, top_p=0.5, top_k=8, batch_size=torch.tensor(2))
    assert np.array_equal(result.images, again.images)


def test_nothing_is_printed(generator, tokenizer, capfd):
    generator.generate("monkey", count=2)  # a part of a name, which the command says something of
    list(generator.stream(count=2))
    tokenizer.decode(tokenizer.encode(noise(0)))
    assert capfd.readouterr() == ("", "")


def test_settings_of_a_notebook_change_nothing(generator, tiny_models):
    def result(drawn: restok_cli.ImageGenerator) -> list[list]:
        codes = drawn.tokenizer.encode(Image.new("RGB", (40, 40), "red"), batch_size=np.int64(2))
        steps = [step.images for step in drawn.stream(count=2)]
        return [image.tolist() for image in (*steps, drawn.generate(count=2).images, codes)]

    expected = result(generator)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")  # as of "cuda", nothing of it is on the CPU
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            assert (
                result(generator) == result(restok_cli.load_generator(tiny_models / "har", device="cpu:0")) == expected
            )
            assert torch.get_default_dtype() == torch.float64
            assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_threads_leave_the_settings_of_a_notebook_as_they_were(tokenizer, monkeypatch):
    """Two calls that overlap: the one that began first ends first."""
    entered, ended = threading.Event(), threading.Event()
    waits = {"first": (entered, None), "second": (ended, entered)}
    seen = []

    def encode(_module: object, images: torch.Tensor) -> torch.Tensor:
        mine, told = waits[threading.current_thread().name]
        if told:
            told.set()
        assert mine.wait(10)
        seen.append((torch.get_default_dtype(), torch.backends.mkldnn.matmul.fp32_precision))
        return torch.zeros(1)

    def call() -> None:
        tokenizer.encode(noise(0))
        ended.set()

    monkeypatch.setattr(api, "encode_images", encode)
    threads = [threading.Thread(target=call, name=name) for name in waits]
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == 2 * [(torch.float32, "ieee")]
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.set_default_dtype(torch.float32)


def test_pickles_and_copies_load_again(tokenizer, generator):
    images = pickle.loads(pickle.dumps(generator)).generate(count=2).images
    assert np.array_equal(images, generator.generate(count=2).images)
    codes = tokenizer.encode(noise(0))
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(generator.tokenizer))):
        assert torch.equal(other.encode(noise(0)), codes)


# --- what goes in and comes out --------------------------------------------------------------------------------------


def test_images_go_in_in_every_form(tokenizer, tmp_path):
    pictures = [noise(seed, 32, 32) for seed in range(3)]
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    floats = torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255
    codes = tokenizer.encode(pictures)
    for images in (
        paths,
        tuple(map(str, paths)),
        arrays,
        torch.from_numpy(arrays),
        floats,
        floats.double().numpy(),
        floats.numpy().astype(">f4"),
    ):
        assert torch.equal(tokenizer.encode(images, batch_size=2), codes)
    assert torch.equal(tokenizer.encode(paths[1]), codes[1:2]) and torch.equal(tokenizer.encode(pictures[2]), codes[2:])
    flipped = tokenizer.encode(arrays[:, :, ::-1])  # of negative strides
    assert torch.equal(flipped, tokenizer.encode(arrays[:, :, ::-1].copy()))
    grey = noise(0, 50, 40).convert("L")
    assert torch.equal(tokenizer.encode(grey), tokenizer.encode(grey.convert("RGB")))


def test_what_comes_out_goes_in_again(tokenizer, generator):
    result = generator.generate(count=3)
    assert result.images.shape == (3, 32, 32, 3) and result.images.dtype == np.uint8
    assert [np.asarray(image).tolist() for image in result.to_pil()] == result.images.tolist()
    assert torch.equal(tokenizer.encode(result.images), generator.tokenizer.encode(result.to_pil()))
    decoded = tokenizer.decode(result.codes.numpy())
    assert np.array_equal(decoded.images, result.images) and torch.equal(decoded.codes, result.codes)
    codes = result.codes.clone()
    decoded = tokenizer.decode(codes)
    codes.zero_()
    assert torch.equal(decoded.codes, result.codes)
    assert (tokenizer.image_size, tokenizer.num_codes, tokenizer.codebook_size) == ((32, 32), 32, 64)


def test_a_stream_ends_with_what_generate_gives_and_grows_to_it(generator):
    steps = list(generator.stream([3], count=2, seed=1, top_p=0.9))
    whole = generator.generate([3], count=2, seed=1, top_p=0.9)
    assert len(steps) == generator.num_steps and np.array_equal(steps[-1].images, whole.images)
    for step in steps:
        length = step.codes.shape[1]
        assert torch.equal(step.codes, whole.codes[:, :length]) and step.class_ids == [3, 3]
        assert np.array_equal(step.images, generator.tokenizer.decode(step.codes).images)
    assert len(list(generator.stream(num_steps=4))) == 4


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "there are no images"),
        (np.zeros((0, 32, 32, 3), np.uint8), "there are no images"),
        (np.zeros((1, 64, 32, 3), np.uint8), r"uint8 \(1, 64, 32, 3\), and this tokenizer takes 32 x 32"),
        (np.zeros((32, 32, 3), np.uint8), r"give uint8 \(B, 32, 32, 3\) or float \(B, 3, 32, 32\)"),
        (np.zeros((1, 3, 32, 32), np.uint8), "give uint8"),
        (np.zeros((1, 32, 32, 3), np.float32), "give uint8"),
        (np.zeros((1, 3, 32, 32), np.int64), "give uint8"),
        (np.array([None]), "images are object; give numbers"),
        (torch.full((1, 3, 32, 32), -1.0), "images run from -1 to -1; give values from 0 to 1"),
        (torch.full((1, 3, 32, 32), 1.0000002), r"images run from 1\.0000002 to 1\.0000002; give values from 0 to 1"),
        ({"a.png", "b.png"}, "images are a set, which has no order; give a list"),
        (torch.full((1, 3, 32, 32), float("nan")), "give values from 0 to 1"),
        (None, "images are a NoneType; give paths"),
        (b"PNG", "images are a bytes; give paths"),
        (torch.zeros(1, 3, 32, 32, device="meta"), "images are a tensor that is nested or sparse, or has no values"),
        (torch.zeros(1, 3, 32, 32).to_sparse(), "give a dense one"),
        ([5], "image 0 is a int; give paths"),
        ([Image.new("RGB", (0, 5))], "image 0 has 0 x 5 pixels"),
        ([Image.new("F", (32, 32))], "image 0: cannot be decoded as an image"),
        ("nowhere.png", "nowhere.png: cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_images_that_cannot_be_encoded_are_refused(tokenizer, images, message):
    with pytest.raises(restok_cli.RestokError, match=message):
        tokenizer.encode(images)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2, 33, dtype=torch.int64), r"codes are \(2, 33\); give those of one image or more, 1 to 32"),
        (torch.zeros(2, 0, dtype=torch.int64), r"codes are \(2, 0\)"),
        (torch.zeros(4, dtype=torch.int64), r"give integers \(B, n\)"),
        (torch.zeros(1, 4), r"codes are torch.float32 \(1, 4\); give integers"),
        (np.full((1, 4), 64), "codes run from 64 to 64, outside a codebook of 64"),
        (np.full((1, 4), -1), "codes run from -1 to -1"),
        ([[1, 2], [3]], "codes are no array .*; give rows of equal lengths"),
        (None, "codes are object; give numbers"),
    ],
)
def test_codes_that_cannot_be_decoded_are_refused(tokenizer, codes, message):
    with pytest.raises(restok_cli.UsageError, match=message):
        tokenizer.decode(codes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["no such"]}, "no such class"),
        ({"classes": []}, "classes is empty"),
        ({"classes": {3, 4}}, "classes are a set, which has no order"),
        ({"count": 0}, "count = 0; give a whole number from 1 on"),
        ({"count": 10**12}, "needs at least"),
        ({"count": True}, "count = True; give a whole number"),
        ({"classes": 1.5}, "no such class"),
        ({"num_steps": 1.5}, "num_steps = 1.5; give a whole number"),
        ({"preset": 3}, "preset is a int; give a name"),
        ({"preset": ""}, "no such preset"),
        ({"seed": -1}, "seed = -1; give a whole number from 0 to 4294967295"),
        ({"num_steps": 8}, "this model takes 1 to 7 steps"),
        ({"cfg_scale": float("inf")}, "--cfg-scale inf: give a finite number"),
        ({"temperature": -0.5}, "--temperature -0.5: give a number from 0 on"),
        ({"top_p": 2}, "--top-p 2: give a number from 0 to 1"),
        ({"top_k": 0.5}, "--top-k 0.5: give a whole number"),
        ({"cfg_schedule": "stepp"}, r"--cfg-schedule stepp: no such schedule \(did you mean step\?\)"),
        ({"temperature": 0, "top_k": 5}, "--top-k changes nothing at temperature 0"),
        ({"cfg_start": 0.5}, "--cfg-start changes nothing in a constant schedule"),
        ({"preset": "papers"}, "no such preset"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_refused_at_once(generator, options, message):
    for method in (generator.generate, generator.stream):
        with pytest.raises(restok_cli.UsageError, match=message):
            method(**options)
    with pytest.raises(restok_cli.UsageError, match="batch_size = 0"):
        generator.generate(batch_size=0)
    with pytest.raises(TypeError, match=r"take no argument named cfg_scal \(did you mean cfg_scale\?\)"):
        generator.stream(cfg_scal=2)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried …")])
def test_lack_of_memory_is_told(tokenizer, monkeypatch, error):
    monkeypatch.setattr(api, "encode_images", Mock(side_effect=error))
    with pytest.raises(restok_cli.RestokError, match="out of memory; give a smaller batch_size"):
        tokenizer.encode(noise(0))


def test_what_cannot_be_loaded_is_refused(tiny_models):
    for load in (restok_cli.load_tokenizer, restok_cli.load_generator):
        with pytest.raises(restok_cli.UsageError, match="no such folder"):
            load("nowhere")
        with pytest.raises(restok_cli.UsageError, match="model is NoneType; give a path"):
            load(None)
        with pytest.raises(restok_cli.UsageError, match="model is empty; give a path"):
            load("")
        with pytest.raises(restok_cli.UsageError, match="no such device"):
            load(device="gpu")
        with pytest.raises(restok_cli.UsageError, match="no such precision"):
            load(device="cpu", dtype="int4")
    with pytest.raises(restok_cli.UsageError, match="another tokenizer"):
        restok_cli.load_generator(tiny_models / "har", tokenizer=tiny_models / "other")
