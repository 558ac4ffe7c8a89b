"""Pictures in a pipe: WebDataset tar streams, written and read from front to back, one picture in memory at a time.

A sample is what has the same name up to the first dot: <key>.json  <key>.cls  <key>.<picture suffix>.
"""

import json
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from restok_cli.data.images import IMAGE_SUFFIXES
from restok_cli.data.shards import MAX_CLASS_ID, NO_CLASS
from restok_cli.errors import RestokError


class StreamPicture(NamedTuple):
    """One sample of a stream."""

    key: str  # its path in the tar, up to the first dot of the file name
    suffix: str  # of the picture file, without the dot
    data: bytes  # the picture file
    info: dict  # what <key>.json says; `class_id` too where there is a <key>.cls


class StreamWriter:
    """Writes pictures to a tar stream that any WebDataset reader takes; the same pictures give the same bytes.

    A context manager: only a block that ends well ends the stream, so that a reader can tell a part from the whole.
    Raises OSError where `file` cannot be written.
    """

    def __init__(self, file: BinaryIO):
        self.file = file

    def __enter__(self) -> "StreamWriter":
        return self

    def __exit__(self, error: type[BaseException] | None, *_details: object) -> None:
        if error is None:
            self.file.write(bytes(2 * tarfile.BLOCKSIZE))
            self.file.flush()

    def write(self, key: str, png: bytes, info: dict) -> None:
        """Write a PNG file and what is known of it; a `class_id` in `info` also becomes <key>.cls."""
        self._add(f"{key}.json", json.dumps(info, ensure_ascii=False).encode())
        if "class_id" in info:
            self._add(f"{key}.cls", str(info["class_id"]).encode())
        self._add(f"{key}.png", png)
        self.file.flush()  # the next command in the pipe may start on it

    def _add(self, name: str, data: bytes) -> None:
        header = tarfile.TarInfo(name)  # its time is 0 and its owner nobody
        header.size = len(data)
        self.file.write(header.tobuf() + data + bytes(-len(data) % tarfile.BLOCKSIZE))


def read_stream(file: BinaryIO) -> Iterator[StreamPicture]:
    """The pictures of a tar stream, which need not be seekable; samples without a picture are passed over.

    Raises RestokError where it is no tar, or is cut short: the message names the last whole picture.
    """
    last = ""
    try:
        for key, parts in _samples(file):
            suffix = next((name for name in parts if f".{name.lower()}" in IMAGE_SUFFIXES), None)
            if suffix is None:
                continue
            yield StreamPicture(key, suffix, parts[suffix], _info(key, parts))
            last = key
    except tarfile.TarError as error:
        where = f"after {last}" if last else "before its first picture was whole"
        raise RestokError(
            f"the tar stream ends or breaks {where} ({error}); look at what the command before the pipe says,"
            " or copy the file again"
        ) from error


def _samples(file: BinaryIO) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and files, by suffix, of each sample. Raises tarfile.TarError."""
    key, parts = "", {}
    with tarfile.open(fileobj=file, mode="r|*", tarinfo=_Header) as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # it would remember every member, of which there may be millions
            if not member.isfile():
                continue
            folder, slash, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if parts and folder + slash + stem != key:
                yield key, parts
                parts = {}
            key = folder + slash + stem
            parts[suffix] = tar.extractfile(member).read()
    if parts:
        yield key, parts


class _Header(tarfile.TarInfo):
    """tarfile takes a missing, half or broken header for the end of the tar, which is a block of zeros."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _info(key: str, parts: dict[str, bytes]) -> dict:
    try:
        info = json.loads(parts.get("json", b"{}"))
        if not isinstance(info, dict):
            raise ValueError("no JSON object")
        if "cls" in parts:
            info["class_id"] = int(parts["cls"])
        class_id = info.get("class_id", NO_CLASS)
        if type(class_id) is not int or not NO_CLASS <= class_id <= MAX_CLASS_ID:
            raise ValueError(f"class_id is {class_id!r:.40}, not an integer from {NO_CLASS} to {MAX_CLASS_ID}")
    except (ValueError, RecursionError) as error:
        raise RestokError(f"the tar stream holds a damaged {key}.json or {key}.cls ({error}); make it again") from error
    return info
