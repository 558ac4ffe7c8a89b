"""Checks of `restok doctor` on files: weights of other people's networks, data sets, models."""

from collections.abc import Iterator
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from restok_cli.commands.doctor_machine import Finding, guarded
from restok_cli.console import counted
from restok_cli.errors import RestokError, UsageError

if TYPE_CHECKING:
    from restok_cli.pretrained.folder import ModelFolder

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # one of which timm takes


class TorchWeights(NamedTuple):
    """Weights that are downloaded to torch's cache when they are first needed."""

    subject: str
    purpose: str
    option: str  # that takes a file of them
    url: str
    hash_start: str  # of the file's SHA-256


class HubWeights(NamedTuple):
    """Weights that timm downloads from the Hugging Face hub when they are first needed."""

    subject: str
    name: str  # timm's
    purpose: str
    option: str  # that takes a file of them


def torch_weights() -> Iterator[Finding]:
    """Those that come by URL, and whose hash is known."""
    from restok_cli.metrics.inception import INCEPTION_SHA256_START, URL_INCEPTION_V3
    from restok_cli.metrics.lpips import URL_VGG16, VGG16_SHA256_START

    for each in (
        TorchWeights(
            *("Inception (96 MB)", "gfid, rfid, fid, sfid, is, precision, recall and kid", "--inception-weights FILE"),
            *(URL_INCEPTION_V3, INCEPTION_SHA256_START),
        ),
        TorchWeights(
            *("VGG-16 (528 MB)", "LPIPS", "--vgg-weights FILE, in training as loss.lpips_weights"),
            *(URL_VGG16, VGG16_SHA256_START),
        ),
    ):
        yield from guarded(each.subject, partial(_torch_file, each))


def _torch_file(weights: TorchWeights) -> Iterator[Finding]:
    from torch.hub import get_dir

    from restok_cli.files import file_sha256

    path = Path(get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
    if not path.exists():
        text = f"not here, for {weights.purpose}; downloaded when first needed"
        remedy = f"offline: fetch {weights.url} elsewhere and put it at {path}, or give it as {weights.option}"
        yield Finding("note", weights.subject, text, remedy)
    elif not file_sha256(path).startswith(weights.hash_start):
        text = f"{path} is damaged or another file"
        yield Finding("problem", weights.subject, text, f"delete it, or fetch {weights.url} again")
    else:
        yield Finding("ok", weights.subject, f"{path}, for {weights.purpose}")


def hub_weights() -> Iterator[Finding]:
    """Those that timm takes from the hub."""
    from restok_cli.metrics.backbones import TIMM_NAMES
    from restok_cli.settings.training import DINO, AlignmentConfig

    teacher = AlignmentConfig().teacher
    for each in (
        HubWeights("DINOv3", teacher, "alignment in training (restok-s/b/l-128)", "alignment.weights"),
        HubWeights("DINO", DINO, "the discriminator in training (restok-s/b/l-128)", "discriminator.weights"),
        HubWeights("DINOv2", TIMM_NAMES["dinov2"], "evaluate --features dinov2", "--timm-weights FILE"),
        HubWeights("CLIP", TIMM_NAMES["clip"], "evaluate --features clip", "--timm-weights FILE"),
    ):
        yield from guarded(each.subject, partial(_hub_file, each))


def _hub_file(weights: HubWeights) -> Iterator[Finding]:
    from huggingface_hub import try_to_load_from_cache

    repository = f"timm/{weights.name}"
    found = [path for file in HUB_FILES if isinstance(path := try_to_load_from_cache(repository, file), str)]
    url = f"https://huggingface.co/{repository}/resolve/main/{HUB_FILES[0]}"
    fetch = f"fetch {url} elsewhere and give it as {weights.option}"
    if not found:
        text = f"not here, for {weights.purpose}; downloaded when first needed"
        yield Finding("note", weights.subject, text, f"offline: {fetch}")
    elif not _is_weights(Path(found[0])):
        yield Finding("problem", weights.subject, f"{found[0]} is damaged", f"delete it, or {fetch}")
    else:
        yield Finding("ok", weights.subject, f"{found[0]}, for {weights.purpose}")


def _is_weights(path: Path) -> bool:
    """Whether the file is as long as its header says; one that may be pickled is only seen to be there."""
    if path.suffix.lower() != ".safetensors":
        return path.stat().st_size > 0
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, OSError):
        return False


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
        yield Finding("ok", path, text, f"`restok prepare verify {path}` reads every picture")


def _check_codes(path: str) -> Iterator[Finding]:
    from restok_cli.data.shards.code_cache import open_codes

    codes = open_codes(path)
    counts = ", ".join(f"{name} {len(codes.split(name))}" for name in codes.splits)
    yield Finding("ok", path, f"codes of {codes.name}, {counts}, as they were made")


def _check_model(path: str) -> Iterator[Finding]:
    """Config and header of the weights; for a generator also those of its tokenizer."""
    from restok_cli.pretrained.folder import CONFIG_FILE, HUB_PREFIX, TOKENIZER_FOLDER, find_model, open_model
    from restok_cli.settings.layers import config_path

    if path.startswith(HUB_PREFIX):
        yield Finding("note", path, "on the hub, where doctor does not look", f"`restok models show {path}` does")
        return
    if not Path(path).is_dir():
        raise UsageError(f"{path}: no such folder; give a data set, codes, a model or a run")
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

    from restok_cli.pretrained.folder import check_tensors, empty_model

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


FILE_CHECKS = (torch_weights, hub_weights)
