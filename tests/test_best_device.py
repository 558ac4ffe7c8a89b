"""What --device auto takes here, a GPU where there is one, computes what the CPU computes, up to rounding.

All other tests run on the CPU (see conftest), where restok promises the same bytes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import write_pictures
from PIL import Image

# One process for all, since each imports torch anew. It does what a user does on either device.
ON_BOTH_DEVICES = """
import sys
from restok_cli.__main__ import round_alike

round_alike()
from restok_cli import cli

FEW_STEPS = "--preset tiny --max-steps 3 --skip-preflight --batch-size 4 --set schedule.log_every=1 -o"
assert cli.run(["prepare", "folder", "pictures", "data"]) == 0
for device in ("cpu", "auto"):
    for command in (
        f"train-tokenizer data {FEW_STEPS} {device}/tokenizer",
        f"train-har data --tokenizer cpu/tokenizer {FEW_STEPS} {device}/har",
        f"train-har data --tokenizer cpu/tokenizer --set compute.precision=bf16 {FEW_STEPS} {device}/bf16",
        f"encode pictures --model cpu/tokenizer -o {device}/codes.npz",
        f"decode cpu/codes.npz --model cpu/tokenizer -o {device}/decoded",
        f"generate --model cpu/har --tokenizer cpu/tokenizer --count 5 --codes -o {device}/drawn.npz",
        f"evaluate --make-reference cpu/decoded --features random -o {device}/reference.npz",
    ):
        if cli.run([*command.split(), "--device", device]) != 0:
            sys.exit(command)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With what each command made on the CPU and on the best device, in `cpu` and `auto`."""
    folder = tmp_path_factory.mktemp("devices")
    write_pictures(folder / "pictures", [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(20)], 32, 32)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = (sys.executable, "-c", ON_BOTH_DEVICES)
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in map(json.loads, (run / "metrics.jsonl").open()) if "loss" in line]


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as stored:
        return dict(stored)


@pytest.mark.parametrize(("run", "tolerance"), [("tokenizer", 1e-3), ("har", 1e-3), ("bf16", 1e-2)])
def test_trainings_have_the_same_losses(folder, run, tolerance):
    assert len(losses(folder / "auto" / run)) == 3
    assert losses(folder / "auto" / run) == pytest.approx(losses(folder / "cpu" / run), rel=tolerance)


@pytest.mark.parametrize("file", ["codes.npz", "drawn.npz"])
def test_codes_are_the_same_but_for_ties(folder, file):
    ours, theirs = (arrays(folder / device / file)["codes"] for device in ("auto", "cpu"))
    assert (ours == theirs).mean() > 0.99


def test_pictures_differ_by_rounding(folder):
    names = [file.relative_to(folder / "cpu") for file in (folder / "cpu" / "decoded").rglob("*.png")]
    assert len(names) == 40
    for name in names:
        ours, theirs = (np.asarray(Image.open(folder / device / name), int) for device in ("auto", "cpu"))
        assert abs(ours - theirs).max() <= 1


def test_statistics_of_features_are_the_same(folder):
    ours, theirs = (arrays(folder / device / "reference.npz") for device in ("auto", "cpu"))
    for name in ("mu", "sigma"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-6)
