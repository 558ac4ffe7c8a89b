"""Which files below a folder are images."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from restok_cli.console import note
from restok_cli.data.image_files import HEAD_BYTES, IMAGE_SUFFIXES, looks_like_image
from restok_cli.errors import RestokError, UsageError

SYSTEM_FOLDERS = ("lost+found", "__MACOSX")  # of disks and of archives, not of people


class FoundFiles(NamedTuple):
    """Contents of a folder, and of those below it."""

    images: list[str]  # in order
    passed_over: dict[str, str]  # path of what is no image, relative to the folder -> why


def find_images(path: Path) -> list[Path]:
    """The image files that `path` names: a file as it is, a folder searched to the bottom in sorted order.

    Raises UsageError where it does not exist or holds no image, RestokError where a folder in it cannot be read.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        images, passed_over = images_below(path)
        note_passed_over(path, passed_over)
        return [Path(image) for image in images]
    if path.exists():
        raise UsageError(f"{path} is a pipe, a socket or a device; give images or folders of images")
    raise UsageError(f"{path}: no such file or folder; give images or folders of images")


def images_below(folder: Path) -> FoundFiles:
    """Look below, as `look_below` does. Raises UsageError where that is no image."""
    found = look_below(folder)
    if not found.images:
        only = f", only {_list_some(found.passed_over)}" if found.passed_over else ""
        kinds = " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
        raise UsageError(f"{folder} holds no images{only}; give a folder with files of these kinds: {kinds}")
    return found


def look_below(folder: Path) -> FoundFiles:
    """The image files in `folder` and below, of which there may be millions, sorted as paths are.

    The suffix tells an image, without a look at the file; of other suffixes, how the file begins. What else is there
    and no image is passed over; so are, without a word, hidden files and folders, since macOS and editors leave
    broken copies of images there.

    Raises RestokError where a folder cannot be read.
    """
    images, passed_over = [], {}
    start = len(os.path.join(folder, ""))
    for entry in entries_below(folder):
        if why := why_no_image(entry):
            passed_over[entry.path[start:]] = why
        else:
            images.append(entry.path)
    # as paths are sorted, part by part, at a fraction of the time
    return FoundFiles(sorted(images, key=lambda image: image.split(os.sep)), dict(sorted(passed_over.items())))


def note_passed_over(folder: Path, passed_over: dict[str, str], more: str = "") -> None:
    """Say in one line what is passed over, if anything is; `more` ends the line."""
    if passed_over:
        note(f"{folder}: passed over {_list_some(passed_over)}{more}")


def _list_some(passed_over: dict[str, str]) -> str:
    """How many, and the first with the reason."""
    path, why = next(iter(passed_over.items()))
    if len(passed_over) == 1:
        return f"a file that is no image ({path}: {why})"
    return f"{len(passed_over)} files that are no images (the first: {path}: {why})"


def entries_below(folder: Path) -> Iterator[os.DirEntry]:
    """All that lies in `folder` and below, but for hidden files and for folders, in no order.

    Links to folders are followed; one that leads back to a folder above it is passed over, which is said.
    Raises RestokError where a folder cannot be read: without its files, classes would have other numbers.
    """
    folders = [str(folder)]
    while folders:
        for entry in visible_entries(folders.pop()):
            if not _is_folder(entry):
                yield entry
            elif not entry.is_symlink() or not _leads_back(entry, folder):
                folders.append(entry.path)
            else:
                note(f"{entry.path} is a link to a folder that it lies in: passed over")


def visible_entries(folder: Path | str) -> list[os.DirEntry]:
    """List what lies in `folder` and is not hidden. Raises RestokError where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise RestokError(
            f"{folder}: this folder cannot be read ({error.strerror}); make it readable, or move it away"
        ) from error


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted, but for hidden ones."""
    return sorted(entry.name for entry in visible_entries(folder) if _is_folder(entry))


def note_empty_folders(root: Path, filled: set[str]) -> None:
    """Say which folders in `root` hold no images: those that are not `filled`."""
    if empty := [name for name in folders_in(root) if name not in filled]:
        names = f"{empty[0]} holds" if len(empty) == 1 else f"{len(empty)} folders (the first: {empty[0]}) hold"
        note(f"{root}: {names} no images, so passed over")


def tars_in(folder: Path) -> list[Path]:
    """The tars in `folder`, sorted, but for hidden ones."""
    return [path for path in sorted(folder.glob("*.tar")) if not is_hidden(path.name)]


def is_hidden(name: str) -> bool:
    """Whether a file is passed over everywhere, or a folder that it lies in: what systems leave, and people do not see.

    macOS leaves broken copies of images so, in tars too.
    """
    return any((part.startswith(".") and part not in (".", "..")) or part in SYSTEM_FOLDERS for part in name.split("/"))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        if entry.is_dir():
            return True
        if entry.is_symlink():
            entry.stat()  # raises OSError where it cannot be followed
    except OSError as error:
        if not os.path.splitext(entry.name)[1]:  # it may be a folder, on a disk that is not there
            raise RestokError(
                f"{entry.path}: this link cannot be followed ({error.strerror}); mend it, or delete it"
            ) from error
    return False


def _leads_back(link: os.DirEntry, root: Path) -> bool:
    """Whether the link leads to one of the folders that it lies in below `root`, or above: following would not end."""
    target, here = os.path.join(os.path.realpath(link.path), ""), link.path
    while len(here) > len(str(root)):
        here = os.path.dirname(here)
        if os.path.join(os.path.realpath(here), "").startswith(target):
            return True
    return False


def why_no_image(entry: os.DirEntry) -> str | None:
    """Why it is none; None where it is, or where its name says so, whatever is wrong with it."""
    named = entry.name.lower().endswith(IMAGE_SUFFIXES)
    try:
        if not entry.is_file():  # costs nothing but for links
            os.stat(entry.path)  # raises OSError where it is a link to nothing
            return "a pipe, a socket or a device"
        if named:
            return None
        with open(entry.path, "rb", buffering=0) as file:
            return None if looks_like_image(file.read(HEAD_BYTES)) else "begins as no image does"
    except OSError as error:
        return None if named else error.strerror
