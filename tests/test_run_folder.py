"""A run's folder: checkpoints that are whole or refused, and what is written where."""

import json
import resource
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from run_folders import Weights, config, go_on, resumed, start, state_of
from safetensors.torch import load_file

from restok_cli.commands.runs import RunOptions, carry_out
from restok_cli.console import note
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import DISK_FULL
from restok_cli.pretrained.modules import save_tokenizer
from restok_cli.settings.training import RUN_CONFIGS
from restok_cli.training.run_folder.checkpoints import read_checkpoint
from restok_cli.training.run_folder.launches import read_starts, record_start
from restok_cli.training.run_folder.run import RunFolder


def checkpoints(run):
    return sorted(path.name for path in run.checkpoint_folder.iterdir())


def test_a_checkpoint_holds_weights_as_safetensors_and_the_rest_as_it_was(tmp_path):
    run = start(tmp_path)
    assert run.load() is None
    run.save(7, state_of(7))
    folder = run.checkpoint_folder / "step-000007"
    names = ["checksums.json", "config.yaml", "model.safetensors", "state.pt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert torch.equal(load_file(folder / "model.safetensors")["weight"], torch.full((3,), 7.0))
    state = resumed(tmp_path).load()
    expected = state_of(7) | {"step": 7, "sources": {}}
    assert state.keys() == expected.keys()
    for name in ("step", "window", "data_fingerprint", "nothing"):
        assert state[name] == expected[name]
    assert all(torch.equal(state["model"][name], tensor) for name, tensor in expected["model"].items())
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg"], torch.ones(3))


def test_the_last_checkpoints_and_those_of_every_nth_step_are_kept(tmp_path):
    run = start(tmp_path, config(save_every=5, keep_every=10))
    for step in (5, 10, 15, 20, 25, 30, 33):
        run.save(step, state_of(step))
    assert checkpoints(run) == [f"step-{step:06d}" for step in (10, 20, 30, 33)]
    run = start(tmp_path, config(save_every=5, keep_checkpoints=1), resume=True)
    (run.checkpoint_folder / "step-000030-mine").mkdir()  # somebody's own copy
    for step in (999_995, 1_000_000):  # a number may outgrow its digits
        run.save(step, state_of(step))
    assert checkpoints(run) == ["step-000030-mine", "step-1000000"]


def cut_short(folder):
    file = folder / "state.pt"
    file.write_bytes(file.read_bytes()[:-7])
    return "state.pt has "


def flip_a_bit(folder):
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return "model.safetensors is not as it was written"


def tear(folder):
    (folder / "model.safetensors").unlink()
    return "model.safetensors is missing"


def lose_the_checksums(folder):
    (folder / "checksums.json").unlink()
    return "it lacks its checksums.json, or that is broken"


def break_the_checksums(folder):
    (folder / "checksums.json").write_text('{"state.pt": 3}')
    return "it lacks its checksums.json, or that is broken"


def empty_the_checksums(folder):
    (folder / "checksums.json").write_text("{}")
    return " is missing"


def put_a_foreign_one(folder):
    other = RunFolder(folder.parents[2] / "other", config(seed=5), resume=False, overwrite=True)
    other.save(20, state_of(20))
    shutil.rmtree(folder)
    shutil.copytree(other.checkpoint_folder / "step-000020", folder)
    return "is of another run: its schedule.seed is 5 and not 0"


DAMAGES = [cut_short, flip_a_bit, tear, lose_the_checksums, break_the_checksums, empty_the_checksums, put_a_foreign_one]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_and_that_is_said(tmp_path, capsys, damage):
    run = start(tmp_path)
    for step in (10, 20):
        run.log(step, {"loss": 1.0})
        run.save(step, state_of(step))
    reason = damage(run.checkpoint_folder / "step-000020")
    run = resumed(tmp_path)
    state = run.load()
    assert state["step"] == 10 and state["model"]["weight"][0] == 10
    run.begin(10)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert reason in said and "step-000020" in said and said.endswith("; trying the checkpoint before it\n")
    assert [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()] == [10]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_whose_checkpoints_are_all_damaged_is_refused(tmp_path, damage):
    run = start(tmp_path)
    run.save(20, state_of(20))
    reason = damage(run.checkpoint_folder / "step-000020")
    with pytest.raises(RestokError, match="holds no checkpoint that is whole") as error:
        resumed(tmp_path).load()
    assert reason in str(error.value) and "start anew with --overwrite" in str(error.value)


def test_a_damaged_checkpoint_goes_once_the_run_has_saved_again(tmp_path):
    run = start(tmp_path)
    for step in (10, 20):
        run.save(step, state_of(step))
    flip_a_bit(run.checkpoint_folder / "step-000020")
    run = resumed(tmp_path, config(keep_checkpoints=1))
    assert run.load()["step"] == 10
    run.save(15, state_of(15))
    assert checkpoints(run) == ["step-000015"]


@pytest.fixture
def full_disk():
    """Gives a block in which no file grows beyond 100,000 bytes, whose OSError must be of what is named."""

    @contextmanager
    def limited(path):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(OSError, match="too large") as failed:
                yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert failed.value.errno in DISK_FULL  # of which the last line says to make room
        assert failed.value.filename == str(path)

    return limited


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half_written(tmp_path, full_disk):
    run = start(tmp_path)
    run.save(1, {"model": {"weight": torch.zeros(10)}})
    for state in ({"model": {"weight": torch.zeros(1_000_000)}}, {"counts": torch.zeros(1_000_000)}):
        with full_disk(run.checkpoint_folder / "step-000002"):
            run.save(2, state)
    assert checkpoints(run) == ["step-000001"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "log.txt", "starts.jsonl"])
