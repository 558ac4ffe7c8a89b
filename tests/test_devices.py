"""Every device of this machine computes what its CPU computes, up to rounding.

All other tests run on the CPU (see conftest), where restok promises the same bytes. On a machine without a GPU, this
one sees only that the commands work with the device named.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import write_pictures
from PIL import Image

# One process for all, since each imports torch anew. It does what a user does on each device, and prints their names.
ON_EVERY_DEVICE = """
import sys
from restok_cli.machine import round_alike

round_alike()
import torch
from restok_cli import cli

FEW_STEPS = "--preset tiny --max-steps 3 --skip-preflight --batch-size 4 --set schedule.log_every=1 -o"
IN_BLOCKS = "--count 5 --batch-size 2 --cfg-scale 2 --codes --dtype float32"  # on a GPU recorded, but for the last
devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
assert cli.run(["prepare", "folder", "images", "data"]) == 0
for device in devices:
    for command in (
        f"train-tokenizer data {FEW_STEPS} {device}/tokenizer",
        f"train-har data --tokenizer cpu/tokenizer {FEW_STEPS} {device}/har",
        f"train-har data --tokenizer cpu/tokenizer --set compute.precision=bf16 {FEW_STEPS} {device}/bf16",
        f"encode images --model cpu/tokenizer --dtype float32 -o {device}/codes.npz",
        f"decode cpu/codes.npz --model cpu/tokenizer --dtype float32 -o {device}/decoded",
        f"encode images --model cpu/tokenizer -o {device}/auto.npz",
        f"decode cpu/codes.npz --model cpu/tokenizer -o {device}/auto",
        f"generate --model cpu/har --tokenizer cpu/tokenizer {IN_BLOCKS} -o {device}/drawn.npz",
        f"evaluate --make-reference cpu/decoded --features random -o {device}/reference.npz",
    ):
        if cli.run([*command.split(), "--device", device]) != 0:
            sys.exit(command)

# in shards, by Accelerate: on one process of nccl, or of gloo where there is no GPU, which has all of them
import os
from pathlib import Path
from unittest.mock import patch
from restok_cli import processes
from restok_cli.accelerator import Sharding, make_accelerator
from restok_cli.planning.configs import planned_config
from restok_cli.planning.steps import open_har_step
from restok_cli.training import har_loop

os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
last = torch.device("cuda", 0) if len(devices) > 1 else torch.device("cpu")
processes.joined.append(make_accelerator(last, Sharding("HarBlock", in_16_bits=True)))
for sharding in ("none", "fsdp"):
    words = [f"compute.sharding={sharding}", "compute.precision=bf16", "schedule.batch_size=4"]
    config = planned_config("har", "tiny", None, words)
    with patch.object(har_loop, "world_size", lambda: 2):  # else nothing is cut
        state, step = open_har_step(config, last, "balanced")
    assert processes.world_size() == 1 and har_loop.parallel.is_sharded(state.har) == (sharding == "fsdp")
    for _ in range(3):
        step()
    torch.save(state.state_dict(), f"{sharding}.pt")
torch.distributed.destroy_process_group()
print(*devices)
"""


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in map(json.loads, (run / "metrics.jsonl").open()) if "loss" in line]


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as stored:
        return dict(stored)


def test_every_device_computes_what_the_cpu_does(tmp_path):
    write_pictures(tmp_path / "images", [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(20)], 32, 32)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = (sys.executable, "-c", ON_EVERY_DEVICE)
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

    cpu = tmp_path / "cpu"
    decoded = [file.relative_to(cpu) for file in (cpu / "decoded").rglob("*.png")]
    assert len(decoded) == 40 and len(losses(cpu / "tokenizer")) == len(losses(cpu / "har")) == 3
    for device in result.stdout.splitlines()[-1].split():
        other = tmp_path / device
        for run, tolerance in (("tokenizer", 1e-3), ("har", 1e-3), ("bf16", 1e-2)):
            assert losses(other / run) == pytest.approx(losses(cpu / run), rel=tolerance)
        for file in ("codes.npz", "drawn.npz"):  # the same but for ties
            assert (arrays(other / file)["codes"] == arrays(cpu / file)["codes"]).mean() > 0.99
        for name in decoded:
            assert abs(np.asarray(Image.open(other / name), int) - np.asarray(Image.open(cpu / name))).max() <= 1
        # in the types of 16 bits that a GPU takes by itself
        assert (arrays(other / "auto.npz")["codes"] == arrays(cpu / "codes.npz")["codes"]).mean() > 0.7
        for name in decoded:
            change = np.asarray(Image.open(other / "auto" / name.relative_to("decoded")), int) - np.asarray(
                Image.open(cpu / name)
            )
            assert np.square(change).mean() < 2
        for name in ("mu", "sigma"):
            ours, theirs = (arrays(folder / "reference.npz")[name] for folder in (other, cpu))
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    whole, sharded = (torch.load(tmp_path / f"{sharding}.pt") for sharding in ("none", "fsdp"))
    (mean, _), (same, _) = (state["window"]["sums"]["loss"].tolist() for state in (whole, sharded))
    assert same == pytest.approx(mean, rel=1e-3)  # the sum over three steps
    shapes = [{name: weight.shape for name, weight in state["model"].items()} for state in (whole, sharded)]
    assert shapes[0] == shapes[1]
