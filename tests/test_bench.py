"""`restok bench`: what it prints, and that each way to compute is compared with plain float32."""

import json

import pytest
import torch

from restok_cli.cli import run
from restok_cli.planning import bench as bench_module
from restok_cli.planning import highest, rates

TINY = ["bench", "--preset", "tiny", "--har", "tiny", "--device", "cpu", "--runs", "1"]


@pytest.fixture(autouse=True)
def a_machine_of_a_known_rate(monkeypatch):
    monkeypatch.setattr(bench_module, "rate", lambda *_: 1e12)
    monkeypatch.setattr(bench_module, "fastest", lambda dtype, device: ("convolution", None, 1))


def test_every_way_is_measured_beside_plain_float32(capsys, tmp_path):
    plot = tmp_path / "bars.png"
    assert run([*TINY, "--what", "encode,generate,ar,train", "--batch-size", "2", "--json", "--plot", str(plot)]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(row["what"], row["way"], row["batch_size"]): row for row in found["rows"]}
    assert {what for what, _, _ in rows} == {"encode", "generate", "ar", "train"}
    assert found["rates"].keys() == {"float32", "bfloat16"}  # a step is tried in both
    for (what, way, size), row in rows.items():
        assert row["images_per_second"] == pytest.approx(size / row["milliseconds"] * 1e3)
        assert row["share"] == pytest.approx(row["gflop_per_image"] * row["images_per_second"] / 1e3, rel=1e-3)
        assert 0 <= row["mib"] < 4096
        if way == "float32" and what != "train":
            assert row["same_codes"] == 1
        elif way == "float32, as used":
            assert row["same_codes"] > 0.9
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_table_of_ones_own_model(capsys):
    words = ["bench", "--model", "sample", "--device", "cpu", "--runs", "1", "--what", "decode,loading", "--markdown"]
    assert run(words) == 0
    header, _, plain, *others = capsys.readouterr().out.splitlines()
    assert header.startswith("| what | way | batch | ms (spread) |")
    assert plain.startswith("| decode | float32 | 1 |") and plain.endswith("|  |")
    assert "dB |" in others[0] or "equal |" in others[0]
    assert others[-1].startswith("| loading | float32 | 1 |")


def test_memory_is_counted_from_where_it_begins(tmp_path, monkeypatch):
    cpu, size = torch.device("cpu"), 64 << 20
    torch.ones(4 * size, dtype=torch.uint8)  # what was higher before does not count
    before = highest.begin(cpu)
    torch.ones(size, dtype=torch.uint8)
    assert highest.rise(before, cpu) == pytest.approx(size, rel=0.1)
    monkeypatch.setattr(highest, "FORGET", (tmp_path / "none", ""))
    assert highest.rise(highest.begin(cpu), cpu) is None, "where the system does not say"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--what", "encod"], "--what encod: no such thing (did you mean encode?)"),
        (["--batch-size", "1,many"], "--batch-size 1,many: give numbers from 1 on"),
        (["--json", "--markdown"], "give one of them"),
        (["--model", "sample", "--preset", "tiny"], "--model is measured instead of --preset and --har"),
        (["--model", "sample", "--har", "har-b"], "--model is measured instead of --preset and --har"),
        (["--plot", "bars.txt"], "--plot bars.txt: give a file that ends in .png, .svg, .pdf"),
    ],
)
def test_errors_are_one_line(words, error, capsys):
    assert run(["bench", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert error in line


def test_the_rate_is_that_of_the_fastest_way(monkeypatch):
    cpu, dtype = torch.device("cpu"), torch.float32
    taken = {"slow": 2.0, "fast": 1.0}
    monkeypatch.setattr(rates, "ways", lambda dtype, device: {name: (lambda n=name: n, 6.0) for name in taken})
    monkeypatch.setattr(rates, "seconds", lambda function, device, runs=5, warm_up=1: [taken[function()]])
    rates.fastest.cache_clear()
    try:
        assert rates.fastest(dtype, cpu)[0] == "fast"
        assert rates.rate(dtype, cpu) == 6.0
    finally:
        rates.fastest.cache_clear()
