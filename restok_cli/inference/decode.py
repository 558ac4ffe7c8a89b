"""The work of `restok decode`: codes to images, in files or a pipe."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from restok_cli.console import Progress, counted
from restok_cli.data.code_files import Codes, read_code_lines, read_codes
from restok_cli.data.images import Pixels, write_sheet
from restok_cli.data.inputs import check_key
from restok_cli.devices import to_device
from restok_cli.errors import UsageError
from restok_cli.files import STDOUT, lines_of
from restok_cli.inference.background import in_background
from restok_cli.inference.coding import Computation, decode_codes, png_files
from restok_cli.inference.destination import ImageDestination, MadeImage
from restok_cli.inference.mixing import Mixture, mixed, write_mixtures
from restok_cli.inference.sheets import GRID_COLUMNS, SHEET_ROWS, write_ladder
from restok_cli.model.tokenizer import Tokenizer
from restok_cli.pretrained.folder import TokenizerFolder, fingerprint, open_tokenizer


def decode_source(
    source: list[str] | Mixture, model: Path, to: ImageDestination, num_codes: int | None, computation: Computation
) -> int:
    """Write the images of the codes in files, on stdin where `source` is -, or of a mixture; return how many.

    Raises UsageError where that cannot be had, RestokError where the codes are damaged.
    """
    files = source.files if isinstance(source, Mixture) else [Path(word) for word in source]
    in_files = not isinstance(source, Mixture) and STDOUT not in files
    found = read_files(files) if in_files else []
    folder = open_tokenizer(model)
    check = partial(check_codes, tokenizer=folder, own_fingerprint=fingerprint(folder), num_codes=num_codes)
    taken: set[str] = set()
    whole = [check(codes, str(file), taken) for file, codes in zip(files, found, strict=in_files)]
    tokenizer, size = computation.load(folder)
    if isinstance(source, Mixture):
        both = zip(files, source.codes(folder, tokenizer), strict=True)
        first, second = (check(codes, f"--mix {file}", set()) for file, codes in both)
        whole = [mixed(first, second, source.keep)]
        if to.ladder is not None:
            write_mixtures(to.ladder, first, second, tokenizer)
            to = to._replace(ladder=None)
    if whole:
        parts = (part for codes in whole for part in _parts(codes, size))
    else:
        lines = read_code_lines(lines_of(sys.stdin.buffer, "stdin"), "stdin", size)
        parts = (check(codes, "stdin", taken) for codes in lines)
    sheets, total = CodeSheets(to.grid, to.ladder), sum(len(codes.keys) for codes in whole) or None
    count = to.write(decode_all(sheets.seen(parts), tokenizer, total), "codes of several")
    sheets.write(tokenizer)
    return count


def read_files(files: Sequence[Path]) -> list[Codes]:
    """The codes in each file. Raises UsageError where two hold codes of one key, also as `read_codes` does."""
    found: list[Codes] = []
    owners: dict[str, Path] = {}
    for file in files:
        codes = read_codes(file)
        if (key := next((key for key in codes.keys if key in owners), None)) is not None:
            raise UsageError(
                f"{owners[key]} and {file} would both become {key}.png; decode them one after the other, each into a"
                " folder of its own"
            )
        owners |= dict.fromkeys(codes.keys, file)
        found.append(codes)
    return found


class CodeSheets:
    """Sheets of the first images that are made of codes: as they become, and growing level by level."""

    def __init__(self, grid: Path | None, ladder: Path | None):
        self.grid, self.ladder = grid, ladder
        self.keys: list[str] = []
        self.rows: list[np.ndarray] = []  # codes (L,) of each

    def seen(self, parts: Iterable[Codes]) -> Iterator[Codes]:
        """The parts, of which the first codes are kept for the sheets."""
        for part in parts:
            fits = not self.rows or part.codes.shape[1] == len(self.rows[0])  # in a pipe, codes may become fewer
            if (self.grid or self.ladder) and fits:
                room = GRID_COLUMNS * SHEET_ROWS - len(self.keys)
                self.keys += part.keys[:room]
                self.rows += [*part.codes[:room]]
            yield part

    def write(self, tokenizer: Tokenizer) -> None:
        """Write the sheets that are asked for."""
        if not self.rows:
            return
        codes = torch.from_numpy(np.stack(self.rows)).long().to(tokenizer.device)
        names = [key.rpartition("/")[2] for key in self.keys]
        if self.grid is not None:
            images = decode_codes(tokenizer, codes).checked(self.keys, tokenizer.dtype)
            write_sheet(self.grid, images, min(GRID_COLUMNS, len(names)), names)
        if self.ladder is not None:
            write_ladder(self.ladder, tokenizer, codes, names)


def _parts(codes: Codes, size: int) -> Iterator[Codes]:
    for first in range(0, len(codes.keys), size):
        part = slice(first, first + size)
        yield codes._replace(codes=codes.codes[part], keys=codes.keys[part], class_ids=codes.class_ids[part])


def check_codes(
    codes: Codes,
    source: str,
    taken: set[str],
    *,
    tokenizer: TokenizerFolder,
    own_fingerprint: str,
    num_codes: int | None,
) -> Codes:
    """The codes of the `source` to decode, cut to `num_codes` each; their keys are added to those `taken`.

    Raises UsageError where they are not those of the tokenizer, RestokError for keys that cannot be names of files
    beside each other.
    """
    config, length = tokenizer.config, codes.codes.shape[1]
    if codes.tokenizer and codes.tokenizer != own_fingerprint:
        raise UsageError(
            f"{source}: the codes belong to another tokenizer than {tokenizer.path}; give that one by --model"
        )
    if codes.codebook_size != config.codebook_size or length > config.num_latent_tokens:
        raise UsageError(
            f"{source}: the codes are {length} of {codes.codebook_size} for each image, {tokenizer.path} makes"
            f" {config.num_latent_tokens} of {config.codebook_size}; give the tokenizer that made them by --model"
        )
    if num_codes is not None and num_codes > length:
        raise UsageError(f"--num-codes {num_codes}: an image has {counted(length, 'code')}; give 1 to {length}")
    for key in codes.keys:
        check_key(key, taken, source)
    return codes._replace(codes=codes.codes[:, :num_codes])


def decode_all(parts: Iterable[Codes], tokenizer: Tokenizer, total: int | None) -> Iterator[MadeImage]:
    """Decode one part after the other."""
    device = tokenizer.device

    def decoded() -> Iterator[tuple[Codes, Pixels]]:
        for part in parts:
            yield part, decode_codes(tokenizer, to_device(torch.from_numpy(part.codes).long(), device))

    def finish(decoded: tuple[Codes, Pixels]) -> tuple[Codes, list[bytes]]:
        part, pixels = decoded
        return part, png_files(pixels.checked(part.keys, tokenizer.dtype))

    with Progress("decode", total, "images") as progress:
        for part, files in in_background(finish, decoded(), device, at_once=total is None):
            for key, class_id, png in zip(part.keys, part.class_ids.tolist(), files, strict=True):
                yield MadeImage(key, png, {"class_id": class_id, "num_codes": part.codes.shape[1]})
            progress.advance(len(files))
