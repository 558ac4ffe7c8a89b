"""Reading a code cache (see `code_layout`): samples by their number."""

from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import numpy as np

from restok_cli.data.shards import code_layout
from restok_cli.data.shards.manifests import InSplits, locate
from restok_cli.data.shards.mapping import map_shard


class CodeSplit:
    """The samples of one split, numbered from 0 in the order of the shards."""

    def __init__(self, name: str, folder: Path, manifest: code_layout.CodeManifest):
        self.name, self.num_views = name, code_layout.NUM_VIEWS[manifest.views[name]]
        self.folder, self.manifest, self.shards = folder, manifest, manifest.splits[name]
        self.ends = list(accumulate(shard.num_samples for shard in self.shards))
        self.opened: dict[int, np.ndarray] = {}  # the records of shards that were read

    def __len__(self) -> int:
        return self.ends[-1]

    def _record(self, i: int) -> np.void:
        number, position = locate(self.ends, i)
        if number not in self.opened:
            self.opened[number] = self._open(self.shards[number])
        return self.opened[number][position]

    def _open(self, shard: code_layout.CodeShardInfo) -> np.ndarray:
        """All samples. Raises RestokError where the file is damaged, or holds codes or classes that do not exist."""
        path, plan = self.folder / shard.file, self.manifest
        records = code_layout.open_records(path, shard, plan, self.name, map_shard)
        if code_layout.impossible(records, plan).any():
            what = f"holds codes or classes outside the {plan.codebook_size} and {len(plan.class_names)}"
            raise code_layout.MADE.damaged(path, f"{what} that {code_layout.CODES_FILE} speaks of")
        return records

    def codes(self, i: int, view: int) -> np.ndarray:
        """The codes (L,) of one view of sample `i`. Raises RestokError where the shard is damaged."""
        return self._record(i)["codes"][view]

    def class_id(self, i: int) -> int:
        """The class of sample `i`, -1 where the data set has no classes."""
        return int(self._record(i)["class_id"])

    def key(self, i: int) -> str:
        """The key of sample `i` in its data set."""
        return self._record(i)["key"].decode(errors="replace")


class CodeCache(InSplits[CodeSplit]):
    """The codes of a data set: splits, classes, and what they were made with."""

    def __init__(self, folder: Path, manifest: code_layout.CodeManifest):
        self.folder, self.manifest = folder, manifest
        self.name, self.fingerprint = manifest.data_name, manifest.fingerprint
        self.title = f"code cache {folder}"
        self.tokenizer_fingerprint = manifest.tokenizer_fingerprint
        self.codebook_size, self.num_codes = manifest.codebook_size, manifest.num_codes
        self.class_names = manifest.class_names
        self.splits = list(manifest.splits)

    def open_split(self, name: str) -> CodeSplit:
        return CodeSplit(name, self.folder, self.manifest)


def open_codes(path: str | Path) -> CodeCache:
    """Open a folder that `restok prepare codes` made.

    Raises UsageError where `path` is none or is unfinished, RestokError where a part of it is missing or damaged.
    """
    folder = Path(path)
    manifest = code_layout.read_code_manifest(folder)
    if manifest.fingerprint != code_layout.fingerprint(manifest, manifest.splits):
        raise code_layout.MADE.damaged(folder / code_layout.CODES_FILE, "does not fit its fingerprint")
    shards = [shard for shards in manifest.splits.values() for shard in shards]
    with ThreadPoolExecutor() as pool:  # SHA-256 lets other threads run
        list(
            pool.map(lambda shard: code_layout.MADE.check_file(folder / shard.file, shard.bytes, shard.sha256), shards)
        )
    return CodeCache(folder, manifest)