def test_a_full_disk_under_a_log_is_that_of_the_log(tmp_path, full_disk, name):
    run = start(tmp_path)
    file = run.path / name
    file.write_text("\n" * 100_000)
    with full_disk(file), run.logging():
        if name == "starts.jsonl":
            record_start(run.path, 0, torch.device("cpu"), "abc", None)
        run.log(1, {"loss": 1.0})


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    run = start(tmp_path)
    run.save(1, state_of(1))
    (run.checkpoint_folder / ".step-000002.99.tmp").mkdir()
    run = resumed(tmp_path)
    assert run.load()["step"] == 1 and checkpoints(run) == ["step-000001"]


def test_lines_logged_after_the_checkpoint_are_forgotten(tmp_path):
    run = start(tmp_path)
    run.log(9, {"loss": 9.0})
    run.save(9, state_of(9))
    run.log(10, {"loss": 0.0})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('no JSON\n{"step": 9')  # cut short by a kill
    resumed(tmp_path).begin(9)
    assert (run.path / "metrics.jsonl").read_text() == '{"step": 9, "loss": 9.0}\n'


def test_log_txt_keeps_numbers_messages_and_why_a_run_ended_with_the_time(tmp_path, capsys):
    run = start(tmp_path)
    with pytest.raises(RestokError), run.logging():
        run.begin(0)
        run.log(5, {"loss": 0.5, "learning_rate": 1e-4})
        note("something to know")
        raise RestokError("it stopped here")
    note("after the run")
    lines = (run.path / "log.txt").read_text().splitlines()
    assert all(line[:4].isdecimal() and line[19] == " " for line in lines)
    expected = ["starting", "step 5: loss 0.5 · learning_rate 0.0001", "something to know", "it stopped here"]
    assert [line[20:] for line in lines] == expected
    assert "something to know\n" in capsys.readouterr().err


