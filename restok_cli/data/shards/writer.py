"""Data sets onto the disk: shards, the index beside each, dataset.json. The same samples give the same bytes.

The tars are what any WebDataset reader takes; dataset.json describes them for restok, _info.json for timm.
"""

import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from zlib_ng import zlib_ng

from restok_cli.data.shards import layout
from restok_cli.errors import RestokError
from restok_cli.files import CHUNK_BYTES, synced_early, whole_file, write_text


class Digest(NamedTuple):
    """Digests that tell a shard from any other, as a whole and sample by sample."""

    num_bytes: int
    sha256: str
    checksums: list[int]  # CRC-32 of each span


class ShardTar(tarfile.TarFile):
    """Writes the bytes that TarFile writes of read-only files without owner and time, but sooner.

    Their headers differ in name, size and checksum only: bytes 0 to 99, 11 octal digits from byte 124, and the sum of
    the header's bytes in 6 from byte 148.
    """

    def __init__(self, file: BinaryIO):
        super().__init__(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)
        self._header = _member("").tobuf(tarfile.USTAR_FORMAT)
        self._sum = int(self._header[148:154], 8) - sum(self._header[124:135])

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add a file. Raises ValueError where its name is too long for a tar."""
        encoded, size = name.encode(self.encoding, self.errors), b"%011o" % len(data)
        if len(encoded) > tarfile.LENGTH_NAME or len(size) > 11:
            member = _member(name)
            member.size = len(data)
            self.addfile(member, BytesIO(data))  # which divides the name, or refuses either
            return
        header = bytearray(self._header)
        header[: len(encoded)] = encoded
        header[124:135] = size
        header[148:154] = b"%06o" % (self._sum + sum(encoded) + sum(size))
        for piece in (bytes(header), data, bytes(layout.padded(len(data)) - len(data))):
            self.fileobj.write(piece)
        self.offset += layout.TAR_BLOCK + layout.padded(len(data))


def _member(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = 0o444
    return member


def write_dataset(
    folder: Path,
    splits: Mapping[str, Iterable[layout.Sample]],
    *,
    name: str,
    class_names: list[str],
    provenance: dict[str, str],
    samples_per_shard: int = layout.SAMPLES_PER_SHARD,
) -> layout.Manifest:
    """Write shards, indices and dataset.json into `folder` and return the manifest.

    Each split is consumed once, in order, and never held in memory; one without samples is left out. The same samples
    give the same bytes. Raises RestokError where there are none at all, OSError where the folder cannot be written.
    """
    shards: dict[str, list[layout.ShardInfo]] = {split: [] for split in splits}
    sizes: set[tuple[int, int]] = set()
    for split, samples in splits.items():
        samples = iter(samples)
        while first := list(islice(samples, 1)):
            path = folder / shard_name(split, len(shards[split]))
            shard, shard_sizes = write_shard(path, chain(first, islice(samples, samples_per_shard - 1)))
            shards[split].append(shard)
            sizes |= shard_sizes
    manifest = make_manifest(shards, sizes, name=name, class_names=class_names, provenance=provenance)
    write_manifest(folder, manifest)
    return manifest


def shard_name(split: str, number: int) -> str:
    """The file name of a shard that restok writes."""
    return f"{split}-{number:06d}.tar"


def write_shard(path: Path, samples: Iterable[layout.Sample]) -> tuple[layout.ShardInfo, set[tuple[int, int]]]:
    """Write one tar and its index, each whole or not at all; return what the manifest says of it, and image sizes.

    Raises OSError where they cannot be written.
    """
    entries, sizes = [], set()
    to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each
    with whole_file(path) as temporary, open(temporary, "w+b", CHUNK_BYTES) as file, synced_early(file):
        with ShardTar(file) as tar:
            for sample in samples:
                if sample.class_id != layout.NO_CLASS:
                    tar.add_bytes(f"{sample.key}.cls", str(sample.class_id).encode())
                tar.add_bytes(f"{sample.key}.json", to_json(sample.info).encode())
                tar.add_bytes(f"{sample.key}.{sample.suffix}", sample.data)
                # the image is what was written last, padded to whole blocks
                offset = tar.offset - layout.padded(len(sample.data))
                entries.append((offset, len(sample.data), sample.class_id))
                sizes.add(sample.size)
        file.seek(0)
        digest = digest_spans(file, [offset + layout.padded(length) for offset, length, _ in entries])
    index = make_index(entries, digest)
    write_index(layout.index_path(path), index)
    return describe_shard(path.name, index, digest), sizes


def digest_spans(file: BinaryIO, ends: Sequence[int]) -> Digest:
    """Read a shard to its end. Its spans follow each other without a gap, span `i` up to byte `ends[i]`.

    The span of a sample reaches from the end of the image before it to the end of its own, padding and all: in our
    shards that is everything about the sample. Where the file is too short, the last checksums are of what there is.
    """
    sha256, position, checksums = hashlib.sha256(), 0, []

    def read(length: int) -> bytes:
        nonlocal position
        data = file.read(length)
        sha256.update(data)
        position += len(data)
        return data

    for end in ends:
        checksum = 0
        while data := read(min(max(end - position, 0), CHUNK_BYTES)):
            checksum = zlib_ng.crc32(data, checksum)
        checksums.append(checksum)
    while read(CHUNK_BYTES):
        pass
    return Digest(position, sha256.hexdigest(), checksums)


def make_index(entries: Iterable[tuple[int, int, int]], digest: Digest) -> np.ndarray:
    """The index of a shard: (offset, length, class id) of each image, with the checksum of its span."""
    return np.array(
        [(*entry, checksum) for entry, checksum in zip(entries, digest.checksums, strict=True)], layout.INDEX_DTYPE
    )


def write_index(path: Path, index: np.ndarray) -> None:
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.save(file, index)


def describe_shard(file: str, index: np.ndarray, digest: Digest) -> layout.ShardInfo:
    """Entry of a shard in dataset.json."""
    return layout.ShardInfo(
        file=file,
        num_samples=len(index),
        bytes=digest.num_bytes,
        sha256=digest.sha256,
        index_crc32=zlib_ng.crc32(index.tobytes()),
    )


def make_manifest(
    shards: dict[str, list[layout.ShardInfo]],
    sizes: set[tuple[int, int]],
    *,
    name: str,
    class_names: list[str],
    provenance: dict[str, str],
) -> layout.Manifest:
    """The manifest of these shards; a split without any is left out. Raises RestokError where there are none at all."""
    splits = {
        split: layout.SplitInfo(num_samples=sum(shard.num_samples for shard in infos), shards=infos)
        for split, infos in shards.items()
        if infos
    }
    if not splits:
        raise RestokError(f"{name}: not one image could be read, so there is no data set to write")
    return layout.Manifest(
        name=name,
        splits=splits,
        class_names=class_names,
        image_size=next(iter(sizes)) if len(sizes) == 1 else None,
        provenance=provenance | {"restok": version("restok")},
        fingerprint=layout.fingerprint(splits, class_names),
    )


def write_manifest(folder: Path, manifest: layout.Manifest) -> None:
    """Write dataset.json into `folder`, which makes a data set of what else lies there: so write it last."""
    write_text(folder / layout.MANIFEST, manifest.model_dump_json(indent=1) + "\n")


def write_timm_manifest(folder: Path, manifest: layout.Manifest) -> None:
    """Write _info.json into `folder`, by which timm finds the shards."""
    write_text(folder / layout.TIMM_MANIFEST, layout.timm_manifest(manifest))


def write_sample(folder: Path) -> layout.Manifest:
    """Write the data set that comes with restok into `folder`, its shards as plain tars, and return the manifest."""
    manifest = layout.read_manifest(layout.SAMPLE_FOLDER)
    for shard in chain.from_iterable(split.shards for split in manifest.splits.values()):
        packed = layout.SAMPLE_FOLDER / shard.file
        shard.file = shard.file.removesuffix(".gz")
        (folder / shard.file).write_bytes(gzip.decompress(packed.read_bytes()))
        index = layout.index_path(packed)
        (folder / index.name).write_bytes(index.read_bytes())
    for text in layout.SAMPLE_TEXTS:
        (folder / text).write_bytes((layout.SAMPLE_FOLDER / text).read_bytes())
    write_timm_manifest(folder, manifest)
    write_manifest(folder, manifest)
    return manifest
