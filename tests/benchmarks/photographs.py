"""Train the tokenizer `photo`: from the sample's weights, on free photographs and drawings beside the emoji.

    python tests/benchmarks/photographs.py WORK                        # as it ships: 50 minutes of one CPU core
    python tests/benchmarks/photographs.py WORK --max-steps 20000 --batch-size 128 --device cuda
    python tests/benchmarks/photographs.py WORK --evaluate MODEL ...   # only measures these models

Fetches Debian packages and two wheels (`apt-get download`: Debian 12, or a container of it), cuts crops of their
images, lays the sample's emoji beside them, trains with `restok train-tokenizer`, packs the model into WORK/photo and
measures it beside the sample. What folder WORK holds already is kept: the same command goes on where it was stopped,
the training exactly. Further options go to `restok train-tokenizer`. Crops depend on nothing but the packages, whose
licences are in restok_cli/assets/photo/NOTICE.

One tenth of the images, by name, is held out with all its crops; scikit-image's and scikit-learn's are never trained
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

PACKAGES = {  # crops of each image
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
    "scikit_image-0.26.0": (
        *("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    ),
    "scikit_learn-1.5.2": ("china.jpg", "flower.jpg"),
}
SIZE, TRAINING_SIZE = 64, 80  # training crops are larger, for random-resized ones
HELD_OUT_CROPS, UNSEEN_CROPS = 4, 36
SHEET_IMAGES = 6  # of each set
EMOJI_COPIES = 2  # about a quarter of the mixture
SETTINGS = {
    "data.crop": "random-resized",
    "data.random_crop_area": "[0.64, 1.0]",
    "optimizer.decay_steps": 1200,
    "optimizer.final_learning_rate": 2e-5,
    "schedule.max_steps": 2150,
    "schedule.batch_size": 16,
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
    for name in UNSEEN:
        if not (work / name).exists():
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", work]
            subprocess.run([*pip, name.replace("-", "==")], check=True)
            (wheel,) = work.glob(f"{name}-*.whl")
            zipfile.ZipFile(wheel).extractall(work / name)


def images_of(package: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each image of an unpacked package, the largest where it comes in sizes."""
    largest: dict[str, Path] = {}
    for path in sorted(package.rglob("*")):
        parts = path.relative_to(package).with_suffix("").parts
        if path.suffix == ".rcc":
            for number, webp in enumerate(_packed_photographs(path.read_bytes())):
                yield f"{path.stem}-{number}", webp
        elif path.suffix.lower() in SUFFIXES and path.is_file() and path.stem != "screenshot" and "doc" not in parts:
            # Plasma names files by their sizes alone
            name = parts[-4] + parts[-2] if parts[-2].startswith("images") else VARIANT.sub("", "/".join(parts))
            if name not in largest or path.stat().st_size > largest[name].stat().st_size:
                largest[name] = path
    for name, path in largest.items():
        yield name, path.read_bytes()


def _packed_photographs(resources: bytes) -> Iterator[bytes]:
    """The opaque WebP images, of 200 pixels or more, in a file of Qt's resources."""
    for match in re.finditer(rb"RIFF(....)WEBP", resources, re.DOTALL):
        webp = resources[match.start() : match.start() + 8 + struct.unpack("<I", match[1])[0]]
        image = Image.open(io.BytesIO(webp))
        if image.mode == "RGB" and min(image.size) >= 200:
            yield webp


def save_crops(name: str, file: bytes, count: int, size: int, folder: Path) -> None:
    """Write `count` squares of an image, of all scales, shrunk to `size`; the first is of its whole height or width."""
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
    """Write folders of PNG files: of the packages and the emoji, in two splits, and of each wheel's photographs."""
    from restok_cli.files import whole_folder

    with whole_folder(work / "crops") as out, ProcessPoolExecutor() as pool:
        train, val = (out / "packages" / split / "all" for split in ("train", "val"))
        jobs = []
        for folder in (train, val, *(out / name for name in UNSEEN)):
            folder.mkdir(parents=True)
        for package, count in PACKAGES.items():
            for name, file in images_of(work / package):
                held_out = crc32(name.encode()) % 10 == 0
                shape = (HELD_OUT_CROPS, SIZE, val) if held_out else (count, TRAINING_SIZE, train)
                jobs.append(pool.submit(save_crops, f"{package}/{name}", file, *shape))
        for wheel, names in UNSEEN.items():
            for path in sorted(path for path in (work / wheel).rglob("*") if path.name in names):
                jobs.append(pool.submit(save_crops, path.name, path.read_bytes(), UNSEEN_CROPS, SIZE, out / wheel))
        for job in jobs:
            job.result()
        _save_emoji(train)


