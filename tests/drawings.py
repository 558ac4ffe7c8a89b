"""What the tests of `restok generate` share, beside the fixtures in conftest.py."""

from pathlib import Path

# guidance that begins late, and a cut, so that every path of the sampler is taken
OPTIONS = ("--count", 11, "--cfg-scale", 2, "--cfg-schedule", "step", "--top-p", 0.95)


def pngs(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.png"))}
