"""How fast `restok prepare folder` is, as ratios to a plain copy and to a converter that re-encodes each image.

    python tests/benchmarks/preparing.py [FOLDER]

Makes 9,000 JPEG files of 500 x 375 pixels in a temporary folder below FOLDER (default: the system's), then copies and
prepares them, in turn and several times; each ratio is of the fastest runs. The converter gets 300 of them, once.
The copy is shutil.copytree, one file after the other, all bytes copied by the kernel. What is written has reached the
disk when the clock stops: os.sync() ends the copy, and prepare itself syncs its shards. The files are read from memory,
so that the disk does not hide what preparing costs. It needs 5 GB: the copies are kept until the end, since ext4 passes
over the places of files that were deleted less than half a minute ago, one by one, which makes new files twice as slow.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from webdataset import ShardWriter

from restok_cli.__main__ import keep_memory
from restok_cli.data.sources.folders import walk_folder
from restok_cli.data.sources.intake import Rules
from restok_cli.data.sources.preparation import Plan, prepare_dataset
from restok_cli.machine import available_cores

NUM_IMAGES, NUM_CONVERTED, WIDTH, HEIGHT = 9000, 300, 500, 375
ROUNDS = 4


def write_pictures(folder: Path) -> None:
    """Smooth colours with a little noise: about as many bytes as a photo has."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(NUM_CONVERTED):
        colours = Image.fromarray(rng.integers(0, 256, (47, 63, 3), np.uint8)).resize((WIDTH, HEIGHT))
        pixels = np.asarray(colours) + rng.normal(0, 8, (HEIGHT, WIDTH, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.jpg", quality=92)
        for copy_number in range(i + NUM_CONVERTED, NUM_IMAGES, NUM_CONVERTED):
            shutil.copy(folder / f"{i}.jpg", folder / f"{copy_number}.jpg")


def prepare(pictures: Path, out: Path, jobs: int) -> None:
    sources = walk_folder(pictures, 0)
    shard = -(-NUM_IMAGES // jobs)
    prepare_dataset(Plan("pictures", "pictures", sources, Rules(), shard), out, jobs, overwrite=False)


def copy(pictures: Path, out: Path) -> None:
    shutil.copytree(pictures, out)
    os.sync()


def convert(pictures: Path, out: Path) -> None:
    """As the released code does it: decode each image, encode it again as JPEG of quality 100."""
    out.mkdir()
    with ShardWriter(str(out / "%06d.tar"), maxcount=NUM_IMAGES, verbose=0) as writer:
        for i, path in enumerate(sorted(pictures.iterdir())[:NUM_CONVERTED]):
            file = BytesIO()
            Image.open(path).convert("RGB").save(file, "JPEG", quality=100)
            writer.write({"__key__": str(i), "jpg": file.getvalue(), "cls": b"0"})
    os.sync()


def seconds(work: Callable[[Path], None], out: Path) -> float:
    os.sync()
    start = time.perf_counter()
    work(out)
    return time.perf_counter() - start


def main(where: str | None) -> None:
    keep_memory()  # as every restok command does first
    with tempfile.TemporaryDirectory(dir=where) as temporary:
        folder, pictures = Path(temporary), Path(temporary) / "pictures"
        write_pictures(pictures)
        jobs = available_cores()
        works = {
            "copy": lambda out: copy(pictures, out),
            "prepare, 1 job": lambda out: prepare(pictures, out, 1),
            f"prepare, {jobs} jobs": lambda out: prepare(pictures, out, jobs),
        }
        best = dict.fromkeys(works, float("inf"))
        for i in range(ROUNDS):
            for name, work in works.items():
                out = folder / f"{name} {i}"
                best[name] = min(best[name], seconds(work, out))
                if name != "copy":
                    shutil.rmtree(out)
        converting = seconds(lambda out: convert(pictures, out), folder / "converted")
        best["convert"] = converting * NUM_IMAGES / NUM_CONVERTED
    for name, taken in best.items():
        print(f"{name}: {NUM_IMAGES / taken:.0f} pictures/s, {best['copy'] / taken:.2f} of the copy's speed,", end=" ")
        print(f"{best['convert'] / taken:.1f} times the converter's")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
