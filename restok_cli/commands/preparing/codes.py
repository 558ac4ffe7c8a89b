"""`restok prepare codes`: a data set to the codes of its images."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from restok_cli.commands.options import (
    DataArgument,
    Deterministic,
    Device,
    Dtype,
    MaxMemberBytes,
    NumProcesses,
    check_models,
    parse_model,
)
from restok_cli.console import counted, note
from restok_cli.files import MAX_MEMBER_BYTES
from restok_cli.processes import run_in_processes


def codes(
    data: DataArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.", show_default=False)],
    tokenizer: Annotated[
        Path, typer.Option(parser=parse_model, metavar="M", help="The tokenizer to encode with.", show_default=False)
    ],
    views: Annotated[
        Literal["ten-crop", "flip", "centre"],
        typer.Option(help="What is encoded of a training image; of validation it is always the centre."),
    ] = "ten-crop",
    batch_size: Annotated[int, typer.Option(min=1, help="Views that are encoded at a time.")] = 64,
    num_workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode images beside each one that encodes.")
    ] = 0,
    max_member_bytes: MaxMemberBytes = MAX_MEMBER_BYTES,
    num_processes: NumProcesses = 1,
    device: Device = "auto",
    dtype: Dtype = "auto",
    deterministic: Deterministic = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the codes that OUT already holds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of OUT.")] = False,
) -> None:
    """Encode every image of a data set once, to train generators on codes alone.

    ten-crop is the centre and the four corners of a centre crop 1.1 times as
    large, and all five mirrored; flip is the centre crop and its mirror image;
    centre that crop alone. Images that cannot be decoded are named and left
    out.

    Killed at any moment, the same command again goes on where it was and ends
    with the same bytes, also with another --num-processes. Another --batch-size,
    device, --dtype or --deterministic may round differently, and so choose
    another of two codes that are all but equally near: each is refused there.

    Example:

      restok prepare codes sample emoji-codes --tokenizer sample --views flip
      restok train-har emoji-codes --tokenizer sample -o har
    """
    check_models("tokenizer", tokenizer)
    run_in_processes(num_processes)
    from restok_cli.data.shards.dataset import open_dataset

    dataset = open_dataset(data, max_member_bytes=max_member_bytes)

    from restok_cli.inference.cache_codes import encode_dataset
    from restok_cli.inference.coding import Computation

    computation = Computation(device, dtype, batch_size, deterministic)
    summary = encode_dataset(dataset, out, tokenizer, views, overwrite, computation, num_workers)
    if summary is None:
        return
    manifest, counts, left_out = summary
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
