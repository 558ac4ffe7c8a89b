"""`restok report`: what a run did, in one file that a browser shows without anything else."""

import base64
import json
import re
from html import unescape

import pytest
import torch
from browser import look
from PIL import Image

from restok_cli.data.images import save_image
from restok_cli.errors import RestokError
from restok_cli.metrics.compare import read_result
from restok_cli.metrics.table import METRICS
from restok_cli.reports.charts import HEIGHT, Line, draw_chart, nice_step, short, thinned
from restok_cli.reports.runs import read_run
from restok_cli.settings.presets import read_preset
from restok_cli.settings.recorded import write_config
from restok_cli.settings.training import RUN_CONFIGS
from restok_cli.training.run_folder.launches import read_starts

START = {
    "step": 0,
    "time": "2026-11-22T08:00:00+00:00",
    "command": "restok train-tokenizer sample -o a",
    "data_fingerprint": "f00d",
    "device": "cpu: 2 threads on 2 cores",
    "processes": 1,
    "platform": "Linux",
    "restok": "0.1.0",
    "torch": "2.6.0",
    "numpy": "2.0",
    "pillow": "11.0",
    "python": "3.11.2",
}


def write_run(path, kind="tokenizer", lines=12, previews=(4, 8, 12), **changes):
    """A run as the training loops write it, without training."""
    config = RUN_CONFIGS[kind].parse(read_preset(kind, "tiny"), "tiny")
    schedule = config.schedule.model_copy(update=changes)
    path.mkdir()
    write_config(config.model_copy(update={"schedule": schedule}), path / "config.yaml")
    with open(path / "metrics.jsonl", "w") as file:
        for step in range(1, lines + 1):
            numbers = {"loss": 1 / step, "learning_rate": 1e-3, "images_per_second": 9.5, "eta_seconds": 900.0}
            if kind == "tokenizer":
                numbers |= {"codebook_usage": 50.0 + step, "usage_level_1": 1.0 * step, "usage_level_2": 2.0 * step}
            file.write(json.dumps({"step": step, **numbers}) + "\n")
            if step % 4 == 0:
                name = "validation_psnr" if kind == "tokenizer" else "validation_loss"
                file.write(json.dumps({"step": step, name: 10 + step / 10}) + "\n")
    (path / "starts.jsonl").write_text(json.dumps(START) + "\n")
    (path / "log.txt").write_text("2026-11-22 08:00:00 starting\n2026-11-22 08:00:01 step 1: loss 1\n")
    for step in previews:
        save_image(torch.full((3, 24, 24), step * 8, dtype=torch.uint8), path / "previews" / f"step-{step:06d}.png")
    return path


def write_result(path, value, metric="psnr", size="32x32", tokens=(), **facts):
    """A result as `restok evaluate --json` writes it; with `tokens`, as it does with --num-codes."""
    fact = {
        "name": f"{METRICS[metric].label}-12",
        "value": value,
        "n": 12,
        "n_reference": 12,
        "definition": "mean",
        **facts,
    }
    measured = {metric: fact | {"caveat": "12 images"}}
    protocol = {"samples": {"size": size, "crop": "none"}, "reference": {"source": "photos", "fingerprint": "abc"}}
    protocol["features"] = {"network": "inception", "published": True}
    result = {"metrics": measured, "protocol": protocol}
    if tokens:
        steps = [{"num_codes": n, "metrics": {metric: measured[metric] | {"value": value + n}}} for n in tokens]
        result = {"curve": steps, "protocol": protocol}
    path.write_text(json.dumps(result))
    return path


@pytest.fixture
def report(restok, tmp_path):
    """Make a report and return its HTML."""

    def call(*arguments):
        file = tmp_path / "report.html"
        result = restok("report", *arguments, "-o", file, "--overwrite")
        assert (result.code, result.out) == (0, f"{file}\n"), result.err
        return file.read_text(encoding="utf-8")

    return call


