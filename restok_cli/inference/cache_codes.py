"""The work of `restok prepare codes`: the images of a data set to codes, shard by shard, by several processes."""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from restok_cli.console import Progress, counted, note, resumable
from restok_cli.data.images import to_float
from restok_cli.data.loading.batching import BROKEN_LIMIT, BrokenSamples, verify_advice
from restok_cli.data.loading.loader import load_views
from restok_cli.data.shards.code_layout import NUM_VIEWS, CodeManifest, CodePlan, Views
from restok_cli.data.shards.code_writer import finish_codes, is_whole_shard, shard_path, start_codes, write_code_shard
from restok_cli.data.shards.dataset import Dataset, Split, StreamedSplit
from restok_cli.devices import torch_dtype
from restok_cli.inference.background import in_background
from restok_cli.inference.coding import Computation
from restok_cli.locks import locked_folder
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import fingerprint, open_tokenizer
from restok_cli.pretrained.modules import load_for_use
from restok_cli.processes import barrier, gather, rank, world_size
from restok_cli.room import check_memory

SAMPLES_PER_SHARD = 256  # what is lost of the work at most when it is stopped

Shards = list[tuple[str, int]]  # of a code cache: split and number


def encode_dataset(
    dataset: Dataset,
    out: Path,
    tokenizer: Path,
    views: Views,
    overwrite: bool,
    computation: Computation,
    num_workers: int,
) -> tuple[CodeManifest, dict[str, int], int] | None:
    """Make a code cache of a data set, or go on with one.

    Returns its description, how many samples each split has, and how many could not be decoded and are left out; of
    several processes only in number 0.

    Raises UsageError where `out` holds anything else, RestokError where the data set cannot be read.
    """
    splits = {name: dataset.split(name) for name in dataset.splits}
    for split in splits.values():
        if isinstance(split, StreamedSplit):
            raise split.refusal()
    folder = open_tokenizer(tokenizer)
    device, dtype = computation.open()
    height, width = folder.config.image_size
    check_memory("--batch-size", computation.batch_size, 3 * height * width * 4)
    plan = CodePlan(
        data_name=dataset.name,
        data_fingerprint=dataset.fingerprint,
        tokenizer_fingerprint=fingerprint(folder),
        dtype=dtype,
        device=device.type,
        batch_size=computation.batch_size,
        deterministic=computation.is_deterministic_on(device),
        image_size=folder.config.image_size,
        views={split: views if split == "train" else "centre" for split in splits},
        codebook_size=folder.config.codebook_size,
        num_codes=folder.config.num_latent_tokens,
        class_names=dataset.class_names,
        samples_per_shard=SAMPLES_PER_SHARD,
    )
    with locked_folder(out) if rank() == 0 else nullcontext(), resumable():
        missing = _start(out, plan, splits, overwrite)
        encoder = CacheEncoder(load_for_use(folder, device, torch_dtype(dtype)), device, computation.batch_size)
        _encode_shards(out, missing[rank() :: world_size()], plan, dataset, encoder, num_workers)
        barrier()
        if rank() > 0:
            return None
        manifest = finish_codes(out, plan, {name: plan.num_shards(len(split)) for name, split in splits.items()})
    counts = {name: sum(shard.num_samples for shard in shards) for name, shards in manifest.splits.items()}
    return manifest, counts, sum(map(len, splits.values())) - sum(counts.values())


def _start(out: Path, plan: CodePlan, splits: dict[str, Split], overwrite: bool) -> Shards:
    """Make `out` ready; return the shards that are still to be made, or damaged, the same to all processes.

    Raises UsageError where `out` holds anything else.
    """
    missing: Shards = []
    if rank() == 0:
        start_codes(out, plan, overwrite)
        shards = [(name, number) for name, split in splits.items() for number in range(plan.num_shards(len(split)))]
        for name, number in shards:
            keys = map(splits[name].key, plan.samples_of(number, len(splits[name])))
            if not is_whole_shard(shard_path(out, name, number), plan, name, keys):
                missing.append((name, number))
        damaged = sum(shard_path(out, *shard).exists() for shard in missing)
        if len(missing) < len(shards) or damaged:
            made_anew = f", {damaged} damaged and made anew" if damaged else ""
            note(f"{len(shards) - len(missing)} of {counted(len(shards), 'shard')} there already{made_anew}")
    return gather(missing)[0]  # what process 0 found before anything was written


class CacheEncoder(NamedTuple):
    """A tokenizer that encodes batches of one shape, since another shape may round differently."""

    tokenizer: Tokenizer
    device: torch.device
    batch_size: int

    def __call__(self, images: Iterator[torch.Tensor]) -> torch.Tensor:
        """uint8 images (3, H, W), any number of them -> codes (n, L), int64, on the device."""
        codes = [torch.empty(0, self.tokenizer.config.num_latent_tokens, dtype=torch.int64, device=self.device)]
        with torch.inference_mode():
            while some := list(islice(images, self.batch_size)):
                batch = torch.stack(some + some[:1] * (self.batch_size - len(some)))
                codes.append(self.tokenizer.encode(to_float(batch.to(self.device)))[: len(some)])
        return torch.cat(codes)


class EncodedShard(NamedTuple):
    """A shard that a GPU may still be at."""

    path: Path
    codes: torch.Tensor  # (n, views, L), on the device
    class_ids: list[int]
    keys: list[str]


def _encode_shards(
    out: Path, shards: Shards, plan: CodePlan, dataset: Dataset, encode: CacheEncoder, num_workers: int
) -> None:
    """Write the shards, one after the other; images that cannot be decoded are named and left out.

    Raises RestokError where they are too many, or a shard of the data set cannot be read.
    """
    splits = {name: dataset.split(name) for name in dataset.splits}
    advice = verify_advice(dataset.folder)
    broken = {name: BrokenSamples(len(split), BROKEN_LIMIT, advice) for name, split in splits.items()}
    ranges = [(name, number, plan.samples_of(number, len(splits[name]))) for name, number in shards]

    def encoded(progress: Progress) -> Iterator[EncodedShard]:
        for name, number, samples in ranges:
            split, kept = splits[name], []
            loaded = load_views(
                split,
                samples,
                image_size=plan.image_size,
                views=plan.views[name],
                num_workers=num_workers,
                broken=broken[name],
            )
            codes = encode(_images(loaded, kept, progress)).view(len(kept), NUM_VIEWS[plan.views[name]], plan.num_codes)
            class_ids, keys = [split.class_id(sample) for sample in kept], [split.key(sample) for sample in kept]
            yield EncodedShard(shard_path(out, name, number), codes, class_ids, keys)

    def write(shard: EncodedShard) -> None:
        write_code_shard(shard.path, plan, shard.codes.cpu().numpy(), shard.class_ids, shard.keys)

    with Progress("prepare codes", sum(len(samples) for _, _, samples in ranges), "images") as progress:
        for _ in in_background(write, encoded(progress), encode.device):
            pass


def _images(loaded: Iterator[tuple[int, torch.Tensor]], kept: list[int], progress: Progress) -> Iterator[torch.Tensor]:
    """All views one after the other; the samples that they are of go into `kept`."""
    for sample, views in loaded:
        kept.append(sample)
        progress.advance()
        yield from views
