"""Is a code cache what was made, to the last bit? And if not, which samples are not?"""

from pathlib import Path

import numpy as np

from restok_cli.data.shards import code_layout
from restok_cli.data.shards.verify import Problem, ShardReport, Verification, doubled_keys
from restok_cli.data.sources.walk import is_hidden
from restok_cli.errors import RestokError
from restok_cli.files import file_sha256


def verify_codes(path: str | Path) -> Verification:
    """Read a code cache from end to end and compare it with its manifest.

    Raises UsageError where `path` is no finished code cache, RestokError where its codes.json is damaged.
    """
    folder = Path(path)
    manifest = code_layout.read_code_manifest(folder)
    problems = []
    if code_layout.fingerprint(manifest, manifest.splits) != manifest.fingerprint:
        what = "the fingerprint is not that of this tokenizer, these shards and class names: it was changed"
        problems.append(Problem(code_layout.CODES_FILE, None, what))
    shards = [(split, shard) for split, shards in manifest.splits.items() for shard in shards]
    known = {code_layout.CODES_FILE, *(shard.file for _, shard in shards)}
    names = sorted(file.name for file in folder.iterdir() if file.name not in known and not is_hidden(file.name))
    problems += [Problem(name, None, f"{code_layout.CODES_FILE} does not speak of it") for name in names]
    for split, members in manifest.splits.items():
        keys = []
        for shard in members:
            found_keys, found = _verify_shard(folder / shard.file, shard, manifest, split)
            keys.append((shard.file, found_keys))
            problems += found
        problems += doubled_keys(keys)
    return Verification(len(shards), sum(shard.num_samples for _, shard in shards), [], problems)


def _verify_shard(
    path: Path, info: code_layout.CodeShardInfo, manifest: code_layout.CodeManifest, split: str
) -> ShardReport:
    try:
        records = code_layout.open_records(path, info, manifest, split)
    except RestokError:
        what = "is cut short, or its header was changed" if path.exists() else "is missing"
        return [], [Problem(path.name, None, what)]
    keys = [key.decode(errors="replace") for key in records["key"].tolist()]
    changed = np.array([code_layout.checksum(record) != record["checksum"] for record in records], dtype=bool)
    problems = [Problem(path.name, keys[i], "was changed") for i in np.flatnonzero(changed)]
    if file_sha256(path) != info.sha256 and not problems:
        problems.append(Problem(path.name, None, "was changed outside its samples"))
    problems += [
        Problem(path.name, keys[i], "has a code or a class that does not exist")
        for i in np.flatnonzero(code_layout.impossible(records, manifest) & ~changed)
    ]
    return keys, problems