def text_of(html):
    """What a reader sees of a part of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A report of two tokenizers, one of them still training, a generator and their metrics."""
    folder = tmp_path_factory.mktemp("compared")
    runs = [write_run(folder / "a"), write_run(folder / "b", lines=9, previews=(4, 8), seed=3)]
    runs.append(write_run(folder / "g", "har"))
    write_result(runs[0] / "psnr.json", 20.0, tokens=(4, 32))
    other = write_result(folder / "other.json", 21.0)
    from restok_cli.cli import run

    assert run(["report", *map(str, runs), "--metrics", str(other), "-o", str(folder / "report.html")]) == 0
    return folder / "report.html"


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (360, True)], ids=["wide", "narrow and dark"])
def test_a_browser_shows_all_of_it_and_asks_nobody_for_anything(compared, tmp_path, width, dark):
    seen = look(compared, tmp_path, width, dark)
    assert seen["errors"] == seen["console"] == []
    assert [address for address in seen["fetched"] if not address.startswith("data:")] == []
    assert seen["images"] == seen["decoded"] == 3 + 2 + 3
    assert {"loss logarithmic", "validation psnr", "usage by level: a", "usage by level: b"} <= set(seen["charts"])
    assert len(seen["lines"]) == text_count(compared, 'class="line') and min(seen["lines"]) > 0
    assert seen["overflow"] <= 0  # nothing to scroll sideways but inside tables
    assert seen["shown"] == ["12", "8", "12"] and seen["shownAtFirst"] == ["4", "8", "12"]
    red, green, blue = map(int, re.findall(r"\d+", seen["background"])[:3])
    assert (max(red, green, blue) < 60) == dark
    assert "none" not in seen["colours"]


def text_count(file, text):
    return file.read_text(encoding="utf-8").count(text)


def test_settings_that_differ_stand_side_by_side(compared):
    table = compared.read_text(encoding="utf-8").split("settings in which these runs differ")[1].split("</table>")[0]
    assert re.findall(r"<code>(.*?)</code>", table) == ["schedule.seed", "0", "3"]


def test_the_nearest_preset_is_named_with_what_was_changed(report, tmp_path):
    text = text_of(report(write_run(tmp_path / "a", batch_size=4, seed=7)))
    assert "The nearest preset is tiny , from which 2 settings differ:" in text
    assert "schedule.batch_size 16 4" in text and "schedule.seed 0 7" in text
    assert "The nearest preset is tiny , with no setting changed." in text_of(report(write_run(tmp_path / "b")))


def test_facts_of_a_run_are_those_of_its_files(tmp_path, tiny_tokenizer):
    run = read_run(write_run(tmp_path / "a"), "a")
    assert (run.step, run.max_steps, run.kind) == (12, 80, "tokenizer")
    assert run.parameters == sum(parameter.numel() for parameter in tiny_tokenizer.parameters())
    assert run.messages == ["2026-11-22 08:00:00 starting"]
    assert [step for step, _ in run.previews] == [4, 8, 12]


def test_the_best_validation_is_shown_where_the_model_is_of_its_step(report, tmp_path):
    text = text_of(report(write_run(tmp_path / "a", "har", early_stop=3)))
    assert "11.2000 nats a code best 10.4000 at step 4, of which model/ is" in text
    assert "best" not in text_of(report(write_run(tmp_path / "b", "har")))


def test_environment_and_data_are_those_of_each_start(report, tmp_path):
    run = write_run(tmp_path / "a")
    with open(run / "starts.jsonl", "a") as file:
        file.write(json.dumps(START | {"step": 5, "torch": "2.7.0"}) + '\n{"step": 9, "comm')
    text = text_of(report(run))
    for fact in (START["command"], "f00d", "torch 2.6.0", "torch 2.7.0", "cpu: 2 threads on 2 cores · 1 process ·"):
        assert fact in text


