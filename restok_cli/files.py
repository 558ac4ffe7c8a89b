"""Files and folders that are either whole or absent, also after a crash or on a full disk."""

import errno
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO

from zlib_ng import zlib_ng

from restok_cli.errors import RestokError, UsageError
from restok_cli.locks import LOCK_FILE, held, is_written, made_folder

SAMPLE_MODEL = Path(__file__).parent / "assets" / "model"  # a generator of emoji, with its tokenizer
PHOTO_MODEL = Path(__file__).parent / "assets" / "photo"  # a tokenizer of photographs
HUB_PREFIX = "hf:"  # before the name of a model of the hub
BUNDLED = {"sample": SAMPLE_MODEL, "photo": PHOTO_MODEL}  # by the words that name them
STDOUT = Path("-")  # where a file is named
MAX_DECODED_PIXELS = 178_956_970  # of an image file, unless told otherwise: a small one may unpack to fill all memory
MAX_MEMBER_BYTES = 256 << 20  # of a file in a tar, and of an image file, likewise: those of more are not even read
MAX_TEXT_BYTES = 32 << 20  # of JSON and other text that is read whole, whose values may take twenty times as much
MAX_LINE_BYTES = 16 << 20  # of a line of JSON
SYNC_SECONDS = 0.2  # from one early sync of a large file to the next
NUL = "a NUL character is in no file's name; give another one"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CHUNK_BYTES = 1 << 20  # of a file, read at a time
FILE_CRC, FIELDS_CRC = "file_crc32", "fields_crc32"  # in JSON: of the file that it is about, of its own other fields
LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.(tmp|old)")
# of files that a command reads or another one writes: a folder called so would be taken for one
FILE_SUFFIXES = (".jpeg", ".jpg", ".jsonl", ".npz", ".png", ".safetensors", ".tar", ".webp", ".zip")


def parse_model(text: str | Path) -> Path:
    """The model that the command line names: `sample` and `photo` are those that come with restok.

    A folder of such a name is ./sample, which is why this reads the word before it becomes a path.
    """
    return BUNDLED.get(str(text)) or Path(text)


def expand_home(path: str) -> str:
    """The path with a ~ at its start as the home folder.

    Raises UsageError where nobody knows that, or no file can have such a name.
    """
    if "\0" in path:  # which YAML can write
        raise UsageError(f"{path}: {NUL}")
    if path != "~" and not path.startswith("~/"):
        return path
    expanded = os.path.expanduser(path)
    if expanded == path:
        raise UsageError(f"{path}: the home folder is not known; set HOME, or give the whole path")
    return expanded


def sync(path: Path) -> None:
    """Make the contents of a file, or renames inside a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_whole(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """The bytes of a small file. Raises RestokError where it has more than `max_bytes`, without holding more."""
    with open(path, "rb", buffering=0) as file:
        size = min(os.fstat(file.fileno()).st_size, max_bytes)
        data = file.read(size)
        more = file.read(max_bytes - size + 1)  # also of a device, which has no size and may have no end
    if len(data) + len(more) > max_bytes:
        raise RestokError(f"{path} has more than {max_bytes:,} bytes, which no such file has; give another one")
    return data + more


def lines_of(file: BinaryIO, source: str) -> Iterator[bytes]:
    """The lines of a file. Raises RestokError, calling it `source`, where one has more than MAX_LINE_BYTES."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise RestokError(f"{source}, line {number} has more than {MAX_LINE_BYTES:,} bytes; make the file again")
        yield line


