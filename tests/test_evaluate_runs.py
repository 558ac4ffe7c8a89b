"""`restok evaluate` of several SAMPLES, and `--runs`."""

import json
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from scipy import stats

from restok_cli.data.images import save_image
from restok_cli.errors import RestokError
from restok_cli.evaluation.runs import over_runs

METRICS = ("--metric", "gfid", "--metric", "psnr", "--features", "random")


def draw(seed, count=6, size=12):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=rng)


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """Three runs, and `reference`."""
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(draw(9)):
        save_image(image, tmp_path / "reference" / f"{number}.png")
    return [write_npz(f"{seed}.npz", draw(seed)) for seed in range(3)]


def write_npz(name, images):
    np.savez(name, images.permute(0, 2, 3, 1).numpy())
    return name


def test_several_samples_are_measured_as_each_alone_and_the_reference_is_read_once(restok, samples, tmp_path):
    words = ("--reference", "reference", *METRICS, "--json")
    found = restok("evaluate", *samples, *words, "--per-image")
    assert found.code == 0, found.err
    assert found.err.count("reference reference: 6/6 images") == 1
    report = json.loads(found.out)
    for name, together in zip(samples, report["runs"], strict=True):
        alone = json.loads(restok("evaluate", name, *words).out)
        assert together["metrics"] == alone["metrics"]
        assert together["protocol"] | {"seconds": 0} == alone["protocol"] | {"seconds": 0}
        assert list(together["per_image"]["psnr"]) == [str(number) for number in range(6)]
        (tmp_path / name).with_suffix(".json").write_text(json.dumps(alone))
    for metric in ("gfid", "psnr"):
        values = [run["metrics"][metric]["value"] for run in report["runs"]]
        fact = report["metrics"][metric]
        assert fact["values"] == values
        assert (fact["value"], fact["std"], fact["n_runs"]) == (fmean(values), stdev(values), 3)
        assert fact["interval"] == pytest.approx(list(stats.ttest_1samp(values, 0).confidence_interval()))
    files = [name.replace("npz", "json") for name in samples]
    joined = json.loads(restok("evaluate", "--runs", *files, "--json").out)
    assert joined["metrics"] == report["metrics"]
    assert joined["protocol"] | {"seconds": 0} == report["protocol"] | {"seconds": 0}


def result(value, fingerprint, **other):
    """A result as --json writes it."""
    fact = {"name": "gFID-9", "value": value, "n": 9, "n_reference": 9, "definition": "d", "caveat": "few"} | other
    protocol = {"samples": {"source": f"{fingerprint}.npz", "size": "8x8", "fingerprint": fingerprint}}
    protocol |= {"reference": {"source": "photos", "fingerprint": "f"}, "features": {"network": "inception"}}
    return {"metrics": {"gfid": fact}, "protocol": protocol | {"seconds": value}}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 4.0), ("b", 4.5), ("c", 5.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps(result(value, name)))
    return ["a.json", "b.json", "c.json"]


def test_people_get_a_line_per_run_and_what_they_come_to(restok, files):
    found = restok("evaluate", "--runs", *files)
    assert [line.split() for line in found.out.splitlines()] == [
        ["run", "gFID-9"], ["a.json", "4"], ["b.json", "4.5"], ["c.json", "5"], ["mean", "4.5"],
        ["standard", "deviation", "0.5"], ["95", "%", "interval", "[3.25793,", "5.74207]"], ["against", "photos"],
    ]  # fmt: skip
    assert found.err == "not comparable with published numbers (few): gFID-9\n"


def test_protocol_of_runs_is_what_they_share():
    _, protocol = over_runs({name: result(value, name) for name, value in (("a", 4.0), ("b", 4.5))})
    assert protocol["samples"] == {"source": "a.npz, b.npz", "size": "8x8"}
    assert protocol["reference"] == {"source": "photos", "fingerprint": "f"}
    assert "seconds" not in protocol


@pytest.mark.parametrize(("limit", "code"), [("5", 0), ("5.7:upper", 4), ("5.8:upper", 0), ("3:lower", 4)])
def test_limits_hold_for_the_mean_or_an_edge_of_its_interval(restok, files, limit, code):
    found = restok("evaluate", "--runs", *files, "--fail-under", f"gfid={limit}")
    assert found.code == code
    edge = {"5.7:upper": "is 5.74207 at the upper edge", "3:lower": "is 3.25793 at the lower edge"}.get(limit, "")
    assert edge in found.err


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (result(4.0, "a"), "a and b hold the same images, where runs differ by their seeds; give each run once"),
        (result(4.0, "b", n=8), "a and b are not runs of one method, since these were not the same: images: 9 and 8"),
        ({**result(4.0, "b"), "metrics": {}}, "a was measured by gfid, b by ; measure all runs by the same"),
    ],
)
def test_results_that_are_no_runs_of_one_method_are_refused(other, message):
    with pytest.raises(RestokError, match=message):
        over_runs({"a": result(4.0, "a"), "b": other})


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [
        (2, "--runs a.json", "--runs takes the results of two or more runs, each once"),
        (2, "--runs a.json a.json", "--runs takes the results of two or more runs, each once"),
        (2, "--runs a.json nowhere.json", "nowhere.json: no such file; give what `restok evaluate … --json > FILE`"),
        (2, "--runs a.json joined.json", "joined.json is of several runs already; give the result of each run"),
        (1, "--runs a.json empty.json", "empty.json is wrong"),
        (2, "--runs a.json b.json --reference c", "--runs measures nothing; leave --reference out"),
        (2, "a.tar b.tar --metric is", "a.tar: of several SAMPLES each is a run, and a tar file may be one or a part"),
        (2, "a - --metric is", "- is a stream that stands alone"),
        (2, "a a --metric is", "a is given twice, where runs differ by their seeds"),
        (2, "a b --num-codes 1", "--num-codes measures what is decoded of one SAMPLES"),
    ],
)  # fmt: skip
def test_what_cannot_be_runs_is_one_line(restok, fails, files, tmp_path, code, words, message):
    (tmp_path / "joined.json").write_text(restok("evaluate", "--runs", *files, "--json").out)
    (tmp_path / "empty.json").write_text("{}")
    assert message in fails(code, "evaluate", *words.split())


def test_sets_of_other_sizes_are_refused_before_anything_is_measured(fails, samples):
    write_npz("few.npz", draw(5, count=5))
    line = fails(2, "evaluate", samples[0], "few.npz", "--reference", "reference", *METRICS)
    assert "0.npz holds 6 images of 12x12 pixels, few.npz 5 images of 12x12; several SAMPLES are runs" in line
