"""How fast training images are made: the transform against the same crop by Pillow, and looking samples up.

    python tests/benchmarks/loading_images.py

On JPEG files of 500×375, in one thread; about half a minute. Both ways take turns, the fastest of five rounds counts.
Times are those of the processor, so that what else the machine does counts less.
"""

import json
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from restok_cli.data.image_files import read_image
from restok_cli.data.loading.batching import Deal, micro_batches
from restok_cli.data.loading.transforms import Transform, random_crop, random_resized_crop
from restok_cli.data.shards.dataset import open_dataset
from restok_cli.data.shards.layout import INDEX_DTYPE

NUM_IMAGES, ROUNDS, SIZE = 40, 5, (256, 256)
SHARDS, SAMPLES_PER_SHARD, LOOK_UPS = 320, 4000, 200_000


def make_jpeg(seed: int) -> bytes:
    """About 80 kB, the size of those in ImageNet: smooth shapes, and the noise of a camera."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
    pixels = np.asarray(shapes).astype(int) + rng.integers(-14, 15, (375, 500, 3))
    file = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def by_pillow(transform: Transform, picture: bytes, sample: int) -> torch.Tensor:
    """The same crop of the same image, decoded and resized by Pillow."""
    rng = np.random.Generator(np.random.Philox(key=[transform.seed, 0], counter=[0, 0, 0, sample + 1]))
    image = read_image(picture, "image")
    if transform.crop == "random":
        pixels = random_crop(image, SIZE, transform.random_zoom, rng)
    else:
        pixels = random_resized_crop(image, SIZE, transform.random_crop_area, rng)
    return pixels.flip(2) if rng.random() < 0.5 else pixels


def time_transforms() -> None:
    pictures = [make_jpeg(seed) for seed in range(NUM_IMAGES)]
    for crop in ("random", "random-resized"):
        transform = Transform(0, SIZE, crop, (1.0, 1.25), (0.8, 1.0), True)
        ways = {
            "restok": lambda picture, sample, transform=transform: transform(picture, "image", 0, sample),
            "Pillow": lambda picture, sample, transform=transform: by_pillow(transform, picture, sample),
        }
        assert max((ways["restok"](p, i).int() - ways["Pillow"](p, i)).abs().max() for i, p in enumerate(pictures)) <= 8
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(ROUNDS):
            for way, make in ways.items():
                start = time.process_time()
                for sample, picture in enumerate(pictures):
                    make(picture, sample)
                best[way] = min(best[way], (time.process_time() - start) / NUM_IMAGES)
        times = ", ".join(f"{way} {1000 * seconds:.2f} ms" for way, seconds in best.items())
        print(f"{crop}: {times} an image, {best['Pillow'] / best['restok']:.2f} times as fast")


def time_look_ups() -> None:
    """In the order of training, in a set of 1.28 million samples."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, infos = Path(temporary), []
        index = np.zeros(SAMPLES_PER_SHARD, INDEX_DTYPE)
        for i in range(SHARDS):
            np.save(folder / f"train-{i:06d}.npy", index)
            (folder / f"train-{i:06d}.tar").touch()
            infos.append({"file": f"train-{i:06d}.tar", "num_samples": SAMPLES_PER_SHARD, "bytes": 0, "sha256": ""})
        split = {"num_samples": SHARDS * SAMPLES_PER_SHARD, "shards": infos}
        about = {"name": "synthetic", "class_names": ["one"], "image_size": None, "provenance": {}, "fingerprint": ""}
        (folder / "dataset.json").write_text(json.dumps(about | {"splits": {"train": split}}))
        samples = open_dataset(folder).split("train")
        start = time.process_time()
        visits = next(micro_batches(len(samples), Deal(LOOK_UPS, 0)))
        shuffled = time.process_time()
        for _, sample in visits:
            samples.class_id(sample)
        looked_up = time.process_time()
        for _, sample in visits:
            samples.read(sample)  # of no bytes: what is left is finding the place and opening the shard
        read = time.process_time()
    print(f"looking up: {LOOK_UPS / (looked_up - start):,.0f} samples a second, of which")
    print(f"  the shuffle of the epoch took {shuffled - start:.2f} s of {looked_up - start:.2f} s")
    print(f"finding and opening: {LOOK_UPS / (read - looked_up):,.0f} samples a second")


if __name__ == "__main__":
    torch.set_num_threads(1)
    time_transforms()
    time_look_ups()