def text_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, which end at \\n alone.

    str.splitlines would also end them at U+2028, U+0085 and more, which stand as they are in JSON, in names of files.
    """
    with open(path, "rb") as file:
        return [line.decode(errors="replace").removesuffix("\n") for line in lines_of(file, str(path))]


# --- digests: what shows that a file is not as it was written -----------------------------------------------------
#
# CRC-32 for what restok checks by itself, as it works at the speed of memory: it shows accidents, of which one in four
# billion goes unseen, and no forgery. SHA-256, at a tenth of that speed, where people or other programs compare.


def crc32_of(*parts: bytes | bytearray | memoryview) -> str:
    """CRC-32 of the parts, one after the other, as eight hexadecimal digits."""
    value = 0
    for part in parts:
        value = zlib_ng.crc32(part, value)
    return f"{value:08x}"


def file_crc32(path: Path) -> str:
    """CRC-32 of a file, as eight hexadecimal digits."""
    value, chunk = 0, bytearray(CHUNK_BYTES)
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(chunk):
            value = zlib_ng.crc32(memoryview(chunk)[:size], value)
    return f"{value:08x}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(fields: dict) -> dict:
    """The fields of a JSON object and, as the last one, their digest."""
    return fields | {FIELDS_CRC: _fields_crc32(fields)}


def is_sealed(fields: dict) -> bool:
    """Whether the fields of a JSON object are as they were when it was sealed; it may be one that never was."""
    return FIELDS_CRC not in fields or fields[FIELDS_CRC] == _fields_crc32(fields)


def _fields_crc32(fields: dict) -> str:
    others = {name: value for name, value in fields.items() if name != FIELDS_CRC}
    return crc32_of(json.dumps(others, sort_keys=True).encode())  # so that another layout of the JSON changes nothing


@contextmanager
def synced_early(file: BinaryIO) -> Iterator[None]:
    """Have the disk keep up with a large file while the block writes it, so that little is left to sync at the end.

    An OSError that the disk gives meanwhile is raised at the end of the block: the system tells of each only once.
    """
    written = threading.Event()

    def keep_up() -> None:
        while not written.wait(SYNC_SECONDS):
            os.fsync(file.fileno())

    with ThreadPoolExecutor(1) as pool:
        keeping_up = pool.submit(keep_up)
        try:
            yield
        finally:
            written.set()
    keeping_up.result()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let the error of a full disk that the block raises name `path`, and not, say, what was being copied there."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            error.filename, error.filename2 = str(path), None
        elif re.fullmatch(r"\d+ requested and \d+ written", str(error)):  # numpy's way to say it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


@contextmanager
def whole_file(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` at the end of the block, or disappears on any error.

    Unless it is to be `durable`, a power cut soon after may still damage it. Raises RestokError where `path` is a
    device or a pipe: it would be gone.
    """
    path = Path(path)
    if _is_device(path):
        raise RestokError(f"{path} is a device or a pipe, which a file would replace; give the name of a file")
    with made_folder(path.parent):
        clear_beside(path)
        temporary = temporary_name(path)
        try:
            with naming(path), held(temporary, os.O_WRONLY | os.O_CREAT):
                yield temporary
                if durable:
                    sync(temporary)
                os.replace(temporary, path)
            if durable:
                sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    return path.exists() and not (path.is_file() or path.is_dir())


