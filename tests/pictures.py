"""Images for tests to read."""

from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, width: int = 20, height: int = 16) -> Image.Image:
    """An RGB image that no other seed gives."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def write_pictures(folder: Path, names: list[str], width: int = 20, height: int = 16) -> None:
    """Write one noise image per file name; the suffix says the format."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(seed, width, height).save(path)


def dealt(options: dict) -> dict:
    """The options of `batches`, those of its deal put together."""
    from restok_cli.data.loading.batching import Deal  # which brings torch along

    deal = Deal(**{name: value for name, value in options.items() if name in Deal._fields})
    return {name: value for name, value in options.items() if name not in Deal._fields} | {"deal": deal}
