"""Images drawn from a generator, block by block, in one process or several.

Block k holds images k·B … k·B + B − 1. A block is always drawn as a whole, also where some of its images are there
already, so that what an image is computed with depends on nothing but the batch size. On a CPU in float32 it does not
depend on that either: packed weights round alike for all shapes (cpu/leaves.py), MKL is told to (see `round_alike`),
and the tokenizer takes one image at a time.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from restok_cli.cuda.graphs import Recorded
from restok_cli.data.images import Pixels
from restok_cli.data.shards.layout import NO_CLASS
from restok_cli.devices import to_device
from restok_cli.errors import RestokError
from restok_cli.inference.coding import decode_codes
from restok_cli.model.guidance import SamplingOptions
from restok_cli.model.har import Har
from restok_cli.model.levels import step_lengths
from restok_cli.model.sampling import sample, sample_steps, sampling_cache, seeded_uniforms
from restok_cli.model.tokenizer import Tokenizer


class Kept(NamedTuple):
    """Codes with which every image begins."""

    codes: Tensor  # (L,), of another image, on the device
    keep: int  # how many of them


class Job(NamedTuple):
    """All that decides the images, and how many are drawn at a time."""

    har: Har
    tokenizer: Tokenizer | None  # None where only codes are wanted
    class_ids: list[int]  # one per image; NO_CLASS for the null class
    class_names: list[str]
    seed: int
    sampling: SamplingOptions
    num_steps: int
    batch_size: int
    device: torch.device
    kept: Kept | None = None
    compiled: bool = False

    @property
    def kept_codes(self) -> Tensor | None:
        return self.kept and self.kept.codes[: self.kept.keep]

    @property
    def num_drawn(self) -> int:
        """Codes of an image, of which there are fewer than all after fewer steps."""
        return step_lengths(self.har.config.num_codes, self.har.config.num_sequential_codes)[self.num_steps - 1]

    @property
    def blocks(self) -> list[range]:
        """The images of each block."""
        count = len(self.class_ids)
        return [range(first, min(first + self.batch_size, count)) for first in range(0, count, self.batch_size)]

    def record(self, index: int) -> dict[str, Any]:
        """Fields of the manifest for an image."""
        return {"class_id": self.class_ids[index], "seed": self.seed, "index": index}

    def inputs(self, indices: range) -> tuple[Tensor, Tensor]:
        """For images of these indices: class ids (B,) and uniform numbers (B, L), on the device."""
        null_class = self.har.class_embedding.null_class
        ids = [null_class if i == NO_CLASS else i for i in self.class_ids[indices.start : indices.stop]]
        uniforms = seeded_uniforms(self.seed, indices.start, len(indices), self.har.config.num_codes)
        return to_device(torch.tensor(ids), self.device), to_device(uniforms, self.device)

    def decode(self, codes: Tensor) -> Pixels:
        """codes (B, n) on the device -> images there."""
        assert self.tokenizer is not None, "only codes are wanted"
        return decode_codes(self.tokenizer, codes)


class GeneratedBlock(NamedTuple):
    """A block that is done."""

    indices: range
    codes: Tensor  # (B, n), on the CPU
    images: Tensor | None  # uint8 (B, 3, H, W), on the CPU; None where only codes are wanted


class Arriving(NamedTuple):
    """A block on its way to the CPU, where it is once the event has happened."""

    indices: range
    codes: Tensor
    pixels: Pixels | None
    event: torch.cuda.Event | None = None


def generate_blocks(job: Job, blocks: list[range]) -> Iterator[GeneratedBlock]:
    """Draw blocks one after the other.

    On a GPU nothing waits for a block before the next one is on its way: codes are drawn on one stream and decoded on
    another, and what is given out is a block behind. Where blocks are many, both are CUDA graphs.
    """
    cache = sampling_cache(job.har, job.sampling, job.batch_size)

    def sample_codes(class_ids: Tensor, uniforms: Tensor) -> tuple[Tensor]:
        return (sample(job.har, class_ids, uniforms, job.sampling, job.num_steps, cache, job.kept_codes),)

    on_gpu = job.device.type == "cuda"
    decoding = torch.cuda.Stream(job.device) if on_gpu else None
    draw, decode = sample_codes, job.decode
    if on_gpu and len(blocks) > 2:  # recording takes as long as two blocks
        draw, decode = Recorded(draw), Recorded(decode)
    waiting: deque[Arriving] = deque()
    for indices in blocks:
        # for the last block, if it is smaller, all would be compiled anew
        eager = job.compiled and len(indices) < job.batch_size
        way = partial(torch.compiler.set_stance, "force_eager") if eager else nullcontext
        with way():
            (codes,) = draw(*job.inputs(indices))
        if decoding is not None:
            decoding.wait_stream(torch.cuda.current_stream(job.device))
            codes.record_stream(decoding)
        with torch.cuda.stream(decoding) if on_gpu else nullcontext(), way():
            pixels = None if job.tokenizer is None else Pixels(*map(_to_host, decode(codes)))
            arrival = torch.cuda.Event() if on_gpu else None
            waiting.append(Arriving(indices, _to_host(codes), pixels, arrival))
            if arrival is not None:
                arrival.record()
        if len(waiting) > on_gpu:
            yield _arrived(job, waiting.popleft())
    while waiting:
        yield _arrived(job, waiting.popleft())


def generate_steps(job: Job) -> Iterator[GeneratedBlock]:
    """Draw all images as one block, and give it after every step, decoded from the codes so far."""
    indices = range(len(job.class_ids))
    for codes in sample_steps(job.har, *job.inputs(indices), job.sampling, job.num_steps, kept=job.kept_codes):
        yield _arrived(job, Arriving(indices, codes.cpu(), job.decode(codes)))


def _to_host(tensor: Tensor) -> Tensor:
    """A copy on the CPU, which on a GPU is only on its way."""
    if tensor.device.type == "cpu":
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def _arrived(job: Job, block: Arriving) -> GeneratedBlock:
    """The block on the CPU. Raises RestokError where generator or tokenizer made numbers that are not finite."""
    if block.event is not None:
        block.event.synchronize()
    for index, code in zip(block.indices, block.codes[:, 0].tolist(), strict=True):
        if code < 0:
            raise RestokError(
                f"image {index}: the generator gives its codes logits that are not finite numbers; give --temperature"
                " and --cfg-scale nearer to 1, and where that does not help another copy of the model"
            )
    if block.pixels is None or job.tokenizer is None:
        return GeneratedBlock(block.indices, block.codes, None)
    names = [f"image {index}" for index in block.indices]
    return GeneratedBlock(block.indices, block.codes, block.pixels.checked(names, job.tokenizer.dtype))