def test_a_run_that_goes_on_without_previews_and_with_a_torn_line_is_shown(report, tmp_path):
    run = write_run(tmp_path / "a", previews=())
    for file in ("starts.jsonl", "log.txt"):
        (run / file).unlink()
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 13, "loss": 0.\xc3')
    text = text_of(report(run))
    assert "12 of 80" in text and "15 minutes left then" in text
    assert "There is no preview yet." in text and "Not recorded: an older restok made this run." in text


def test_many_and_large_previews_become_few_and_small(report, tmp_path):
    run = write_run(tmp_path / "a", previews=range(1, 31))
    noise = torch.randint(0, 256, (3, 500, 500), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    save_image(noise, run / "previews" / "step-000030.png")
    html = report(run)
    assert re.findall(r'data-step="(\d+)"', html) == ["1", "5", "8", "12", "15", "19", "23", "26", "30"]
    assert "9 of 30 previews." in html
    (large,) = re.findall(r"data:image/webp;base64,([^\"]*)", html)
    assert len(base64.b64decode(large)) < (run / "previews" / "step-000030.png").stat().st_size / 2


def test_what_was_measured_alike_shares_a_row_and_nothing_else_does(report, tmp_path):
    run = write_run(tmp_path / "a")
    files = [write_result(tmp_path / f"{name}.json", *rest) for name, *rest in (
        ("one", 20.0), ("two", 21.5), ("large", 30.0, "psnr", "64x64"), ("far", 0.5, "lpips"))]  # fmt: skip
    html = report(run, *(word for file in files for word in ("--metrics", file)))
    table = html.split('<table class="metrics">')[1].split("</table>")[0]
    rows = [text_of(row) for row in table.split("<tr>")[2:]]
    assert rows == ["PSNR-12 dB 20 21.5 +1.5 – –", "PSNR-12 dB – – 30 –", "LPIPS-12 – – – 0.5"]
    assert 'class="unknown">+1.5' in table  # without intervals
    assert "of large cannot be compared with that in the row before: size of the samples: 32x32 and 64x64" in text_of(
        html
    )
    assert "one is not comparable with published numbers: 12 images." in text_of(html)


def test_intervals_and_what_a_difference_means_are_shown(report, tmp_path):
    files = [
        write_result(tmp_path / "one.json", 20.0, interval=[19.5, 20.5]),
        write_result(tmp_path / "two.json", 21.5, interval=[21.25, 21.75]),
        write_result(tmp_path / "wide.json", 21.0, interval=[18, 24]),
        write_result(tmp_path / "three.json", 18.0, values=[17.9, 18.0, 18.1], interval=[17.75, 18.25]),
    ]
    result = json.loads(files[-1].read_text())
    files[-1].write_text(json.dumps(result | {"runs": [result] * 3}))
    html = report(write_run(tmp_path / "a"), *(word for file in files for word in ("--metrics", file)))
    table = html.split('<table class="metrics">')[1].split("</table>")[0]
    assert text_of(table) == (
        "one two wide three mean of 3 runs PSNR-12 dB 20 [19.5, 20.5] 21.5 [21.25, 21.75] +1.5 better"
        " 21 [18, 24] +1 inconclusive 18 [17.75, 18.25] -2 worse"
    )
    assert 'class="better">+1.5 better' in table
    assert "One run of each was measured: the intervals cover other draws of images, but not" in text_of(html)


def test_features_that_papers_do_not_use_are_named(report, tmp_path):
    file = write_result(tmp_path / "one.json", 2.5, "rfid")
    result = json.loads(file.read_text())
    result["protocol"]["features"] = {"network": "random", "published": False}
    file.write_text(json.dumps(result))
    assert "rFID-12 (random)" in text_of(report(write_run(tmp_path / "a"), "--metrics", file))


def test_results_by_tokens_make_a_ladder(report, tmp_path):
    run = write_run(tmp_path / "a")
    write_result(run / "levels.json", 10.0, tokens=(1, 4, 32), interval=[10, 45])
    (run / "notes.json").write_text("{}")
    html = report(run)
    assert "levels 32 codes" in text_of(html) and "PSNR-12, dB (higher is better)" in html
    assert ">codes</text>" in html and "notes.json" not in html
    assert html.count('<path class="band"') == 1
    with pytest.raises(RestokError, match="a result for each number of codes"):
        read_result(run / "levels.json")


def test_names_cannot_become_markup(report, tmp_path):
    html = report(write_run(tmp_path / "<script>alert(1)"))
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, "nowhere", "nowhere: no such folder; give the folder of a run"),
        (2, "model", "model holds a model and no run: it has no config.yaml; give the folder that train-tokenizer or"),
        (2, ".", ". is no run: it has no config.yaml"),
        (2, "fresh", "fresh has logged nothing yet"),
        (2, "run run", "a run is given twice"),
        (2, "run 1 2 3 4 5 6", "7 runs are too many to tell apart; give at most 6"),
        (2, "run -o report.htm", "-o report.htm: give a file name that ends in .html"),
        (2, "run -o there.html", "there.html already exists; give another file, or --overwrite to replace it"),
        (2, "run --metrics nowhere.json", "'nowhere.json' does not exist"),
        (1, "run --metrics model/config.json", "model/config.json is wrong"),
        (1, "damaged", "step-000001.png cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_reported_is_one_line_that_leaves_nothing(
    fails, tmp_path, monkeypatch, code, arguments, message
):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    write_run(tmp_path / "damaged", previews=())
    (tmp_path / "damaged" / "previews").mkdir()
    (tmp_path / "damaged" / "previews" / "step-000001.png").write_bytes(b"no image")
    write_run(tmp_path / "fresh", lines=0)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "there.html").touch()
    assert message in fails(code, "report", *arguments.split())
    assert not (tmp_path / "report.html").exists()


