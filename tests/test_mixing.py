"""Images that begin with the codes of another: `generate --like`, `decode --mix`, and the same from Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_har
from pictures import write_pictures
from PIL import Image

import restok_cli
from restok_cli.data.code_files import read_codes
from restok_cli.model.config import HarConfig
from restok_cli.model.sampling import SamplingOptions, sample

GREEDY = SamplingOptions(temperature=0)


@pytest.fixture
def here(tmp_path, tiny_models, monkeypatch) -> Path:
    """A working folder with `a.png`, `b.png`, their codes in `a.npz`, `b.npz` and, of both, `ab.npz`."""
    write_pictures(tmp_path, ["a.png"], 40, 33)
    write_pictures(tmp_path, ["b.png"], 64, 50)
    for name in ("tokenizer", "har", "other"):
        (tmp_path / name).symlink_to(tiny_models / name)
    monkeypatch.chdir(tmp_path)
    tokenizer = restok_cli.load_tokenizer("tokenizer")
    for file, images in {"a.npz": "a.png", "b.npz": "b.png", "ab.npz": ["a.png", "b.png"]}.items():
        codes = tokenizer.encode(images).numpy().astype(np.int32)
        np.savez(tmp_path / file, codes=codes, codebook_size=tokenizer.codebook_size)
    return tmp_path


@pytest.mark.parametrize("sequential", [4, 32])
@pytest.mark.parametrize("keep", [1, 2, 5, 16, 31, 32])
def test_codes_after_kept_ones_are_those_that_the_model_gives_after_them(sequential, keep):
    config = {"codebook_size": 64, "num_codes": 32, "num_classes": 3, "width": 32, "num_layers": 2, "num_heads": 2}
    har = make_har(HarConfig(num_sequential_codes=sequential, **config))
    kept = torch.randint(64, (keep,), generator=torch.Generator().manual_seed(keep))
    class_ids = torch.tensor([0, 3])  # the last is the null class
    codes = sample(har, class_ids, torch.zeros(2, 32), GREEDY, kept=kept)
    with torch.inference_mode():
        likeliest = har(class_ids, codes).argmax(-1)
    assert torch.equal(codes[:, :keep], kept.expand(2, -1))
    assert torch.equal(codes[:, keep:], likeliest[:, keep:])


def test_keeping_what_would_be_drawn_changes_nothing(tiny_har):
    class_ids, uniforms = torch.tensor([5]), torch.rand(1, 32, generator=torch.Generator().manual_seed(1))
    options = SamplingOptions(cfg_scale=2.0, cfg_schedule="step", cfg_start=0.5, top_p=0.9)
    drawn = sample(tiny_har, class_ids, uniforms, options)
    for keep in (1, 6, 32):
        assert torch.equal(sample(tiny_har, class_ids, uniforms, options, kept=drawn[0, :keep]), drawn)


def test_images_like_one_keep_its_codes_and_depend_on_nothing_but_the_seed(restok, here):
    command = ("generate", "--model", "har", "--like", "a.png", "--keep", 6, "--count", 3)
    assert restok(*command, "--codes", "-o", "codes.npz").code == 0
    drawn, own = read_codes(here / "codes.npz"), read_codes(here / "a.npz")
    assert (drawn.codes[:, :6] == own.codes[:, :6]).all() and len({tuple(row) for row in drawn.codes.tolist()}) == 3
    assert drawn.class_ids.tolist() == [-1] * 3 and drawn.request["classes"] == ["none"]

    assert restok(*command, "-o", "drawn", "--ladder", "ladder.png").code == 0
    assert restok(*command, "--batch-size", 1, "-o", "drawn.npz").code == 0
    pixels = np.load("drawn.npz")["arr_0"]
    assert all((np.asarray(Image.open(f"drawn/00000{i}.png")) == pixels[i]).all() for i in range(3))
    assert {json.loads(line)["class_id"] for line in Path("drawn/manifest.jsonl").read_text().splitlines()} == {-1}
    assert Image.open("ladder.png").width > 6 * 32  # 1, 2, 4, 8, 16, 32 codes

    generator = restok_cli.load_generator("har")
    result = generator.generate(count=3, like="a.png", keep=6)
    assert (result.codes.numpy() == drawn.codes).all() and (result.images == pixels).all()
    assert result.class_ids == [-1] * 3
    *_, last = generator.stream(like=Image.open("a.png"), keep=6)
    assert (last.images == pixels[:1]).all()

    named = generator.generate(7, count=3, like="a.png", keep=6)
    assert named.class_ids == [7] * 3 and (named.codes.numpy() != drawn.codes).any()


def test_another_image_is_another_request(restok, fails, here):
    command = ("generate", "--model", "har", "--keep", 32, "--count", 2, "--shards", "-o", "drawn")
    assert restok(*command, "--like", "a.png").code == 0
    assert restok(*command, "--like", "a.png", "--resume", "--count", 3).code == 0
    assert "kept" in fails(2, *command, "--like", "b.png", "--resume", "--count", 3)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("generate --model har --keep 3", 2, "--like FILE and --keep N belong together"),
        ("generate --model har --like a.png", 2, "--like FILE and --keep N belong together"),
        ("generate --model har --like a.png --keep 33", 2, "--keep 33: there are 32 codes; give 1 to 32"),
        ("generate --model har --like a.png --keep 5 --steps 4", 2, "--keep 5: there are 4 codes; give 1 to 4"),
        (
            "generate --model har --like none.png --keep 3",
            2,
            "--like none.png: no such file or folder; give an image file",
        ),
        ("generate --model har --like a.npz --keep 3", 1, "a.npz: cannot be decoded as an image"),
        ("generate --model har --like a.png --keep 3 --cfg-scale 2", 2, "--cfg-scale guides towards a class"),
        ("generate --model har --like a.png --keep 3 -o a.png", 2, "a.png"),
        ("decode", 2, "give CODES or --mix A B, and not both"),
        ("decode a.npz --mix a.png b.png --keep 3", 2, "give CODES or --mix A B, and not both"),
        ("decode --mix a.png b.png", 2, "--mix A B and --keep N belong together"),
        ("decode a.npz --keep 3", 2, "--mix A B and --keep N belong together"),
        ("decode a.npz --grid x.png --ladder x.png", 2, "--grid and --ladder are both x.png"),
        ("decode --model tokenizer --mix a.png b.png --keep 33", 2, "--keep 33: there are 32 codes; give 1 to 32"),
        ("decode --model tokenizer --mix a.png b.png --keep 9 --num-codes 8", 2, "--keep 9: there are 8 codes"),
        ("decode --model tokenizer --mix a.png c.png --keep 3", 2, "--mix c.png: no such file"),
        ("decode --model tokenizer --mix ab.npz b.png --keep 3", 2, "--mix ab.npz: has codes of 2 images; give those"),
        ("decode --model sample --mix a.npz b.npz --keep 3", 2, "the codes are 32 of 64 for each image"),
        ("decode --model tokenizer --mix a.png b.png --keep 3 -o b.png --overwrite", 2, "b.png"),
    ],
)
def test_what_cannot_be_kept_or_mixed_is_refused(fails, here, command, code, message):
    before = {file: file.read_bytes() for file in here.glob("*.*")}
    assert message in fails(code, *command.split())
    assert before == {file: file.read_bytes() for file in here.glob("*.*")}


@pytest.mark.parametrize("keep", [1, 5, 32])
def test_a_mixture_has_the_first_codes_of_one_and_the_rest_of_the_other(restok, here, keep):
    tokenizer = restok_cli.load_tokenizer("tokenizer")
    codes, others = tokenizer.encode("a.png"), tokenizer.encode("b.png")
    by_hand = tokenizer.decode(torch.cat([codes[:, :keep], others[:, keep:]], 1))
    assert (tokenizer.mix("a.png", "b.png", keep=keep).images == by_hand.images).all()
    for mix in (("a.png", "b.png"), ("a.npz", "b.png"), ("a.npz", "b.npz")):
        command = ("decode", "--model", "tokenizer", "--mix", *mix, "--keep", keep, "--overwrite")
        assert restok(*command, "-o", "mixed.png", "--ladder", "ladder.png").code == 0
        assert (np.asarray(Image.open("mixed.png")) == by_hand.images[0]).all()
        assert Image.open("ladder.png").width > 7 * 32  # 0, 1, 2, 4, 8, 16, 32 codes


def test_python_says_what_cannot_be_mixed(here):
    tokenizer, generator = restok_cli.load_tokenizer("tokenizer"), restok_cli.load_generator("har")
    with pytest.raises(restok_cli.UsageError, match="1 images cannot be mixed with 2; give equally many"):
        tokenizer.mix("a.png", ["a.png", "b.png"], keep=3)
    with pytest.raises(restok_cli.UsageError, match="keep = 33; give a whole number from 1 to 32"):
        tokenizer.mix("a.png", "b.png", keep=33)
    for options in ({"like": "a.png"}, {"keep": 3}):
        with pytest.raises(restok_cli.UsageError, match="like and keep belong together"):
            generator.generate(**options)
    with pytest.raises(restok_cli.UsageError, match="like is 2 images; give one"):
        generator.generate(like=["a.png", "b.png"], keep=3)


def test_decode_and_reconstruct_take_the_same_outputs(restok, fails, here):
    sheets = ("--grid", "grid.png", "--ladder", "ladder.png", "--overwrite")
    assert restok("decode", "ab.npz", "--model", "tokenizer", "-o", "both", *sheets).code == 0
    assert Image.open("ladder.png").width > 2.9 * Image.open("grid.png").width  # six columns, and two
    assert restok("reconstruct", "a.png", "--model", "tokenizer", "-o", "again.png", *sheets).code == 0
    assert restok("decode", "a.npz", "--model", "tokenizer", "-o", "one.png").code == 0
    assert Path("again.png").read_bytes() == Path("one.png").read_bytes() == Path("both/000000.png").read_bytes()
    several = ("reconstruct", "--model", "tokenizer", "-o", "several.png")
    assert "several.png is one image, but there are several" in fails(2, *several, "a.png", "b.png")
    assert "give one number of codes, or a folder" in fails(2, *several, "a.png", "--num-codes", "1,4")
    assert "again.png already exists" in fails(2, "reconstruct", "a.png", "--model", "tokenizer", "-o", "again.png")
    assert not Path("several.png").exists()
