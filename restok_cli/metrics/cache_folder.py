"""Where the cache lies, and references in it by name. No torch here."""

import os
from contextlib import suppress
from pathlib import Path

from restok_cli.errors import UsageError, did_you_mean


def default_cache() -> Path | None:
    """The folder for what can be made again, where the desktop's rules put it; None for a user without a home."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if caches.startswith("~") else Path(caches) / "restok"


def find_reference(source: str, cache: Path | None) -> Path:
    """The path that `source` is, or the file of the cache to which --make-reference gave that name.

    Raises UsageError for a bare name that is neither.
    """
    path = Path(source)
    named = []
    with suppress(PermissionError):  # a cache of another user, who lets nobody look in
        named = sorted(file.stem for file in (cache / "references").glob("*.npz")) if cache else []
    if not path.exists() and source in named:
        return reference_path(source, cache)
    if not path.exists() and source != "sample" and path.name == source and not path.suffix:
        raise UsageError(
            f"--reference {source}: no such file, folder or name{did_you_mean(source, named)}; names are made by"
            f" `restok evaluate --make-reference DATA -o NAME`{': ' + ', '.join(named) if named else ''}"
        )
    return path


def reference_path(output: str, cache: Path | None) -> Path:
    """Where --make-reference writes: to a file that ends in .npz, or under a bare name to the cache.

    Raises UsageError for anything else.
    """
    path = Path(output)
    if path.suffix.lower() == ".npz":
        return path
    if path.name != output or path.suffix or cache is None:
        raise UsageError(f"-o {output}: give a file that ends in .npz, or a name without slashes and dots")
    return cache / "references" / f"{output}.npz"