def test_a_band_goes_round_the_intervals_and_the_axis_holds_it():
    line = Line("a", [1, 2, 4], [3.0, 2.0, 1.0], "red", bounds=[(2.0, 4.0), None, (0.0, 1.5)])
    (path,) = draw_chart("PSNR", [line]).paths
    band = [tuple(map(float, place.split())) for place in path.band[1:].split(" L")]
    (x1, _), _, (x4, _) = path.points
    assert [right for right, _ in band] == [x1, x4, x4, x1]
    downs = [down for _, down in band]
    assert downs[1] > downs[2] > downs[0] > downs[3] >= 0  # from 2 to 0, back from 1.5 to 4
    assert max(downs) < HEIGHT
    assert draw_chart("PSNR", [line._replace(bounds=())]).paths[0].band == ""


def test_lines_of_a_chart_go_through_the_numbers():
    steps, values = [0, 10, 20, 40], [3.0, 1.0, 2.0, 1.5]
    chart = draw_chart("loss", [Line("a", steps, values, "red")])
    (path,) = chart.paths
    places = [tuple(map(float, place.split())) for place in path.d[1:].split(" L")]
    assert places == path.points
    right, down = zip(*places, strict=True)
    (x0, zero), (x1, forty) = chart.x_ticks[0], chart.x_ticks[-1]
    assert (zero, forty) == ("0", "40")
    assert [(x - x0) / (x1 - x0) * 40 for x in right] == pytest.approx(steps, abs=0.1)
    (y0, low), (y1, high) = chart.y_ticks[0], chart.y_ticks[-1]
    back = [float(low) + (y - y0) / (y1 - y0) * (float(high) - float(low)) for y in down]
    assert back == pytest.approx(values, abs=0.02)
    assert all(0 < y < HEIGHT for y in down)


