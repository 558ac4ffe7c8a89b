"""Build the data set that comes with restok, in the folder `sample` beside this file, from the Noto emoji.

    python restok_cli/assets/build_sample.py ../shared/emoji

The source folder holds noto-emoji-64.tar and index.json, made from the npm package emoji-datasource-google 16.0.0.
Compressing takes some minutes. restok must be installed, and be the one of this repository.
"""

import gzip
import json
import shutil
import sys
import tarfile
from io import BytesIO
from pathlib import Path

from restok_cli.data.image_files import read_image
from restok_cli.data.shards.layout import SAMPLE_FOLDER, Manifest, Sample
from restok_cli.data.shards.writer import write_dataset, write_manifest
from restok_cli.data.sources.listing import split_by_hash
from restok_cli.files import whole_folder

VALIDATION_FRACTION = 0.1
SOURCE = "Noto emoji 64 x 64 (Google, Apache-2.0) from the npm package emoji-datasource-google 16.0.0, laid on white"


def build_sample(source: Path, out: Path) -> Manifest:
    """Write the data set into folder `out`, replacing it, and return the manifest."""
    entries = json.loads((source / "index.json").read_text(encoding="utf-8"))
    class_names = list(dict.fromkeys(entry["subcategory"] for entry in entries))
    with tarfile.open(source / "noto-emoji-64.tar") as tar:
        samples = [
            _sample(entry, file.read(), class_names.index(entry["subcategory"]))
            for entry in entries
            if (file := tar.extractfile(entry["file"]))  # no folder, which would have no bytes
        ]
    with whole_folder(out) as temporary:
        for text in ("NOTICE", "LICENSE"):
            shutil.copy(SAMPLE_FOLDER / text, temporary)
        manifest = write_dataset(
            temporary,
            split_by_hash(samples, VALIDATION_FRACTION),
            name="sample",
            class_names=class_names,
            provenance={"source": SOURCE},
        )
        _compress(temporary, manifest)
    return manifest


def _sample(entry: dict[str, str], png: bytes, class_id: int) -> Sample:
    image = read_image(png, entry["file"])
    webp = BytesIO()
    image.save(webp, "WEBP", lossless=True, quality=100, method=6)  # 2.4 KB an image; PNG takes 3.4
    key = entry["file"].removesuffix(".png")
    return Sample(key, "webp", webp.getvalue(), (image.height, image.width), class_id, {"name": entry["name"]})


def _compress(folder: Path, manifest: Manifest) -> None:
    """Gzip the shards, without clock or name: tar headers are most of a set of such small images."""
    for split in manifest.splits.values():
        for shard in split.shards:
            plain = folder / shard.file
            shard.file += ".gz"
            (folder / shard.file).write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
            plain.unlink()
    write_manifest(folder, manifest)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "index.json").is_file():
        sys.exit("usage: build_sample.py FOLDER, which holds noto-emoji-64.tar and index.json")
    build_sample(Path(sys.argv[1]), SAMPLE_FOLDER)
    print(SAMPLE_FOLDER)
