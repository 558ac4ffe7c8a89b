"""From a folder of 300 photographs to a tokenizer of them in some minutes: the commands of docs/own-images.md, run.

    pip install scikit-image pooch
    python tests/benchmarks/own_images.py WORK [--minutes 12] [--init sample]

Makes WORK/photographs: 300 pieces of 80 × 80 pixels, none of which share a pixel, of 8 photographs that come with
scikit-image, a folder for each. Then prepares them, asks `restok config suggest` for the command, carries it out,
trains from scratch for the same number of seconds, and reconstructs the held-out tenth by the model that was started
from, by what became of it, and by the one from scratch. Prints a table of PSNR, and leaves WORK/sheet-*.png.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

SIDE, COUNT = 80, 300
PIECES = {  # at most so many of each
    "astronaut.png": 36,
    "chelsea.png": 15,
    "coffee.png": 35,
    "rocket.jpg": 40,
    "motorcycle_left.png": 40,
    "ihc.png": 36,
    "hubble_deep_field.jpg": 49,
    "retina.jpg": 49,
}


def write_photographs(out: Path) -> int:
    """Cut the photographs into pieces; return how many there are."""
    count = 0
    for name, most in PIECES.items():
        pixels = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB"))
        rows, columns = pixels.shape[0] // SIDE, pixels.shape[1] // SIDE
        numbers = np.linspace(0, rows * columns - 1, min(most, rows * columns)).round().astype(int)
        folder = out / Path(name).stem
        folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            y, x = number // columns * SIDE, number % columns * SIDE
            Image.fromarray(pixels[y : y + SIDE, x : x + SIDE]).save(folder / f"{number:03d}.png")
        count += len(numbers)
    return count


def restok(*words: str) -> tuple[str, float]:
    """Run a command; return what it printed, and the seconds."""
    print("$", shlex.join(["restok", *words]), flush=True)
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-m", "restok_cli", *words], stdout=subprocess.PIPE, text=True, check=True)
    print(result.stdout, end="", flush=True)
    return result.stdout, time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", default="12")
    parser.add_argument("--init", default="sample")
    options = parser.parse_args()
    work = options.work
    start = time.monotonic()
    print(write_photographs(work / "photographs"), "photographs")
    data = str(work / "data")
    restok("prepare", "folder", str(work / "photographs"), data)
    suggested, _ = restok("config", "suggest", data, "--minutes", options.minutes, "--json")
    words = json.loads(suggested)["command"]
    words[words.index("-o") + 1] = str(work / "tuned")
    _, seconds = restok(*words[1:])
    minutes = (time.monotonic() - start) / 60

    # from scratch, as long: as many steps as take the same time, by the rate at which the other run went
    steps = words[words.index("--max-steps") + 1]
    without_init = [word for place, word in enumerate(words) if "--init" not in (word, words[place - 1])]
    without_init[without_init.index("-o") + 1] = str(work / "scratch")
    restok(*without_init[1:])
    print(f"{minutes:.1f} minutes from photographs to model; {seconds:.0f} s of them trained {steps} steps")
    for name, model in (("untouched", options.init), ("fine-tuned", work / "tuned"), ("scratch", work / "scratch")):
        out, sheet = str(work / f"by-{name}"), str(work / f"sheet-{name}.png")
        found, _ = restok("reconstruct", data, "--model", str(model), "-o", out, "--grid", sheet, "--json")
        print(f"{name}: {json.loads(found)['psnr']:.2f} dB")


if __name__ == "__main__":
    main()
