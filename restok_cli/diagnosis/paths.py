"""Checks of `restok doctor` on data sets, code caches, models and runs."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from restok_cli.console import counted
from restok_cli.diagnosis.environment import Finding
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import check_is_folder

if TYPE_CHECKING:
    from restok_cli.pretrained.folder import ModelFolder


def check_path(path: str) -> Iterator[Finding]:
    """A data set, a code cache, a model or a run."""
    from restok_cli.data.shards.code_layout import is_codes
    from restok_cli.data.shards.layout import is_dataset

    check = _check_codes if is_codes(path) else _check_dataset if is_dataset(path) else _check_model
    try:
        yield from check(path)
    except RestokError as error:
        yield Finding("problem", path, str(error).removeprefix(f"{path}: "))  # which says what to do, too


def _check_dataset(path: str) -> Iterator[Finding]:
    """Shards by their size, indices as a whole; verify does the rest."""
    from restok_cli.data.shards.dataset import StreamedSplit, open_dataset

    dataset = open_dataset(path, allow_pipe=True)  # which runs nothing yet
    counts = []
    for name in dataset.splits:
        split = dataset.split(name)
        if isinstance(split, StreamedSplit):
            yield Finding(
                "note", path, f"the shards of {name} are elsewhere ({split.urls[0]}), so nothing is known of them"
            )
            continue
        counts.append(f"{name} {len(split.class_ids)}")
    if counts:
        classes = counted(dataset.num_classes, "class", "classes")
        text = f"a data set, {', '.join(counts)}, {classes}; shards are there, and as long as they should be"
        yield Finding("ok", path, text, f"`restok prepare verify {path}` reads every image")


def _check_codes(path: str) -> Iterator[Finding]:
    from restok_cli.data.shards.code_cache import open_codes

    codes = open_codes(path)
    counts = ", ".join(f"{name} {len(codes.split(name))}" for name in codes.splits)
    yield Finding("ok", path, f"codes of {codes.name}, {counts}, as they were made")


def _check_model(path: str) -> Iterator[Finding]:
    """Config and header of the weights; for a generator also those of its tokenizer."""
    from restok_cli.pretrained.folder import CONFIG_FILE, HUB_PREFIX, TOKENIZER_FOLDER, find_model, open_model
    from restok_cli.settings.precedence import config_path

    if path.startswith(HUB_PREFIX):
        yield Finding("note", path, "on the hub, where doctor does not look", f"`restok models show {path}` does")
        return
    check_is_folder(Path(path), "a data set, codes, a model or a run")
    if not any((folder / CONFIG_FILE).is_file() for folder in (Path(path), Path(path, "model"))):
        if config_path(Path(path)).is_file():
            yield Finding("note", path, "a run that has made no model yet", "the same command with --resume goes on")
            return
        raise UsageError(f"{path}: neither a data set nor codes, a model or a run; `restok prepare folder` makes data")
    folder = open_model(find_model(Path(path), "tokenizer"))
    parts = [folder]
    if (folder.path / TOKENIZER_FOLDER).is_dir():
        parts.append(open_model(folder.path / TOKENIZER_FOLDER))
    counts = [f"a {'generator' if part.kind == 'har' else part.kind} of {_count(part):,} weights" for part in parts]
    text = f"{' with '.join(counts)}, readable and as its config says"
    yield Finding("ok", path, text, f"`restok models verify {path}` reads every weight")


def _count(folder: "ModelFolder") -> int:
    """The weights in a model, by its header. Raises RestokError where they are not those of its config."""
    import torch
    from safetensors import SafetensorError, safe_open

    from restok_cli.pretrained.modules import check_tensors, empty_model

    expected = {name: tensor.shape for name, tensor in empty_model(folder.config).state_dict().items()}
    if folder.weights_file.suffix == ".bin":  # whose header is code; only loading it tells more
        if not folder.weights_file.is_file():
            raise RestokError(f"{folder.weights_file} is missing; copy the model again")
        return sum(map(prod, expected.values()))
    try:
        with safe_open(folder.weights_file, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError) as error:
        raise RestokError(f"{folder.weights_file} cannot be read ({error}); copy or make it again") from error
    if not folder.is_released:  # of that layout, loading checks the names
        check_tensors(folder.weights_file, expected, {n: torch.empty(s, device="meta") for n, s in shapes.items()})
    return sum(map(prod, shapes.values()))