def test_log_txt_keeps_which_lengths_were_rescaled(tmp_path, capsys):
    launch = RunOptions(tmp_path / "run", skip_preflight=True)
    said = "--max-steps: 100 steps of the preset's 200, so optimizer.warmup_steps 20 → 10"

    def train(config, run, stop_at):
        run.begin(0)
        return run.model_folder

    carry_out(train, config(micro_batch_size=256), launch, torch.device("cpu"), rescaling=said)
    lines = (tmp_path / "run/log.txt").read_text().splitlines()
    assert [line[20:] for line in lines] == [said, "starting"]
    assert capsys.readouterr().err.count(said) == 1


def test_a_folder_that_holds_a_run_is_refused_without_resume(tmp_path):
    run = start(tmp_path)
    told = "holds a run of 100 steps that stopped {}; --resume goes on with it, and another run needs another folder"
    with pytest.raises(UsageError, match=told.format("before its first checkpoint")):
        start(tmp_path)
    for step in (3, 7):
        run.save(step, state_of(step))
    with pytest.raises(UsageError, match=told.format("after step 7")) as error:
        start(tmp_path)
    assert "--overwrite" not in str(error.value)
    run.save(100, state_of(100))
    with pytest.raises(UsageError, match="holds a run that has done all its 100 steps; give another folder"):
        start(tmp_path)


@pytest.mark.parametrize("lack", [lambda state: state.pop("other"), lambda state: state["model"].pop("bias")])
def test_a_checkpoint_that_is_whole_but_lacks_a_part_is_refused_in_a_line(tmp_path, lack):
    saved = Weights().state_dict() | {"data_fingerprint": "abc"}  # as an older restok named it
    lack(saved)
    start(tmp_path).save(5, saved)
    with pytest.raises(RestokError, match=r"step 5 is not as this restok writes them .*(other|bias)") as error:
        go_on(resumed(tmp_path))
    assert "\n" not in str(error.value)


class Planted:
    """An object that, read as any pickle is, writes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("kind", ["no zip", "packed", "planted"])
def test_a_state_of_something_else_is_refused_and_does_nothing(tmp_path, kind):
    run = start(tmp_path)
    run.save(5, state_of(5))
    folder = run.checkpoint_folder / "step-000005"
    file, planted = folder / "state.pt", tmp_path / "planted"
    if kind == "no zip":
        file.write_bytes(b"no zip")
    elif kind == "planted":
        torch.save({"step": Planted(planted)}, file)
    else:
        with zipfile.ZipFile(file) as stored, zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in stored.namelist():
                packed.writestr(name, stored.read(name))
        shutil.move(tmp_path / "packed", file)
    with pytest.raises(RestokError, match=r"state\.pt cannot be read \(.*; delete its folder to resume from the one"):
        read_checkpoint(folder)
    assert not planted.exists()


def test_a_start_that_was_cut_short_takes_none_with_it(tmp_path):
    go_on(start(tmp_path))
    file = tmp_path / "run" / "starts.jsonl"
    file.write_text(file.read_text() + '{"step": 0, "ti')
    go_on(resumed(tmp_path))
    assert len(read_starts(tmp_path / "run")) == 2


def test_a_damaged_config_of_a_run_is_named(tmp_path):
    start(tmp_path)
    for text in ("just words", "a: ["):
        (tmp_path / "run" / "config.yaml").write_text(text)
        with pytest.raises(RestokError, match=r"config\.yaml.*; restore it, or start another run"):
            resumed(tmp_path)
    (tmp_path / "run" / "config.yaml").write_text("data: 3")
    with pytest.raises(UsageError, match=r"config\.yaml: data = 3"):
        resumed(tmp_path)


def test_overwriting_a_run_removes_what_could_be_taken_for_the_new_one(tmp_path):
    run = start(tmp_path)
    run.save(7, state_of(7))
    run.log(7, {"loss": 1.0})
    (run.path / "previews").mkdir()
    run.preview_file(7).touch()
    for folder in (run.model_folder, run.path / "tensorboard" / "123.4"):
        folder.mkdir(parents=True)
    (run.path / "tensorboard" / "123.4" / "hparams.yml").touch()
    run = start(tmp_path, overwrite=True)
    assert run.load() is None
    left = sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.name != "log.txt")
    assert left == ["checkpoints", "config.yaml", "previews"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_is_not_overwritten_by_a_run_for_which_it_would_be_taken(tmp_path, name):
    """By whoever then gives the run's folder as a model."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).touch()
    with pytest.raises(UsageError, match=f"run holds {name}, which this command did not make; give another folder"):
        start(tmp_path, overwrite=True)


