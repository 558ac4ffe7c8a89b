"""The work of `restok generate`: blocks of pictures, drawn by one process or several, into files or a pipe.

Block k holds pictures k·B … k·B + B − 1. A block is always drawn as a whole, also where some of its pictures are
there already, so that what a picture is computed with depends on nothing but the batch size. On a CPU in float32 it
does not depend on that either: packed weights round alike for all shapes (model/packing.py), MKL is told to (see
__main__), and the tokenizer takes one picture at a time.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

from restok_cli.console import Progress
from restok_cli.inference.coding import decode_codes, png_files
from restok_cli.processes import gather, rank, world_size

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from restok_cli.model.guidance import SamplingOptions
    from restok_cli.model.har import Har
    from restok_cli.model.tokenizer import Tokenizer

Result = TypeVar("Result")


class Job(NamedTuple):
    """All that decides the pictures, and how many are drawn at a time."""

    har: "Har"
    tokenizer: "Tokenizer | None"  # None where only codes are wanted
    class_ids: list[int]  # one per picture
    class_names: list[str]
    seed: int
    sampling: "SamplingOptions"
    num_steps: int
    batch_size: int
    device: "torch.device"

    @property
    def blocks(self) -> list[range]:
        """The pictures of each block."""
        count = len(self.class_ids)
        return [range(first, min(first + self.batch_size, count)) for first in range(0, count, self.batch_size)]

    def record(self, index: int) -> dict:
        """What the manifest says of a picture."""
        return {"class_id": self.class_ids[index], "seed": self.seed, "index": index}


class Drawn(NamedTuple):
    """A block that is done."""

    block: range
    codes: "Tensor"  # (B, n), on the CPU
    images: "Tensor | None"  # uint8 (B, 3, H, W), on the CPU


def draw_blocks(job: Job, blocks: list[range]) -> Iterator[Drawn]:
    """Draw blocks one after the other.

    On a GPU nothing waits for a block before the next one is on its way: codes are drawn on one stream and decoded on
    another, and what is given out is a block behind. Where blocks are many, both are CUDA graphs.
    """
    import torch

    from restok_cli.cuda.graphs import Recorded
    from restok_cli.model.sampling import sample, sampling_cache, seeded_uniforms

    cache = sampling_cache(job.har, job.sampling, job.batch_size)

    def draw(class_ids: "Tensor", uniforms: "Tensor") -> "Tensor":
        return sample(job.har, class_ids, uniforms, job.sampling, job.num_steps, cache)

    def decode(codes: "Tensor") -> "Tensor":
        return decode_codes(job.tokenizer, codes)

    on_gpu = job.device.type == "cuda"
    decoding = torch.cuda.Stream(job.device) if on_gpu else None
    if on_gpu and len(blocks) > 2:  # recording takes as long as two blocks
        draw, decode = Recorded(draw), Recorded(decode)
    waiting: deque[tuple[Drawn, torch.cuda.Event | None]] = deque()
    for block in blocks:
        class_ids = torch.tensor(job.class_ids[block.start : block.stop], device=job.device)
        uniforms = seeded_uniforms(job.seed, block.start, len(block), job.har.config.num_codes)
        codes = draw(class_ids, uniforms.to(job.device))
        if decoding is not None:
            decoding.wait_stream(torch.cuda.current_stream(job.device))
            codes.record_stream(decoding)
        with torch.cuda.stream(decoding) if on_gpu else nullcontext():
            images = None if job.tokenizer is None else _to_host(decode(codes))
            drawn = Drawn(block, _to_host(codes), images)
            waiting.append((drawn, decoding.record_event() if decoding is not None else None))
        if len(waiting) > on_gpu:
            yield _arrived(*waiting.popleft())
    while waiting:
        yield _arrived(*waiting.popleft())


def _to_host(tensor: "Tensor") -> "Tensor":
    """A copy on the CPU, which on a GPU is only on its way."""
    import torch

    if tensor.device.type == "cpu":
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def _arrived(drawn: Drawn, event: "torch.cuda.Event | None") -> Drawn:
    if event is not None:
        event.synchronize()
    return drawn


# --- where blocks go -----------------------------------------------------------------------------------------------


def fill_folder(job: Job, folder: Path, names: Callable[[range], list[str]]) -> None:
    """Make all files that are not yet in the folder of unfinished work, this process its share of the blocks.

    `names` gives the files of a block: a PNG for each picture, or one .npy of its codes.
    """
    from restok_cli.inference.unfinished import is_finished, write_finished

    missing = [block for block in job.blocks if not all(is_finished(folder / name) for name in names(block))]
    mine = missing[rank() :: world_size()]
    done = len(job.class_ids) - sum(map(len, missing))
    total = done + sum(map(len, mine))
    with Progress("generate", total, "pictures", done) as progress:
        for drawn in draw_blocks(job, mine):
            files = [npy_bytes(drawn.codes.numpy())] if drawn.images is None else png_files(drawn.images)
            for name, data in zip(names(drawn.block), files, strict=True):
                write_finished(folder / name, data)
            progress.advance(len(drawn.block))


def in_order(job: Job, finish: Callable[[Drawn], Result]) -> Iterator[Result]:
    """What `finish` makes of each block, in order, in every process: each draws its share, then they exchange it."""
    drawn = draw_blocks(job, job.blocks[rank() :: world_size()])
    with Progress("generate", len(job.class_ids), "pictures") as progress:
        for first in range(0, len(job.blocks), world_size()):
            mine = next(drawn, None)
            for result in gather(None if mine is None else finish(mine)):
                if result is not None:
                    yield result
            progress.advance(sum(map(len, job.blocks[first : first + world_size()])))


def stream_pictures(job: Job, file: BinaryIO) -> Iterator[list[bytes]]:
    """Write all pictures to a tar stream, which only process 0 has, and give the PNG files of each block."""
    from restok_cli.data.streams import StreamWriter

    index = 0
    with StreamWriter(file) if rank() == 0 else nullcontext() as writer:
        for files in in_order(job, lambda drawn: png_files(drawn.images)):
            for png in files:
                if writer is not None:
                    writer.write(f"{index:06d}", png, job.record(index))
                index += 1
            yield files


def npy_bytes(codes: "np.ndarray") -> bytes:
    """Codes as an .npy file."""
    from io import BytesIO

    import numpy as np

    file = BytesIO()
    np.save(file, codes.astype(np.int32))
    return file.getvalue()


def ladder(job: Job, rows: int) -> "Tensor":
    """uint8 (3, H, W): the first pictures, each a row that grows level by level, from one code to all drawn."""
    import torch

    from restok_cli.data.images import make_grid
    from restok_cli.model.levels import prefix_lengths

    first = job._replace(class_ids=job.class_ids[:rows], batch_size=min(rows, len(job.class_ids)))
    (drawn,) = draw_blocks(first._replace(tokenizer=None), first.blocks)
    last = drawn.codes.shape[1]
    lengths = [*(n for n in prefix_lengths(job.har.config.num_codes) if n < last), last]
    codes = drawn.codes.to(job.device)
    columns = [decode_codes(job.tokenizer, codes[:, :n]).cpu() for n in lengths]
    captions = []
    for class_id in first.class_ids:
        name = f" {job.class_names[class_id]}" if job.class_names else ""
        captions += [f"{n}{name if n == lengths[0] else ''}" for n in lengths]
    return make_grid(torch.stack(columns, 1).flatten(0, 1), len(lengths), captions)
