"""What is in a tar, and that it is whole: tarfile alone takes some that are cut short for complete."""

import re
import tarfile
from collections.abc import Iterable, Mapping
from typing import BinaryIO

from restok_cli.console import readable
from restok_cli.data.images import IMAGE_SUFFIXES
from restok_cli.data.names import split_name
from restok_cli.data.shards import NO_CLASS
from restok_cli.errors import PictureError, RestokError

PICTURE_RULE = "a sample's picture is <key>.jpg or the like"  # in words, where others are passed over
CLASS_DIGITS = 6  # of a class id, at most
SYNSET = re.compile(r"n\d{8}")  # a noun of WordNet


def list_files(tar: BinaryIO, name: str, start: int = 0, end: int | None = None) -> list[tarfile.TarInfo]:
    """The files in the tar that begins at byte `start` and, where it lies within another, must not go beyond `end`.

    Raises RestokError, calling the tar `name`, where it is damaged or cut short, or a picture in it is a mere link.
    """
    files = []
    try:
        tar.seek(start)
        with tarfile.open(fileobj=tar, mode="r:") as archive:
            for member in archive:
                if member.isfile():
                    files.append(member)
                else:
                    refuse_linked_picture(member, name)
            tar.seek(archive.offset)
            whole = tar.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE  # what a tar ends with
    except tarfile.TarError as error:
        raise RestokError(f"{name} is a damaged tar, or none ({error}): copy or download it again") from error
    if not whole or (end is not None and files and files[-1].offset_data + files[-1].size > end):
        raise RestokError(f"{name} is cut short, or damaged: copy or download it again")
    return files


def refuse_linked_picture(member: tarfile.TarInfo, tar: str) -> None:
    """Raises RestokError where a member that is no file has the name of a picture: tar stores a file only once."""
    if (member.issym() or member.islnk()) and member.name.lower().endswith(IMAGE_SUFFIXES):
        raise RestokError(
            f"{tar} holds {member.name} as a link to {member.linkname}, not as a file; make the tar with"
            " `tar --dereference --hard-dereference`"
        )


def group_samples(files: Iterable[tarfile.TarInfo], tar: str) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Key -> extension -> file of the samples, wherever in the tar their files lie: not all tars are sorted.

    Raises RestokError, naming the `tar`, where two of its files have one name.
    """
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    for file in files:
        key, extension = split_name(readable(file.name))
        if not key:
            continue
        sample = samples.setdefault(key, {})
        if extension in sample:
            raise RestokError(f"{tar} holds the key {key} twice: keys must be unique; rename the samples")
        sample[extension] = file
    return samples


def picture_extension(extensions: Iterable[str]) -> str:
    """Which of a sample's files is its picture: the one like <key>.jpg or, where none is, the only <key>.<word>.jpg.

    So WebDataset samples are read that have more pictures, such as <key>.seg.png. Raises PictureError where there is
    no picture, or nothing tells which of several.
    """
    found = _of_kind(extensions, IMAGE_SUFFIXES)
    if len(found) != 1:
        raise PictureError(f"{len(found)} pictures under this key instead of one, among .{' .'.join(extensions)}")
    return found[0]


def class_extension(extensions: Iterable[str]) -> str | None:
    """The same for the file that says the class; None where there is none."""
    found = _of_kind(extensions, (".cls",))
    if len(found) > 1:
        raise PictureError(f"{len(found)} .cls under this key instead of one, among .{' .'.join(extensions)}")
    return found[0] if found else None


def _of_kind(extensions: Iterable[str], suffixes: tuple[str, ...]) -> list[str]:
    whole = [extension for extension in extensions if f".{extension}" in suffixes]
    return whole or [extension for extension in extensions if f".{extension.rpartition('.')[2]}" in suffixes]


def pictures_beside(extensions: Iterable[str], taken: str) -> list[str]:
    """The extensions, such as seg.png, of further pictures of a sample whose picture is the one `taken`."""
    return [other for other in extensions if other != taken and f".{other.rpartition('.')[2]}" in IMAGE_SUFFIXES]


def class_id_of(text: bytes, synsets: Mapping[str, int]) -> int:
    """The class that the .cls of a sample says, by its id or as one of the `synsets` of ImageNet's classes.

    Raises PictureError where that is neither.
    """
    digits = text.strip()
    if digits.isdigit() and len(digits) <= CLASS_DIGITS:
        return int(digits)
    shown = text[:40].decode(errors="replace")
    if (class_id := synsets.get(shown.strip())) is not None:
        return class_id
    if synsets:
        raise PictureError(f"its .cls is {shown!r}, neither a class id, counted from 0, nor a synset of ImageNet's")
    hint = "; --class-names imagenet takes synsets" if SYNSET.fullmatch(shown.strip()) else ""
    raise PictureError(f"its .cls is {shown!r}, no class id: expected a number, counted from 0{hint}")


def read_class_id(tar: BinaryIO, files: dict[str, tarfile.TarInfo], synsets: Mapping[str, int]) -> int:
    """The class id of a sample. Raises PictureError where its .cls is none, or nothing tells which of several it is."""
    extension = class_extension(files)
    if extension is None:
        return NO_CLASS
    tar.seek(files[extension].offset_data)
    return class_id_of(tar.read(min(files[extension].size, 100)), synsets)
