"""`restok evaluate --compare` and `--fail-under`."""

import json

import pytest
import torch

from restok_cli.data.images import save_image


def write_folder(folder, seed, count=12, size=16):
    rng = torch.Generator().manual_seed(seed)
    for i in range(count):
        save_image(torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=rng), folder / f"{i:06d}.png")
    return folder


@pytest.fixture
def result(tmp_path, restok):
    """Evaluate and keep the JSON; returns its file."""

    def call(name, samples, *arguments):
        found = restok("evaluate", samples, *arguments, "--features", "random", "--json")
        assert found.code == 0, found.err
        (tmp_path / name).write_text(found.out)
        return tmp_path / name

    return call


@pytest.fixture
def folders(tmp_path):
    return [write_folder(tmp_path / name, seed) for seed, name in enumerate(("a", "b", "reference"))]


def test_results_of_one_protocol_are_compared(restok, result, folders):
    a, b, reference = folders
    metrics = ("--metric", "gfid", "--metric", "is", "--reference", reference)
    files = [result(f"{folder.name}.json", folder, *metrics) for folder in (a, b)]
    compared = restok("evaluate", "--compare", *files)
    assert compared.code == 0
    values = [json.loads(file.read_text())["metrics"]["gfid"]["value"] for file in files]
    row = next(line.split() for line in compared.out.splitlines() if line.startswith("gFID-12"))
    assert row[1] == "(random)"
    assert [float(number) for number in row[2:]] == pytest.approx([*values, values[1] - values[0]], rel=1e-4)
    rows = json.loads(restok("evaluate", "--compare", *files, "--json").out)["metrics"]
    assert rows["gfid"]["values"] == values
    assert rows["gfid"]["differences"] == []


def test_result_of_pictures_and_of_their_statistics_can_be_compared(restok, result, folders, tmp_path):
    a, _, reference = folders
    made = restok("evaluate", "--make-reference", reference, "-o", tmp_path / "ref.npz", "--features", "random")
    assert made.code == 0
    files = [
        result(f"{i}.json", a, "--reference", source) for i, source in enumerate((reference, tmp_path / "ref.npz"))
    ]
    assert restok("evaluate", "--compare", *files).code == 0


def unlike(folders, tmp_path, what):
    a, b, reference = folders
    if what == "reference":
        return (a, "--reference", b)
    if what == "pictures":
        (a / "000003.png").unlink()
        return (a, "--reference", reference)
    if what == "size of the samples":
        return (a, "--reference", reference, "--crop", 12)
    raise ValueError(what)


@pytest.mark.parametrize("what", ["reference", "pictures", "size of the samples"])
def test_unlike_protocols_are_not_compared_and_the_difference_is_named(fails, result, restok, folders, tmp_path, what):
    first = result("first.json", folders[0], "--reference", folders[2])
    second = result("second.json", *unlike(folders, tmp_path, what))
    compared = restok("evaluate", "--compare", first, second)
    assert compared.code == 1
    assert "not comparable" in compared.out
    assert f"{what}: " in compared.err
    assert "cannot be compared" in compared.err


def test_features_of_other_weights_are_not_compared(restok, result, folders, tmp_path):
    first = result("first.json", folders[0], "--reference", folders[2])
    changed = json.loads(first.read_text())
    changed["protocol"]["features"]["weights_sha256"] = "0" * 64
    changed["protocol"]["versions"]["torch"] = "1.0"  # which is no reason
    (tmp_path / "second.json").write_text(json.dumps(changed))
    compared = restok("evaluate", "--compare", first, tmp_path / "second.json")
    assert compared.code == 1
    assert "features' weights_sha256: " in compared.err
    assert "torch" not in compared.err


def test_results_without_a_common_metric_are_refused(fails, result, folders):
    first = result("first.json", folders[0], "--reference", folders[2])
    second = result("second.json", folders[0], "--metric", "is")
    assert "no metric in common: gfid and is" in fails(1, "evaluate", "--compare", first, second)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"metrics": {"gfid": {}}, "protocol": {"samples": {}}}', "\xff"])
def test_file_that_is_no_result_is_refused(fails, tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    line = fails(1, "evaluate", "--compare", tmp_path / "a.json", tmp_path / "a.json")
    assert "a.json is wrong" in line
    assert "restok evaluate … --json > FILE" in line


@pytest.mark.parametrize(
    ("limit", "code", "said"),
    [
        ("psnr=5", 0, ""),
        ("psnr=50", 4, "PSNR-12 is 7.7"),
        ("mse=0.5", 0, ""),
        ("mse=0.001", 4, "MSE-12 is 0.16"),
    ],
)
def test_fail_under_exits_4_where_a_metric_is_worse(restok, folders, limit, code, said):
    """Worse is below for PSNR, and above for MSE."""
    found = restok("evaluate", folders[0], "--reference", folders[1], "--fail-under", limit)
    assert found.code == code
    assert found.out.startswith(("PSNR-12", "MSE-12"))  # the result is printed all the same
    assert said in found.err
    if code:
        assert ("below" if "psnr" in limit else "above") in found.err


def test_fail_under_knows_the_parts_of_codebook(restok, tmp_path):
    import numpy as np

    np.savez(tmp_path / "codes.npz", codes=np.tile(np.arange(8), (5, 1)), codebook_size=16)
    assert restok("evaluate", tmp_path / "codes.npz", "--fail-under", "codebook_usage=50").code == 0
    found = restok("evaluate", tmp_path / "codes.npz", "--fail-under", "codebook_usage=60")
    assert found.code == 4
    assert "codebook usage-5 is 50, below 60" in found.err
