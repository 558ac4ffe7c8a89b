"""`restok evaluate` of several SAMPLES, and `--runs`."""

import json
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from scipy import stats

from restok_cli.data.images import save_image


def draw(seed, count=6, size=12):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=rng)


def write_npz(path, images):
    np.savez(path, images.permute(0, 2, 3, 1).numpy())
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with three runs and a reference."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        write_npz(folder / f"{seed}.npz", draw(seed))
    for number, image in enumerate(draw(9)):
        save_image(image, folder / "reference" / f"{number}.png")
    return folder


WORDS = ("--metric", "gfid", "--metric", "psnr", "--features", "random", "--reference", "reference", "--json")


@pytest.fixture(scope="module")
def results(inputs):
    """Files with the result of each run."""
    from restok_cli.cli import run

    files = []
    for seed in range(3):
        ...
