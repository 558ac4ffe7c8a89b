"""Small runs without a model, for tests of their folders."""

import torch

from restok_cli.settings.training import HarRunConfig
from restok_cli.training.parallel import Parts
from restok_cli.training.run_folder.run import RunFolder


def config(**schedule):
    optimizer = {"schedule": "cosine", "warmup_steps": 10, "decay_steps": 20} | schedule.pop("optimizer", {})
    return HarRunConfig.parse({"schedule": {"max_steps": 100} | schedule, "optimizer": optimizer}, "test")


def start(tmp_path, run_config=None, **options):
    return RunFolder(tmp_path / "run", run_config or config(), **{"resume": False, "overwrite": False} | options)


def resumed(tmp_path, run_config=None):
    return start(tmp_path, run_config, resume=True)


def state_of(step):
    return {
        "model": {"weight": torch.full((3,), float(step)), "bias": torch.arange(2)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(step), "exp_avg": torch.ones(3)}},
            "param_groups": [{"lr": 0.1}],
        },
        "window": {"sums": {}, "count": 3},
        "data_fingerprint": "abc",
        "nothing": None,
    }


class Weights(Parts):
    """A state with two parts."""

    def __init__(self):
        self.parts = {"model": torch.nn.Linear(2, 2), "other": torch.nn.Linear(1, 1)}


def go_on(run, state=None, **sources):
    return run.resume(state or Weights(), torch.device("cpu"), {"data set": "abc"} | sources, None)
