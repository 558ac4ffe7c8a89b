"""Folders of generated PNG files as one file or as a data set, a picture in memory at a time."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from restok_cli.data.image_files import read_image
from restok_cli.data.shards.layout import NO_CLASS, Sample
from restok_cli.data.shards.writer import write_dataset


def write_npz(path: Path, files: Sequence[Path], class_ids: Sequence[int], comment: str) -> None:
    """The form of the ADM evaluator: `arr_0` uint8 (n, H, W, 3), and `arr_1` the class ids (n,). Not compressed.

    `comment` becomes that of the zip file, which NumPy passes over.
    Pictures go to the file one by one: 50,000 of 256 pixels are 10 GB.
    """
    first = np.asarray(read_image(files[0], str(files[0])))
    with zipfile.ZipFile(path, "w") as archive:
        # a ZipInfo of its own carries no time of day, and so the same pictures give the same bytes
        with archive.open(zipfile.ZipInfo("arr_0.npy"), "w", force_zip64=True) as member:
            shape = (len(files), *first.shape)
            header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for file in files:
                member.write(np.asarray(read_image(file, str(file))).tobytes())
        with archive.open(zipfile.ZipInfo("arr_1.npy"), "w") as member:
            np.lib.format.write_array(member, np.asarray(class_ids, np.int64))
        archive.comment = comment.encode()


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
