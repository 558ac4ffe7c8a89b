"""`restok evaluate`, called as its own little app."""

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from restok_cli.commands.evaluate import evaluate
from restok_cli.data.image_files import center_crop
from restok_cli.data.images import save_image, to_float, to_tensor
from restok_cli.data.shards.layout import Sample
from restok_cli.data.shards.writer import write_dataset
from restok_cli.errors import RestokError, UsageError
from restok_cli.metrics.networks.features import RandomNetwork
from restok_cli.model.config import TokenizerConfig
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.modules import save_tokenizer
from restok_cli.settings.presets import read_preset

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(evaluate)


def run(*arguments):
    app(args=[str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture
def measure(capsys):
    """Run the command with --json and return what it printed."""

    def call(*arguments):
        run(*arguments, "--features", "random", "--json")
        return json.loads(capsys.readouterr().out)

    return call


def draw_images(count, seed, size=(16, 16)):
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=rng)
    return (torch.nn.functional.interpolate(coarse, size, mode="bilinear") * 255).to(torch.uint8)


def write_folder(folder, images, start=0):
    for i, image in enumerate(images, start):
        save_image(image, folder / f"{i:06d}.png")
    return folder


def png_bytes(image):
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def images():
    return draw_images(12, seed=1)


@pytest.fixture
def samples(tmp_path, images):
    return write_folder(tmp_path / "samples", images)


@pytest.fixture
def reference(tmp_path):
    return write_folder(tmp_path / "reference", draw_images(12, seed=2))


def test_pictures_measured_against_themselves_are_perfect(measure, samples):
    names = ("gfid", "rfid", "mse", "psnr", "ssim")
    result = measure(samples, "--reference", samples, *(part for name in names for part in ("--metric", name)))
    values = {name: metric["value"] for name, metric in result["metrics"].items()}
    assert values == pytest.approx({"gfid": 0, "rfid": 0, "mse": 0, "psnr": 100, "ssim": 1}, abs=1e-6)
    assert list(values) == list(names)


def test_folder_npz_and_data_set_of_the_same_pictures_measure_the_same(tmp_path, measure, samples, images, reference):
    np.savez(tmp_path / "plain.npz", images.permute(0, 2, 3, 1).numpy())
    (tmp_path / "PLAIN.NPZ").write_bytes((tmp_path / "plain.npz").read_bytes())
    np.savez(tmp_path / "fortran.npz", np.asfortranarray(images.permute(0, 2, 3, 1).numpy()))
    with tarfile.open(tmp_path / "samples.TAR", "w") as tar:
        for file in sorted(samples.iterdir()):
            tar.add(file, file.name)
    np.savez_compressed(tmp_path / "compressed.npz", images.permute(0, 2, 3, 1).numpy())
    items = [Sample(f"{i:06d}", "png", png_bytes(image), (16, 16), -1, {}) for i, image in enumerate(images)]
    (tmp_path / "set").mkdir()
    write_dataset(
        tmp_path / "set", {"train": items[:5], "validation": items[5:]}, name="set", class_names=[], provenance={}
    )

    def distance(source):
        return measure(source, "--reference", reference, "--metric", "fid", "--metric", "psnr", "--split", "all")

    expected = distance(samples)["metrics"]
    for source in ("plain.npz", "PLAIN.NPZ", "fortran.npz", "compressed.npz", "samples.TAR", "set"):
        found = distance(tmp_path / source)["metrics"]
        assert found["fid"]["value"] == pytest.approx(expected["fid"]["value"], rel=1e-9)
        assert found["psnr"] == expected["psnr"]


def test_split_says_which_part_of_a_data_set_is_measured(tmp_path, measure, images, reference):
    items = [Sample(f"{i:06d}", "png", png_bytes(image), (16, 16), -1, {}) for i, image in enumerate(images)]
    (tmp_path / "set").mkdir()
    write_dataset(
        tmp_path / "set", {"train": items[:5], "validation": items[5:]}, name="set", class_names=[], provenance={}
    )
    for split, count in (("train", 5), ("validation", 7), ("all", 12)):
        result = measure(tmp_path / "set", "--reference", reference, "--split", split)
        assert result["metrics"]["gfid"]["n"] == count


def test_statistics_file_stands_for_the_pictures_it_was_made_of(tmp_path, measure, samples, reference):
    features = RandomNetwork()(draw_images(12, seed=2)).pool.double().numpy()
    np.savez(tmp_path / "statistics.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    from_statistics = measure(samples, "--reference", tmp_path / "statistics.npz")
    from_pictures = measure(samples, "--reference", reference)
    assert from_statistics["metrics"]["gfid"]["value"] == pytest.approx(from_pictures["metrics"]["gfid"]["value"])
    assert from_statistics["protocol"]["reference"]["form"] == "statistics"


def test_result_does_not_depend_on_the_batch_size(measure, samples, reference):
    arguments = (samples, "--reference", reference, "--metric", "gfid", "--metric", "is", "--metric", "ssim")
    expected = measure(*arguments)["metrics"]
    found = measure(*arguments, "--batch-size", 5)["metrics"]
    assert found.keys() == expected.keys() == {"gfid", "is", "ssim"}
    for name, metric in found.items():
        assert metric["value"] == pytest.approx(expected[name]["value"], rel=1e-5)


def test_pairs_are_found_by_name_not_by_order(tmp_path, measure, images):
    originals = tmp_path / "originals"
    for name, image in zip(("x/c", "x/a", "y/a"), images[:3], strict=True):
        save_image(image, tmp_path / "pictures" / f"{name}.png")
        save_image(image, originals / f"{name}.webp")
    listed = ("y/a.png", "x/c.png", "x/a.png")  # another order, on this side only
    manifest = "".join(json.dumps({"file": file}) + "\n" for file in listed)
    (tmp_path / "pictures" / "manifest.jsonl").write_text(manifest)
    result = measure(tmp_path / "pictures", "--reference", originals, "--metric", "mse")
    assert result["metrics"]["mse"]["value"] == 0


def test_pictures_without_a_partner_are_refused(tmp_path, samples, images):
    shifted = write_folder(tmp_path / "shifted", images, start=1)
    for metric in ("rfid", "psnr"):
        with pytest.raises(RestokError, match=r"000000 of .*samples \(12 images\) has no partner in .*shifted"):
            run(samples, "--reference", shifted, "--metric", metric, "--features", "random")
    (samples / "000000.png").unlink()
    with pytest.raises(RestokError, match=r"000012 of .*shifted"):
        run(samples, "--reference", shifted, "--metric", "mse")


def test_reference_pictures_of_another_size_get_the_adm_crop_and_the_protocol_says_so(tmp_path, measure, samples):
    large = write_folder(tmp_path / "large", draw_images(12, seed=2, size=(40, 48)))
    result = measure(samples, "--reference", large, "--metric", "gfid", "--metric", "psnr")
    assert result["protocol"]["reference"]["crop"].startswith("ADM centre crop to 16x16")
    assert result["protocol"]["samples"]["crop"] == "none"


def test_samples_of_several_sizes_are_refused(samples):
    save_image(draw_images(1, seed=3, size=(16, 20))[0], samples / "000005.png")
    with pytest.raises(RestokError, match="000000 is 16x16 but 000005 is 20x16"):
        run(samples, "--metric", "is", "--features", "random")


def test_what_the_manifest_does_not_list_is_not_measured(measure, samples):
    listed = [json.dumps({"file": file.name}) for file in sorted(samples.iterdir())]
    (samples / "manifest.jsonl").write_text("\n".join(listed) + "\n")
    save_image(draw_images(1, seed=3, size=(80, 80))[0], samples / "grid.png")
    assert measure(samples, "--metric", "is")["metrics"]["is"]["n"] == 12
    (samples / "manifest.jsonl").write_text("000000.png\n")
    with pytest.raises(RestokError, match=r"manifest\.jsonl, line 1 is damaged .*; delete it to take all"):
        run(samples, "--metric", "is", "--features", "random")


def test_broken_picture_is_named_counted_and_left_out(capsys, samples, reference):
    (samples / "000003.png").write_bytes(b"no image")
    metrics = ("--metric", "gfid", "--metric", "mse")
    run(samples, "--reference", reference, *metrics, "--features", "random", "--json")
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert printed.err.count("000003.png") == 1
    assert result["protocol"]["samples"]["unreadable"] == 1
    assert {name: metric["name"] for name, metric in result["metrics"].items()} == {"gfid": "gFID-11", "mse": "MSE-11"}


def test_protocol_says_how_the_number_was_made(measure, samples, reference):
    result = measure(samples, "--reference", reference)
    assert result["metrics"]["gfid"]["n"] == 12
    assert not result["metrics"]["gfid"]["comparable"]
    protocol = result["protocol"]
    assert len(protocol["reference"]["fingerprint"]) == 64
    assert protocol["reference"]["fingerprint"] != protocol["samples"]["fingerprint"]
    assert protocol["features"]["network"] == "random"
    assert protocol["features"]["weights_sha256"] == RandomNetwork().weights_sha256
    assert protocol["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert protocol["seconds"] > 0


def test_people_get_a_line_per_metric_and_the_caveat_on_stderr(capsys, samples, reference):
    run(samples, "--reference", reference, "--metric", "gfid", "--metric", "psnr", "--features", "random")
    printed = capsys.readouterr()
    first, second = printed.out.splitlines()
    assert first.startswith("gFID-12 (random) ") and second.startswith("PSNR-12  ")
    assert "fewer than 10,000 images" in printed.err
    assert "random features" in printed.err


def test_codebook_is_measured_in_all_and_by_level(tmp_path, measure):
    codes = np.tile(np.arange(8), (5, 1))
    np.savez(tmp_path / "codes.npz", codes=codes, codebook_size=16)
    result = measure(tmp_path / "codes.npz", "--metric", "codebook")
    assert result["metrics"]["codebook_usage"]["value"] == 50
    assert result["metrics"]["codebook_entropy"]["value"] == pytest.approx(3)
    assert result["metrics"]["codebook_perplexity"]["levels"] == pytest.approx([1, 1, 2, 4])
    assert result["protocol"]["level_sizes"] == [1, 1, 2, 4]


def test_codes_that_form_no_hierarchy_are_one_level(tmp_path, measure):
    np.savez(tmp_path / "codes.npz", codes=np.zeros((2, 6), np.int64), codebook_size=16)
    assert len(measure(tmp_path / "codes.npz", "--metric", "codebook")["metrics"]["codebook_usage"]["levels"]) == 1


def test_codes_can_be_made_of_pictures_by_a_model(tmp_path, measure, images, samples):
    config = TokenizerConfig(**read_preset("tokenizer", "tiny")["model"])
    torch.manual_seed(0)
    tokenizer = Tokenizer(config).eval()
    save_tokenizer(tokenizer, tmp_path / "model")
    result = measure(samples, "--metric", "codebook", "--model", tmp_path / "model", "--batch-size", 5)

    enlarged = [center_crop(Image.open(path), config.image_size) for path in sorted(samples.iterdir())]
    with torch.inference_mode():
        codes = tokenizer.encode(to_float(torch.stack([to_tensor(image) for image in enlarged])))
    assert result["metrics"]["codebook_usage"]["value"] == pytest.approx(
        100 * len(codes.unique()) / config.codebook_size
    )
    assert result["protocol"]["samples"]["n"] == len(images)
    assert len(result["protocol"]["tokenizer_fingerprint"]) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "gfdi"], r"unknown metric gfdi \(did you mean gfid\?\); choose from gfid, "),
        ([], "gfid needs something to compare with; give --reference, for example"),
        (["--metric", "is", "--metric", "codebook"], "once for each"),
        (["--metric", "is", "--model", "runs/tokenizer"], "--model makes codes"),
        (["--metric", "is", "--reference", "sample"], "is compares with nothing; leave --reference out"),
        (["--reference", "nowhere"], "--reference nowhere: no such file, folder or name; names are made by"),
        (["--reference", "somewhere/nowhere"], "somewhere/nowhere: no such file or folder"),
        (["--reference", "nowhere.npz"], "nowhere.npz: no such file or folder"),
    ],
)
def test_wrong_options_say_what_to_do(samples, arguments, message):
    with pytest.raises(UsageError, match=message):
        run(samples, *arguments, "--features", "random")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a/b"], r"-o a/b: give a file that ends in \.npz, or a name"),
        (["-o", "r.npz", "--fail-under", "gfid=1"], "leave SAMPLES, --fail-under out"),
    ],
)
def test_a_reference_that_cannot_be_made_so_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        run("--make-reference", "sample", *arguments, "--features", "random")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--make-reference", "sample"], "--make-reference DATA and -o REF go together"),
        (["-o", "ref.npz"], "--make-reference DATA and -o REF go together"),
        (["--make-reference", "sample", "-o", "r.npz", "--metric", "is"], "makes statistics and measures nothing"),
        (["--make-reference", "sample", "-o", "r.npz"], "leave SAMPLES, --fail-under out"),  # samples are given
        (["--plot", "curve.png", "--metric", "is"], "--plot draws metrics against codes"),
        (["--num-codes", "1,x", "--model", "runs"], "give numbers such as 1,4,16, or all"),
        (["--num-codes", "0", "--model", "runs"], "give numbers such as 1,4,16, or all"),
        (["--num-codes", "1", "--model", "runs", "--reference", "sample"], "leave --reference out"),
        (["--num-codes", "1", "--model", "runs", "--plot", "curve.bmp"], r"ends in \.png, \.pdf or \.svg"),
        (["--fail-under", "gfdi=3"], r"unknown metric gfdi \(did you mean gfid\?\)"),
        (["--fail-under", "gfid=low"], "low is no number; give for example gfid=3.5"),
        (["--fail-under", "gfid=nan"], "nan is no number"),
        (["--fail-under", "gfid=:upper"], "nothing is no number"),
        (["--fail-under", "gfid=3:uper"], "uper is no edge; give gfid=3:lower or :upper"),
        (["--fail-under", "psnr=3:lower", "--metric", "is"], "--fail-under psnr: it is not measured"),
        (["--per-image", "--metric", "psnr", "--reference", "sample"], "--per-image adds to what --json prints"),
        (["--per-image", "--json", "--metric", "is"], "for metrics that compare image by image; add one of psnr, ssim"),
        (["--per-image", "--json", "--num-codes", "1"], "for metrics that compare image by image"),
        (["--per-image", "--json", "--metric", "all"], "these inputs allow no metric that compares image by image"),
        (["--fail-under", "psnr=3", "--metric", "is"], "--fail-under psnr: it is not measured; add --metric psnr"),
        (["--metric", "nll", "--model", "sample"], "samples holds no codes"),
        (["--metric", "is", "--inception-weights", __file__], "--inception-weights is of a network that none"),
        (["--metric", "is", "--vgg-weights", __file__], "--vgg-weights is of a network that none of these"),
        (["--metric", "is", "--timm-weights", __file__], "--timm-weights is of a network that none of these"),
        (["--metric", "is", "--split", "train"], "--split train: only what `restok prepare` made has splits"),
        (["--metric", "is", "--cache", "c", "--no-cache"], "give one of them"),
        (["--metric", "is", "--reference-images", "5"], "--reference-images is for --make-reference; leave it out"),
        (["--metric", "is", "--features", "inceptoin"], r"no such network \(did you mean inception\?\)"),
    ],
)
def test_options_that_do_not_go_together_say_so(samples, arguments, message):
    features = () if "--features" in arguments else ("--features", "random")
    with pytest.raises(UsageError, match=message):
        run(samples, *arguments, *features)


