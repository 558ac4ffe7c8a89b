"""The points of a model at which its frozen features are probed, each a part of one row of numbers for an image."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from restok_cli.console import counted, note
from restok_cli.data.images import to_float
from restok_cli.data.shards.code_cache import CodeCache
from restok_cli.errors import UsageError
from restok_cli.metrics.networks.features import Features
from restok_cli.model.har import Har
from restok_cli.model.levels import level_sizes, prefix_lengths, stage_sizes
from restok_cli.pretrained.folder import (
    HarFolder,
    TokenizerFolder,
    find_tokenizer,
    fingerprint,
    found_fingerprint,
    open_any,
    open_har,
    open_tokenizer,
)
from restok_cli.pretrained.modules import load_for_use

Part = Literal["tokenizer", "generator"]
VERSION = 2  # to be raised when points hold other numbers for the same images and weights


class Point(NamedTuple):
    name: str
    meaning: str
    columns: slice  # of a row

    @property
    def dimensions(self) -> int:
        return self.columns.stop - self.columns.start


class Which(NamedTuple):
    """The features that are asked for."""

    part: Part | None  # of a generator with its tokenizer; None: the generator, or the tokenizer if that is all
    block: str | None  # of a generator: its number from 1 on, or all; None: the middle one
    tokenizer: Path | None  # for a generator without one


@dataclass
class Probed:
    """A model as it is probed: to the cache of features, a network like those behind metrics."""

    part: Part
    model_fingerprint: str
    tokenizer_fingerprint: str | None  # of that which makes the codes; None where nobody knows it
    device: torch.device
    points: list[Point]
    extract: Callable[[Tensor], Tensor]  # images, or codes (B, L), on the device -> rows (B, D)
    image_size: tuple[int, int] | None  # of the images that it takes; None where it takes codes
    name: str  # with all that decides a row, but for the weights
    spatial_dimensions = num_classes = 0
    resize, published = "none", False

    def __post_init__(self) -> None:
        self.dimensions = max(point.columns.stop for point in self.points)
        self.weights_sha256 = f"{self.model_fingerprint} {self.tokenizer_fingerprint}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        return Features(self.extract(images.to(self.device)).float().cpu())

    def logits(self, pool: Tensor) -> Tensor:
        return pool[:, :0]


def open_probed(path: Path, which: Which, codes: CodeCache | None, device: torch.device) -> Probed:
    """The model at `path`, loaded to be probed with `codes`, or with images where those are None.

    Raises UsageError where that does not go together.
    """
    if which.part == "tokenizer":
        folder = open_tokenizer(path)
    else:
        folder = open_har(path) if which.part == "generator" else open_any(path)
    if isinstance(folder, HarFolder):
        return _probed_har(folder, path, which, codes, device)
    if which.block or which.tokenizer:
        option = "--block" if which.block else "--tokenizer"
        raise UsageError(f"{option} is of generators, and {path} is probed as a tokenizer; leave it out")
    if codes is not None:
        raise UsageError(f"{codes.title} holds no images, of which a tokenizer's features are made; give the data set")
    return _probed_tokenizer(folder, device)


def _points(parts: list[tuple[str, str, int]]) -> list[Point]:
    """Points that follow each other in a row, of names, meanings and widths."""
    ends = accumulate(width for *_, width in parts)
    return [
        Point(name, meaning, slice(end - width, end)) for (name, meaning, width), end in zip(parts, ends, strict=True)
    ]


def _probed_tokenizer(folder: TokenizerFolder, device: torch.device) -> Probed:
    """Image tokens of each stage as the encoder's last block leaves them, and the code vectors of each prefix."""
    tokenizer, config = load_for_use(folder, device), folder.config
    sizes = stage_sizes(config.num_image_tokens, config.num_stages, config.merge_factor)
    where = f"after the encoder's last block ({config.encoder_layers}), mean over positions"
    parts = [
        (f"stage-{stage}", f"{counted(size, 'image token')} of stage {stage} {where}", config.encoder_width)
        for stage, size in enumerate(sizes, start=1)
    ]
    points, width = _points(parts), config.codebook_dim
    start = points[-1].columns.stop
    for length in prefix_lengths(config.num_latent_tokens):
        meaning = f"code vectors of the first {counted(length, 'latent')}, one after the other"
        points.append(Point(f"latents-{length}", meaning, slice(start, start + length * width)))

    def extract(images: Tensor) -> Tensor:
        encoded = tokenizer.encode_latents(to_float(images))
        stages = [tokens.mean(1) for tokens in reversed(encoded.image_tokens)]  # finest first, as stages are counted
        vectors = tokenizer.quantizer.lookup(tokenizer.quantizer(encoded.latents).codes)
        return torch.cat([*stages, vectors.flatten(1)], dim=1)

    name, own = f"probe {VERSION}: tokenizer", fingerprint(folder)
    return Probed("tokenizer", own, own, device, points, extract, config.image_size, name)


