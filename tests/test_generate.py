"""`restok generate`: image i is the same however it is made, and whatever it is written to."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_har
from drawings import OPTIONS, pngs
from launchers import RESTOK, accelerate
from PIL import Image

from restok_cli.cpu import rewrite as cpu_rewrite
from restok_cli.data.code_files import read_codes
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.streams import read_stream
from restok_cli.errors import UsageError
from restok_cli.inference import outputs
from restok_cli.inference.generate_destination import Destination, check_output
from restok_cli.model.config import HarConfig, TokenizerConfig
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.pretrained.modules import save_har, save_tokenizer


def arrays(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in pngs(folder).values()])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 11, "auto"])
def test_pictures_do_not_depend_on_the_batch_size(generate, expected, tmp_path, batch_size):
    assert len(set(expected.values())) == 11
    generate("-o", "out", "--batch-size", batch_size)
    assert pngs(tmp_path / "out") == expected


def test_pictures_do_not_depend_on_the_number_of_threads(generate, expected, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))  # another number than all other tests
    try:
        generate("-o", "out")
    finally:
        torch.set_num_threads(threads)
    assert pngs(tmp_path / "out") == expected


def test_pictures_do_not_depend_on_how_many_are_made(generate, expected, tmp_path):
    generate("-o", "out", "--count", 3)
    assert list(pngs(tmp_path / "out").items()) == list(expected.items())[:3]
    assert generate("-o", "one.PNG", "--count", 1, "--grid", "grid.png").out == "one.PNG\n"
    assert (tmp_path / "one.PNG").read_bytes() == expected["000000.png"]
    assert {path.name for path in tmp_path.iterdir() if "one" in path.name} == {"one.PNG"}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "stream"])
def test_pictures_do_not_depend_on_the_number_of_processes(generate, expected, tiny_models, tmp_path, form):
    arguments = ("--batch-size", 2, "--grid", "grid.png", "-o", "-" if form == "stream" else "out")
    if form == "stream":
        launcher = (sys.executable, *accelerate(tmp_path), "-m", "restok_cli")
    else:
        launcher, arguments = RESTOK, (*arguments, "--num-processes", 2)
    command = (*launcher, "generate", "--model", tiny_models / "har", *OPTIONS, *arguments)
    result = subprocess.run([str(word) for word in command], cwd=tmp_path, capture_output=True)
    assert result.returncode == 0, result.stderr
    if form == "stream":
        made = {f"{picture.key}.png": picture.data for picture in read_stream(io.BytesIO(result.stdout))}
    else:
        made = pngs(tmp_path / "out")
        assert result.stdout == b"out\n"
    assert made == expected
    generate("-o", "alone", "--grid", "grid-alone.png")
    assert (tmp_path / "grid.png").read_bytes() == (tmp_path / "grid-alone.png").read_bytes()


def test_the_folder_says_what_was_made_and_how(generate, expected, tmp_path):
    lines = [json.loads(line) for line in (tmp_path / "expected" / "manifest.jsonl").read_text().splitlines()]
    facts = [{"file": f"{i:06d}.png", "class_id": i, "seed": 0, "index": i} for i in range(11)]
    assert [{name: line[name] for name in line if not name.endswith("_crc32")} for line in lines] == facts
    assert [line["file_crc32"] for line in lines] == [f"{zlib.crc32(png):08x}" for png in expected.values()]
    own = {name: value for name, value in lines[0].items() if name != "fields_crc32"}
    assert lines[0]["fields_crc32"] == f"{zlib.crc32(json.dumps(own, sort_keys=True).encode()):08x}"
    request = json.loads((tmp_path / "expected" / "request.json").read_text())
    assert request["cfg_scale"] == 2 and request["cfg_schedule"] == "step" and request["steps"] == 7
    assert request["rounding"] == "half up" and len(request["model"]) == len(request["tokenizer"]) == 64
    assert sorted(file.name for file in tmp_path.iterdir()) == ["expected"]


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_of_the_model_is_never_replaced(fails, tiny_models, tmp_path):
    shutil.copytree(tiny_models / "har", tmp_path / "har")
    before = (tmp_path / "har" / "model.safetensors").read_bytes()
    options = ("--model", tmp_path / "har", "--codes", "--overwrite", "-o", tmp_path / "har" / "model.safetensors")
    assert "would replace what is read" in fails(2, "generate", *options)
    assert (tmp_path / "har" / "model.safetensors").read_bytes() == before


def test_processes_whose_devices_hold_less_decide_how_many_images_are_drawn_at_a_time(generate, monkeypatch):
    """Each takes every second block, say, of which all must think alike."""
    sizes = []
    monkeypatch.setattr("restok_cli.inference.generate.gather", lambda mine: [mine, 3])
    draw = outputs.generate_blocks
    monkeypatch.setattr(
        outputs, "generate_blocks", lambda job, blocks: sizes.append(job.batch_size) or draw(job, blocks)
    )
    for asked in ("auto", 2):
        generate("-o", "out", "--overwrite", "--batch-size", asked)
    assert sizes == [3, 2]


# --- forms ----------------------------------------------------------------------------------------------------------


def test_an_npz_has_the_form_of_the_adm_evaluator(generate, expected, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "png_files", lambda _: pytest.fail("a PNG is made, to be read back"))
        for name in ("one.npz", "two.npz"):
            generate("-o", name, "--class", "heart", "--class", 3)
    generate("-o", "folder", "--class", "heart", "--class", 3)
    with np.load(tmp_path / "one.npz") as npz:
        assert npz["arr_0"].dtype == np.uint8 and npz["arr_0"].shape == (11, 32, 32, 3)
        assert np.array_equal(npz["arr_0"], arrays(tmp_path / "folder"))
        heart = open_dataset("sample").class_names.index("heart")
        assert npz["arr_1"].tolist() == [heart, 3] * 5 + [heart]
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.npz") as archive, zipfile.ZipFile(tmp_path / "naive.npz", "w") as naive:
        for name in archive.namelist():  # the same, written from front to back
            with naive.open(zipfile.ZipInfo(name), "w", force_zip64=name == "arr_0.npy") as member:
                member.write(archive.read(name))  # which raises where the checksum is another
        naive.comment = archive.comment
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "naive.npz").read_bytes()


def test_suffixes_are_taken_in_any_case(generate, restok, tiny_models, tmp_path):
    for name in ("a.npz", "B.NPZ"):
        generate("-o", name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "B.NPZ").read_bytes()
    assert "is complete" in generate("-o", "B.NPZ", "--resume").err
    model = ("--model", tiny_models / "tokenizer")
    for suffix in ("npz", "jsonl", "safetensors"):
        for name in (f"a.{suffix}", f"B.{suffix.upper()}"):
            generate("--codes", "-o", name, "--overwrite")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"B.{suffix.upper()}").read_bytes()
        assert restok("decode", f"B.{suffix.upper()}", *model, "-o", suffix).code == 0
        assert restok("evaluate", f"B.{suffix.upper()}", "--metric", "codebook").code == 0


def test_shards_replace_no_foreign_tars(tmp_path):
    (tmp_path / "mine-000001.tar").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds mine-000001\.tar, which this command did not make"):
        check_output(Destination(tmp_path, True, False, None, None, False, True), overwrite=True)


def test_shards_are_a_data_set_with_the_same_files(generate, expected, tmp_path):
    generate("-o", "out", "--shards")
    part = open_dataset(tmp_path / "out").split("validation")
    assert {f"{part.key(i)}.png": part.read(i) for i in range(len(part))} == expected
    assert part.class_ids.tolist() == list(range(11))


@pytest.mark.parametrize("name", ["codes.npz", "codes.safetensors", "codes.jsonl"])
def test_codes_decode_to_the_pictures(generate, expected, restok, tiny_models, tmp_path, name):
    generate("--codes", "-o", name, "--batch-size", 3)
    codes = read_codes(tmp_path / name)
    assert codes.codes.shape == (11, 32) and codes.class_ids.tolist() == list(range(11))
    assert restok("decode", name, "--model", tiny_models / "har", "-o", "decoded").code == 0
    assert pngs(tmp_path / "decoded") == expected


def test_codes_on_stdout_are_lines(generate, tmp_path):
    lines = generate("--codes", "-o", "-").out.splitlines()
    generate("--codes", "-o", "codes.jsonl")
    assert lines == (tmp_path / "codes.jsonl").read_text().splitlines()


def test_fewer_steps_give_the_pictures_of_a_prefix(generate, expected, restok, tiny_models, tmp_path):
    generate("--codes", "-o", "codes.npz")
    restok("decode", "codes.npz", "--model", tiny_models / "tokenizer", "-o", "decoded", "--num-codes", 8)
    generate("-o", "out", "--steps", 5)  # 1, 2, 3, 4, 8 codes
    assert pngs(tmp_path / "out") == pngs(tmp_path / "decoded") != expected


def test_grids_and_ladders_show_every_picture(generate, tmp_path):
    generate("-o", "out", "--grid", "grid.png", "--ladder", "ladder.png")
    with Image.open(tmp_path / "grid.png") as grid, Image.open(tmp_path / "ladder.png") as ladder:
        cell, row = 96 + 2, 96 + 2 + 14
        assert grid.size == (8 * cell + 2, 2 * row + 2)
        assert ladder.size == (6 * cell + 2, 8 * row + 2)  # prefixes of 1, 2, 4, 8, 16 and 32 codes; eight images
        last = np.asarray(ladder)[2 : 2 + 96 : 3, 2 + 5 * cell : 2 + 5 * cell + 96 : 3]
        assert np.array_equal(last, arrays(tmp_path / "out")[0])


# --- options --------------------------------------------------------------------------------------------------------


def request_of(folder: Path) -> dict:
    return json.loads((folder / "request.json").read_text())


def test_the_paper_preset_is_a_default_that_options_override(restok, tiny_models, tmp_path):
    options = ("generate", "--model", tiny_models / "har", "--count", 1, "--preset", "paper")
    assert restok(*options, "-o", tmp_path / "paper").code == 0
    assert restok(*options, "-o", tmp_path / "mine", "--top-p", 0.5).code == 0
    paper = {"cfg_scale": 3.75, "cfg_schedule": "step", "cfg_start": 0.25, "top_p": 0.95}
    assert request_of(tmp_path / "paper").items() >= paper.items()
    assert request_of(tmp_path / "mine").items() >= (paper | {"top_p": 0.5}).items()


def test_greedy_is_temperature_zero(restok, tiny_models, tmp_path):
    options = ("generate", "--model", tiny_models / "har", "--count", 11, "--cfg-scale", 2)
    assert restok(*options, "-o", tmp_path / "greedy", "--greedy").code == 0
    assert restok(*options, "-o", tmp_path / "cold", "--temperature", 0).code == 0
    assert pngs(tmp_path / "greedy") == pngs(tmp_path / "cold")


def test_what_only_a_gpu_does_otherwise_changes_nothing_on_a_cpu(generate, expected, tmp_path):
    generate("-o", "same", "--compile", "auto", "--deterministic")
    assert pngs(tmp_path / "same") == expected
    assert request_of(tmp_path / "same") == request_of(tmp_path / "expected")


@pytest.mark.parametrize("fast", [True, False])
def test_16_bit_products_are_recorded_and_a_line_says_where_they_are_slow(
    generate, expected, tmp_path, monkeypatch, fast
):
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # else the machine cannot do the fast way
    monkeypatch.setattr(cpu_rewrite, "has_fast_bf16", lambda: fast and supported)
    result = generate("-o", "rough", "--dtype", "bf16")
    request = request_of(tmp_path / "rough")
    assert (request["computed"], request["dtype"], request["batch_size"]) == ("exact", "bf16", 11)
    assert len(pngs(tmp_path / "rough")) == 11
    assert ("--dtype bf16: this CPU does not multiply in 16 bits" in result.err) == (not (fast and supported))
    assert "--dtype" not in generate("-o", "exact", "--count", 1).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--quantize int8", "--quantize int8: 8-bit products are gone"),
        ("--steps 8", "--steps 8: this model takes 1 to 7 steps"),
        ("--greedy --temperature 0.5", "--greedy is --temperature 0; give one of them"),
        ("--codes -o codes.txt", "codes go to a file that ends in .npz, .safetensors, .jsonl"),
        ("--codes -o c.npz --grid a.png", "--codes draws no images; leave --grid and --ladder out"),
        ("--codes -o c.npz --shards", "--shards are of images and --codes draws none"),
        ("-o - --shards", "leave --shards out"),
        ("-o - --resume", "--resume needs an output of many images that stays"),
        ("--resume --overwrite", "give one of them"),
        ("--grid a.png --count 2000", "--grid shows at most 1024 images, not 2000"),
        ("-o out.png", "-o out.png is one image, but --count is 16; give --count 1, or a folder"),
        ("-o out.png --count 1 --resume", "--resume needs an output of many images that stays"),
        ("-o out.png --count 1 --ladder ./out.png", "-o and --ladder are both out.png; give two files"),
        ("--grid a.png --ladder ./a.png", "--grid and --ladder are both a.png; give two files"),
        ("--cfg-start 0.5", "--cfg-start changes nothing in a constant schedule; leave it out, or give --cfg-schedule"),
        ("--cfg-schedule step --cfg-stop 0.5", "--cfg-stop changes nothing in a step schedule"),
        ("--cfg-schedule step", "--cfg-schedule step changes nothing without guidance; give --cfg-scale too"),
        (
            "--temperature 0 --top-k 5",
            "--top-k changes nothing at temperature 0, which always takes the likeliest code",
        ),
        ("--greedy --top-p 0.9", "--top-p changes nothing at temperature 0"),
        ("--preset paper --cfg-peak 0.5", "--cfg-peak changes nothing in a step schedule"),
        ("--cfg-schedule rectangular --cfg-start 0.5 --cfg-stop 0.5", "guidance ends before it begins"),
        ("-o out.jpg", "out.jpg is the name of a file, and the output is a folder; give a name without .jpg"),
        ("--shards -o out.npz", "out.npz is the name of a file, and the output is a folder"),
        ("--device cpu:7", "--device cpu:7: there is one cpu; take cpu, or auto"),
        ("--ladder a.jpg", "--ladder a.jpg: give a file name that ends in .png"),
        ("-o there.npz", "-o there.npz already exists; give another file, or --overwrite"),
        ("--top-k 9223372036854775808", "no model has so many codes; give 0 for all"),
        ("--batch-size 0", "--batch-size 0: give a number from 1 on, or auto"),
        ("--class all --class random", "--class random draws from all classes; give it alone"),
    ],
)
def test_wrong_options_are_one_line(fails, tiny_models, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npz").write_bytes(b"")
    assert message in fails(2, "generate", "--model", tiny_models / "har", *arguments.split())
    assert [file.name for file in tmp_path.iterdir()] == ["there.npz"]


@pytest.fixture
def smallest(tmp_path) -> Path:
    """A HAR with its tokenizer that has one of everything, so that there is little to compile."""
    cnn = {"patch_size": 1, "cnn_channels": 8, "cnn_multipliers": (1,), "cnn_norm_groups": 4, "feature_channels": 16}
    vit = {"encoder_width": 16, "decoder_width": 16, "head_width": 16, "encoder_layers": 2, "decoder_layers": 1}
    codes = {"num_stages": 2, "num_latent_tokens": 4, "codebook_size": 64}
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(image_height=4, image_width=4, **cnn, **vit, **codes))
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    har = make_har(HarConfig(codebook_size=64, num_codes=4, num_classes=3, width=16, num_layers=1, num_heads=1))
    save_har(har, open_tokenizer(tmp_path / "tokenizer"), ["a", "b", "c"], tmp_path / "har")
    return tmp_path / "har"


@pytest.mark.slow
def test_compiling_changes_pictures_by_rounding_only(restok, smallest, tmp_path, monkeypatch):
    torch.compiler.reset()
    # plain loops, made by this process: headers of vector instructions take the compiler twice as long, and torch's
    # workers each import torch
    monkeypatch.setattr(torch._inductor.config.cpp, "simdlen", 0)
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)
    options = ("generate", "--model", smallest, "--count", 11, "--steps", 2, "--greedy", "-o")
    assert restok(*options, tmp_path / "out", "--compile", "on").code == 0
    assert restok(*options, tmp_path / "plain").code == 0
    pictures = arrays(tmp_path / "plain").astype(int)
    assert len(np.unique(pictures)) > 10
    assert (np.abs(arrays(tmp_path / "out") - pictures) <= 1).mean() > 0.98
