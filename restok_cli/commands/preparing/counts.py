"""Output of the `prepare` commands about the data set that they made: where it is, or its counts."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from restok_cli.console import counted, note

if TYPE_CHECKING:
    from restok_cli.data.shards.layout import Manifest
    from restok_cli.data.sources.preparation import Preparation


def print_counts(out: Path, preparation: "Preparation", as_json: bool) -> None:
    """Print the folder, or as JSON all counts."""
    manifest, num_bad, edges, changes, passed_over, turned = preparation
    counts = {split: info.num_samples for split, info in manifest.splits.items()}
    classes = len(manifest.class_names)
    if as_json:
        result = {"path": str(out), "images": sum(counts.values()), "unreadable": num_bad}
        result |= {"passed_over": dict(passed_over), "re_encoded": sum(changes.values()), "turned": turned}
        result |= {"classes": classes, "splits": counts}
        print(json.dumps(result | ({"shorter_edge": edges._asdict()} if edges else {})))
    else:
        print(out)
    parts = ", ".join(f"{split} {count}" for split, count in counts.items())
    kinds = counted(classes, "class", "classes") if classes else "no classes"
    note(f"{counted(sum(counts.values()), 'image')}, {kinds}: {parts}")
    if edges is not None:
        note(f"sizes: {edges}")


def print_remote_counts(out: Path, manifest: "Manifest", as_json: bool) -> None:
    """Print the same of shards that nobody has read."""
    urls = {split: len(info.urls) for split, info in manifest.splits.items()}
    classes = len(manifest.class_names) or None
    if as_json:
        result = {"path": str(out), "images": None, "classes": classes, "splits": dict.fromkeys(urls), "urls": urls}
        print(json.dumps(result))
    else:
        print(out)
    parts = ", ".join(f"{split} {count}" for split, count in urls.items())
    note(f"{counted(sum(urls.values()), 'URL')} named: {parts}; nothing was read, so the images are not counted")