def test_values_over_several_magnitudes_get_a_logarithmic_axis():
    chart = draw_chart("loss", [Line("a", [1, 2, 3], [1e-4, 1e-2, 1.0], "red")])
    assert chart.logarithmic and [text for _, text in chart.y_ticks] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    (path,) = chart.paths
    ys = [y for _, y in path.points]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    narrow = draw_chart("loss", [Line("a", [1, 2], [0.3, 12.0], "red")])
    assert [text for _, text in narrow.y_ticks] == ["0.5", "1", "2", "5", "10"]
    assert not draw_chart("loss", [Line("a", [1, 2], [0.0, 99.0], "red")]).logarithmic


def test_one_point_and_a_flat_line_are_drawn():
    for steps in ([5], [0, 5]):
        chart = draw_chart("usage", [Line("a", steps, [0.0] * len(steps), "red")])
        assert len(chart.paths[0].points) == len(steps) and len(chart.y_ticks) > 1


def test_a_thinned_line_keeps_its_spikes_and_its_ends():
    points = [(x / 100, float((x * 37) % 11)) for x in range(1000)]
    points[555] = (5.55, 99.0)
    kept = thinned(points)
    assert len(kept) <= 40 and (5.55, 99.0) in kept and kept[0] == points[0] and kept[-1] == points[-1]
    assert [point for point in points if point in kept] == kept
    assert thinned(points[::100]) == points[::100]


def test_ticks_are_round_numbers_and_short_ones():
    assert [nice_step(span) for span in (1, 4.9, 100, 1e-3)] == pytest.approx([0.2, 1.0, 20.0, 2e-4])
    assert [short(v) for v in (0, 0.5, 15.954, 999, 20000, 1.5e6)] == ["0", "0.5", "15.95", "999", "20k", "1.5M"]


@pytest.mark.slow
def test_a_run_notes_each_start_and_what_it_began_with(restok, report, tmp_path):
    train = ("train-tokenizer", "sample", "--preset", "tiny", "--max-steps", 2, "-o", tmp_path / "run")
    train += ("--skip-preflight", "--set", "schedule.log_every=1")
    assert restok(*train, "--stop-at", 1).code == 0
    assert restok(*train, "--resume").code == 0
    starts = read_starts(tmp_path / "run")
    assert [start.step for start in starts] == [0, 1]
    assert starts[0].torch == torch.__version__ and starts[0].device.startswith(("cpu: ", "cuda: "))
    assert starts[0].data_fingerprint == starts[1].data_fingerprint != ""
    assert "2 of 2" in text_of(report(tmp_path / "run"))
    with Image.open(tmp_path / "run" / "previews" / "step-000002.png") as preview:
        assert preview.width > 0
    assert restok(*train, "--overwrite").code == 0
    assert len(read_starts(tmp_path / "run")) == 1


def test_a_report_replaces_one_that_is_there_and_nothing_else(restok, fails, tmp_path):
    run, file = write_run(tmp_path / "run"), tmp_path / "report.html"
    for _ in range(2):
        assert restok("report", run, "-o", file).code == 0
    file.write_text("<title>something else</title>")
    assert "already exists" in fails(2, "report", run, "-o", file)
    assert file.read_text() == "<title>something else</title>"


def test_a_watched_report_follows_a_run_to_its_end(restok, tmp_path, monkeypatch):
    run, file, seen = write_run(tmp_path / "run", max_steps=13), tmp_path / "report.html", []

    def sleep(seconds):
        seen.append('http-equiv="refresh" content="30"' in file.read_text())
        if len(seen) == 2:
            with open(run / "metrics.jsonl", "a") as log:
                log.write('{"step": 13, "loss": 0.5}\n')

    monkeypatch.setattr("restok_cli.commands.report.time.sleep", sleep)
    assert restok("report", run, "-o", file, "--watch").out == f"{file}\n"
    assert seen == [True, True] and "refresh" not in file.read_text()
    assert restok("report", run, "-o", file).code == 0 and len(seen) == 2


def test_ladders_are_explained_in_a_line(compared):
    html = compared.read_text()
    assert "Each row is one image: the original, then what its first codes give" in html
    assert "The same images from their first codes alone" in html
