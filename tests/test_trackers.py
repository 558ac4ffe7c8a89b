"""Trackers: what they are told, read back from what they wrote; and that none can end a run."""

import sys
import types
from importlib import metadata

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from restok_cli.errors import RestokError
from restok_cli.settings.training import HarRunConfig
from restok_cli.training.run_folder import trackers
from restok_cli.training.run_folder.run import RunFolder


def start(tmp_path, **options):
    track = options.pop("track", ["tensorboard"])
    options = {"resume": False, "overwrite": False} | options
    return RunFolder(tmp_path / "run", HarRunConfig(), track=track, **options)


def written(tmp_path) -> EventAccumulator:
    return EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()


def scalars(tmp_path, name):
    return [(event.step, event.value) for event in written(tmp_path).Scalars(name)]


def test_tensorboard_gets_numbers_previews_and_once_the_config(tmp_path):
    run = start(tmp_path)
    with run.logging():
        run.begin(0)
        run.log(5, {"loss": 0.5})
        run.log(10, {"loss": 0.25, "validation_loss": 3.0})
        run.preview_file(10).parent.mkdir()
        Image.new("RGB", (6, 4), (250, 0, 0)).save(run.preview_file(10))
        run.track_preview(10)
    assert scalars(tmp_path, "loss") == [(5, 0.5), (10, 0.25)]
    assert scalars(tmp_path, "validation_loss") == [(10, 3.0)]
    (picture,) = written(tmp_path).Images("preview")
    assert (picture.step, picture.width, picture.height) == (10, 6, 4)
    hparams = list((tmp_path / "run" / "tensorboard").glob("*/hparams.yml"))
    assert len(hparams) == 1 and "schedule.batch_size: 256" in hparams[0].read_text()


def test_a_resumed_run_hides_from_tensorboard_what_came_after_its_checkpoint(tmp_path):
    run = start(tmp_path)
    with run.logging():
        run.begin(0)
        for step in (5, 10):
            run.log(step, {"loss": float(step)})
            if step == 5:
                run.save(step, {"model": {"weight": torch.zeros(1)}})
    run = start(tmp_path, resume=True)
    with run.logging():
        run.begin(5)
        run.log(10, {"loss": 100.0})
    assert scalars(tmp_path, "loss") == [(5, 5.0), (10, 100.0)]
    assert len(list((tmp_path / "run" / "tensorboard").glob("*/hparams.yml"))) == 1


def test_what_a_tracker_prints_does_not_go_to_stdout(tmp_path, capsys):
    run = start(tmp_path)
    with run.logging():
        run.begin(0)
        run.trackers.running["tensorboard"].log = lambda *_arguments, **_options: print("hello")
        run.log(5, {"loss": 0.5})
    assert capsys.readouterr() == ("", "hello\n")


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tmp_path, capsys):
    run = start(tmp_path)
    with run.logging():
        run.begin(0)

        def fail(*_arguments, **_options):
            raise OSError("the server\nis gone")

        run.trackers.running["tensorboard"].log = fail
        run.log(5, {"loss": 0.5})
        run.log(10, {"loss": 0.25})
    said = "--track tensorboard failed (the server is gone) and is left out from here on\n"
    assert capsys.readouterr().err == said
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_tracker_that_cannot_start_is_an_error_before_the_first_step(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise ValueError("no room")

    monkeypatch.setattr(trackers, "_start", fail)
    with pytest.raises(RestokError, match=r"--track tensorboard cannot start \(no room\); leave it out"):
        start(tmp_path).begin(0)


@pytest.mark.parametrize("name", trackers.NAMES)
@pytest.mark.parametrize("command", ["train-tokenizer sample", "train-har sample --tokenizer nowhere"])
def test_a_tracker_without_its_package_is_refused_before_anything_is_written(
    fails, tmp_path, monkeypatch, name, command
):
    def version(asked):
        raise metadata.PackageNotFoundError(asked)

    monkeypatch.setattr(trackers, "version", version)
    line = fails(2, *command.split(), "-o", tmp_path / "run", "--track", name)
    assert line == f"restok: --track {name}: not installed here; pip install {name}"
    assert not (tmp_path / "run").exists()


def test_unknown_trackers_are_refused_with_the_nearest_one(fails, tmp_path):
    line = fails(2, "train-tokenizer", "sample", "-o", tmp_path / "run", "--track", "tensorbord")
    assert "--track tensorbord: no such tracker (did you mean tensorboard?); there are tensorboard, wandb" in line


def test_wandb_is_offline_unless_told_otherwise_and_one_run_over_resumes(tmp_path, monkeypatch):
    given = []

    class Recorder:
        def __init__(self, project, **options):
            given.append({"project": project} | options)

        def start(self):
            pass

    monkeypatch.setattr("accelerate.tracking.WandBTracker", Recorder)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    trackers._start("wandb", tmp_path, 0)
    monkeypatch.setenv("WANDB_MODE", "online")
    trackers._start("wandb", tmp_path, 5)
    assert [options["mode"] for options in given] == ["offline", "online"]
    assert given[0]["id"] == given[1]["id"] and given[0]["resume"] == "allow" and given[0]["dir"] == str(tmp_path)


def test_trackio_gets_the_config_numbers_and_its_own_end(tmp_path, monkeypatch):
    """By a stand-in that takes what trackio takes; the real one was tried by hand."""
    given = []

    class Stand(types.ModuleType):
        def init(self, project, name, resume):
            given.append((project, name, resume))
            return self

        def log(self, values, step):
            given.append((values, step))

        def finish(self):
            given.append("finished")

    class Config(dict):
        def update(self, values, allow_val_change):
            given.append(values["schedule.batch_size"])

    stand = Stand("trackio")
    stand.config = Config()
    monkeypatch.setitem(sys.modules, "trackio", stand)
    run = start(tmp_path, track=["trackio"])
    with run.logging():
        run.begin(0)
        run.log(5, {"loss": 0.5})
        run.track_preview(5)  # which it cannot show
    assert given == [("restok", "run", "never"), 256, ({"loss": 0.5}, 5), "finished"]
