"""Is a model what was written, or published, to the last bit?"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch

from restok_cli.errors import RestokError
from restok_cli.files import file_sha256
from restok_cli.pretrained.checksums import CHECKSUMS_FILE, read_checksums
from restok_cli.pretrained.folder import CONFIG_FILE, MODEL_FILES, TOKENIZER_FOLDER, HarFolder, fingerprint, open_model
from restok_cli.pretrained.modules import load_model

SHA256_LENGTH, SHA1_LENGTH = 64, 40  # in hexadecimal digits
ABOUT_IT = (".md", ".json")  # cards: what nothing is computed with


class Verified(NamedTuple):
    """A file of a model, or the folder where it is about several."""

    path: Path
    digest: str | None  # that it was compared with: crc32, sha256 or git (the hub's for small files); None: it has none
    problem: str | None = None


def verify_model(folder: Path) -> list[Verified]:
    """Read the model in `folder`, and a generator's tokenizer, and compare all files with their digests.

    Where those are right, it is also loaded, which shows what files without digests lack.
    """
    parts = [folder, *(part for part in [folder / TOKENIZER_FOLDER] if part.is_dir())]
    found = [verified for part in parts for verified in _verify_files(part)]
    if any(verified.problem for verified in found):
        return found
    return found + [Verified(folder, None, problem) for problem in _contents_problems(parts)]


def _verify_files(folder: Path) -> list[Verified]:
    found, sums = [], {}
    try:
        sums = read_checksums(folder)
    except RestokError:
        found.append(Verified(folder / CHECKSUMS_FILE, None, "is damaged"))
    for name in MODEL_FILES:
        path = folder / name
        published = _published_digest(path)
        if published is not None:
            kind, digest = published
            found.append(Verified(path, kind, _published_problem(path, digest)))
        elif name in sums:
            found.append(Verified(path, "crc32", sums[name].problem(path)))
        elif path.is_file() and (name == CONFIG_FILE or path.suffix not in ABOUT_IT):
            found.append(Verified(path, None))
    return found


def _published_digest(path: Path) -> tuple[str, str] | None:
    """Kind and digest of a file in the cache of the hub, where it is a link to a file that is called by its digest."""
    target = path.readlink() if path.is_symlink() else path
    kinds = {SHA256_LENGTH: "sha256", SHA1_LENGTH: "git"}
    if target.parent.name != "blobs" or len(target.name) not in kinds or set(target.name) - set("0123456789abcdef"):
        return None
    return kinds[len(target.name)], target.name


def _published_problem(path: Path, digest: str) -> str | None:
    if not path.is_file():
        return "is missing"
    if len(digest) == SHA256_LENGTH:
        found = file_sha256(path)
    else:
        data = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return None if found == digest else "is not as it was published"


def _contents_problems(parts: list[Path]) -> list[str]:
    """Problems of the files together."""
    try:
        models = [open_model(part) for part in parts]
        for model in models:
            load_model(model, torch.device("cpu"))
    except RestokError as error:
        return [str(error)]
    if len(models) == 1 or not isinstance(models[0], HarFolder):
        return []
    if models[0].tokenizer_fingerprint not in (None, fingerprint(models[1])):
        return [f"its {TOKENIZER_FOLDER} is another one than it was trained with"]
    return []
