"""Where decode and reconstruct put images: a folder, one file, or a tar stream; and sheets of the first of them."""

import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from restok_cli.data.image_folders import IMAGE_MANIFEST, check_image_folder, manifest_line
from restok_cli.data.streams import StreamWriter
from restok_cli.errors import UsageError
from restok_cli.files import STDOUT, check_apart, check_output_file, crc32_of, whole_file, whole_folder


def check_sheets(output: Path, grid: Path | None, ladder: Path | None, overwrite: bool, *inputs: Path) -> None:
    """Raises UsageError where --grid and --ladder cannot be written, or of those and the output two are one file."""
    for option, path in (("--grid", grid), ("--ladder", ladder)):
        check_output_file(option, path, ".png", overwrite, *inputs)
    named = [(option, path) for option, path in (("-o", output), ("--grid", grid), ("--ladder", ladder)) if path]
    for (first, path), (second, other) in combinations(named, 2):
        if path.resolve() == other.resolve():
            raise UsageError(f"{first} and {second} are both {path}; give two files")


class MadeImage(NamedTuple):
    """An image on its way out."""

    key: str
    png: bytes
    info: dict[str, int | float]


class ImageDestination(NamedTuple):
    """Where the images and the sheets go."""

    output: Path
    grid: Path | None
    ladder: Path | None
    overwrite: bool

    @property
    def is_file(self) -> bool:
        return self.output.suffix.lower() == ".png"

    def check(self, *inputs: Path) -> None:
        """Raises UsageError where something cannot be written there, or would replace one of the `inputs`."""
        if self.is_file:
            check_output_file("-o", self.output, ".png", self.overwrite, *inputs)
        elif self.output != STDOUT:
            check_image_folder(self.output, self.overwrite)
            check_apart(self.output, *inputs)
        check_sheets(self.output, self.grid, self.ladder, self.overwrite, *inputs)

    def write(self, images: Iterator[MadeImage], several: str) -> int:
        """Write the images; return how many there were. Raises UsageError for `several` where there is one file."""
        if self.output == STDOUT:
            count = 0
            with StreamWriter(sys.stdout.buffer) as writer:
                for count, image in enumerate(images, start=1):  # noqa: B007 (the last is the result)
                    writer.write(*image)
            return count
        if self.is_file:
            first = next(images)
            if next(images, None) is not None:
                raise UsageError(f"-o {self.output} is one image, but there are {several}; give a folder")
            with whole_file(self.output) as temporary:
                temporary.write_bytes(first.png)
            return 1
        lines = []
        with whole_folder(self.output) as folder:
            for image in images:
                file = f"{image.key}.png"
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(image.png)
                lines.append(manifest_line(file, crc32_of(image.png), image.info))
            (folder / IMAGE_MANIFEST).write_text("".join(lines), encoding="utf-8")
        return len(lines)
