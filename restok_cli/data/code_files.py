"""Codes in files: the one place that knows how `encode` and `generate --codes` write them and who reads them.

.npz           codes (n, L) int32, keys (n,), class_ids (n,), codebook_size, tokenizer, dtype, crc32
.safetensors   codes and class_ids as tensors, the rest as JSON in its metadata, under `restok`
.jsonl or -    a line per image, each complete: {"key", "class_id", "codes", "codebook_size", "tokenizer", "dtype"} and
               its own digest (`sealed` in files.py)

Codes that were drawn have `request` in the place of `dtype`, what they were drawn by: JSON in an .npz, in lines only
the first one's.
The digests are compared where they are there; files without, of older versions or of others, are read as well.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TextIO

import numpy as np
from pydantic import BaseModel, Field, NonNegativeInt

from restok_cli.console import counted
from restok_cli.data.arrays import NPZ_ERRORS, ArrayHeader, check_room, read_npz
from restok_cli.data.shards.code_layout import is_codes
from restok_cli.data.shards.layout import MAX_CLASS_ID, NO_CLASS
from restok_cli.errors import RestokError, UsageError
from restok_cli.files import crc32_of, is_sealed, lines_of, sealed, whole_file
from restok_cli.schema import Fields, PositiveCount, parse_json

MAX_CODEBOOK_SIZE = 2**31  # codes are kept as int32
CODE_SUFFIXES = (".npz", ".safetensors", ".jsonl")


class Codes(NamedTuple):
    """The codes of n images, L each: all that a tokenizer makes, or the first of them."""

    codes: np.ndarray  # int32 (n, L)
    keys: list[str]  # the names of the images
    class_ids: np.ndarray  # int64 (n,), -1 where the class is not known
    codebook_size: int
    tokenizer: str  # fingerprint of the tokenizer that the codes belong to; empty where it is not known
    request: dict | None = None  # what they were drawn by; None where they were not, or nobody wrote it down
    dtype: str = ""  # precision in which the images were encoded; empty where nobody wrote it down, or it was several


ClassId = Annotated[int, Field(ge=NO_CLASS, le=MAX_CLASS_ID)]


class _Line(BaseModel):
    """One line of the JSON form."""

    key: str
    class_id: ClassId = NO_CLASS
    codes: list[NonNegativeInt]
    codebook_size: PositiveCount
    tokenizer: str = ""
    request: Fields | None = None
    dtype: str = ""


def check_code_file(path: Path) -> None:
    """Raises UsageError where codes cannot be written to a file of that name."""
    if path.suffix.lower() not in CODE_SUFFIXES:
        raise UsageError(f"{path}: codes go to a file that ends in {', '.join(CODE_SUFFIXES)}, or to - (stdout)")


def join(parts: list[Codes]) -> Codes:
    """All images of parts that belong to one tokenizer and have equally many codes."""
    return parts[0]._replace(
        codes=np.concatenate([part.codes for part in parts]),
        keys=[key for part in parts for key in part.keys],
        class_ids=np.concatenate([part.class_ids for part in parts]),
        dtype=_only([part.dtype for part in parts]),
    )


def _only(values: list[str]) -> str:
    """The value of all, or none."""
    return values[0] if len(set(values)) == 1 else ""


# --- writing -----------------------------------------------------------------------------------------------------


def write_codes(codes: Codes, path: Path) -> None:
    """Write a file of the form that its suffix says, whole or not at all; the same codes give the same bytes."""
    check_code_file(path)
    with whole_file(path) as temporary:
        if path.suffix.lower() == ".npz":
            fields = codes._asdict() | {"keys": np.array(codes.keys), "crc32": _crc32(codes)}
            if request := fields.pop("request"):
                fields["request"] = json.dumps(request)
            if not codes.dtype:
                del fields["dtype"]
            with open(temporary, "wb") as file:
                np.savez(file, **fields)
        elif path.suffix.lower() == ".safetensors":
            _write_safetensors(codes, temporary)
        else:
            with open(temporary, "w", encoding="utf-8") as file:
                write_code_lines(codes, file)


def write_code_lines(codes: Codes, file: TextIO) -> None:
    """Write a line of JSON for each image, and let the next command in the pipe have them."""
    request, dtype = _if_known(request=codes.request), _if_known(dtype=codes.dtype)
    for key, class_id, row in zip(codes.keys, codes.class_ids, codes.codes, strict=True):
        line = {"key": key, "class_id": int(class_id), "codes": row.tolist()}
        line |= {"codebook_size": codes.codebook_size, "tokenizer": codes.tokenizer} | dtype | request
        request = {}
        file.write(json.dumps(sealed(line)) + "\n")  # ASCII: for terminals too
    file.flush()


def _if_known(**fields: dict | str | None) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _write_safetensors(codes: Codes, path: Path) -> None:
    from safetensors.numpy import save

    rest = {"keys": codes.keys, "codebook_size": codes.codebook_size, "tokenizer": codes.tokenizer}
    rest["crc32"] = _crc32(codes)
    rest |= _if_known(request=codes.request, dtype=codes.dtype)
    metadata = {"restok": json.dumps(rest)}  # one entry, since safetensors writes several in random order
    path.write_bytes(save({"codes": codes.codes, "class_ids": codes.class_ids}, metadata))


def _crc32(codes: Codes) -> str:
    """The digest of all fields."""
    rest = [codes.keys, int(codes.codebook_size), codes.tokenizer, codes.request, codes.codes.shape]
    rest += [codes.dtype] if codes.dtype else []  # of which older files know nothing
    arrays = (np.ascontiguousarray(codes.codes, "<i4"), np.ascontiguousarray(codes.class_ids, "<i8"))
    return crc32_of(json.dumps(rest, sort_keys=True).encode(), *(array.data for array in arrays))


# --- reading -----------------------------------------------------------------------------------------------------


def read_codes(path: Path) -> Codes:
    """The codes in a file of any of the forms; keys, classes and the tokenizer may be missing from it.

    Raises UsageError where there is no such file or its name says another kind, RestokError where it is damaged or
    holds codes outside its codebook.
    """
    if is_codes(path):
        raise UsageError(
            f"{path} is a code cache, for train-har and evaluate; `restok encode DATA -o codes.npz`, of the data set"
            " that it was made of, writes codes to decode"
        )
    if path.suffix.lower() not in CODE_SUFFIXES:
        raise UsageError(f"{path}: give codes, in a file that ends in {', '.join(CODE_SUFFIXES)}, or - for stdin")
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give codes that `restok encode` or `restok generate --codes` wrote")
    if path.suffix.lower() == ".jsonl":
        with open(path, "rb") as file:
            return join(list(read_code_lines(lines_of(file, str(path)), str(path), 4096)))
    try:
        fields = _read_npz(path) if path.suffix.lower() == ".npz" else _read_safetensors(path)
        codes = np.asarray(fields["codes"])
        count = len(codes) if codes.ndim else 0
        keys = [str(key) for key in fields.get("keys", [f"{i:06d}" for i in range(count)])]
        class_ids = np.asarray(fields.get("class_ids", np.full(count, NO_CLASS)))
        tokenizer, request = str(fields.get("tokenizer", "")), fields.get("request")
        request = request if isinstance(request, dict) else None
        rest = int(fields["codebook_size"]), tokenizer, request, str(fields.get("dtype", ""))
        found = Codes(codes, keys, class_ids, *rest)
    except NPZ_ERRORS as error:
        raise RestokError(
            f"{path} cannot be read as codes ({error}); expected codes (n, L) and codebook_size"
        ) from error
    found = _checked(found, str(path))
    if "crc32" in fields and str(fields["crc32"]) != _crc32(found):
        raise RestokError(f"{path} is damaged: it is not as it was written; copy or make it again")
    return found


def read_code_lines(lines: Iterable[bytes | str], source: str, batch_size: int) -> Iterator[Codes]:
    """The codes of JSON lines as they come, `batch_size` images at a time.

    Raises RestokError naming `source` and the line that is wrong, or where there is none.
    """
    batch: list[_Line] = []
    first = None
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        remedy = "give lines that `restok encode` or `restok generate --codes` wrote"
        line = parse_json(_Line, text, f"{source}, line {number}", remedy)
        if not is_sealed(json.loads(text)):
            raise RestokError(f"{source}, line {number} is not as it was written; copy or make the codes again")
        first = first or line
        for name, ours, theirs in (
            ("codes", len(line.codes), len(first.codes)),
            ("codebook_size", line.codebook_size, first.codebook_size),
            ("tokenizer", line.tokenizer, first.tokenizer),
        ):
            if ours != theirs:
                raise RestokError(f"{source}, line {number}: {name} is {ours}, of the lines before {theirs}")
        batch.append(line)
        if len(batch) == batch_size:
            yield _of_lines(batch, source)
            batch = []
    if batch:
        yield _of_lines(batch, source)
    if first is None:
        raise RestokError(f"{source} holds no codes; look at what the command that made them says")


def _of_lines(lines: list[_Line], source: str) -> Codes:
    codes = np.array([line.codes for line in lines])
    class_ids = np.array([line.class_id for line in lines])
    first = lines[0]
    keys = [line.key for line in lines]
    rest = first.codebook_size, first.tokenizer, first.request, _only([line.dtype for line in lines])
    return _checked(Codes(codes, keys, class_ids, *rest), source)


def _read_npz(path: Path) -> dict[str, Any]:
    fields: dict[str, Any] = read_npz(path, (*Codes._fields, "crc32"))
    if "request" in fields:  # or what somebody else calls so
        with suppress(RestokError):
            fields["request"] = parse_json(Fields, str(fields["request"]), str(path))
    return fields


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            names = {"codes", "class_ids"}.intersection(file.keys())
            shapes = [file.get_slice(name).get_shape() for name in names]
            check_room((ArrayHeader(tuple(shape), False, np.dtype("i8")) for shape in shapes), path)
            fields = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return parse_json(Fields, metadata.get("restok", "{}"), str(path), "give codes that restok wrote") | fields


def _checked(found: Codes, source: str) -> Codes:
    """Give codes their usual types. Raises RestokError where the parts do not fit each other."""
    codes, size, class_ids = found.codes, found.codebook_size, found.class_ids
    if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer):
        raise RestokError(f"{source}: codes are {codes.dtype} {codes.shape}; expected integers of shape (n, L)")
    if codes.size == 0:
        raise RestokError(f"{source} holds no codes; expected at least one image's")
    if not 0 < size <= MAX_CODEBOOK_SIZE:
        raise RestokError(f"{source}: codebook_size is {size}; expected 1 to {MAX_CODEBOOK_SIZE}")
    if codes.min() < 0 or codes.max() >= size:
        raise RestokError(f"{source}: codes run from {codes.min()} to {codes.max()}, outside a codebook of {size}")
    if class_ids.ndim != 1 or not np.issubdtype(class_ids.dtype, np.integer):
        raise RestokError(f"{source}: class ids are {class_ids.dtype} {class_ids.shape}; expected integers (n,)")
    if not len(codes) == len(found.keys) == len(class_ids):
        raise RestokError(
            f"{source} holds codes of {counted(len(codes), 'image')}, {counted(len(found.keys), 'key')} and"
            f" {counted(len(class_ids), 'class id')}"
        )
    if class_ids.min() < NO_CLASS or class_ids.max() > MAX_CLASS_ID:
        raise RestokError(
            f"{source}: class ids run from {class_ids.min()} to {class_ids.max()}; expected {NO_CLASS} (none) or more"
        )
    return found._replace(codes=codes.astype(np.int32), class_ids=class_ids.astype(np.int64))
