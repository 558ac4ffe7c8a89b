"""Small files that unpack to, or speak of, hundreds of megabytes; and a program that reads them and tells its memory.

python bombs.py FOLDER    for each reader: what it said, and by how many bytes its peak of memory has grown
"""

import bz2
import gzip
import io
import json
import os
import resource
import sys
import tarfile
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from pictures import noise

SIZE = 120 << 20  # that a bomb unpacks to
LIMIT = 1 << 20  # that is given as --max-member-bytes


def png(seed: int = 0) -> bytes:
    file = io.BytesIO()
    noise(seed).save(file, "PNG")
    return file.getvalue()


def member(name: str, data: bytes, size: int | None = None, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A file as it lies in a tar; its header may tell another size."""
    header = tarfile.TarInfo(name)
    header.size, header.type = len(data) if size is None else size, kind
    return header.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def sparse_member(name: str, data: bytes, real_size: int) -> bytes:
    """A file with a hole behind its data, as `tar --sparse` stores it."""
    header = bytearray(member(name, b"", len(data), tarfile.GNUTYPE_SPARSE))
    header[386:410] = b"%011o\0%011o\0" % (0, len(data))
    header[483:495] = b"\x80" + real_size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def write_with_hole(path: Path, before: bytes, hole: int, after: bytes = b"") -> None:
    """A file of which the middle takes no room on the disk."""
    with open(path, "wb") as file:
        file.write(before)
        file.seek(hole, os.SEEK_CUR)
        file.write(after)
        file.truncate()


def write_zeros(file: io.BufferedIOBase, size: int = SIZE) -> None:
    piece = bytes(1 << 20)
    for _ in range(size // len(piece)):
        file.write(piece)


def write_npz(path: Path, **shapes: tuple[int, ...]) -> None:
    """Arrays of zeros, packed; those of other than SIZE bytes tell a shape that they have not."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, shape in shapes.items():
            with archive.open(f"{name}.npy", "w") as file:
                header = {"descr": "|u1", "fortran_order": name == "f", "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                write_zeros(file)


END = bytes(2 * tarfile.BLOCKSIZE)


def tar_with_hole(path: Path) -> None:
    """A good image, one of SIZE bytes, another good one."""
    large = member("b.png", b"", SIZE)
    write_with_hole(path, member("a.png", png(0)) + large, SIZE, member("c.png", png(1)) + END)


def write_bombs(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    for name in ("tars", "packed", "many", "imagenet", "parquet", "pictures"):
        (folder / name).mkdir()
    tar_with_hole(folder / "tars/a.tar")
    (folder / "sparse.tar").write_bytes(
        member("a.png", png(0)) + sparse_member("b.png", png(2), 8 << 30) + member("c.png", png(1)) + END
    )
    (folder / "gnu.tar").write_bytes(
        member("a.png", png(0)) + sparse_member("b.png", png(2), 5000) + member("c.png", png(1)) + END
    )
    write_with_hole(folder / "pax.tar", member("x", b"", SIZE, tarfile.XHDTYPE), SIZE, member("a.png", png()) + END)
    write_with_hole(folder / "name.tar", member("x", b"", SIZE, tarfile.GNUTYPE_LONGNAME), SIZE, END)
    (folder / "headers.tar").write_bytes(member("x", b"a.png\0", kind=tarfile.GNUTYPE_LONGNAME) * 5000)
    globals_ = b"".join(b"%d k%06d=v\n" % (13, i) for i in range(30_000))
    (folder / "globals.tar").write_bytes(
        member("g", globals_, kind=tarfile.XGLTYPE) + b"".join(member(f"{i}.png", png(i)) for i in range(300)) + END
    )
    (folder / "cut.tar").write_bytes(member("a.png", b"", 1 << 42))
    for name, opener in (("stream.gz", gzip.open), ("stream.bz2", bz2.open)):
        with opener(folder / name, "wb") as file:
            file.write(member("a.png", png(0)) + member("b.png", b"", SIZE))
            write_zeros(file)
            file.write(END)
    with gzip.open(folder / "packed/train-000000.tar.gz", "wb", compresslevel=1) as file:
        write_zeros(file)
    write_npz(folder / "images.npz", arr_0=(1, 8192, SIZE // 8192 // 3, 3))
    write_npz(folder / "lying.npz", arr_0=(1, 100, 100, 3), codes=(1, 8), mu=(4,), sigma=(4, 4))
    write_npz(folder / "codes.npz", codes=(SIZE // 8, 8), codebook_size=(SIZE,))
    write_npz(folder / "statistics.npz", mu=(SIZE,), sigma=(SIZE // 4, 4))
    write_with_hole(folder / "codes.jsonl", b'{"key": "', SIZE)
    write_with_hole(folder / "names.txt", b"cat\n", SIZE)
    write_with_hole(folder / "config.yaml", b"# ", SIZE)
    write_with_hole(folder / "packed/dataset.json", b'{"name": "', SIZE)
    write_with_hole(folder / "pictures/manifest.jsonl", b'{"file": "', SIZE)
    letters = "abcdefghij"
    doubled = [f"{after}: &{after} [{', '.join([f'*{name}'] * 9)}]" for name, after in pairwise(letters)]
    (folder / "aliases.yaml").write_text("\n".join(["a: &a [1, 2, 3]", *doubled]))
    write_with_hole(folder / "pictures/a.png", png(), SIZE)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": bytes(400_000), "path": "a.JPEG"}] * (SIZE // 400_000)  # as a dictionary of one value
    table = pa.table({"image": pa.array(rows, kind), "label": pa.array([0] * len(rows))})
    pa.parquet.write_table(table, folder / "parquet/train.parquet")


# --- reading ------------------------------------------------------------------------------------------------------


Readers = dict[str, Callable[[], object]]  # by name; each returns what is to be told, or raises RestokError


def tar_readers(folder: Path) -> Readers:
    """Of tars: as a stream, as images to measure, as a list of their files, as shards to train on."""
    from restok_cli.data.loading.streaming import read_shards
    from restok_cli.data.shards.tars import contents, list_files
    from restok_cli.data.streams import read_stream
    from restok_cli.errors import ImageError
    from restok_cli.metrics.image_sources import open_images

    def stream(name: str) -> list[str]:
        with open(folder / name, "rb") as file:
            found = list(read_stream(file, LIMIT))
        return [picture.key if isinstance(picture.data, bytes) else str(picture.data) for picture in found]

    def pictures(name: str) -> list[str]:
        opened, found = open_images(str(folder / name), "all", max_bytes=LIMIT), []
        for index in range(opened.count):
            try:
                opened.open(index)
                found.append(opened.key(index))
            except ImageError as error:
                found.append(str(error).removeprefix(f"{folder}/"))
        return found

    def streamed(name: str) -> list[str]:
        found = []
        for sample in read_shards([str(folder / name)], [], LIMIT):
            try:
                assert contents(sample.data)
                found.append(sample.key)
            except ImageError as error:
                found.append(str(error).replace(f"{folder}/", ""))
        return found

    def listed(name: str) -> int:
        with open(folder / name, "rb") as file:
            return len(list_files(file, name))

    return {
        "stream: member": lambda: stream("tars/a.tar"),
        "stream: sparse": lambda: stream("sparse.tar"),
        "stream: gzip": lambda: stream("stream.gz"),
        "stream: bzip2": lambda: stream("stream.bz2"),
        **{f"stream: {name}": lambda name=name: stream(f"{name}.tar") for name in ("pax", "name", "headers", "cut")},
        "tar: member": lambda: pictures("tars/a.tar"),
        "tar: sparse": lambda: pictures("sparse.tar"),
        "tar: hole": lambda: pictures("gnu.tar"),
        **{f"tar: {name}": lambda name=name: listed(f"{name}.tar") for name in ("pax", "name", "headers", "cut")},
        "tar: globals": lambda: listed("globals.tar"),
        "training: member": lambda: streamed("tars/a.tar"),
        "training: sparse": lambda: streamed("sparse.tar"),
    }


def file_readers(folder: Path) -> Readers:
    """Of all other files."""
    from restok_cli.data.code_files import read_codes
    from restok_cli.data.image_files import read_file
    from restok_cli.data.shards.dataset import Shard, open_dataset
    from restok_cli.data.shards.layout import ShardInfo
    from restok_cli.data.sources.parquet import read_parquet
    from restok_cli.data.sources.texts import read_names
    from restok_cli.metrics.image_sources import open_images
    from restok_cli.metrics.reference import read_statistics
    from restok_cli.settings.yaml_file import read_yaml

    def rows() -> int:
        sources = read_parquet(folder / "parquet", [folder / "parquet/train.parquet"], ["n00000000"], set())
        return sum(len(source.place.read("x", LIMIT)) for source in sources[:3])

    info = ShardInfo(file="train-000000.tar.gz", num_samples=1, bytes=LIMIT, sha256="")
    return {
        "shard: gzip": lambda: Shard(folder / "packed/train-000000.tar.gz", info, 0)._read_at(0, 512),
        "npz: images": lambda: open_images(str(folder / "images.npz"), "all", max_pixels=10**6),
        "npz: lying images": lambda: open_images(str(folder / "lying.npz"), "all"),
        "npz: codes": lambda: read_codes(folder / "codes.npz"),
        "npz: lying codes": lambda: read_codes(folder / "lying.npz"),
        "npz: statistics": lambda: read_statistics(folder / "statistics.npz"),
        "npz: lying statistics": lambda: read_statistics(folder / "lying.npz"),
        "line of codes": lambda: read_codes(folder / "codes.jsonl"),
        "names": lambda: read_names(folder / "names.txt"),
        "config": lambda: read_yaml(folder / "config.yaml"),
        "aliases": lambda: read_yaml(folder / "aliases.yaml"),
        "data set": lambda: open_dataset(folder / "packed"),
        "list of pictures": lambda: open_images(str(folder / "pictures"), "all"),
        "image": lambda: read_file(folder / "pictures/a.png", "a.png", LIMIT),
        "parquet": rows,
    }


def main(folder: Path) -> None:
    import pyarrow.parquet

    from restok_cli.errors import RestokError

    assert pyarrow.parquet
    unit = 1 if sys.platform == "darwin" else 1024
    for name, read in (tar_readers(folder) | file_readers(folder)).items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            said = read()
        except RestokError as error:
            said = f"{type(error).__name__}: {str(error).replace(f'{folder}/', '')}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
        print(json.dumps([name, said, grown]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
