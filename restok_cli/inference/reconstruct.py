"""The work of `restok reconstruct`: images to codes and back, in files or a pipe, and how near they come."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from restok_cli.console import counted, track
from restok_cli.data.images import Pixels, write_sheet
from restok_cli.data.inputs import InputBatch, Inputs
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import STDOUT
from restok_cli.inference.coding import Computation, ImageSource, decode_codes, encode_images, png_files, sized
from restok_cli.inference.destination import ImageDestination, MadeImage
from restok_cli.inference.sharing import in_turns
from restok_cli.inference.sheets import SHEET_ROWS, compared
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
    folder = open_tokenizer(model)
    num_codes = folder.config.num_latent_tokens
    if lengths and max(lengths) > num_codes:
        raise UsageError(
            f"--num-codes {max(lengths)}: this tokenizer makes {num_codes} codes an image; give 1 to {num_codes}"
        )
    lengths = lengths or [num_codes]
    tokenizer, batch_size = computation.load(folder)
    work = Reconstruction(tokenizer, lengths, source.crop, batch_size, SHEET_ROWS if to.grid or to.ladder else 0)
    images = work.images(inputs)
    if rank() > 0:
        for _ in images:  # the first process writes
            pass
    else:
        to.write((made for image in images for made in made_of(image, lengths, to.output == STDOUT)), "several")
        for path, shown in ((to.grid, lengths), (to.ladder, prefix_lengths(num_codes))):
            if path is not None:
                work.write_sheet(path, shown)
    return work.summary(inputs)


class ReconstructedImage(NamedTuple):
    """One image, from each number of codes."""

    key: str
    class_id: int
    files: Sequence[bytes]  # a PNG for each length
    psnr: Sequence[float]  # in dB
    codes: np.ndarray
    original: Tensor | None  # for the sheets, as long as they have room


class ReconstructedBatch(NamedTuple):
    """Images that a GPU may still be at."""

    originals: InputBatch
    codes: Tensor
    images: list[Pixels]  # from each number of codes


class Reconstruction:
    """Images through a tokenizer, and what is told of all of them together."""

    def __init__(self, tokenizer: Tokenizer, lengths: Sequence[int], crop: bool, batch_size: int, num_shown: int):
        self.tokenizer, self.crop, self.batch_size = tokenizer, crop, batch_size
        self.lengths = lengths  # how many of its codes to decode, from few to many
        self.num_shown = num_shown  # images on a sheet
        self.shown: list[ReconstructedImage] = []  # the first ones
        self.originals: list[Tensor] = []  # uint8 (3, H, W), of those
        self.psnr: list[Sequence[float]] = []
        self.uses = np.zeros(tokenizer.config.codebook_size, np.int64)  # how often each code occurs

    def images(self, inputs: Inputs) -> Iterator[ReconstructedImage]:
        """Encode and decode all inputs. Raises RestokError where none can be decoded."""
        images = in_turns(inputs, self.batch_size, self.tokenizer.device, self.compute, self.finish)
        for image in track(images, "reconstruct", inputs.count, "images"):
            yield image
            self.psnr.append(image.psnr)
            np.add.at(self.uses, image.codes, 1)
            if image.original is not None and self.has_room:
                self.show(image, image.original)
        if not self.psnr:
            raise RestokError(f"of {counted(inputs.unreadable, 'image')}, none could be decoded; nothing was written")

    def show(self, image: ReconstructedImage, original: Tensor) -> None:
        """Keep it for the sheets; one of another size than the first, which only --no-crop has, is passed over."""
        if not self.originals or original.shape == self.originals[0].shape:
            self.shown.append(image)
            self.originals.append(original)

    @property
    def has_room(self) -> bool:
        """Whether the sheets can show more images."""
        return len(self.shown) < self.num_shown

    def compute(self, inputs: Inputs) -> Iterator[ReconstructedBatch]:
        """Encode and decode inputs, a batch at a time."""
        for batch in inputs.batches(self.tokenizer.config.image_size if self.crop else None, self.batch_size):
            tokenizer = sized(self.tokenizer, batch.images)
            codes = encode_images(tokenizer, batch.images)
            yield ReconstructedBatch(batch, codes, [decode_codes(tokenizer, codes[:, :n]) for n in self.lengths])

    def finish(self, batch: ReconstructedBatch) -> list[ReconstructedImage]:
        """Make files of a batch, and measure how near they come."""
        keys, class_ids, originals = batch.originals
        made = [pixels.checked(keys, self.tokenizer.dtype) for pixels in batch.images]
        files = zip(*map(png_files, made), strict=True)
        values = zip(*(psnr(images, originals).tolist() for images in made), strict=True)
        shown = originals if self.has_room else [None] * len(keys)
        rows = zip(keys, class_ids, files, values, batch.codes.cpu().numpy(), shown, strict=True)
        return [ReconstructedImage(*row) for row in rows]

    def write_sheet(self, path: Path, lengths: Sequence[int]) -> None:
        """Show the first images with so many of their codes each."""
        tokenizer = sized(self.tokenizer, torch.stack(self.originals))
        codes = torch.from_numpy(np.stack([image.codes for image in self.shown])).to(tokenizer.device)
        keys, dtype = [image.key for image in self.shown], tokenizer.dtype
        columns = torch.stack([decode_codes(tokenizer, codes[:, :n]).checked(keys, dtype) for n in lengths], 1)
        cells, captions = [], []
        for image, original, made in zip(self.shown, self.originals, columns, strict=True):
            of_image = compared(image.key, original, [*made], lengths)
            cells += of_image[0]
            captions += of_image[1]
        write_sheet(path, torch.stack(cells), max(1 + len(lengths), 3), captions)

    def summary(self, inputs: Inputs) -> ReconstructSummary:
        means = [sum(column) / len(column) for column in zip(*self.psnr, strict=True)]
        use = use_of_counts(self.uses)
        by_length = dict(zip(self.lengths, means, strict=True))
        num_codes = self.tokenizer.config.num_latent_tokens
        return ReconstructSummary(len(self.psnr), inputs.unreadable, num_codes, by_length, use.usage, use.perplexity)


def made_of(image: ReconstructedImage, lengths: Sequence[int], in_stream: bool) -> Iterator[MadeImage]:
    """The files of an image: one in a stream, in a folder one for each length, in sub-folders if there are several."""
    if in_stream:
        yield MadeImage(image.key, image.files[0], {"class_id": image.class_id, "psnr": image.psnr[0]})
        return
    for n, png, value in zip(lengths, image.files, image.psnr, strict=True):
        yield MadeImage(image.key if len(lengths) == 1 else f"{n}/{image.key}", png, {"num_codes": n, "psnr": value})
