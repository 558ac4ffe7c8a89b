"""`restok evaluate --compare` and `--fail-under`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from restok_cli.data.images import save_image
from restok_cli.errors import UsageError
from restok_cli.evaluation.request import check_limits, parse_limits
from restok_cli.metrics.compare import read_results
from restok_cli.metrics.protocol import Measurement
from restok_cli.reports.results import Result, measured_alike


def psnr(*files):
    """The PSNR of two image files."""
    a, b = (np.asarray(Image.open(file)) / 255 for file in files)
    return -10 * np.log10(np.square(a - b).mean())


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
    assert [float(number) for number in row[2:5]] == pytest.approx([*values, values[1] - values[0]], rel=1e-4)
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
    if what == "images":
        (a / "000003.png").unlink()
        return (a, "--reference", reference)
    if what == "size of the samples":
        return (a, "--reference", reference, "--crop", 12)
    raise ValueError(what)


@pytest.mark.parametrize("what", ["reference", "images", "size of the samples"])
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
    np.savez(tmp_path / "codes.npz", codes=np.tile(np.arange(8), (5, 1)), codebook_size=16)
    assert restok("evaluate", tmp_path / "codes.npz", "--fail-under", "codebook_usage=50").code == 0
    found = restok("evaluate", tmp_path / "codes.npz", "--fail-under", "codebook_usage=60")
    assert found.code == 4
    assert "codebook usage-5 is 50, below 60" in found.err
    found = restok("evaluate", tmp_path / "codes.npz", "--fail-under", "codebook_usage=60:lower")
    assert found.code == 2
    assert "codebook_usage=60:lower: no interval of codebook usage-5 is known; leave :lower out" in found.err


def test_results_of_older_versions_are_read(result, folders, tmp_path):
    new = json.loads(result("new.json", folders[0], "--reference", folders[2]).read_text())
    new["protocol"]["reference"]["images"] = {"fingerprint": "abc"}
    curve = {"curve": [{"num_codes": n, "metrics": new["metrics"]} for n in (1, 4)], "protocol": new["protocol"]}
    (tmp_path / "new.json").write_text(json.dumps(curve))
    curve["protocol"]["reference"]["pictures"] = curve["protocol"]["reference"].pop("images")
    old = {"tokens": [{"tokens": step["num_codes"], "metrics": step["metrics"]} for step in curve["curve"]]}
    (tmp_path / "old.json").write_text(json.dumps(old | {"protocol": curve["protocol"]}))
    found = read_results(tmp_path / "new.json")
    assert list(found) == [1, 4] and found[1]["protocol"]["reference"]["images"] == {"fingerprint": "abc"}
    assert read_results(tmp_path / "old.json") == found


def test_fail_under_says_why_few_images_have_no_edge():
    few = {"psnr": Measurement("psnr", 30.0, n=29, n_reference=29)}
    with pytest.raises(UsageError, match="PSNR-29 is known, since of fewer than 30 images, here 29, a variance"):
        check_limits(parse_limits(["psnr=20:lower"]), few)


def made_up(path, metric, value, **facts):
    """A result as --json writes it, with more facts on its metric or, where they are called so, per_image."""
    fact = {"name": f"{metric}-4", "value": value, "n": 4, "n_reference": 4, "definition": "mean", "caveat": ""}
    per_image = {"per_image": {metric: facts.pop("per_image")}} if "per_image" in facts else {}
    protocol = {"samples": {}, "reference": {"source": "photos", "fingerprint": "f00d"}, "features": {"network": "a"}}
    path.write_text(json.dumps({"metrics": {metric: fact | facts}, "protocol": protocol} | per_image))
    return path


@pytest.mark.parametrize(
    ("metric", "values", "intervals", "verdict"),
    [
        ("psnr", (20, 23), ([19, 21], [22, 24]), "better"),
        ("psnr", (23, 20), ([22, 24], [19, 21]), "worse"),
        ("gfid", (20, 23), ([19, 21], [22, 24]), "worse"),
        ("gfid", (23, 20), ([22, 24], [19, 21]), "better"),
        ("gfid", (20, 21), ([19, 21], [20, 22]), "inconclusive"),
        ("gfid", (20, 20), ([20, 20], [20, 20]), "inconclusive"),
        ("gfid", (20, 23), ([19, 21], None), "unknown"),
    ],
)
def test_a_difference_is_better_worse_or_inconclusive(restok, tmp_path, metric, values, intervals, verdict):
    files = [
        made_up(tmp_path / f"{i}.json", metric, value, interval=interval)
        for i, (value, interval) in enumerate(zip(values, intervals, strict=True))
    ]
    found = restok("evaluate", "--compare", *files)
    assert found.out.splitlines()[1].split()[-1] == verdict
    remark = "without an interval of both" if verdict == "unknown" else "one run of each was measured"
    assert found.err.startswith(remark) and len(found.err.splitlines()) == 1
    row = json.loads(restok("evaluate", "--compare", *files, "--json").out)["metrics"][metric]
    assert row["verdict"] == verdict
    if verdict != "unknown":
        half = 2**0.5 * (intervals[0][1] - values[0])  # both are symmetric and alike
        assert row["interval"] == pytest.approx([values[1] - values[0] - half, values[1] - values[0] + half])


def test_the_reference_that_two_results_share_is_not_counted_as_drawn_for_each(restok, tmp_path):
    intervals = {"interval": [3.0, 5.0], "interval_given_reference": [3.8, 4.2]}
    a = made_up(tmp_path / "a.json", "gfid", 4.0, **intervals)
    b = made_up(tmp_path / "b.json", "gfid", 4.0, **intervals)
    half = 0.2 * 2**0.5
    row = json.loads(restok("evaluate", "--compare", a, b, "--json").out)["metrics"]["gfid"]
    assert row["interval"] == pytest.approx([-half, half])


def test_values_of_the_same_images_are_compared_in_pairs(restok, tmp_path):
    """Where every image gains a little, and images differ much from each other."""
    ours = {"a": 10.0, "b": 20.0, "c": 30.0, "d": 40.0}
    theirs = {"d": 40.3, "c": 30.2, "b": 20.2, "a": 10.1}
    wide = {"interval": [5, 45]}
    a = made_up(tmp_path / "a.json", "psnr", 25.0, per_image=ours, **wide)
    b = made_up(tmp_path / "b.json", "psnr", 25.2, per_image=theirs, **wide)
    row = json.loads(restok("evaluate", "--compare", a, b, "--json").out)["metrics"]["psnr"]
    assert (row["method"], row["verdict"]) == ("pairs", "better")
    assert sum(row["interval"]) / 2 == pytest.approx(0.2)
    del theirs["a"]
    made_up(b, "psnr", 25.2, per_image=theirs | {"e": 10.1}, **wide)  # of other images
    row = json.loads(restok("evaluate", "--compare", a, b, "--json").out)["metrics"]["psnr"]
    assert (row["method"], row["verdict"]) == ("intervals", "inconclusive")
    one = [made_up(file, "psnr", value, per_image={"a": value}) for file, value in ((a, 10.0), (b, 10.1))]
    assert json.loads(restok("evaluate", "--compare", *one, "--json").out)["metrics"]["psnr"]["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("metric", "field", "is_apart"),
    [
        ("precision", "pictures", True),  # which looks at each image, not only at their Gaussian
        ("gfid", "pictures", False),
        ("lpips", "lpips_weights_sha256", True),
        ("psnr", "lpips_weights_sha256", False),
        ("codebook_entropy", "codebook_size", True),
        ("psnr", "codebook_size", False),
    ],
)
def test_only_what_a_metric_depends_on_keeps_results_apart(restok, tmp_path, metric, field, is_apart):
    files = []
    for name in ("a", "b"):
        files.append(made_up(tmp_path / f"{name}.json", metric, 1.0))
        content = json.loads(files[-1].read_text())
        protocol = content["protocol"]
        protocol["lpips_weights_sha256"] = "same"
        protocol["reference"]["pictures"] = {"fingerprint": "same"}
        if field == "pictures":
            protocol["reference"][field]["fingerprint"] = name
        else:
            protocol[field] = name
        files[-1].write_text(json.dumps(content))
    row = json.loads(restok("evaluate", "--compare", *files, "--json").out)["metrics"][metric]
    assert bool(row["differences"]) == is_apart


@pytest.mark.parametrize(
    ("metric", "left_out", "message"),
    [
        ("beauty", {}, "unknown metric 'beauty'"),
        ("gfid", {"reference": None}, "nothing is said of the reference of gfid"),
        ("gfid", {"features": None}, "nothing is said of the features of gfid"),
    ],
)
def test_results_that_leave_out_what_a_metric_depends_on_are_refused(fails, tmp_path, metric, left_out, message):
    file = made_up(tmp_path / "a.json", metric, 1.0)
    content = json.loads(file.read_text())
    content["protocol"] |= left_out
    file.write_text(json.dumps(content))
    assert message in fails(1, "evaluate", "--compare", file, file)


def test_a_network_alone_is_compared_with_itself_among_several_and_with_no_other(restok, fails, tmp_path):
    alone = made_up(tmp_path / "alone.json", "kid", 1, interval=[0, 2])  # by the network a
    several = {"metrics": {}, "protocol": json.loads(alone.read_text())["protocol"] | {"features": {}}}
    for network, value in (("b", 5), ("a", 7)):
        file = made_up(tmp_path / "one.json", f"kid[{network}]", value, interval=[value - 1, value + 1], name="KID-4")
        several["metrics"] |= json.loads(file.read_text())["metrics"]
        several["protocol"]["features"][network] = {"network": network}
    both = tmp_path / "both.json"
    both.write_text(json.dumps(several))
    for files, key, difference in (((alone, both), "kid", 6), ((both, alone), "kid[a]", -6)):
        rows = json.loads(restok("evaluate", "--compare", *files, "--json").out)["metrics"]
        assert list(rows) == [key]
        assert rows[key]["values"][1] - rows[key]["values"][0] == difference
    in_rows = [Result(file.stem, read_results(file)) for file in (alone, both)]
    assert [[one.name for one in row.results] for row in measured_alike(in_rows)] == [["alone", "both"], ["both"]]
    (of_a, _) = measured_alike(in_rows)
    assert of_a.comparison(in_rows[1]).values == (1, 7)
    other = tmp_path / "other.json"
    other.write_text(alone.read_text().replace('"network": "a"', '"network": "c"'))
    assert "no metric in common: kid and kid[b], kid[a]" in fails(1, "evaluate", "--compare", other, both)
    refused = restok("evaluate", "--compare", alone, other)
    assert (refused.code, "features' network: a and c" in refused.err) == (1, True)


def test_results_of_several_runs_are_compared_by_their_spread(restok, tmp_path):
    a = made_up(tmp_path / "a.json", "gfid", 5.0, values=[4.9, 5.0, 5.1], interval=[4.75, 5.25])
    b = made_up(tmp_path / "b.json", "gfid", 4.5, values=[4.4, 4.6], interval=[3.2, 5.8])
    one = made_up(tmp_path / "one.json", "gfid", 4.7, interval=[4.69, 4.71])
    found = json.loads(restok("evaluate", "--compare", a, b, "--json").out)
    assert (found["metrics"]["gfid"]["method"], found["remarks"]) == ("runs", [])
    compared = restok("evaluate", "--compare", a, one)
    assert compared.err == ""
    assert "inconclusive" in compared.out  # by the spread of the runs; by the interval of its images it were better


@pytest.mark.parametrize(
    "facts",
    [{"interval": [3, 2]}, {"interval": [1]}, {"values": [1.0]}, {"value": 1e200}, {"per_image": {"a": "b"}}],
)
def test_intervals_and_values_that_are_none_are_refused(fails, tmp_path, facts):
    file = made_up(tmp_path / "a.json", "psnr", **{"value": 2.5} | facts)
    assert "a.json is wrong" in fails(1, "evaluate", "--compare", file, file)


@pytest.mark.parametrize("words", ["--fail-under psnr=3", "--reference sample", "--num-processes 2", "photos"])
def test_an_option_that_would_do_nothing_is_refused(fails, tmp_path, words):
    file = made_up(tmp_path / "a.json", "psnr", 2.5)
    line = fails(2, "evaluate", "--compare", file, file, *words.split())
    assert "--compare measures nothing; leave" in line
    assert ("SAMPLES" if words == "photos" else words.split()[0]) in line


def test_values_of_each_image_are_told_by_its_name(restok, folders, tmp_path):
    a, b, _ = folders
    (a / "000003.png").write_bytes(b"broken")
    words = ("evaluate", a, "--reference", b, "--metric", "psnr", "--metric", "gfid", "--features", "random", "--json")
    found = json.loads(restok(*words, "--per-image").out)
    assert list(found["per_image"]) == ["psnr"]
    values = found["per_image"]["psnr"]
    assert list(values) == [f"{i:06d}" for i in range(12) if i != 3]
    assert sum(values.values()) / 11 == pytest.approx(found["metrics"]["psnr"]["value"])
    alone = {name: psnr(a / f"{name}.png", b / f"{name}.png") for name in ("000000", "000011")}
    assert {name: values[name] for name in alone} == pytest.approx(alone)
    assert "per_image" not in json.loads(restok(*words).out)