def test_statistics_cannot_stand_for_originals(tmp_path, samples):
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(128), sigma=np.eye(128))
    with pytest.raises(UsageError, match="rfid compares images with their originals"):
        run(samples, "--reference", tmp_path / "statistics.npz", "--metric", "rfid", "--features", "random")


def test_statistics_of_another_network_are_refused(tmp_path, samples):
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    with pytest.raises(RestokError, match=r"statistics of 2048 features, random gives 128"):
        run(samples, "--reference", tmp_path / "statistics.npz", "--features", "random")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("gfid", "at least 2 images, here are 1"),
        ("sfid", "at least 2 images, here are 1"),
        ("kid", "at least 2 images in each set, here are 1 and 12"),
        ("recall", "need more than 3 images, the samples have 1"),
    ],
)
def test_one_picture_is_too_few_for_a_distance(tmp_path, reference, images, metric, message):
    few = write_folder(tmp_path / "few", images[:1])
    with pytest.raises(RestokError, match=message):
        run(few, "--reference", reference, "--features", "random", "--metric", metric)


def test_pictures_that_are_all_broken_are_refused(tmp_path, reference, images):
    few = write_folder(tmp_path / "few", images[:1])
    (few / "000000.png").write_bytes(b"no image")
    with pytest.raises(RestokError, match=r"of 1 image of .*few, none can be decoded"):
        run(few, "--reference", reference, "--features", "random")


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.zeros((2, 3, 8, 8), np.uint8), "expected uint8"), (np.zeros((2, 8, 8, 3), np.float32), "expected uint8")],
)
def test_npz_of_other_arrays_is_refused(tmp_path, array, message):
    np.savez(tmp_path / "samples.npz", array)
    with pytest.raises(RestokError, match=message):
        run(tmp_path / "samples.npz", "--metric", "is", "--features", "random")


