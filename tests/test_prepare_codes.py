import json
import signal
import subprocess
import sys
import time
from io import BytesIO

import pytest
import torch
from damage import damages
from launchers import accelerate
from pictures import noise
from plain_models import plain_tokenizer

from restok_cli.data.images import to_float
from restok_cli.data.loading.transforms import make_views
from restok_cli.data.shards.code_cache import open_codes
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.shards.layout import Sample
from restok_cli.data.shards.writer import write_dataset
from restok_cli.errors import Interrupted
from restok_cli.inference import cache_codes as codes
from restok_cli.pretrained.modules import save_tokenizer

SAMPLES_PER_SHARD = 5


@pytest.fixture
def tokenizer(tmp_path, tiny_tokenizer):
    save_tokenizer(tiny_tokenizer, tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def make_data(folder, sizes, broken=()):
    folder.mkdir()
    splits = {}
    for split, size in sizes.items():
        splits[split] = []
        for i in range(size):
            file = BytesIO()
            noise(i, 40, 50).save(file, "PNG")
            picture = b"broken" if (split, i) in broken else file.getvalue()
            splits[split].append(Sample(f"{split}{i}", "png", picture, (50, 40), i % 2, {}))
    write_dataset(folder, splits, name="test", class_names=["a", "b"], provenance={}, samples_per_shard=4)
    return folder


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data", {"train": 13, "validation": 4})


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr("restok_cli.inference.cache_codes.SAMPLES_PER_SHARD", SAMPLES_PER_SHARD)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("views", ["ten-crop", "flip", "centre"])
def test_codes_are_those_that_the_tokenizer_gives_each_view(data, tokenizer, tmp_path, restok, views):
    out = tmp_path / "codes"
    result = restok("prepare", "codes", data, out, "--tokenizer", tokenizer, "--views", views, "--batch-size", 7)
    assert (result.code, result.out) == (0, f"{out}\n")
    assert f"32 codes of each view: train 13 ({views}), validation 4 (centre)" in result.err
    model, dataset, cache = plain_tokenizer(tokenizer, torch.device("cpu")), open_dataset(data), open_codes(out)
    assert (cache.codebook_size, cache.num_codes, cache.class_names) == (64, 32, ["a", "b"])
    for name, kind in (("train", views), ("validation", "centre")):
        pictures, split = dataset.split(name), cache.split(name)
        assert len(split) == len(pictures)
        for i in range(len(split)):
            assert (split.key(i), split.class_id(i)) == (pictures.key(i), pictures.class_id(i))
            with torch.inference_mode():
                codes = model.encode(to_float(make_views(pictures.image(i), (32, 32), kind)))
            assert [split.codes(i, view).tolist() for view in range(split.num_views)] == codes.tolist()
    result = restok("prepare", "verify", out)
    assert result.code == 0 and "17 samples in 4 shards are as they were prepared" in result.out


@pytest.mark.usefixtures("small_shards")
def test_workers_give_the_same_bytes(data, tokenizer, tmp_path, restok):
    for out, workers in (("one", 0), ("two", 2)):
        options = ("--tokenizer", tokenizer, "--num-workers", workers)
        assert restok("prepare", "codes", data, tmp_path / out, *options).code == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 5


IN_SMALL_SHARDS = """
import restok_cli.inference.cache_codes as codes
from restok_cli.__main__ import main
codes.SAMPLES_PER_SHARD = 5
main()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_processes_share_the_shards_and_give_the_same_bytes(data, tokenizer, tmp_path, restok):
    (tmp_path / "two.py").write_text(IN_SMALL_SHARDS)
    options = ("prepare", "codes", str(data), "--views", "centre", "--tokenizer", str(tokenizer))
    command = (sys.executable, *accelerate(tmp_path), str(tmp_path / "two.py"), *options, str(tmp_path / "two"))
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"{tmp_path / 'two'}\n"), result.stderr
    assert restok(*options, tmp_path / "one").code == 0
    assert len(list((tmp_path / "one").glob("*.npy"))) > 2
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


# The command line, with shards of one image and time to be killed between two of them.
SLOWLY = """
import sys, time
import restok_cli.inference.cache_codes as codes
from restok_cli.cli import run
codes.SAMPLES_PER_SHARD = 5
write = codes.write_code_shard
def write_slowly(*arguments):
    write(*arguments)
    time.sleep(0.3)
codes.write_code_shard = write_slowly
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.usefixtures("small_shards")
def test_killed_and_started_again_it_ends_with_the_same_bytes(data, tokenizer, tmp_path, restok, fails):
    out, options = tmp_path / "codes", ("--tokenizer", str(tokenizer), "--views", "flip")
    command = (sys.executable, "-c", SLOWLY, "prepare", "codes", str(data), str(out), *options)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (out / "train-000001.npy").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (out / "codes.json").exists()
    kept = {name: (out / name).stat().st_mtime_ns for name in ("train-000000.npy", "train-000001.npy")}
    message = fails(2, "prepare", "codes", data, out, *options[:2], "--views", "ten-crop")
    assert "holds unfinished codes with another views ({'train': 'flip', 'validation': 'centre'}, now" in message
    assert "finish those by the command that began them, give another folder, or --overwrite" in message
    result = restok("prepare", "codes", data, out, *options)
    assert result.code == 0 and "2 of 4 shards there already" in result.err
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    assert restok("prepare", "codes", data, tmp_path / "whole", *options).code == 0
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.usefixtures("small_shards")
def test_shards_that_were_damaged_while_work_was_stopped_are_made_anew(data, tokenizer, tmp_path, restok):
    out, whole = tmp_path / "codes", tmp_path / "whole"
    command = ("prepare", "codes", data, "--tokenizer", tokenizer, "--views", "centre")
    assert restok(*command, whole).code == restok(*command, out).code == 0
    shards = [out / f"train-00000{i}.npy" for i in range(3)]
    kept = [shard.read_bytes() for shard in shards]
    for contents_of in (
        [next(damages(kept[0])), *kept[1:]],
        [kept[0], list(damages(kept[1], number=1))[-1], kept[2]],
        [kept[1], kept[0], kept[2]],
    ):
        (out / "codes.json").unlink(missing_ok=True)
        plan = json.loads((whole / "codes.json").read_text())
        unfinished = {key: value for key, value in plan.items() if key in codes.CodePlan.model_fields}
        (out / "unfinished.json").write_text(json.dumps(unfinished))
        for shard, data_of_it in zip(shards, contents_of, strict=True):
            shard.write_bytes(data_of_it)
        result = restok(*command, out)
        assert result.code == 0 and "damaged and made anew" in result.err
        assert contents(out) == contents(whole)


def test_how_codes_were_computed_stands_beside_them(data, tokenizer, tmp_path, restok):
    out, plan = tmp_path / "codes", ("--tokenizer", tokenizer, "--views", "centre")
    assert restok("prepare", "codes", data, out, *plan, "--batch-size", 7, "--deterministic").code == 0
    described = json.loads((out / "codes.json").read_text())
    assert [described[name] for name in ("device", "batch_size", "deterministic")] == ["cpu", 7, False]


def test_little_is_lost_of_a_small_data_set_that_is_stopped():
    """By default, of the 1,906 images that come with restok."""
    assert codes.SAMPLES_PER_SHARD <= 300


def test_ctrl_c_says_how_to_go_on(data, tokenizer, tmp_path, fails, monkeypatch):
    def press(*_):
        raise Interrupted(signal.SIGINT, "interrupted")  # as the handler of signals does

    monkeypatch.setattr("restok_cli.inference.cache_codes.write_code_shard", press)
    message = fails(130, "prepare", "codes", data, tmp_path / "codes", "--tokenizer", tokenizer)
    assert message == "restok: interrupted; the same command goes on where this one was"


@pytest.mark.usefixtures("small_shards")
def test_broken_pictures_are_named_and_left_out(tokenizer, tmp_path, restok):
    data = make_data(tmp_path / "data", {"train": 13}, broken={("train", 6)})
    result = restok("prepare", "codes", data, tmp_path / "codes", "--tokenizer", tokenizer, "--json")
    assert json.loads(result.out) == {
        "path": str(tmp_path / "codes"),
        "samples": 12,
        "left_out": 1,
        "splits": {"train": 12},
        "views": {"train": "ten-crop"},
        "codes": 32,
        "codebook_size": 64,
    }
    assert result.err.count(": train6.png: cannot") == 1 and "; 1 left out" in result.err
    split = open_codes(tmp_path / "codes").split("train")
    assert [split.key(i) for i in range(12)] == [f"train{i}" for i in range(13) if i != 6]


def test_verify_says_which_sample_of_the_codes_was_changed(data, tokenizer, tmp_path, restok):
    out = tmp_path / "codes"
    assert restok("prepare", "codes", data, out, "--tokenizer", tokenizer).code == 0
    shard = out / "train-000000.npy"
    contents = bytearray(shard.read_bytes())
    contents[-1] ^= 1
    shard.write_bytes(contents)
    result = restok("prepare", "verify", out)
    assert (result.code, result.out) == (1, "train-000000.npy: train12: was changed\n")
    assert "has 1 problem; prepare or copy it again" in result.err


def test_too_many_broken_pictures_stop_it(tokenizer, tmp_path, fails):
    data = make_data(tmp_path / "data", {"train": 13}, broken={("train", 6), ("train", 7)})
    message = fails(1, "prepare", "codes", data, tmp_path / "codes", "--tokenizer", tokenizer)
    assert "2 samples cannot be decoded (train6, train7), more than the 1 that may be broken" in message


def test_codes_are_replaced_only_when_asked(data, tokenizer, tmp_path, restok, fails):
    arguments = ("prepare", "codes", data, tmp_path / "codes", "--tokenizer", tokenizer)
    assert restok(*arguments).code == 0
    assert "already holds files; give another folder, or --overwrite" in fails(2, *arguments)
    assert restok(*arguments, "--views", "centre", "--overwrite").code == 0
    assert open_codes(tmp_path / "codes").split("train").num_views == 1
    assert "data holds" in fails(2, *arguments[:3], data, *arguments[4:], "--overwrite")
    (tmp_path / "arrays").mkdir()
    (tmp_path / "arrays" / "features-000001.npy").write_bytes(b"mine")
    assert "arrays holds features-000001.npy" in fails(
        2, *arguments[:3], tmp_path / "arrays", *arguments[4:], "--overwrite"
    )
    assert (tmp_path / "arrays" / "features-000001.npy").read_bytes() == b"mine"
    assert open_dataset(data).splits == ["train", "validation"]


def test_data_that_is_elsewhere_or_no_data_and_no_tokenizer_are_refused(data, tokenizer, tmp_path, fails):
    out = tmp_path / "codes"
    assert "no such data set" in fails(2, "prepare", "codes", tmp_path / "x", out, "--tokenizer", tokenizer)
    assert "is not a model" in fails(2, "prepare", "codes", data, out, "--tokenizer", data)
    manifest = json.loads((data / "dataset.json").read_text())
    manifest["splits"]["train"] = {"num_samples": 8, "urls": ["http://127.0.0.1:1/a.tar"]}
    (data / "dataset.json").write_text(json.dumps(manifest))
    message = fails(2, "prepare", "codes", data, out, "--tokenizer", tokenizer)
    assert "can only be streamed in training" in message
    assert not out.exists()


def test_training_refuses_codes_of_others_and_options_about_images(
    data, tokenizer, tmp_path, restok, fails, tiny_tokenizer
):
    assert restok("prepare", "codes", data, tmp_path / "codes", "--tokenizer", tokenizer, "--views", "centre").code == 0
    tiny_tokenizer.quantizer.codebook.data += 1
    save_tokenizer(tiny_tokenizer, tmp_path / "other")
    message = fails(2, "train-har", tmp_path / "codes", "--tokenizer", tmp_path / "other", "-o", tmp_path / "har")
    assert "codes holds codes of another tokenizer than" in message
    for option in ("--allow-pipe", "--set data.random_flip=false"):
        words = tmp_path / "codes", "--tokenizer", tokenizer, *option.split(), "-o", tmp_path / "har"
        name = option.partition("=")[0]
        assert f"{name} is about images, and {tmp_path / 'codes'} holds codes of them" in fails(2, "train-har", *words)
    assert not (tmp_path / "har").exists()
