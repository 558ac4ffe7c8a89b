"""Names of files, and what they tell of a sample."""

import tarfile

from restok_cli.console import readable
from restok_cli.data.image_files import IMAGE_SUFFIXES


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a file in a tar, as WebDataset tells them: the extension begins at the first dot.

    The key of hidden files and of those without a dot is empty: they belong to no sample.
    """
    folder, slash, file = name.rpartition("/")
    stem, dot, extension = file.partition(".")
    return (folder + slash + stem if stem and dot else ""), extension.lower()


def split_image_name(name: str) -> tuple[str, str]:
    """Name and suffix of a person's image file, whose name may hold dots: photo.v1.png is photo.v1 and png.

    What does not end in the suffix of an image has none: 2024.01.02 is itself.
    """
    stem, _, suffix = name.rpartition(".")
    is_image = f".{suffix.lower()}" in IMAGE_SUFFIXES and stem and not stem.endswith("/")
    return (stem, suffix) if is_image else (name, "")


def name_in(header: bytes) -> str:
    """The name in the header of a file in a tar; empty where it is none that could be one.

    Of names that no header holds whole, it is what the header has. `./`, as `tar` writes it for `.`, is left out.
    """
    try:
        name = tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape").name
    except tarfile.HeaderError:
        return ""
    return readable(name.removeprefix("./"))


def key_in(header: bytes) -> str:
    """The key of the file with this header in a tar; empty as above."""
    name = name_in(header)
    return split_name(name)[0] or name