def test_npz_without_pictures_is_refused(tmp_path):
    np.savez(tmp_path / "codes.npz", codes=np.zeros((2, 8), np.int64))
    with pytest.raises(RestokError, match=r"expected an \.npz with arr_0"):
        run(tmp_path / "codes.npz", "--metric", "is", "--features", "random")


@pytest.mark.parametrize("place", [4, 6, 8], ids=["version", "flags", "method"])
def test_npz_of_a_kind_that_cannot_be_read_is_refused(tmp_path, images, place):
    path = tmp_path / "samples.npz"
    np.savez(path, images.permute(0, 2, 3, 1).numpy())
    data = bytearray(path.read_bytes())
    for start in (data.index(b"PK\x03\x04"), data.rindex(b"PK\x01\x02") + 2):
        data[start + place] |= 0x61
    path.write_bytes(data)
    with pytest.raises(RestokError, match="cannot be read as images"):
        run(path, "--metric", "is", "--features", "random")


def test_damaged_npz_is_refused(tmp_path, images):
    path = tmp_path / "samples.npz"
    np.savez(path, images.permute(0, 2, 3, 1).numpy())
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        middle = archive.getinfo("arr_0.npy").header_offset + 2000
    data[middle] ^= 1
    path.write_bytes(data)
    with pytest.raises(RestokError, match="its checksum is wrong"):
        run(path, "--metric", "is", "--features", "random")
    path.write_bytes(data[:3000])
    with pytest.raises(RestokError, match="cannot be read as images"):
        run(path, "--metric", "is", "--features", "random")
