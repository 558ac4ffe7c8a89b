"""Where a generator's training gets its codes: a cache that `prepare codes` made, or pictures encoded on the way."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from restok_cli.data.images import to_float
from restok_cli.data.loader import batches, evaluation_batches
from restok_cli.data.shards import Dataset, open_dataset
from restok_cli.model.checkpoint import ModelFolder
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.processes import rank, world_size
from restok_cli.training.config import HarRunConfig


class Coded(NamedTuple):
    """What pictures show, and their codes, on the device."""

    class_ids: Tensor  # int64 (B,), -1 where there are no classes
    codes: Tensor  # int64 (B, L)


class CodeSource(Protocol):
    """Two kinds of data with one face."""

    fingerprint: str  # of the data
    class_names: list[str]

    def training(self, config: HarRunConfig, micro_batch_size: int, first_step: int) -> Iterator[Coded]:
        """This process's micro-batches from a step on, without end."""

    def evaluation(self, batch_size: int, process: int = 0, processes: int = 1) -> Iterator[Coded]:
        """Every held-out picture once, in order, in batches of which this is every `processes`-th from `process` on."""


class EncodedPictures:
    """Pictures, randomly changed and encoded at each visit by the frozen tokenizer: in float32, as a cache would be."""

    def __init__(self, data: Dataset, tokenizer: Tokenizer, device: torch.device):
        self.data, self.tokenizer, self.device = data, tokenizer, device
        self.fingerprint, self.class_names = data.fingerprint, data.class_names

    def training(self, config: HarRunConfig, micro_batch_size: int, first_step: int) -> Iterator[Coded]:
        for batch in batches(
            self.data.split("train"),
            image_size=self.tokenizer.config.image_size,
            batch_size=config.schedule.batch_size,
            micro_batch_size=micro_batch_size,
            rank=rank(),
            world_size=world_size(),
            seed=config.schedule.seed,
            first_step=first_step,
            **config.data.model_dump(),
        ):
            yield self._encoded(batch.class_ids, batch.images)

    def evaluation(self, batch_size: int, process: int = 0, processes: int = 1) -> Iterator[Coded]:
        size = self.tokenizer.config.image_size
        for batch in evaluation_batches(
            self.data.held_out, image_size=size, batch_size=batch_size, rank=process, world_size=processes
        ):
            yield self._encoded(batch.class_ids, batch.images)

    @torch.no_grad()
    def _encoded(self, class_ids: Tensor, images: Tensor) -> Coded:
        codes = self.tokenizer.encode(to_float(images.to(self.device, non_blocking=True)))
        return Coded(class_ids.to(self.device, non_blocking=True), codes)


def open_source(path: str, tokenizer_folder: ModelFolder, tokenizer: Tokenizer, device: torch.device) -> CodeSource:
    """The codes of a data set, encoded by `tokenizer`, which was loaded from `tokenizer_folder`."""
    data = open_dataset(path)
    data.split("train")
    return EncodedPictures(data, tokenizer, device)
