"""`restok tune`: a stopped search costs nothing twice, and its images are those of generate."""

import json
import re
import shutil
from pathlib import Path

import pytest

from restok_cli.cli import run
from restok_cli.errors import Interrupted, UsageError
from restok_cli.inference import tune
from restok_cli.inference.sampling_options import PRESETS, sampling_options
from restok_cli.inference.tune_result import Tuning, tuning_table
from restok_cli.inference.tune_search import DEFAULT_SPACE, Conclusion, Gap, read_space, stated
from restok_cli.metrics.protocol import Measurement
from restok_cli.model.guidance import SamplingOptions

# --- what is asked for ---------------------------------------------------------------------------------------------


def test_a_space_comes_from_a_file_and_from_options_over_it(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("cfg_scale: [2, 1, 2]\ncfg_schedule: step\ntop_k: [0, 5]\n")
    assert read_space(file, ["top-k=7", "temperature=0.5, 1"]) == {
        "cfg_scale": [1.0, 2.0],
        "cfg_schedule": ["step"],
        "top_k": [7],
        "temperature": [0.5, 1.0],
    }
    assert read_space(None, []) == DEFAULT_SPACE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cfg_scal: 2", r"f.yaml:1: cfg_scal: no such option of sampling \(did you mean cfg_scale\?\)"),
        ("\ntop_p: [1, 2]", r"f.yaml:2: top_p 2: give a number from 0 to 1"),
        ("top_k: [true]", "top_k True: give a whole number"),
        ("top_p:", "top_p None: give a finite number"),
        ("cfg_schedule: [stepp]", r"stepp: no such schedule \(did you mean step"),
        ("cfg_scale: {a: 1}", "give a finite number"),
        (f"top_k: {10**30}", "no model has so many codes; give 0 for all"),
        (f"cfg_scale: {10**400}", "give a finite number"),
        ("cfg_scale: []", "f.yaml:1: cfg_scale: no values"),
        ("", "names nothing to try"),
        ("[", "not YAML"),
    ],
)
def test_a_wrong_space_is_one_line(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    Path("f.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_space(Path("f.yaml"), [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--try cfg_scale", "--try cfg_scale: give NAME=VALUE,VALUE"),
        ("--try cfg_scael=1", "--try cfg_scael: no such option of sampling (did you mean cfg_scale?)"),
        ("--try temperature=-1,1", "--try temperature -1: give a number from 0 on"),
        ("--try top_k=1],[", "not YAML"),
        ("--metric psnr", "--metric psnr: no metric of sets of images"),
        ("--metric fdi", "(did you mean fid?)"),
        ("--metric is", "is compares with nothing; leave --reference out"),
        ("--metric fid-inf", "--first 64: fid-inf by random needs 384 images or more"),
        ("--first 9 --images 8", "--first 9 images of each are more than --images 8 of the best"),
        ("--images 100000000000000", "--images 100000000000000 needs at least"),
        ("--metric kid --plot a.txt", "give a file name that ends in .png"),
        ("--steps 8", "--steps 8: this model takes 1 to 7 steps"),
        (f"--vgg-weights {__file__}", "--vgg-weights is of a network that none of these metrics looks through"),
        ("--class nobody", "--class nobody: no such class"),
        ("--reference nowhere", "--reference nowhere: no such file, folder or name"),
        ("--features nowhere", "--features nowhere: no such network"),
        ("--resume --overwrite", "give one of them"),
        ("--tokenizer there", "there is not a model"),
        ("-o there", "there already holds files"),
        ("-o there --overwrite", "there holds stranger, which this command did not make"),
        ("--try cfg_scale=1", "there is only one way to draw"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(fails, tiny_models, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there/stranger").touch()
    before = ("tune", tiny_models / "har", "--features", "random", "--reference", "sample")
    assert message in fails(2, *before, *arguments.split())
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_without_a_reference_there_is_nothing_to_compare_with(fails, tiny_models):
    assert "gfid needs something to compare with" in fails(2, "tune", tiny_models / "har")


# --- images --------------------------------------------------------------------------------------------------------


class Counting:
    """Counts images that are drawn, and stops after some."""

    def __init__(self, monkeypatch):
        self.num_drawn, self.stop_after, self.draw = 0, float("inf"), tune.generate_blocks
        monkeypatch.setattr(tune, "generate_blocks", self)

    def __call__(self, job, blocks):
        for block in self.draw(job, blocks):
            if self.num_drawn >= self.stop_after:
                raise Interrupted(2, "interrupted")
            self.num_drawn += len(block.indices)
            yield block


DRAWN = 2 * 2 * 32  # two candidates on two sets of seeds


@pytest.fixture(scope="module")
def tune_words(tiny_models, reference) -> tuple[str, ...]:
    """A command line that has two candidates on two sets of seeds, by a tiny model."""
    words = ("tune", tiny_models / "har", "--reference", reference, "--features", "random", "--json")
    return (*map(str, words), "--first", "16", "--images", "32", "--try", "cfg_scale=1,2")


@pytest.fixture(scope="module")
def whole(tune_words, tmp_path_factory) -> Path:
    """The folder of a search that is done."""
    folder = tmp_path_factory.mktemp("whole") / "tuned"
    assert run([*tune_words, "-o", str(folder)]) == 0
    return folder


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.fixture
def tuned(restok, tune_words, tmp_path, monkeypatch):
    """Run `tune` into ./tuned; returns its --json, or what it said, and how many images it drew."""
    monkeypatch.chdir(tmp_path)
    counting = Counting(monkeypatch)

    def call(*arguments, stop_after=float("inf"), code=0):
        counting.num_drawn, counting.stop_after = 0, stop_after
        result = restok(*tune_words, *arguments)
        assert result.code == code, result.err
        return (json.loads(result.out) if code == 0 else result.err), counting.num_drawn

    return call


@pytest.fixture
def again(tuned, whole):
    """The same, where the search is done already."""
    shutil.copytree(whole, "tuned")
    return tuned


@pytest.fixture(scope="module")
def reference(tmp_path_factory, sample_data) -> Path:
    """A folder of a few emoji."""
    folder = tmp_path_factory.mktemp("reference")
    for i in range(24):
        (folder / f"{i}.png").write_bytes(sample_data.held_out.read(i))
    return folder


def test_a_candidate_has_the_number_of_what_generate_draws(whole, restok, tiny_models, reference, tmp_path):
    found = result_of(whole)
    entry = next(entry for entry in found["fresh"] if entry["options"] == {"cfg_scale": 2.0})
    options = ("--class", "random", "--seed", 1, "--count", 32, "--cfg-scale", 2, "-o", tmp_path / "drawn")
    assert restok("generate", "--model", tiny_models / "har", *options).code == 0
    evaluate = ("evaluate", tmp_path / "drawn", "--reference", reference, "--features", "random", "--metric", "gfid")
    measured = json.loads(restok(*evaluate, "--metric", "is", "--json").out)["metrics"]
    for name, number in measured.items():  # the reference counts as exact, so that intervals are narrower
        its_interval = {field: number[field] for field in ("interval", "interval_method")}
        assert number == entry["metrics"][name] | its_interval
    assert entry["metrics"]["gfid"]["interval"] is not None
    assert [len(rung) for rung in found["search"]] == [2, 2]
    assert found["differences"] == "in pairs"


def test_a_killed_search_goes_on_to_the_same_result_and_draws_nothing_twice(tuned, whole):
    num_drawn = 0
    for stop_after in (16, 64):  # among the first of the search, and on fresh seeds
        error, more = tuned("--resume", stop_after=stop_after, code=130)
        assert "the same command with --resume goes on" in error
        num_drawn += more
    found, more = tuned("--resume")
    assert (found, num_drawn + more) == (result_of(whole), DRAWN)
    for name in ("result.json", "preset.yaml"):
        assert Path("tuned", name).read_bytes() == (whole / name).read_bytes()


def test_another_metric_and_a_damaged_file_cost_only_what_is_missing(again, whole):
    assert again("--resume") == (result_of(whole), 0)
    found, num_drawn = again("--metric", "kid", "--resume")
    assert num_drawn == 0 and found["metric"] == "kid" and found["differences"] == "as independent"
    file = next(Path("tuned/features").iterdir())
    file.write_bytes(file.read_bytes()[:-50])
    for part in (file, Path("tuned/result.json")):
        part.with_name(f".{part.name}.99999999.tmp").touch()  # of a process that was killed
    assert again("--images", 48, "--resume")[1] == 2 * 2 * 16 + 16


def test_what_other_settings_drew_is_not_gone_on_with(again):
    assert "tuned holds a search already; --resume goes on with it" in again(code=2)[0]
    assert "--resume: tuned was begun with seed = 0, now it is 1" in again("--seed", 1, "--resume", code=2)[0]
    again("--seed", 1, "--overwrite", stop_after=0, code=130)
    assert [path.name for path in Path("tuned").iterdir()] == ["request.json"]


def test_two_processes_draw_what_one_draws_and_each_image_once(tuned, whole, monkeypatch):
    shared, deal = ([], []), tune.Drawn.draw

    def draw_as_two(self, candidates, count, seed):
        self.folder.mkdir(parents=True, exist_ok=True)
        with monkeypatch.context() as patch:
            dealt = []  # by process 0, to both
            patch.setattr(tune, "gather", lambda missing: dealt.append(missing) or dealt[:1])
            patch.setattr(tune, "world_size", lambda: 2)
            for number, drawn in enumerate(shared):
                patch.setattr(tune, "rank", lambda number=number: number)
                before = set(self.folder.iterdir())
                deal(self, candidates, count, seed)
                drawn += set(self.folder.iterdir()) - before

    monkeypatch.setattr(tune.Drawn, "draw", draw_as_two)
    assert tuned()[1] == DRAWN
    assert len(shared[0]) == len(shared[1]) == DRAWN // 16 // 2
    for file in (whole / "features").iterdir():
        assert file.read_bytes() == Path("tuned/features", file.name).read_bytes()


def test_the_table_names_the_choice_and_its_preset(restok, tiny_models, reference, tmp_path):
    folder = tmp_path / "new" / "tuned"
    models = ("tune", tiny_models / "har", "--tokenizer", tiny_models / "tokenizer", "--reference", reference)
    options = ("--features", "random", "--metric", "precision", "--first", 8, "--images", 8)
    result = restok(*models, *options, "--try", "temperature=0.5,1", "-o", folder)
    assert result.code == 0, result.err
    assert re.search(r"best of +2 +precision-8 \(random\) +\S+ +cfg_scale=1", result.out)
    assert re.search(r"^  precision-8 .* IS-8 .* behind the best$", result.out, re.MULTILINE)
    assert re.search(r"^  [\d.]+ .* cfg_scale=1 .* chosen", result.out, re.MULTILINE)
    assert result.out.splitlines()[-1] == str(folder / "preset.yaml")


@pytest.mark.parametrize("in_pairs", [True, False])
def test_a_table_whose_differences_are_too_wide_says_so(in_pairs):
    mild, strong = SamplingOptions(), SamplingOptions(cfg_scale=2.0)
    measured = {options: {"kid": Measurement("kid", 1.0, 40)} for options in (mild, strong)}
    conclusion = Conclusion(mild, mild, {strong: Gap(0.5, 0.1)})
    result = Tuning("kid", [measured], measured, mild, mild, conclusion, in_pairs, {"seed": 0, "fresh_seed": 1})
    assert ("as those of independent images, which is too wide" in tuning_table(result)[-2]) != in_pairs


def test_the_trade_is_plotted(tuned):
    pytest.importorskip("matplotlib")
    tuned("--plot", "trade.png", "--images", 16)
    assert Path("trade.png").read_bytes().startswith(b"\x89PNG")


# --- presets -------------------------------------------------------------------------------------------------------


def test_the_preset_that_was_found_draws_as_its_options_do(tuned, restok, tiny_models):
    found, _ = tuned("--try", "cfg_schedule=step", "--try", "cfg_start=0.5", "--images", 16)
    preset = found["preset"]
    words = [word for name, value in preset.items() for word in (f"--{name.replace('_', '-')}", value)]
    generate = ("generate", "--model", tiny_models / "har", "--count", 1)
    assert restok(*generate, "--preset", "tuned/preset.yaml", "-o", "a").code == 0
    assert restok(*generate, *words, "-o", "b").code == 0
    for name in ("request.json", "manifest.jsonl", "000000.png"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()


def test_explicit_options_win_over_a_file(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("cfg_scale: 2\ncfg_schedule: step\ncfg_start: 0.5\ntop_k: 3\n")
    assert sampling_options({}, file) == SamplingOptions(2.0, "step", 0.5, top_k=3)
    assert sampling_options({"cfg_scale": 3.0, "cfg_start": 0.1}, str(file)) == SamplingOptions(
        3.0, "step", 0.1, top_k=3
    )
    assert sampling_options({"cfg_schedule": "constant"}, file)[:2] == (2.0, "constant")
    for name in PRESETS:
        options = sampling_options({}, name)
        file.write_text("".join(f"{key}: {value}\n" for key, value in stated(options).items()))
        assert sampling_options({}, file) == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cfg_scale: two", "p.yaml:1: cfg_scale two: give a finite number"),
        ("temperature: 1\nseed: 2", "p.yaml:2: seed: no such option of sampling"),
        ("top_p: .nan", "p.yaml:1: top_p nan: give a finite number"),
        ("cfg_start: 0.5", "p.yaml: --cfg-start changes nothing in a constant schedule"),
        ("cfg_schedule: [step]", "p.yaml:1: cfg_schedule ['step']: no such schedule"),
        ("- 1", "p.yaml holds no config"),
        (None, "--preset p.yaml: no such preset, nor a file; take one of paper, sample, or a file"),
    ],
)
def test_a_wrong_preset_is_one_line(fails, tiny_models, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("p.yaml").write_text(text)
    assert message in fails(2, "generate", "--model", tiny_models / "har", "--preset", "p.yaml", "-o", "out")
    assert not Path("out").exists()
