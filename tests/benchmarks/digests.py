"""What digests cost generate, evaluate with a cache, prepare and the loading of a model, in per cent.

    python tests/benchmarks/digests.py

Each runs with digests and without, in turn; without them means that what computes, lists and compares them does
nothing. What is printed is the ratio of processor time of the fastest runs, and the quartiles of that of neighbouring
runs, which say how much of it is noise. It takes some minutes on two cores.
"""

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from restok_cli.cli import run
from restok_cli.data.image_folders import IMAGE_MANIFEST, manifest_line
from restok_cli.files import file_crc32
from restok_cli.machine import round_alike
from restok_cli.metrics.cache import FeatureCache
from restok_cli.metrics.image_sources import open_images
from restok_cli.metrics.measure import Instruments, feature_sums
from restok_cli.metrics.networks.features import Features
from restok_cli.model.config import HarConfig
from restok_cli.model.har import Har
from restok_cli.pretrained.folder import open_har
from restok_cli.pretrained.modules import load_for_use, save_har

ROUNDS = 10
COUNT = 48  # images that are drawn
NUM_IMAGES, SIZE = 1024, 256  # that are measured and prepared
CONSTANT = "00000000"


class Cached:
    """As wide as Inception, whose features are in the cache all the same."""

    name, weights_sha256, resize, num_classes = "wide", "0", "none", 0
    dimensions, spatial_dimensions, published = 2048, 2023, False
    device = torch.device("cpu")

    def __call__(self, images: torch.Tensor) -> Features:
        return Features(torch.rand(len(images), self.dimensions), torch.rand(len(images), self.spatial_dimensions))


def all_or_none(folder: Path) -> tuple[dict[int, str], int]:
    """The parts that are there, before and after the work."""
    return {i: CONSTANT for i in range(COUNT) if any(folder.glob("*.png"))}, 0


@contextmanager
def no_digests():
    """Inside the block, files are written and read as if nobody had thought of digests."""
    with ExitStack() as stack:
        for target, stand_in in (
            ("restok_cli.inference.parts.Parts.write", lambda parts, *written: parts._put(*written)),
            ("restok_cli.inference.outputs.listed", all_or_none),
            ("restok_cli.data.image_folders.sealed", lambda fields: fields),
            ("restok_cli.files.is_sealed", lambda _: True),
            ("restok_cli.data.code_files.sealed", lambda fields: fields),
            ("restok_cli.data.sources.listing.check_image", lambda data, *_: data),
            ("restok_cli.data.sources.folders.known_digests", lambda _: {}),
            ("restok_cli.metrics.image_sources.check_image", lambda data, *_: data),
            ("restok_cli.metrics.cache._crc32", lambda path, array: array[-8:]),  # costs as little as it can
            ("restok_cli.pretrained.folder.check_file", lambda _: None),
            ("restok_cli.pretrained.modules.check_file", lambda _: None),
        ):
            stack.enter_context(patch(target, stand_in))
        yield


def compare(what: str, work: Callable[[], None]) -> None:
    work()  # what is set up once
    times = []
    for number in range(ROUNDS):
        taken = {}
        for condition in (nullcontext, no_digests)[:: 1 if number % 2 else -1]:
            with condition():
                start = processor_time()
                work()
                taken[condition] = processor_time() - start
        times.append([taken[nullcontext], taken[no_digests]])
    fastest = np.min(times, axis=0)
    low, high = np.percentile(np.divide(*np.transpose(times)), [25, 75])
    print(
        f"{what}: {100 * (fastest[0] / fastest[1] - 1):+.1f} % of {fastest[1]:.2f} s"
        f" (neighbouring runs: {100 * (low - 1):+.1f} to {100 * (high - 1):+.1f} %)",
        flush=True,
    )


def processor_time() -> float:
    """Of this process and of those that it waited for."""
    usages = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def restok(*arguments: object) -> None:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        if code := run([str(argument) for argument in arguments]):
            sys.exit(f"restok {arguments} ended with {code}")


def write_pictures(folder: Path) -> None:
    """As `reconstruct` does: smooth colours with some noise."""
    rng, lines = np.random.default_rng(0), []
    folder.mkdir()
    for i in range(NUM_IMAGES):
        colours = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).resize((SIZE, SIZE))
        pixels = np.asarray(colours) + rng.normal(0, 4, (SIZE, SIZE, 3))
        file = folder / f"{i:06d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
        lines.append(manifest_line(file.name, file_crc32(file), {"num_codes": 128, "psnr": 20.5}))
    (folder / IMAGE_MANIFEST).write_text("".join(lines))


def main() -> None:
    round_alike()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = folder / "pictures"
        write_pictures(pictures)
        options = ("generate", "--count", COUNT, "--overwrite")
        compare("generate", lambda: restok(*options, "-o", folder / "drawn"))
        compare("generate --codes", lambda: restok(*options, "--codes", "-o", folder / "codes.jsonl"))

        network = Cached()
        instruments = Instruments([FeatureCache(folder / "cache", network)], network.device, 64)

        def evaluate() -> None:
            with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
                feature_sums(open_images(str(pictures), "all"), ["fid"], instruments)

        def prepare() -> None:
            shutil.rmtree(folder / "data", ignore_errors=True)
            restok("prepare", "folder", pictures, folder / "data", "--jobs", 1)

        compare("evaluate with a cache", evaluate)
        compare("prepare folder, of images that restok wrote", prepare)
        (pictures / IMAGE_MANIFEST).unlink()
        compare("prepare folder, of other images", prepare)

        sizes = {"codebook_size": 4096, "num_codes": 128, "num_classes": 1000}
        har = Har(HarConfig(**sizes, width=768, num_layers=12, num_heads=12))
        save_har(har, None, [str(i) for i in range(1000)], folder / "har")
        size = (folder / "har" / "model.safetensors").stat().st_size / 1e6
        compare(f"loading {size:.0f} MB of weights", lambda: load_for_use(open_har(folder / "har"), network.device))


if __name__ == "__main__":
    main()