def _probed_har(folder: HarFolder, path: Path, which: Which, codes: CodeCache | None, device: torch.device) -> Probed:
    """Blocks' outputs for an image's codes and the null class: the class itself would be the answer."""
    config = folder.config
    blocks = _blocks(which.block, config.num_layers)
    sizes = level_sizes(config.num_codes)
    by_level = which.block != "all"
    name = f"probe {VERSION}: generator, blocks {blocks}, {'levels' if by_level else 'means'}"
    if codes is not None:
        _check_codes(folder, path, which, codes)
        encode, image_size, known = None, None, codes.tokenizer_fingerprint or None
    else:
        tokenizer_folder = find_tokenizer(folder, path, which.tokenizer)
        tokenizer = load_for_use(tokenizer_folder, device)
        known = found_fingerprint(folder, tokenizer_folder, which.tokenizer)
        encode, image_size = tokenizer.encode, tokenizer_folder.config.image_size
    if config.num_classes and not config.class_dropout:
        note(f"{path} was trained without class dropout: it has never seen the null class that it is given here")
    har = load_for_use(folder, device)
    parts = []
    for block in blocks:
        where = f"after block {block} of {config.num_layers}"
        parts.append((f"block-{block}", f"all positions {where}, mean", config.width))
        for level, size in enumerate(sizes[1:] if by_level else (), start=2):
            meaning = f"{counted(size, 'position')} of level {level} {where}, mean"
            parts.append((f"block-{block} level-{level}", meaning, config.width))

    def extract(images: Tensor) -> Tensor:
        codes = images.long() if encode is None else encode(to_float(images))
        return torch.cat(_block_means(har, codes, blocks, sizes if by_level else ()), dim=1)

    return Probed("generator", fingerprint(folder), known, device, _points(parts), extract, image_size, name)


def _check_codes(folder: HarFolder, path: Path, which: Which, codes: CodeCache) -> None:
    """Raises UsageError where these are not codes that the generator was trained on."""
    if which.tokenizer is not None:
        raise UsageError("--tokenizer makes codes of images, and DATA holds codes already; leave it out")
    ours, theirs = (folder.config.num_codes, folder.config.codebook_size), (codes.num_codes, codes.codebook_size)
    known, found = folder.tokenizer_fingerprint, codes.tokenizer_fingerprint
    if ours != theirs or (known and found and known != found):
        raise UsageError(
            f"{path} was trained on the codes of another tokenizer than {codes.folder}; make codes with its own"
        )


def _blocks(asked: str | None, num_layers: int) -> list[int]:
    """The blocks that --block names. Raises UsageError where there is none such."""
    if asked == "all":
        return list(range(1, num_layers + 1))
    block = (num_layers + 1) // 2 if asked is None else int(asked)
    if not 1 <= block <= num_layers:
        raise UsageError(f"--block {block}: this generator has {num_layers}; give 1 to {num_layers}, or all")
    return [block]


def _block_means(har: Har, codes: Tensor, blocks: list[int], sizes: tuple[int, ...]) -> list[Tensor]:
    """For each block, its output (B, C) as a mean over positions, and over those of each level.

    But for the first level, whose position sees no code.
    """
    null = torch.full((len(codes),), har.class_embedding.null_class, device=codes.device)
    tokens = har.embed_inputs(null, codes, 0, har.config.num_codes)
    means = []
    for layer, block in enumerate(har.blocks):
        if layer == max(blocks):
            break
        tokens = block(tokens, har.rotary, har.mask)
        if layer + 1 in blocks:
            levels = tokens.split(sizes, 1)[1:] if sizes else ()
            means += [tokens.mean(1), *(level.mean(1) for level in levels)]
    return means
