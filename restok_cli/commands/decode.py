"""`restok decode`: codes to pictures."""

import json
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from restok_cli.commands.options import (
    AnyBatchSize,
    AsJson,
    Device,
    Dtype,
    Overwrite,
    TokenizerOption,
    open_device,
    torch_dtype,
)
from restok_cli.console import Progress, counted
from restok_cli.errors import UsageError
from restok_cli.files import (
    SAMPLE_MODEL,
    STDOUT,
    check_apart,
    check_output_file,
    crc32_of,
    lines_of,
    whole_file,
    whole_folder,
)

if TYPE_CHECKING:
    from restok_cli.data.code_files import Codes
    from restok_cli.model.tokenizer import Tokenizer
    from restok_cli.pretrained.folder import ModelFolder

DECODED_FOLDER = Path("decoded")


def decode(
    codes: Annotated[
        str,
        typer.Argument(
            metavar="CODES",
            help="What encode or generate --codes wrote: an .npz, .safetensors or .jsonl file, or - (lines on stdin).",
            show_default=False,
        ),
    ],
    model: TokenizerOption = SAMPLE_MODEL,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="OUT", help="A folder, a .png for one picture, or - (a tar stream on stdout)."
        ),
    ] = DECODED_FOLDER,
    num_codes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Decode the first N codes only: coarser. Default: all.")
    ] = None,
    batch_size: AnyBatchSize = 16,
    overwrite: Overwrite = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Turn codes into pictures: all codes of each, or a prefix of them, which gives a coarser picture.

    A folder gets a PNG of each picture's key, and manifest.jsonl. Codes that name
    another tokenizer are refused. Prints OUT.

    Examples: pictures from codes, from the first 16 of each, and one from a pipe:

      restok decode codes.npz --model runs/tokenizer -o pictures
      restok decode codes.npz --model runs/tokenizer --num-codes 16 -o coarse
      restok encode photo.jpg --model M | restok decode - --model M -o same.png
    """
    if output.suffix.lower() == ".png":
        check_output_file("-o", output, ".png", overwrite, model)
    elif output != STDOUT:
        from restok_cli.data.image_folders import check_picture_folder

        check_picture_folder(output, overwrite)
        check_apart(output, model, Path(codes))
    from restok_cli.data.code_files import read_code_lines, read_codes

    whole = None if codes == "-" else read_codes(Path(codes))

    from restok_cli.inference.coding import choose_batch_size
    from restok_cli.pretrained.folder import fingerprint, load_for_use, open_tokenizer

    torch_device = open_device(device)
    folder = open_tokenizer(model)
    check = partial(check_codes, tokenizer=folder, fingerprint=fingerprint(folder), num_codes=num_codes, taken=set())
    whole = whole and check(whole)
    tokenizer = load_for_use(folder, torch_device, torch_dtype(dtype))
    size = choose_batch_size(batch_size, tokenizer, torch_device)
    parts = (
        _parts(whole, size)
        if whole
        else map(check, read_code_lines(lines_of(sys.stdin.buffer, "stdin"), "stdin", size))
    )
    count = write_pictures(decode_all(parts, tokenizer, len(whole.keys) if whole else None), output)
    if output != STDOUT:
        print(json.dumps({"path": str(output), "pictures": count}) if as_json else output)


def _parts(codes: "Codes", size: int) -> "Iterator[Codes]":
    for first in range(0, len(codes.keys), size):
        part = slice(first, first + size)
        yield codes._replace(codes=codes.codes[part], keys=codes.keys[part], class_ids=codes.class_ids[part])


def check_codes(
    codes: "Codes", tokenizer: "ModelFolder", fingerprint: str, num_codes: int | None, taken: set[str]
) -> "Codes":
    """The codes to decode, cut to `num_codes` each; their keys are added to those `taken`.

    Raises UsageError where they are not those of the tokenizer, RestokError for keys that cannot be names of files
    beside each other.
    """
    from restok_cli.data.inputs import check_key

    config, length = tokenizer.config, codes.codes.shape[1]
    if codes.tokenizer and codes.tokenizer != fingerprint:
        raise UsageError(f"the codes belong to another tokenizer than {tokenizer.path}; give that one by --model")
    if codes.codebook_size != config.codebook_size or length > config.num_latent_tokens:
        raise UsageError(
            f"the codes are {length} of {codes.codebook_size} for each picture, {tokenizer.path} makes"
            f" {config.num_latent_tokens} of {config.codebook_size}; give the tokenizer that made them by --model"
        )
    if num_codes is not None and num_codes > length:
        raise UsageError(f"--num-codes {num_codes}: a picture has {counted(length, 'code')}; give 1 to {length}")
    for key in codes.keys:
        check_key(key, taken, "the list of codes")
    return codes._replace(codes=codes.codes[:, :num_codes])


class Decoded(NamedTuple):
    """One picture on its way out."""

    key: str
    png: bytes
    info: dict


def decode_all(parts: "Iterable[Codes]", tokenizer: "Tokenizer", total: int | None) -> Iterator[Decoded]:
    """Decode one part after the other."""
    import torch

    from restok_cli.inference.coding import decode_codes, png_files

    device = tokenizer.quantizer.codebook.device
    with Progress("decode", total, "pictures") as progress:
        for part in parts:
            codes = torch.from_numpy(part.codes).long().to(device)
            files = png_files(decode_codes(tokenizer, codes).cpu())
            for key, class_id, png in zip(part.keys, part.class_ids.tolist(), files, strict=True):
                yield Decoded(key, png, {"class_id": class_id, "tokens": codes.shape[1]})
            progress.advance(len(files))


def write_pictures(pictures: Iterator[Decoded], output: Path) -> int:
    """Write a folder, one .png, or a tar stream on stdout; return how many pictures there were."""
    from restok_cli.data.image_folders import PICTURE_MANIFEST, manifest_line

    count = 0
    if output == STDOUT:
        from restok_cli.data.streams import StreamWriter

        with StreamWriter(sys.stdout.buffer) as writer:
            for count, picture in enumerate(pictures, start=1):  # noqa: B007 (the last is the result)
                writer.write(*picture)
    elif output.suffix.lower() == ".png":
        first = next(pictures)
        if next(pictures, None) is not None:
            raise UsageError(f"-o {output} is one picture, but there are codes of several; give a folder")
        count = 1
        with whole_file(output) as temporary:
            temporary.write_bytes(first.png)
    else:
        lines = []
        with whole_folder(output) as folder:
            for picture in pictures:
                file = f"{picture.key}.png"
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(picture.png)
                lines.append(manifest_line(file, crc32_of(picture.png), picture.info))
            (folder / PICTURE_MANIFEST).write_text("".join(lines), encoding="utf-8")
        count = len(lines)
    return count
