"""Images in a pipe: tar streams, written and read from front to back, one image in memory at a time.

An image is <key>.<image suffix>, and its key may hold dots: people's files have such names. Beside it, before or
after, there may be <key>.json and <key>.cls. WebDataset ends a key at its first dot, so its readers may take several of
our images for one sample; of their streams, in which <key>.cls stands beside <key>.image.jpg, we read the class.
"""

import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from restok_cli.console import counted, note, readable
from restok_cli.data.image_files import split_image_name
from restok_cli.data.shards.layout import MAX_CLASS_ID, NO_CLASS
from restok_cli.data.shards.tars import Contents, contents, read_members, refuse_no_file, unpacked
from restok_cli.data.sources.walk import is_hidden
from restok_cli.errors import RestokError
from restok_cli.files import MAX_MEMBER_BYTES, MAX_TEXT_BYTES
from restok_cli.schema import Fields, parse_json

SIDE_SUFFIXES = (".json", ".cls", ".txt")  # of what stands beside images: what is known, classes, captions


class StreamImage(NamedTuple):
    """An image of a stream, and what stands beside it."""

    key: str  # its path in the tar, without its suffix
    suffix: str  # of the image file, without the dot
    data: Contents  # of the image file
    info: dict  # what <key>.json says; `class_id` too where there is a <key>.cls


class StreamWriter:
    """Writes images to a tar stream, WebDataset's where keys have no dots; the same images give the same bytes.

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


class PassedOver:
    """Counts the files in a tar that are no images, nor belong to one, so that this can be said once."""

    def __init__(self, tar: str):
        self.tar, self.count, self.first = tar, 0, ""

    def add(self, name: str) -> None:
        self.first = self.first or name
        self.count += 1

    def say(self) -> None:
        if self.count:
            note(f"{counted(self.count, 'file')} of {self.tar} passed over as no image, or hidden: {self.first}, …")


def read_stream(file: BinaryIO, max_bytes: int = MAX_MEMBER_BYTES) -> Iterator[StreamImage]:
    """The images of a tar stream, which need not be seekable. Files that are none are counted and said.

    An image of more than `max_bytes` is not read. Raises RestokError where it is no tar, or is cut short: the message
    names the last whole image. Also where the class of an image lies so far from it that it would be lost.
    """
    last, passed_over = "", PassedOver("the tar stream")
    try:
        for image in _images(file, passed_over, max_bytes):
            yield image
            last = image.key
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        where = f"after {last}" if last else "before its first image was whole"
        raise RestokError(
            f"the tar stream ends or breaks {where} ({error}); look at what the command before the pipe says,"
            " or copy the file again"
        ) from error
    passed_over.say()


def _images(file: BinaryIO, passed_over: PassedOver, max_bytes: int) -> Iterator[StreamImage]:
    """Each image as soon as nothing that belongs to it can follow. Raises tarfile.TarError."""
    beside, waiting = _Beside(passed_over), None
    for name, size, read in _files(file, passed_over):
        stem, suffix = split_image_name(name)
        if waiting and (suffix or webdataset_key(name) != webdataset_key(waiting[0])):
            yield beside.complete(*waiting)
            waiting = None
        beside.move_to(webdataset_key(name))
        if suffix:
            waiting = stem, suffix, read(f"the tar stream: {name}", max_bytes)
            if beside.has_all_of(stem):  # as StreamWriter writes: who made this image may wait for what comes of it
                yield beside.complete(*waiting)
                waiting = None
        elif name.lower().endswith((".json", ".cls")):
            beside.make_room(name, size)
            beside.add(name, contents(read(f"the tar stream: {name}", MAX_TEXT_BYTES)))
        elif not name.lower().endswith(SIDE_SUFFIXES):
            passed_over.add(name)
    if waiting:
        yield beside.complete(*waiting)
    beside.move_to("")


def webdataset_key(name: str) -> str:
    """WebDataset's name for the sample of a file: its path up to the first dot of the file name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


class _Beside:
    """The .json and .cls files that stand beside each other under one key of WebDataset's."""

    def __init__(self, passed_over: PassedOver):
        self.passed_over = passed_over
        self.key, self.files, self.used = "", {}, set()
        self.without_class, self.lonely = set(), set()  # keys of images, and of .cls files, that have gone by

    def move_to(self, key: str) -> None:
        """Forget the files where those that follow belong to another key."""
        if key == self.key:
            return
        for name in self.files.keys() - self.used:
            self.passed_over.add(name)
            self.lonely |= {name.removesuffix(".cls")} - {name}
        self.key, self.files, self.used = key, {}, set()

    def make_room(self, name: str, num_bytes: int) -> None:
        """Raises RestokError where there would be too much beside each other with a file of so many bytes."""
        if num_bytes + sum(map(len, self.files.values())) > MAX_TEXT_BYTES:
            raise RestokError(
                f"the tar stream holds {name} of {num_bytes:,} bytes; what stands beside an image may have"
                f" {MAX_TEXT_BYTES:,} at most"
            )

    def add(self, name: str, data: bytes) -> None:
        stem, _, suffix = name.rpartition(".")
        name = f"{stem}.{suffix.lower()}"
        if name.endswith(".cls") and stem in self.without_class:
            raise _apart(name)
        if name in self.files:
            raise RestokError(f"the tar stream holds {name} twice; make it again, without a second one")
        self.files[name] = data

    def has_all_of(self, key: str) -> bool:
        """Whether all that can stand beside the image has come."""
        return {f"{key}.json", f"{key}.cls"} <= self.files.keys()

    def complete(self, key: str, suffix: str, data: Contents) -> StreamImage:
        """The image with what stands beside it: its own files or, of classes, WebDataset's."""
        keys = key, webdataset_key(key)
        json_file = f"{key}.json"
        class_file = next((f"{name}.cls" for name in keys if f"{name}.cls" in self.files), "")
        self.used |= {json_file, class_file}
        if not class_file:
            if lonely := self.lonely.intersection(keys):
                raise _apart(f"{lonely.pop()}.cls")
            self.without_class.update(keys)
        return StreamImage(key, suffix, data, _info(key, self.files.get(json_file), self.files.get(class_file)))


def _apart(name: str) -> RestokError:
    return RestokError(
        f"the tar stream holds {name} far from its image, whose class would be lost; make it with `tar --sort=name`"
    )


def _files(file: BinaryIO, passed_over: PassedOver) -> Iterator[tuple[str, int, Callable[[str, int], Contents]]]:
    """Name and size of each file, and what reads it, but of the hidden ones. Raises tarfile.TarError."""
    for member, read in read_members(unpacked(file, "the tar stream"), "the tar stream"):
        name = readable(member.name).removeprefix("./")
        if is_hidden(name):
            passed_over.add(name)
        elif member.isfile():
            yield name, member.size, read
        elif not member.isdir():
            refuse_no_file(member, "the tar stream")
            passed_over.add(name)


def _info(key: str, json_data: bytes | None, class_data: bytes | None) -> dict:
    try:
        info = parse_json(Fields, json_data or b"{}", f"{key}.json")
        if class_data is not None:
            info["class_id"] = int(class_data)
        class_id = info.get("class_id", NO_CLASS)
        if type(class_id) is not int or not NO_CLASS <= class_id <= MAX_CLASS_ID:
            raise ValueError(f"class_id is {class_id!r:.40}, not an integer from {NO_CLASS} to {MAX_CLASS_ID}")
    except (ValueError, RestokError) as error:
        raise RestokError(f"the tar stream holds a damaged {key}.json or {key}.cls ({error}); make it again") from error
    return info
