"""Members of a tar, and whether it is whole: tarfile alone takes some that are cut short for complete.

Nothing is read of a tar but headers, of bounded length, and the members that are asked for, up to a size.
"""

import bz2
import gzip
import math
import re
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from io import BufferedIOBase, BytesIO
from typing import BinaryIO, Protocol, cast

from restok_cli.console import readable
from restok_cli.data.image_files import IMAGE_SUFFIXES, check_size
from restok_cli.data.shards.layout import NO_CLASS
from restok_cli.data.sources.walk import is_hidden
from restok_cli.errors import ImageError, RestokError
from restok_cli.files import CHUNK_BYTES

IMAGE_RULE = "a sample's image is <key>.jpg or the like"  # in words, where others are passed over
CLASS_DIGITS = 6  # of a class id, at most
SYNSET = re.compile(r"n\d{8}")  # a noun of WordNet
ENCODING = "utf-8"  # of names, also where a locale has another: of them come keys, splits and order
MAX_HEADER_BYTES = 2**20  # of one file in a tar, with its long name and all that its header may have beside it
MAX_FILE_BYTES = 2**43  # that a header may speak of: file systems cannot seek much further
OF_ONE_FILE = re.compile(r"path|linkpath|size|GNU\.sparse\..*")  # keys of a pax header that one file alone may have
SPARSE = "is stored as a sparse file, which is not unpacked; make the tar without --sparse"

Contents = bytes | ImageError  # of a file in a tar, or why it was not read


class Readable(Protocol):
    """A stream, which need not be seekable."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or those that are left."""
        ...


