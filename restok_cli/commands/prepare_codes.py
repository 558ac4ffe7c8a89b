"""`restok prepare codes`: a data set to the codes of its pictures."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from restok_cli.commands.options import (
    DataArgument,
    Device,
    Dtype,
    MaxMemberBytes,
    NumProcesses,
    parse_model,
)
from restok_cli.console import Progress, counted, note
from restok_cli.errors import Interrupted
from restok_cli.files import MAX_MEMBER_BYTES
from restok_cli.locks import locked_folder
from restok_cli.processes import barrier, connect, gather, local_device, rank, run_in_processes, world_size
from restok_cli.room import check_memory

if TYPE_CHECKING:
    import torch

    from restok_cli.data.shards.code_layout import CodeManifest, CodePlan
    from restok_cli.data.shards.dataset import Dataset, Split
    from restok_cli.model.tokenizer import Tokenizer
    from restok_cli.pretrained.folder import TokenizerFolder

Shards = list[tuple[str, int]]  # of a code cache: split and number


def codes(
    data: DataArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)],
    tokenizer: Annotated[
        Path, typer.Option(parser=parse_model, metavar="M", help="The tokenizer to encode with.", show_default=False)
    ],
    views: Annotated[
        Literal["ten-crop", "flip", "centre"],
        typer.Option(help="What is encoded of a training picture; of validation it is always the centre."),
    ] = "ten-crop",
    batch_size: Annotated[int, typer.Option(min=1, help="Views that are encoded at a time.")] = 64,
    num_workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode pictures beside each one that encodes.")
    ] = 0,
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES,
    num_processes: NumProcesses = 1,
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the codes that OUT already holds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of OUT.")] = False,
) -> None:
    """Encode every picture of a data set once, to train generators on codes alone.

    ten-crop is the centre and the four corners of a centre crop 1.1 times as
    large, and all five mirrored; flip is the centre crop and its mirror image;
    centre that crop alone. Pictures that cannot be decoded are named and left
    out.

    Killed at any moment, the same command again goes on where it was and ends
    with the same bytes, also with another --num-processes. Another --batch-size
    or device may round differently, and so choose another of two codes that are
    all but equally near.

    Example:

      restok prepare codes sample emoji-codes --tokenizer sample --views flip
      restok train-har emoji-codes --tokenizer sample -o har
    """
    run_in_processes(num_processes)
    from restok_cli.data.shards.code_writer import finish_codes
    from restok_cli.data.shards.dataset import StreamedSplit, open_dataset
    from restok_cli.devices import chosen_dtype, open_device, torch_dtype
    from restok_cli.pretrained.folder import load_for_use, open_tokenizer

    dataset = open_dataset(data, max_member_bytes=max_member_bytes)
    splits = {name: dataset.split(name) for name in dataset.splits}
    for split in splits.values():
        if isinstance(split, StreamedSplit):
            raise split.refusal()
    torch_device = local_device(open_device(device))
    dtype = chosen_dtype(dtype, torch_device)
    connect(torch_device)
    model = open_tokenizer(tokenizer)
    height, width = model.config.image_size
    check_memory("--batch-size", batch_size, 3 * height * width * 4)
    plan = make_plan(dataset, model, views, dtype)
    num_shards = {name: plan.num_shards(len(split)) for name, split in splits.items()}
    with locked_folder(out) if rank() == 0 else nullcontext():
        missing = start(out, plan, splits, overwrite)
        encoder = Encoder(load_for_use(model, torch_device, torch_dtype(dtype)), torch_device, batch_size)
        try:
            encode_shards(out, missing[rank() :: world_size()], plan, dataset, encoder, num_workers)
        except Interrupted as error:
            what = "interrupted; the same command goes on where this one was"
            raise Interrupted(error.signal_number, what) from error
        barrier()
        if rank() == 0:
            report(out, finish_codes(out, plan, num_shards), dataset, as_json)


def make_plan(dataset: "Dataset", tokenizer: "TokenizerFolder", views: str, dtype: str) -> "CodePlan":
    """What decides every code."""
    from restok_cli.data.shards.code_layout import SAMPLES_PER_SHARD, CodePlan
    from restok_cli.pretrained.folder import fingerprint

    return CodePlan(
        data_name=dataset.name,
        data_fingerprint=dataset.fingerprint,
        tokenizer_fingerprint=fingerprint(tokenizer),
        dtype=dtype,
        image_size=tokenizer.config.image_size,
        views={split: views if split == "train" else "centre" for split in dataset.splits},
        codebook_size=tokenizer.config.codebook_size,
        num_codes=tokenizer.config.num_latent_tokens,
        class_names=dataset.class_names,
        samples_per_shard=SAMPLES_PER_SHARD,
    )


def start(out: Path, plan: "CodePlan", splits: "dict[str, Split]", overwrite: bool) -> Shards:
    """Make `out` ready; return the shards that are still to be made, or damaged, the same to all processes.

    Raises UsageError where `out` holds anything else.
    """
    from restok_cli.data.shards.code_writer import is_whole_shard, shard_path, start_codes

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


class Encoder(NamedTuple):
    """A tokenizer that encodes batches of one shape, since another shape may round differently."""

    tokenizer: "Tokenizer"
    device: "torch.device"
    batch_size: int

    def __call__(self, images: "Iterator[torch.Tensor]") -> "torch.Tensor":
        """uint8 images (3, H, W), any number of them -> codes (n, L), int64, on the CPU."""
        import torch

        from restok_cli.data.images import to_float

        codes = [torch.empty(0, self.tokenizer.config.num_latent_tokens, dtype=torch.int64, device=self.device)]
        with torch.inference_mode():
            while some := list(islice(images, self.batch_size)):
                batch = torch.stack(some + some[:1] * (self.batch_size - len(some)))
                codes.append(self.tokenizer.encode(to_float(batch.to(self.device)))[: len(some)])
        return torch.cat(codes).cpu()  # here and not for each batch, so that the GPU need not wait for the next one


def encode_shards(
    out: Path, shards: Shards, plan: "CodePlan", dataset: "Dataset", encode: Encoder, num_workers: int
) -> None:
    """Write the shards, one after the other; pictures that cannot be decoded are named and left out.

    Raises RestokError where they are too many, or a shard of the data set cannot be read.
    """
    from restok_cli.data.loading.batching import BROKEN_LIMIT, BrokenSamples, verify_advice
    from restok_cli.data.loading.loader import load_views
    from restok_cli.data.shards.code_layout import NUM_VIEWS
    from restok_cli.data.shards.code_writer import shard_path, write_code_shard

    splits = {name: dataset.split(name) for name in dataset.splits}
    advice = verify_advice(dataset.folder)
    broken = {name: BrokenSamples(len(split), BROKEN_LIMIT, advice) for name, split in splits.items()}
    ranges = [(name, number, plan.samples_of(number, len(splits[name]))) for name, number in shards]
    with Progress("prepare codes", sum(len(samples) for _, _, samples in ranges), "pictures") as progress:
        for name, number, samples in ranges:
            split, views, kept = splits[name], plan.views[name], []
            loaded = load_views(
                split,
                samples,
                image_size=plan.image_size,
                views=views,
                num_workers=num_workers,
                broken=broken[name],
            )
            codes = encode(_images(loaded, kept, progress))
            write_code_shard(
                shard_path(out, name, number),
                plan,
                codes.view(len(kept), NUM_VIEWS[views], plan.num_codes).numpy(),
                [split.class_id(sample) for sample in kept],
                [split.key(sample) for sample in kept],
            )


def _images(
    loaded: "Iterator[tuple[int, torch.Tensor]]", kept: list[int], progress: Progress
) -> "Iterator[torch.Tensor]":
    """All views one after the other; the samples that they are of go into `kept`."""
    for sample, views in loaded:
        kept.append(sample)
        progress.advance()
        yield from views


def report(out: Path, manifest: "CodeManifest", dataset: "Dataset", as_json: bool) -> None:
    counts = {split: sum(shard.num_samples for shard in shards) for split, shards in manifest.splits.items()}
    left_out = sum(len(dataset.split(split)) for split in counts) - sum(counts.values())
    if as_json:
        result = {"path": str(out), "samples": sum(counts.values()), "left_out": left_out, "splits": counts}
        result |= {"views": manifest.views, "codes": manifest.num_codes, "codebook_size": manifest.codebook_size}
        print(json.dumps(result))
    else:
        print(out)
    parts = ", ".join(f"{split} {count} ({manifest.views[split]})" for split, count in counts.items())
    note(
        f"{counted(manifest.num_codes, 'code')} of each view: {parts}" + (f"; {left_out} left out" if left_out else "")
    )