def _save_emoji(folder: Path) -> None:
    from restok_cli.data.loading.loader import evaluation_batches
    from restok_cli.data.shards.dataset import open_dataset

    number = 0
    for batch in evaluation_batches(open_dataset("sample").split("train"), image_size=(SIZE, SIZE), batch_size=100):
        for image in batch.images:
            for copy in range(EMOJI_COPIES):
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"emoji-{number:04d}-{copy}.png")
            number += 1


def restok(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "restok_cli", *words], check=True)


def train(work: Path, options: list[str]) -> None:
    """Prepare the crops and train on them, or go on with that."""
    if not (work / "data" / "dataset.json").exists():
        restok("prepare", "folder", work / "crops" / "packages", work / "data")
    run = work / "run"
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    begin = ["--resume"] if run.exists() else ["--preset=sample", "--init=sample", *settings]
    restok("train-tokenizer", work / "data", "-o", run, *begin, *options)


def pack(model: Path, out: Path) -> None:
    """Write a model in 16 bits, and the matrices of its transformer blocks in 8: a hundredth of a decibel less."""
    import torch

    from restok_cli.pretrained.card import read_record, write_card
    from restok_cli.pretrained.folder import open_tokenizer
    from restok_cli.pretrained.modules import load_model, save_tokenizer

    folder = open_tokenizer(model)
    tokenizer = load_model(folder, torch.device("cpu")).half()
    for name, parameter in tokenizer.named_parameters():
        if ".blocks." in name and parameter.ndim == 2:
            parameter.data = parameter.data.to(torch.float8_e4m3fn)
    record = read_record(folder.path)
    save_tokenizer(tokenizer, out, lambda path: write_card(path, record=record))


def evaluate(work: Path, models: list[str]) -> None:
    """Print the mean PSNR of each model on each set; in WORK/sheet.png, lay what it gives back below some images."""
    import torch

    from restok_cli.data.images import make_grid, save_image, to_float, to_uint8
    from restok_cli.data.loading.loader import evaluation_batches
    from restok_cli.data.shards.dataset import open_dataset
    from restok_cli.files import parse_model
    from restok_cli.metrics.formulas.pixels import psnr
    from restok_cli.pretrained.folder import open_tokenizer
    from restok_cli.pretrained.modules import load_for_use

    sets = {"emoji": open_dataset("sample").held_out, "held-out crops": open_dataset(work / "data").held_out}
    images = {
        name: torch.cat([batch.images for batch in evaluation_batches(split, image_size=(SIZE, SIZE), batch_size=50)])
        for name, split in sets.items()
    }
    for name in UNSEEN:
        files = sorted((work / "crops" / name).glob("*.png"))
        pixels = [torch.frombuffer(bytearray(Image.open(file).tobytes()), dtype=torch.uint8) for file in files]
        images[name] = torch.stack(pixels).view(-1, SIZE, SIZE, 3).permute(0, 3, 1, 2)
    print("model", *(f"{name} ({len(of_set)})" for name, of_set in images.items()), sep=" | ")
    rows = [torch.cat([of_set[:: -(-len(of_set) // SHEET_IMAGES)] for of_set in images.values()])]
    for model in models:
        tokenizer = load_for_use(open_tokenizer(parse_model(model)), torch.device("cpu"))
        values = []
        with torch.inference_mode():
            for of_set in images.values():
                decoded = [to_uint8(tokenizer.decode(tokenizer.encode(to_float(some)))) for some in of_set.split(50)]
                values.append(psnr(torch.cat(decoded), of_set).mean())
            rows.append(to_uint8(tokenizer.decode(tokenizer.encode(to_float(rows[0])))))
        print(model, *(f"{value:.2f}" for value in values), sep=" | ", flush=True)
    save_image(make_grid(torch.cat(rows), len(rows[0])), work / "sheet.png")


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
        train(work, options)
        pack(work / "run", work / "photo")
    evaluate(work, arguments.evaluate or ["sample", str(work / "photo")])


if __name__ == "__main__":
    main()
