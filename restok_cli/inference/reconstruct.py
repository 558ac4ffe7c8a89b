"""The work of `restok reconstruct`: images to codes and back, in files or a pipe, and how near they come."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from restok_cli.console import counted, track
from restok_cli.data.inputs import Inputs
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import STDOUT
from restok_cli.inference.coding import Computation, ImageSource, decode_codes, encode_images, png_files, sized
from restok_cli.inference.destination import ImageDestination, MadeImage
from restok_cli.inference.sharing import connected, in_turns
from restok_cli.inference.sheets import ComparisonSheet
from restok_cli.metrics.formulas.codebook import use_of_counts
from restok_cli.metrics.formulas.pixels import psnr
from restok_cli.model.levels import prefix_lengths
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import open_tokenizer
from restok_cli.processes import rank


class ReconstructSummary(NamedTuple):
    """Numbers of all images."""

    count: int
    unreadable: int
    num_codes: int  # that the tokenizer makes of an image
    psnr: dict[int, float]  # mean in dB, by how many codes were decoded
    usage: float  # percent of the codebook
    perplexity: float


def reconstruct_source(
    source: ImageSource, model: Path, lengths: Sequence[int], to: ImageDestination, computation: Computation
) -> ReconstructSummary:
    """Encode all images of the source, and decode the first n codes of each for every n of `lengths`, or all codes.

    Raises UsageError where that cannot be had, RestokError where no image can be read.
    """
    to.check(model, *source.files)
    if to.is_file and len(lengths) > 1:
        raise UsageError(f"-o {to.output} is one image; give one number of codes, or a folder")
    inputs = source.open()
    tokenizer, batch_size = connected(computation).load(open_tokenizer(model))
    num_codes = tokenizer.config.num_latent_tokens
    if lengths and max(lengths) > num_codes:
        raise UsageError(
            f"--num-codes {max(lengths)}: this tokenizer makes {num_codes} codes an image; give 1 to {num_codes}"
        )
    lengths = lengths or [num_codes]
    shown = ((to.grid, lengths), (to.ladder, prefix_lengths(num_codes)))
    work = Reconstructing(
        tokenizer, lengths, source.crop, batch_size, [ComparisonSheet(path, counts) for path, counts in shown if path]
    )
    total = Total(work)
    images = reconstruct_inputs(work, inputs, total)
    if rank() > 0:
        for _ in images:  # the first process writes
            pass
    else:
        to.write((made for image in images for made in made_of(image, lengths, to.output == STDOUT)), "several")
        for sheet in work.sheets:
            sheet.write()
    return total.summary(inputs)


class Reconstructing(NamedTuple):
    """How to treat every image, and with what."""

    tokenizer: Tokenizer
    lengths: Sequence[int]  # how many of its codes to decode, from few to many
    crop: bool
    batch_size: int
    sheets: list[ComparisonSheet]


class ReconstructedImage(NamedTuple):
    """One image, from each number of codes."""

    key: str
    class_id: int
    files: list[bytes]  # a PNG for each length
    psnr: list[float]  # in dB
    codes: np.ndarray
    shown: list[list[Tensor]]  # what each sheet shows of it, the original first


def reconstruct_inputs(work: Reconstructing, inputs: Inputs, total: "Total") -> Iterator[ReconstructedImage]:
    """Encode and decode all inputs, add their numbers to the `total`, and show the first of them on the sheets.

    Raises RestokError where none can be decoded.
    """
    images = in_turns(inputs, work.batch_size, partial(reconstruct_some, work))
    for image in track(images, "reconstruct", inputs.count, "images"):
        yield image
        for sheet, (original, *decoded) in zip(work.sheets, image.shown, strict=False):
            if sheet.room:
                sheet.add(image.key, original, decoded)
        total.add(image)
    if not total.values:
        raise RestokError(f"of {counted(inputs.unreadable, 'image')}, none could be decoded; nothing was written")


def reconstruct_some(work: Reconstructing, inputs: Inputs) -> Iterator[ReconstructedImage]:
    """Encode and decode inputs, a batch at a time; of those for which the sheets have room, what these show too."""
    for batch in inputs.batches(work.tokenizer.config.image_size if work.crop else None, work.batch_size):
        tokenizer = sized(work.tokenizer, batch.images)
        codes = encode_images(tokenizer, batch.images)
        decoded = [decode_codes(tokenizer, codes[:, :n]).cpu() for n in work.lengths]
        files = [png_files(images) for images in decoded]
        values = [psnr(images, batch.images).tolist() for images in decoded]
        room = min(max((sheet.room for sheet in work.sheets), default=0), len(codes))
        columns = [
            [batch.images[:room], *(decode_codes(tokenizer, codes[:room, :n]).cpu() for n in sheet.lengths)]
            for sheet in (work.sheets if room else ())
        ]
        for i, key in enumerate(batch.keys):
            yield ReconstructedImage(
                key,
                batch.class_ids[i],
                [part[i] for part in files],
                [part[i] for part in values],
                codes[i].cpu().numpy(),
                [[part[i] for part in column] for column in columns] if i < room else [],
            )


def made_of(image: ReconstructedImage, lengths: Sequence[int], in_stream: bool) -> Iterator[MadeImage]:
    """The files of an image: one in a stream, in a folder one for each length, in sub-folders if there are several."""
    if in_stream:
        yield MadeImage(image.key, image.files[0], {"class_id": image.class_id, "psnr": image.psnr[0]})
        return
    for n, png, value in zip(lengths, image.files, image.psnr, strict=True):
        yield MadeImage(image.key if len(lengths) == 1 else f"{n}/{image.key}", png, {"tokens": n, "psnr": value})


class Total:
    """The numbers of the summary, added up."""

    def __init__(self, work: Reconstructing):
        self.lengths, self.config = work.lengths, work.tokenizer.config
        self.values: list[list[float]] = []
        self.uses = np.zeros(self.config.codebook_size, np.int64)  # how often each code occurs

    def add(self, image: ReconstructedImage) -> None:
        self.values.append(image.psnr)
        np.add.at(self.uses, image.codes, 1)

    def summary(self, inputs: Inputs) -> ReconstructSummary:
        means = [sum(column) / len(column) for column in zip(*self.values, strict=True)]
        use = use_of_counts(self.uses)
        by_length = dict(zip(self.lengths, means, strict=True))
        num_codes = self.config.num_latent_tokens
        return ReconstructSummary(len(self.values), inputs.unreadable, num_codes, by_length, use.usage, use.perplexity)
