"""Images by the codes of others: the first codes of one are kept, and the rest is drawn anew, or is another's.

Prefixes of codes hold an image from coarse to fine, so that nothing has to be trained for it.
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from restok_cli.data.code_files import CODE_SUFFIXES, Codes, read_codes
from restok_cli.data.image_files import center_crop, read_image
from restok_cli.data.images import to_tensor, write_sheet
from restok_cli.data.shards.layout import NO_CLASS
from restok_cli.errors import UsageError
from restok_cli.inference.blocks import Job, Kept, generate_blocks
from restok_cli.inference.coding import decode_codes, encode_images
from restok_cli.inference.sheets import first_images, growing, write_rows
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import TokenizerFolder, fingerprint


class Like(NamedTuple):
    """An image file of which drawn images keep the first `keep` codes."""

    image: Path
    keep: int


class Mixture(NamedTuple):
    """The first `keep` codes of one image and the rest of another's, each an image file or a file of its codes."""

    first: str
    second: str
    keep: int

    @property
    def files(self) -> list[Path]:
        return [Path(self.first), Path(self.second)]

    def codes(self, folder: TokenizerFolder, tokenizer: Tokenizer) -> list[Codes]:
        """Codes of both, as `codes_of_one` gives them."""
        return [codes_of_one(f"--mix {file}", file, folder, tokenizer) for file in self.files]


def mixed(first: Codes, second: Codes, keep: int) -> Codes:
    """Codes of the first image (1, m) up to `keep`, from there on of the second (1, n) -> (1, n).

    Raises UsageError where either has fewer.
    """
    check_keep(keep, min(first.codes.shape[1], second.codes.shape[1]))
    codes = np.concatenate([first.codes[:, :keep], second.codes[:, keep:]], axis=1)
    return first._replace(codes=codes, keys=["mixed"], class_ids=np.array([NO_CLASS]), request=None)


def codes_of_one(option: str, path: Path, folder: TokenizerFolder, tokenizer: Tokenizer) -> Codes:
    """The codes (1, n) of an image file, or in a file of codes.

    Raises UsageError where there is no such file, or it has codes of several images; RestokError where it cannot be
    read.
    """
    if path.suffix.lower() not in CODE_SUFFIXES:
        codes = codes_of_image(option, path, tokenizer)[None].cpu().numpy().astype(np.int32)
        return Codes(codes, [path.stem], np.array([NO_CLASS]), tokenizer.config.codebook_size, fingerprint(folder))
    codes = read_codes(path)
    if len(codes.keys) != 1:
        raise UsageError(f"{option}: has codes of {len(codes.keys)} images; give those of one")
    return codes


def codes_of_image(option: str, path: Path, tokenizer: Tokenizer) -> Tensor:
    """The codes (L,) of an image file, after the centre crop of evaluation.

    Raises UsageError where there is no such file, RestokError where it cannot be decoded.
    """
    if not path.is_file():
        raise UsageError(f"{option}: no such file; give an image file")
    image = to_tensor(center_crop(read_image(path, str(path)), tokenizer.config.image_size))
    return encode_images(tokenizer, image[None])[0]


def check_keep(keep: int, most: int) -> None:
    """Raises UsageError where so many codes cannot be kept."""
    if not 1 <= keep <= most:
        raise UsageError(f"--keep {keep}: there are {most} codes; give 1 to {most}")


def write_mixtures(path: Path, first: Codes, second: Codes, tokenizer: Tokenizer) -> None:
    """Write a sheet: the second image, then more and more codes of the first in it, up to all."""
    most = min(first.codes.shape[1], second.codes.shape[1])
    keeps = growing(tokenizer.config.num_latent_tokens, most)
    rows = np.concatenate([second.codes, *(mixed(first, second, keep).codes for keep in keeps)])
    captions = [f"{keep} kept" for keep in (0, *keeps)]
    pixels = decode_codes(tokenizer, torch.from_numpy(rows).long().to(tokenizer.device))
    write_sheet(path, pixels.checked(captions, tokenizer.dtype), len(rows), captions)


def keeping(job: Job, codes: Tensor, keep: int, has_class: bool, given: Collection[str]) -> Job:
    """The job, its images beginning with the first `keep` of the codes (L,) of one; without a class, the null class.

    `given` are the options of sampling that somebody asked for. Raises UsageError for what has no meaning then.
    """
    config = job.har.config
    check_keep(keep, job.num_drawn)
    job = job._replace(kept=Kept(codes.to(job.device), keep))
    if has_class or config.num_classes == 0:
        return job
    if "cfg_scale" in given:
        raise UsageError("--cfg-scale guides towards a class; give one by --class, or leave it out")
    unguided = job.sampling._replace(cfg_scale=1.0)
    return job._replace(class_ids=[NO_CLASS] * len(job.class_ids), class_names=[], sampling=unguided)


def draw_kept_ladder(job: Job, path: Path) -> None:
    """Write the first images, each a row in which more and more codes are kept: 1, 2, 4, …, all that are drawn."""
    assert job.kept is not None
    first, keeps, columns = first_images(job), growing(job.har.config.num_codes, job.num_drawn), []
    for keep in keeps:
        (block,) = generate_blocks(first._replace(kept=job.kept._replace(keep=keep)), first.blocks)
        assert block.images is not None
        columns.append(block.images)
    write_rows(path, columns, [f"{keep} kept" for keep in keeps] * len(first.class_ids))