class TarHeader(tarfile.TarInfo):
    """tarfile's, but that a header is damage where it cannot be parsed, is endless, or points backwards or nowhere.

    tarfile takes a missing, half or broken header for the end of the tar, which is a block of zeros. A global header
    that tells the name or the size of all files would make one sample of many.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if shared := sorted(filter(OF_ONE_FILE.fullmatch, tar.pax_headers)):
            raise tarfile.ReadError(f"a global header gives all files one {shared[0]}; make the tar without it")
        file = cast(BinaryIO, tar.fileobj)
        tar.fileobj = cast(BinaryIO, _Bounded(file, MAX_HEADER_BYTES))
        try:
            header = super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue] (typeshed lacks it)
            raise
        except (tarfile.HeaderError, ArithmeticError, LookupError, RecursionError, ValueError) as error:
            raise tarfile.ReadError(str(error) if isinstance(error, tarfile.HeaderError) else "bad header") from error
        finally:
            tar.fileobj = file
        if not (0 <= header.size <= MAX_FILE_BYTES and 0 <= tar.offset - file.tell() <= MAX_FILE_BYTES):
            raise tarfile.ReadError(f"bad header, of a file of {header.size} bytes")
        # what nothing here needs, and a few bytes could make much of for every member
        tar.pax_headers = {}
        header.pax_headers = {}
        header.sparse = [] if header.issparse() else None  # pyright: ignore[reportAttributeAccessIssue] (typeshed errs)
        return header


class _Bounded:
    """A file of which no more than `left` bytes may be read."""

    def __init__(self, file: BinaryIO, left: int):
        self.file, self.left = file, left
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"bad header, of more than {MAX_HEADER_BYTES:,} bytes")
        self.left -= size
        return self.file.read(size)


class _Unending:
    """A stream that must not end before its tar does: tarfile would go on for as long as a header says."""

    def __init__(self, stream: Readable):
        self.stream, self.may_end = stream, False

    def read(self, size: int) -> bytes:
        if not (data := self.stream.read(size)) and not self.may_end:
            raise tarfile.ReadError("unexpected end of data")
        return data


class _Resumed:
    """A stream whose first bytes have been read already, and that waits for no more than some bytes."""

    def __init__(self, start: bytes, file: BinaryIO):
        self.start, self.file = start, cast(BufferedIOBase, file)

    def read(self, size: int) -> bytes:
        data, self.start = self.start[:size], self.start[size:]
        return data or self.file.read1(size)


def unpacked(file: BinaryIO, name: str) -> Readable:
    """The stream called `name`, unpacked piece by piece where it is packed. Raises RestokError where xz did that."""
    start = file.read(6)
    stream = cast(BinaryIO, _Resumed(start, file))  # both unpackers only read
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if start == b"\xfd7zXZ\0":
        raise RestokError(f"{name} is compressed by xz; unpack it with `xz -dc`")
    return stream


def read_members(stream: Readable, name: str) -> Iterator[tuple[tarfile.TarInfo, Callable[[str, int], Contents]]]:
    """Each member of a plain tar that comes from front to back, and what reads it until the next one is asked for.

    That takes what `why_unread` does. A member that is not read is skipped without being held. After the last one the
    stream is read to its end. Raises tarfile.TarError where the tar is damaged or ends before its end, RestokError,
    calling it `name`, where something follows that.
    """
    unending = _Unending(stream)
    with tarfile.open(fileobj=cast(BinaryIO, unending), mode="r|", tarinfo=TarHeader, encoding=ENCODING) as tar:
        while (member := tar.next()) is not None:
            # it would remember every member, of which there may be millions; typeshed does not know where
            tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
            yield member, partial(_read_member, tar, member)
        unending.may_end = True
        _check_rest(cast(Readable, tar.fileobj), name)


def _check_rest(file: Readable, name: str, num_bytes: float = math.inf) -> None:
    """Read so many bytes that follow the end of a tar, or all. Raises RestokError where they are more than padding."""
    while rest := file.read(int(min(num_bytes, CHUNK_BYTES))):
        num_bytes -= len(rest)
        if rest.strip(b"\0"):
            raise RestokError(
                f"{name} goes on after its end, as tars do that `cat` has joined, and what follows would be lost; give"
                " each tar for itself, or join them with `tar --concatenate`"
            )


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, max_bytes: int) -> Contents:
    if problem := why_unread(member, name, max_bytes):
        return problem
    buffer = BytesIO()  # gives away what it holds, where reading in one go would take three times as much
    shutil.copyfileobj(cast(BinaryIO, tar.extractfile(member)), buffer)
    return buffer.getvalue()


def why_unread(member: tarfile.TarInfo, name: str, max_bytes: int) -> ImageError | None:
    """Why a file in a tar, to be called `name`, is not read: it has more bytes than `max_bytes`, or holes."""
    try:
        check_size(member.size, name, max_bytes)
    except ImageError as error:
        return error
    return ImageError(f"{name}: {SPARSE}") if member.issparse() else None


def contents(read: Contents) -> bytes:
    """Raises ImageError where the file was not read."""
    if isinstance(read, ImageError):
        raise read
    return read


def list_files(tar: BinaryIO, name: str, start: int = 0, end: int | None = None) -> list[tarfile.TarInfo]:
    """The files in the tar that begins at byte `start` and, where it lies within another, must not go beyond `end`.

    Raises RestokError, calling the tar `name`, where it is damaged or cut short, something follows its end, or an image
    in it is a mere link.
    """
    files = []
    try:
        tar.seek(start)
        with tarfile.open(fileobj=tar, mode="r:", tarinfo=TarHeader, encoding=ENCODING) as archive:
            for member in archive:
                if member.isfile():
                    files.append(member)
                else:
                    refuse_no_file(member, name)
    except tarfile.TarError as error:
        raise RestokError(f"{name} is cut short or damaged, or no tar ({error}): copy or download it again") from error
    if end is not None and files and files[-1].offset_data + files[-1].size > end:
        raise RestokError(f"{name} is cut short, or damaged: copy or download it again")
    tar.seek(archive.offset)
    _check_rest(tar, name, math.inf if end is None else max(end - archive.offset, 0))
    return files


def refuse_no_file(member: tarfile.TarInfo, tar: str) -> None:
    """Raises RestokError where a member that is no file has the name of an image, or of what tells its class.

    Of files with more than one name, tar stores the others as links.
    """
    if member.isfile() or member.isdir() or not member.name.lower().endswith((*IMAGE_SUFFIXES, ".cls", ".json")):
        return
    if not (member.issym() or member.islnk()):
        raise RestokError(f"{tar} holds {member.name}, which is no whole file; make the tar again, in one volume")
    raise RestokError(
        f"{tar} holds {member.name} as a link to {member.linkname}, not as a file; make the tar with"
        " `tar --dereference --hard-dereference`"
    )


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a file in a tar, as WebDataset tells them: the extension begins at the first dot.

    The key of hidden files, of what is in hidden folders, and of files without a dot is empty: they belong to no
    sample. `./`, as `tar` writes it for `.`, is left out.
    """
    if is_hidden(name):
        return "", ""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, dot, extension = file.partition(".")
    return (folder + slash + stem if stem and dot else ""), extension.lower()


