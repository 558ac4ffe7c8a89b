"""Where a generator's training gets its codes: a cache that `prepare codes` made, or images encoded on the way."""

from collections.abc import Generator, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from restok_cli.data.images import to_float
from restok_cli.data.loading.batching import micro_batches
from restok_cli.data.loading.code_batches import code_batches, evaluation_code_batches
from restok_cli.data.loading.loader import batches, evaluation_batches
from restok_cli.data.shards.code_cache import CodeCache
from restok_cli.data.shards.dataset import Dataset
from restok_cli.devices import to_device
from restok_cli.errors import UsageError
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import TokenizerFolder, fingerprint
from restok_cli.settings.training import HarRunConfig
from restok_cli.training.parallel import deal_from


class Coded(NamedTuple):
    """Class ids of images, and their codes, on the device."""

    class_ids: Tensor  # int64 (B,), -1 where there are no classes
    codes: Tensor  # int64 (B, L)


class CachedCodes:
    """Codes of several views of each image, one of them drawn at each visit."""

    remedy = "the codes are read from a slow disk; copy them to a faster one"  # where training waits for data

    def __init__(self, cache: CodeCache, device: torch.device):
        self.cache, self.device = cache, device
        self.name, self.fingerprint, self.class_names = cache.name, cache.fingerprint, cache.class_names

    def training(self, config: HarRunConfig, first_step: int) -> Generator[Coded, None, None]:
        """This process's micro-batches from a step on, without end."""
        split, deal = self.cache.split("train"), deal_from(first_step, config.schedule)
        for batch in code_batches(split, micro_batches(len(split), deal), deal.seed):
            yield self._on_device(batch.class_ids, batch.codes)

    def evaluation(self, batch_size: int, deal: tuple[int, int], limit: int | None) -> Iterator[Coded]:
        """Every held-out image once, or the first `limit`, in order: of the batches, by `deal` = (rank, world size),
        those of this process.
        """
        split, (process, processes) = self.cache.held_out, deal
        for batch in evaluation_code_batches(split, batch_size, rank=process, world_size=processes, limit=limit):
            yield self._on_device(batch.class_ids, batch.codes)

    def _on_device(self, class_ids: Tensor, codes: Tensor) -> Coded:
        return Coded(to_device(class_ids, self.device), to_device(codes, self.device))


class EncodedImages:
    """Images, randomly changed and encoded at each visit by the frozen tokenizer: in float32, as a cache would be."""

    remedy = "encode the images once with `restok prepare codes`, and train on what that makes"

    def __init__(self, data: Dataset, tokenizer: Tokenizer, device: torch.device):
        self.data, self.tokenizer, self.device = data, tokenizer, device
        self.name, self.fingerprint, self.class_names = data.name, data.fingerprint, data.class_names

    def training(self, config: HarRunConfig, first_step: int) -> Generator[Coded, None, None]:
        size, deal = self.tokenizer.config.image_size, deal_from(first_step, config.schedule)
        for batch in batches(self.data.split("train"), size, deal, **config.data.loading(self.device.type)):
            yield self._encoded(batch.class_ids, batch.images)

    def evaluation(self, batch_size: int, deal: tuple[int, int], limit: int | None) -> Iterator[Coded]:
        size, (process, processes) = self.tokenizer.config.image_size, deal
        for batch in evaluation_batches(
            self.data.held_out, image_size=size, batch_size=batch_size, rank=process, world_size=processes, limit=limit
        ):
            yield self._encoded(batch.class_ids, batch.images)

    @torch.no_grad()
    def _encoded(self, class_ids: Tensor, images: Tensor) -> Coded:
        codes = self.tokenizer.encode(to_float(to_device(images, self.device)))
        return Coded(to_device(class_ids, self.device), codes)


CodeSource = CachedCodes | EncodedImages


def open_source(
    data: Dataset | CodeCache, tokenizer_folder: TokenizerFolder, tokenizer: Tokenizer, device: torch.device
) -> CodeSource:
    """The codes of `data`, which `tokenizer`, loaded from `tokenizer_folder`, made or will make.

    Raises UsageError where another tokenizer made them.
    """
    if isinstance(data, Dataset):
        return EncodedImages(data, tokenizer, device)
    if data.tokenizer_fingerprint != fingerprint(tokenizer_folder):
        raise UsageError(
            f"{data.folder} holds codes of another tokenizer than {tokenizer_folder.path}; give the one that made them,"
            " or make others with `restok prepare codes`"
        )
    return CachedCodes(data, device)
