"""How fast `evaluate` is beside torch-fidelity: the algebra of FID, and Inception's features. Ratios within one run.

    python tests/benchmarks/measuring.py [neighbours]

Works with random features and random weights of full size, on the CPU with all its cores; takes some minutes, most of
which is torch-fidelity's. Let nothing else run. With the word: time and memory of precision and recall alone, at the
size of papers, which takes some minutes more.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.utils import create_feature_extractor, get_featuresdict_from_dataset

from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.formulas.frechet import Gaussian, GaussianStatistics, frechet_distance
from restok_cli.metrics.formulas.neighbours import precision_recall
from restok_cli.metrics.image_sets import GROUP_SIZE
from restok_cli.metrics.image_sources import open_images
from restok_cli.metrics.measure import Instruments, feature_sums
from restok_cli.metrics.networks.inception import Inception, load_inception
from restok_cli.planning.highest import begin, rise
from restok_cli.planning.rates import seconds

DIMENSIONS, NUM_FEATURES = 2048, 5000
NUM_IMAGES, SIZE, BATCH_SIZE = 48, 256, 16
CPU = torch.device("cpu")
NUM_SAMPLES, NUM_REFERENCE = 50_000, 10_000  # of precision and recall, as with ADM's reference batches


def draw_features(seed: int, number: int) -> Tensor:
    """Like those of Inception, never negative; correlated ones cost torch-fidelity less."""
    return torch.randn(number, DIMENSIONS, generator=torch.Generator().manual_seed(seed)).abs() ** 1.5


def fit(features: Tensor) -> Gaussian:
    """As `evaluate` does, with as many features at a time."""
    statistics = GaussianStatistics(DIMENSIONS)
    for group in features.split(GROUP_SIZE):
        statistics.add(group)
    return statistics.gaussian()


def compare_algebra() -> None:
    """Of two sets of features, and of their statistics alone; medians, both in turn, since processors change pace."""
    features = [draw_features(seed, NUM_FEATURES) for seed in (1, 2)]
    gaussians = [fit(each) for each in features]
    theirs = [fid_features_to_statistics(each) for each in features]
    distance = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    works = [
        lambda: [fit(each) for each in features],
        lambda: [fid_features_to_statistics(each) for each in features],
        lambda: frechet_distance(*gaussians),
        lambda: fid_statistics_to_metric(*theirs, verbose=False),
    ]
    fitting, other_fitting, ours, other = np.median(
        [[seconds(work, CPU, 1, 0)[0] for work in works] for _ in range(5)], axis=0
    )
    print(
        f"algebra of FID at {DIMENSIONS}: {ours:.2f} s, torch-fidelity {other:.2f} s: {other / ours:.1f} times as fast;"
        f" with the statistics of 2 x {NUM_FEATURES} features {fitting + ours:.2f} s, torch-fidelity"
        f" {other_fitting + other:.2f} s: {(other_fitting + other) / (fitting + ours):.1f} times as fast"
    )
    print(f"  relative difference of the distances: {abs(frechet_distance(*gaussians) / distance - 1):.1e}")


class Images(Dataset):
    """What torch-fidelity reads."""

    def __init__(self, path: Path):
        self.images = np.load(path)["arr_0"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.images[index]).permute(2, 0, 1)


def compare_features(folder: Path) -> None:
    """Of images in an .npz, so that neither decodes any; torch-fidelity with its loader and no cache."""
    images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, SIZE, SIZE, 3), np.uint8)
    np.savez(folder / "images.npz", images)
    torch.save(Inception().state_dict(), folder / "inception.pth")
    network = load_inception(folder / "inception.pth")
    instruments = Instruments([FeatureCache(None, network)], torch.device("cpu"), BATCH_SIZE)
    extractor = create_feature_extractor(
        *("inception-v3-compat", ["2048"]),
        cuda=False,
        feature_extractor_weights_path=str(folder / "inception.pth"),
        verbose=False,
    )
    dataset = Images(folder / "images.npz")

    def ours() -> None:
        feature_sums(open_images(str(folder / "images.npz"), "all"), ["sfid"], instruments)

    def theirs() -> None:
        get_featuresdict_from_dataset(dataset, extractor, BATCH_SIZE, False, True, False)

    rates = [NUM_IMAGES / min(seconds(work, CPU, 2)) for work in (ours, theirs)]
    print(
        f"Inception features, sFID's too: {rates[0]:.2f} pictures/s, torch-fidelity {rates[1]:.2f}:"
        f" {rates[0] / rates[1]:.2f} times as fast"
    )


def measure_neighbours() -> None:
    samples, reference = draw_features(1, NUM_SAMPLES), draw_features(2, NUM_REFERENCE)
    precision_recall(samples[:10], reference[:10])  # what libraries set up once is no part of it
    before, start, busy = begin(CPU), time.perf_counter(), time.process_time()  # drawing took more
    found = precision_recall(samples, reference)
    taken, busy = time.perf_counter() - start, time.process_time() - busy
    higher, size = rise(before, CPU) or 0, samples.nbytes + reference.nbytes
    print(
        f"precision and recall of {NUM_SAMPLES:,} against {NUM_REFERENCE:,} of {DIMENSIONS} features: {taken:.0f} s,"
        f" {busy:.0f} s of processor time, {higher / 1e6:.0f} MB above the {size / 1e6:.0f} MB of the"
        f" features ({found.precision.value:.3f}, {found.recall.value:.3f})"
    )


def main() -> None:
    print(f"{torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        compare_features(Path(folder))
    compare_algebra()


if __name__ == "__main__":
    measure_neighbours() if sys.argv[1:] == ["neighbours"] else main()