def test_only_the_first_of_several_processes_writes(tmp_path, monkeypatch):
    start(tmp_path).log(1, {"loss": 1.0})
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv("RANK", "1")
    other = RunFolder(tmp_path / "run", config(), resume=False, overwrite=True)
    other.log(1, {"loss": 1.0})
    other.save(1, state_of(1))
    with other.logging():
        note("unheard")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_a_run_of_the_other_trainer_cannot_be_resumed(fails, tmp_path, kind):
    other = "har" if kind == "tokenizer" else "tokenizer"
    start(tmp_path, RUN_CONFIGS[other]())
    tokenizer = ["--tokenizer", "nowhere"] if kind == "har" else []
    line = fails(2, f"train-{kind}", "sample", *tokenizer, "-o", tmp_path / "run", "--resume")
    assert line == f"restok: --resume: {tmp_path / 'run'} is a run of train-{other}"


def test_the_first_weights_are_taken_until_there_is_a_checkpoint_to_go_on_from(
    restok, tmp_path, monkeypatch, tiny_tokenizer
):
    """A run that is killed before its first checkpoint must not go on from random weights."""
    given = []

    def train(_config, run, *, init, **_others):
        given.append(init is not None)
        return run.model_folder

    monkeypatch.setattr("restok_cli.training.tokenizer_loop.train_tokenizer", train)
    save_tokenizer(tiny_tokenizer, tmp_path / "first")
    command = ("train-tokenizer", "sample", "--preset", "tiny", "--init", tmp_path / "first", "--skip-preflight")
    command = (*command, "-o", tmp_path / "run")
    assert restok(*command).code == 0
    assert restok(*command, "--resume").code == 0
    (tmp_path / "run" / "checkpoints" / "step-000005").mkdir(parents=True)
    assert restok(*command, "--resume").code == 0
    assert given == [True, True, False]


@pytest.mark.slow
def test_a_run_that_stops_at_a_step_and_goes_on_is_the_same_run(restok, fails, tmp_path):
    train = ("train-tokenizer", "sample", "--preset", "tiny", "--max-steps", 12, "--skip-preflight", "--batch-size", 4)
    train += ("--set", "schedule.validation_images=8")
    assert restok(*train, "-o", tmp_path / "whole").code == 0
    parts = tmp_path / "parts"
    result = restok(*train, "-o", parts, "--stop-at", 7)  # between two log lines
    assert result.code == 0 and result.out == f"{parts}/model\n"
    on = "the same command with --resume, and without --stop-at or with a later one, goes on in"
    assert result.err.endswith(f"stopped after step 7 of 12; {on} {parts}\n")
    assert [path.name for path in (parts / "checkpoints").iterdir()] == ["step-000007"]
    assert (parts / "model" / "model.safetensors").exists()
    assert restok("train-tokenizer", "sample", "-o", parts, "--resume").code == 0  # the settings are those of the run
    both = [tmp_path / "whole", parts]
    for file in ("model/model.safetensors", "checkpoints/step-000012/model.safetensors", "config.yaml"):
        assert len({(run / file).read_bytes() for run in both}) == 1
    logs = [(run / "metrics.jsonl").read_text().splitlines() for run in both]
    rates = [[json.loads(line).get("learning_rate") for line in log] for log in logs]
    losses = [[json.loads(line).get("loss") for line in log] for log in logs]
    assert rates[0] == rates[1] and losses[0] == losses[1] and len(losses[0]) == 4
    assert "--stop-at 13: the run ends at schedule.max_steps = 12" in fails(2, *train, "-o", parts, "--stop-at", 13)
