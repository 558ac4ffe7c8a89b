"""Generated images as one file or as a data set, one in memory at a time."""

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from restok_cli.data.image_files import read_image
from restok_cli.data.shards.layout import NO_CLASS, Sample
from restok_cli.data.shards.writer import write_dataset


def write_npz(path: Path, images: Iterable[np.ndarray], class_ids: Sequence[int], comment: str) -> None:
    """The form of the ADM evaluator: `arr_0` uint8 (n, H, W, 3), and `arr_1` the class ids (n,). Not compressed.

    `comment` becomes that of the zip file, which NumPy passes over.
    `images` are uint8 (H, W, 3), and go to the file one by one: 50,000 of 256 pixels are 10 GB.
    """
    images = iter(images)
    first = next(images)
    with zipfile.ZipFile(path, "w") as archive:
        # a ZipInfo of its own carries no time of day, and so the same images give the same bytes
        with archive.open(zipfile.ZipInfo("arr_0.npy"), "w", force_zip64=True) as member:
            shape = (len(class_ids), *first.shape)
            header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for image in chain([first], images):
                member.write(image.tobytes())
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