def append_text(path: Path, text: str) -> None:
    """Append to a log, in UTF-8."""
    with naming(path), open(path, "a", encoding="utf-8") as file:
        file.write(text)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def real(path: Path) -> Path:
    """Where links lead from `path`. Raises OSError where they lead in a circle.

    Path.resolve raises RuntimeError there, and from Python 3.13 on nothing.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise
    return path.resolve()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder, whole or not at all: at `path`, with all that the block wrote, in the place of what was there."""
    path = Path(path).resolve()  # through a link, the folder behind it is replaced and the link stays
    with temporary_folder(path) as temporary:
        yield temporary
        publish_folder(temporary, path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` that is gone after the block, or of a killed process when `path` is next written."""
    with made_folder(path.parent):
        clear_beside(path)
        temporary = temporary_name(path)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            with naming(path), held(temporary, os.O_RDONLY):
                yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(temporary: Path, path: Path) -> None:
    """Rename the finished folder `temporary`, beside `path`, to `path`, replacing what was there."""
    for entry in temporary.rglob("*"):
        sync(entry)
    sync(temporary)
    _replace_folder(temporary, path)
    sync(path.parent)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename `new` to `path`. A folder that holds files cannot be replaced in one call, so it is moved aside first."""
    if not path.exists():
        os.replace(new, path)
        return
    old = temporary_name(path).with_suffix(".old")
    os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def temporary_name(path: Path) -> Path:
    """Beside `path`, for what becomes it or was it: what a killed process leaves under such a name is known by it."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def discard_folder(folder: Path, path: Path) -> None:
    """Delete what is no longer needed for `path`, beside it: of a process killed meanwhile, there is but a leftover."""
    doomed = temporary_name(path)
    os.replace(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Clear away what killed processes left half-written in `folder`, where nobody else may write (see `locked`)."""
    for entry in sorted(folder.glob(".*.*")):
        if match := LEFTOVER.fullmatch(entry.name):
            _clear(entry, entry.with_name(match["name"]))


def clear_beside(path: Path) -> None:
    """Clear away what killed processes left half-written of `path`."""
    for entry in sorted(path.parent.glob(f".{escape(path.name)}.*")):
        match = LEFTOVER.fullmatch(entry.name)
        if match and match["name"] == path.name and not is_written(entry, int(match["pid"])):
            _clear(entry, path)


def _clear(entry: Path, path: Path) -> None:
    """Delete a leftover of `path`. Killed between moving the old aside and the new in, the new one goes in now."""
    if entry.suffix == ".old" and not path.exists():
        new = entry.with_suffix(".tmp")
        os.replace(new if new.exists() else entry, path)
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def check_is_folder(path: Path, wanted: str) -> None:
    """Raises UsageError, which says what is `wanted`, where the path is no folder."""
    if not path.is_dir():
        raise UsageError(f"{path}{' is a file' if path.exists() else ': no such folder'}; give {wanted}")


def check_output_folder(path: Path, overwrite: bool, is_ours: Callable[[str], object], whole: bool = False) -> None:
    """Check that results may go to the folder `path`: it is new or empty, or may be overwritten.

    A `whole` one is to be replaced itself, and not filled, see `whole_folder`. `is_ours` says of a file in it (its
    relative path, with slashes) whether the command that writes there made it. Raises UsageError where `path` cannot be
    a folder, where it holds something and `overwrite` is false, and where something in it is not ours: --overwrite
    never deletes that.
    """
    for folder in (path, *path.parents):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; give a folder for the output")
    if not path.is_dir() and path.suffix.lower() in FILE_SUFFIXES:
        raise UsageError(f"{path} is the name of a file, and the output is a folder; give a name without {path.suffix}")
    _check_writable(path, real(path))
    if whole:
        _check_replaceable(path)
    clear_beside(real(path))
    if not path.is_dir() or all(entry.name == LOCK_FILE for entry in path.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{path} already holds files; give another folder, or --overwrite to replace them")
    for file in sorted(file for file in path.rglob("*") if not file.is_dir()):
        name = file.relative_to(path).as_posix()
        if name != LOCK_FILE and not is_ours(name):
            raise UsageError(f"{path} holds {name}, which this command did not make; give another folder")


def _check_writable(output: Path, folder: Path) -> None:
    """Raises UsageError, before any work, where `output` cannot be written because `folder` may not be."""
    place = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{output}: you may not write to {place}; give another output, or change the rights of that")


def _check_replaceable(output: Path) -> None:
    """Raises UsageError, before any work, where no other file or folder can be renamed to `output`, which is there."""
    place = output.resolve()
    if place.exists() and (os.path.ismount(place) or not os.access(place.parent, os.W_OK | os.X_OK)):
        why = "something is mounted there" if os.path.ismount(place) else f"you may not write to {place.parent}"
        within = f"in it, such as {output / 'new'}" if place.is_dir() else "in another folder"
        raise UsageError(f"{output} is there and cannot be replaced as a whole: {why}; give a new name {within}")


def check_output_file(option: str, path: Path | None, suffix: str, overwrite: bool, *inputs: Path) -> None:
    """Raises UsageError where `path` has another suffix, or is there already and may not be replaced.

    What is read, one of `inputs` or a file in one, may never be.
    """
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise UsageError(f"{option} {path}: give a file name that ends in {suffix}")
    clear_beside(real(path))
    if (found := next((folder for folder in path.parents if folder.exists()), path.parent)).is_file():
        raise UsageError(f"{option} {path}: {found} is a file; give a path in a folder")
    _check_writable(path, path.resolve().parent)
    if _is_device(path):
        raise UsageError(f"{option} {path} is a device or a pipe; give the name of a file")
    if path.is_dir() or (path.exists() and not overwrite):
        raise UsageError(f"{option} {path} already exists; give another file, or --overwrite to replace it")
    _check_replaceable(path)
    for source in inputs:
        if path.exists() and path.resolve().is_relative_to(source.resolve()):
            raise UsageError(f"{option} {path} would replace what is read from {source}; give another file")


def check_apart(output: Path, *inputs: Path) -> None:
    """Raises UsageError where writing the folder `output` would replace something that is read."""
    for path in inputs:
        if real(path).is_relative_to(real(output)):
            raise UsageError(f"the output {output} would replace {path}, which is read; give another folder")