def name_in(header: bytes) -> str:
    """The name in the header of a file in a tar; empty where it is none that could be one.

    Of names that no header holds whole, it is what the header has. `./`, as `tar` writes it for `.`, is left out.
    """
    try:
        name = tarfile.TarInfo.frombuf(header, ENCODING, "surrogateescape").name
    except tarfile.HeaderError:
        return ""
    return readable(name.removeprefix("./"))


def key_in(header: bytes) -> str:
    """The key of the file with this header in a tar; empty as above."""
    name = name_in(header)
    return split_name(name)[0] or name


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


def image_extension(extensions: Iterable[str]) -> str:
    """Which of a sample's files is its image: the one like <key>.jpg or, where none is, the only <key>.<word>.jpg.

    So WebDataset samples are read that have more images, such as <key>.seg.png. Raises ImageError where there is
    no image, or nothing tells which of several.
    """
    found = _of_kind(extensions, IMAGE_SUFFIXES)
    if len(found) != 1:
        raise ImageError(f"{len(found)} images under this key instead of one, among .{' .'.join(extensions)}")
    return found[0]


def class_extension(extensions: Iterable[str]) -> str | None:
    """The extension of the file that says the class; None where there is none."""
    found = _of_kind(extensions, (".cls",))
    if len(found) > 1:
        raise ImageError(f"{len(found)} .cls under this key instead of one, among .{' .'.join(extensions)}")
    return found[0] if found else None


def _of_kind(extensions: Iterable[str], suffixes: tuple[str, ...]) -> list[str]:
    whole = [extension for extension in extensions if f".{extension}" in suffixes]
    return whole or [extension for extension in extensions if f".{extension.rpartition('.')[2]}" in suffixes]


def images_beside(extensions: Iterable[str], taken: str) -> list[str]:
    """The extensions, such as seg.png, of further images of a sample whose image is the one `taken`."""
    return [other for other in extensions if other != taken and is_image(other)]


def is_image(extension: str) -> bool:
    """Whether the last part of an extension, such as seg.png, is an image's."""
    return f".{extension.rpartition('.')[2]}" in IMAGE_SUFFIXES


def class_id_of(text: bytes, synsets: Mapping[str, int]) -> int:
    """The class that the .cls of a sample says, by its id or as one of the `synsets` of ImageNet's classes.

    Raises ImageError where that is neither.
    """
    digits = text.strip()
    if digits.isdigit() and len(digits) <= CLASS_DIGITS:
        return int(digits)
    shown = text[:40].decode(errors="replace")
    if (class_id := synsets.get(shown.strip())) is not None:
        return class_id
    if synsets:
        raise ImageError(f"its .cls is {shown!r}, neither a class id, counted from 0, nor a synset of ImageNet's")
    hint = "; --class-names imagenet takes synsets" if SYNSET.fullmatch(shown.strip()) else ""
    raise ImageError(f"its .cls is {shown!r}, no class id: expected a number, counted from 0{hint}")


def read_class_id(tar: BinaryIO, files: dict[str, tarfile.TarInfo], synsets: Mapping[str, int]) -> int:
    """The class id of a sample. Raises ImageError where its .cls is none, or nothing tells which of several it is."""
    extension = class_extension(files)
    if extension is None:
        return NO_CLASS
    tar.seek(files[extension].offset_data)
    return class_id_of(tar.read(min(files[extension].size, 100)), synsets)
