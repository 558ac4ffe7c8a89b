"""Which files below a folder are pictures."""

import os
from collections.abc import Sequence
from pathlib import Path

from restok_cli.data.images import IMAGE_SUFFIXES
from restok_cli.errors import UsageError


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The picture files that `paths` name: files as given, folders searched to the bottom in sorted order.

    Hidden files and folders are passed over, since macOS and editors leave broken copies of pictures there.

    Raises UsageError where a path does not exist or a folder holds no picture.
    """
    found = []
    for path in map(Path, paths):
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            found += map(Path, pictures_below(path))
        else:
            raise UsageError(f"{path}: no such file or folder; give pictures or folders of pictures")
    return found


def pictures_below(folder: Path) -> list[str]:
    """The paths of the picture files in `folder` and below, as `find_images` has them, of which there may be millions.

    Raises UsageError where there are none.
    """
    pictures = []
    visited = set()  # a link may lead back to where it lies
    for here, subfolders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(here) in visited:
            subfolders.clear()
            continue
        visited.add(os.path.realpath(here))
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        pictures += [
            os.path.join(here, name)
            for name in names
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    if not pictures:
        kinds = " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
        raise UsageError(f"{folder} holds no pictures; give a folder with files of these kinds: {kinds}")
    # as paths are sorted, part by part, at a fraction of the time
    return sorted(pictures, key=lambda picture: picture.split(os.sep))
