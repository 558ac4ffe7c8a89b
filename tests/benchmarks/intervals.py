"""What intervals cost: those of FID-n and FID∞ beside one Fréchet distance from features. Ratios within one run.

    python tests/benchmarks/intervals.py [IMAGES [DIMENSIONS]]

Of random features, by default as many as papers have of Inception's, against statistics and against as many images. A
distance is its statistics and the algebra; the intervals take that in. On two cores it takes some minutes.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from restok_cli.metrics.formulas.frechet import Gaussian, GaussianStatistics, frechet_distance
from restok_cli.metrics.formulas.frechet_intervals import Cloud, FrechetDistance
from restok_cli.metrics.kept import KeptRows
from restok_cli.planning.highest import begin, rise

IMAGES, DIMENSIONS, REPEATS = 50_000, 2048, 2
AT_ONCE = 512
CPU = torch.device("cpu")
BAR = 12  # times the distance


def keep(folder: Path, seed: int, number: int, dimensions: int) -> KeptRows:
    """Features like those of Inception, never negative, in a file where they are many."""
    rng = torch.Generator().manual_seed(seed)
    kept, mixing = KeptRows(dimensions, folder), torch.randn(dimensions, dimensions, generator=rng) / dimensions**0.5
    for _ in range(0, number, AT_ONCE):
        kept.add((torch.randn(AT_ONCE, dimensions, generator=rng) @ mixing + 0.1 * seed).relu_())
    return kept


def fit(kept: KeptRows) -> Gaussian:
    statistics = GaussianStatistics(kept.width)
    for rows in kept.rows().split(AT_ONCE):
        statistics.add(rows)
    return statistics.gaussian()


def cloud(kept: KeptRows) -> Cloud:
    return Cloud(fit(kept), kept.rows(), np.arange(kept.count))


def main() -> None:
    images, dimensions = (*map(int, sys.argv[1:]), *(IMAGES, DIMENSIONS)[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # where features lie on a disk, not in memory
        ours, theirs = (keep(Path(folder), seed, images, dimensions) for seed in (1, 2))
        statistics = Cloud(fit(theirs), None, np.empty(0, int))
        before = begin(CPU)
        works = {
            "a distance": lambda: frechet_distance(fit(ours), statistics.gaussian),
            "with intervals, against statistics": lambda: FrechetDistance(cloud(ours), statistics, False).infinite(),
            "a distance of two sets": lambda: frechet_distance(fit(ours), fit(theirs)),
            "with intervals, against images": lambda: FrechetDistance(cloud(ours), cloud(theirs), False).infinite(),
        }
        times = dict.fromkeys(works, float("inf"))
        for _ in range(REPEATS):  # in turn, so that a busy machine is unfair to none
            for name, work in works.items():
                start = time.process_time()
                work()
                times[name] = min(times[name], time.process_time() - start)
        mapped = sum(kept.count * kept.width * 4 for kept in (ours, theirs) if kept.file)
    once = list(times.values())
    for name, seconds in times.items():
        print(f"{name}: {seconds:.2f} s of processor time")
    for plain, whole in (once[:2], once[2:]):
        print(f"{whole / plain:.1f} times the distance; the bar is {BAR}")
    higher = (rise(before, CPU) or 0) / 1e6
    print(f"at most {higher:.0f} MB more, of which up to {mapped / 1e6:.0f} MB are mapped features")


if __name__ == "__main__":
    main()
