"""Generated images as one file or as a data set, one in memory at a time."""

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from zlib_ng import zlib_ng

from restok_cli.data.image_files import read_image
from restok_cli.data.shards.layout import NO_CLASS, Sample
from restok_cli.data.shards.writer import write_dataset


class ImagesNpz(NamedTuple):
    """The form of the ADM evaluator: `arr_0` uint8 (n, H, W, 3), and `arr_1` the class ids (n,). Not compressed.

    So each image has its place in the file from the beginning: they are written there in any order, and what is around
    them at the end. 50,000 of 256 pixels are 10 GB.
    """

    count: int
    height: int
    width: int

    @property
    def image_bytes(self) -> int:
        return 3 * self.height * self.width

    @property
    def start(self) -> int:
        """Where the first image begins."""
        return len(self._before_images(())[1])

    def finish(self, path: Path, crc32s: Iterable[str], class_ids: Sequence[int], comment: str) -> None:
        """Write what is around the images, whose digests are `crc32s`; `comment` is one that NumPy passes over."""
        entry, before = self._before_images(crc32s)
        with open(path, "r+b") as file:
            file.write(before)
            file.seek(len(before) + self.count * self.image_bytes)
            file.truncate()  # of another end, where a process was killed as it wrote that
            with zipfile.ZipFile(file, "w") as archive:
                archive.infolist().append(entry)  # which lies before all that this writes
                with archive.open(zipfile.ZipInfo("arr_1.npy"), "w") as member:
                    np.lib.format.write_array(member, np.asarray(class_ids, np.int64))
                archive.comment = comment.encode()

    def _before_images(self, crc32s: Iterable[str]) -> tuple[zipfile.ZipInfo, bytes]:
        """The entry of `arr_0` in the archive, and all bytes before the first image."""
        header = BytesIO()
        shape = self.count, self.height, self.width, 3
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        # a ZipInfo of its own carries no time of day, and so the same images give the same bytes
        entry = zipfile.ZipInfo("arr_0.npy")
        entry.header_offset, entry.external_attr = 0, 0o600 << 16  # the latter as zipfile has it by itself
        entry.file_size = entry.compress_size = header.tell() + self.count * self.image_bytes
        entry.CRC = zlib_ng.crc32(header.getvalue())
        for crc32 in crc32s:
            entry.CRC = zlib_ng.crc32_combine(entry.CRC, int(crc32, 16), self.image_bytes)
        return entry, entry.FileHeader(zip64=True) + header.getvalue()


def write_shards(
    folder: Path, files: Sequence[Path], records: Sequence[dict], class_names: list[str], provenance: dict[str, str]
) -> None:
    """A data set of one split, `validation`, which is what evaluate and reconstruct take of one."""

    def samples() -> Iterator[Sample]:
        size = None
        for file, record in zip(files, records, strict=True):
            png = file.read_bytes()
            if size is None:  # of all
                width, height = read_image(png, str(file)).size
                size = height, width
            class_id = record["class_id"] if class_names else NO_CLASS
            yield Sample(file.stem, "png", png, size, class_id, record)

    write_dataset(folder, {"validation": samples()}, name="generated", class_names=class_names, provenance=provenance)
