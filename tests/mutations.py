"""Seeded mutation of files: the same seed damages the same files alike, as disks, careless scripts and strangers would.

`mutate` takes the files of an input and changes one of them, or swaps two: at random as bytes, or as what they are
(JSON, YAML, tar, NumPy, safetensors, PNG), so that what reads them gets further than a first checksum.
"""

import copy
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random

import numpy as np
import yaml

BLOCK = 512  # of a tar
SPARSE_SIZE = 8 * 10**9
CONTROL = "\x1b[31m\r\x07\x9b"
LONG = 10**5

# In the place of any value: of other types, beyond what fits, of no terminal's business, outside of the folder.
ODD_VALUES = (
    *(None, True, False, 0, -1, 1, 0.5, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, float("nan"), float("inf"), -1e308),
    *("", "7", CONTROL, "a\nb", "\0", "\ud800", "\u2028", "é" * 300, "..", "../../escaped", "/escaped", "~/escaped"),
    *([], {}, [[]], {"": None}, {CONTROL: CONTROL}, [CONTROL], [1] * 5000),
)
ODD_TEXTS = (*(value for value in ODD_VALUES if isinstance(value, str)), "b" * LONG)

Data = dict[str, bytes]  # the files of an input by name


def mutate(rng: Random, files: Data) -> tuple[str, dict[str, bytes | None]]:
    """What was done, and the new contents of the files that it changed; None where a file is gone."""
    name = rng.choice(sorted(files))
    suffix = name.rpartition(".")[2]
    alike = [other for other in files if other != name and other.endswith(suffix) and files[other] != files[name]]
    if alike and rng.random() < 0.05:
        other = rng.choice(alike)
        return f"swap {name} and {other}", {name: files[other], other: files[name]}
    if len(files) > 1 and rng.random() < 0.03:
        return f"lose {name}", {name: None}
    known = STRUCTURES.get(suffix)
    way = known if known and rng.random() < 0.6 else rng.choice(OF_BYTES)
    return f"{way.__name__} in {name}", {name: way(rng, files[name])}


# --- bytes --------------------------------------------------------------------------------------------------------


def flipped_bit(rng: Random, data: bytes) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def zeroed_block(rng: Random, data: bytes) -> bytes:
    length = min(rng.choice((1, 16, 512, 4096)), len(data))
    start = rng.randrange(len(data) - length + 1)
    return data[:start] + bytes(length) + data[start + length :]


def cut_short(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def inserted_bytes(rng: Random, data: bytes) -> bytes:
    position = rng.randrange(len(data) + 1)
    piece = rng.choice(
        (b"\xff", b"\0", b"\x1b[2J", b"\r\n", b"\xef\xbb\xbf", b"[" * LONG, data[:100], rng.randbytes(9))
    )
    return data[:position] + piece + data[position:]


def other_contents(rng: Random, data: bytes) -> bytes:
    return rng.choice(
        (b"", b"\0" * len(data), b"[]", b"{}", b"null", b"\xff\xfe", b"%!PS\n(x) run\n", rng.randbytes(99))
    )


OF_BYTES = (flipped_bit, flipped_bit, zeroed_block, zeroed_block, cut_short, inserted_bytes, other_contents)


# --- values -------------------------------------------------------------------------------------------------------


def mutated_value(rng: Random, tree: object) -> object:
    """A copy in which one value, at any depth, is gone, there twice, renamed, swapped with another, or an odd one."""
    top = [copy.deepcopy(tree)]
    places = list(places_in(top))
    parent, key = rng.choice(places)
    match rng.randrange(8):
        case 0 if parent is not top:
            del parent[key]
        case 1 if isinstance(parent, list):
            parent.insert(rng.randrange(len(parent) + 1), parent[key])
        case 1 if isinstance(parent, dict):
            parent[rng.choice(ODD_TEXTS)] = parent[key]
        case 2:
            other, place = rng.choice(places)
            parent[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(parent[key])
        case 3 if isinstance(parent[key], int | float):
            parent[key] += rng.choice((1, -1, 0.5, 1000, 2**32))
        case 3 if isinstance(parent[key], str) and parent[key]:
            position = rng.randrange(len(parent[key]))
            parent[key] = parent[key][:position] + rng.choice(("x", "/", "\x1b")) + parent[key][position + 1 :]
        case _:
            parent[key] = copy.deepcopy(rng.choice((*ODD_VALUES, *ODD_TEXTS)))
    return top[0]


def places_in(tree: object) -> Iterator[tuple]:
    """Container and key of every value in it."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from places_in(tree[key])


def mutated_json(rng: Random, data: bytes) -> bytes:
    return json.dumps(mutated_value(rng, json.loads(data))).encode()


def mutated_lines(rng: Random, data: bytes) -> bytes:
    lines = [json.loads(line) for line in data.splitlines()]
    return "".join(json.dumps(line) + "\n" for line in _listed(mutated_value(rng, lines))).encode()


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


def mutated_yaml(rng: Random, data: bytes) -> bytes:
    return yaml.safe_dump(mutated_value(rng, yaml.safe_load(data))).encode("utf-8", "surrogatepass")


# --- tar ----------------------------------------------------------------------------------------------------------


def mutated_tar(rng: Random, data: bytes) -> bytes:
    """Another header of a member, with a checksum that fits; or members in another order, twice, or not at all."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        starts = [member.offset for member in tar] + [tar.offset]
    pieces = [bytearray(data[start:end]) for start, end in pairwise(starts)]
    number = rng.randrange(len(pieces))
    match rng.randrange(8):
        case 0:
            del pieces[number]
        case 1:
            pieces.insert(rng.randrange(len(pieces)), pieces[number])
        case 2:
            rng.shuffle(pieces)
        case 3:
            pieces.insert(number, bytearray(_pax_header(rng)))
        case _:
            _change_header(rng, pieces[number])
    return b"".join(pieces) + data[starts[-1] :]


def _change_header(rng: Random, header: bytearray) -> None:
    start, length, value = rng.choice(
        (
            (0, 100, rng.choice(ODD_TEXTS).encode("utf-8", "replace")),
            (0, 100, rng.choice((b"\xff" * 100, b"a" * 100, b"/escaped.png", b"../escaped.png", b"\x1b[31m.png"))),
            (124, 12, rng.choice((b"\xff" * 12, b"\xff" * 4 + b"\0" * 8, b"\x80" + b"\0" * 3 + b"\x7f" * 8, b"-1"))),
            (124, 12, rng.choice((b"77777777777", b"", b"9", b"00000000000", b"\xff" * 11 + b"\0", b" 1x"))),
            (156, 1, rng.choice(b"01234567SxgLKDVMXNAz \0".decode()).encode()),
            (157, 100, rng.choice((b"../escaped", b"/escaped", header[:100]))),
            (257, 8, rng.choice((b"ustar  \0", b"ustar\0" + b"00", b"", b"x" * 8))),
            (345, 155, rng.choice((b"..", b"/", b"x" * 155, b"\x1b[31m"))),
        )
    )
    header[start : start + length] = value[:length].ljust(length, b"\0")
    if header[156:157] == b"S":  # a sparse file of GNU tar: its holes take no place in the archive
        header[386:410] = b"%011o\0%011o\0" % (0, 1)
        header[483:495] = b"%011o\0" % SPARSE_SIZE
    _fix_checksum(header)


def _fix_checksum(header: bytearray) -> None:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:BLOCK])


def _pax_header(rng: Random) -> bytes:
    record = rng.choice(
        (
            *(
                b"path=../escaped.png",
                b"path=\x1b[31m.png",
                b"path=\xff.png",
                b"size=-1",
                b"size=99999999999",
                b"size=x",
            ),
            *(b"GNU.sparse.size=%d" % SPARSE_SIZE, b"hdrcharset=BINARY", b"linkpath=/escaped", b"=", b"x" * 2000),
        )
    )
    length = len(record) + 2 + len(str(len(record) + 4))
    record = b"%d %s\n" % (rng.choice((length, length, length, 0, -5, 10**20)), record)
    header = bytearray(BLOCK)
    header[:10] = b"PaxHeaders"
    header[124:136] = b"%011o\0" % len(record)
    header[156:157], header[257:265] = b"x", b"ustar\00000"
    _fix_checksum(header)
    return bytes(header) + record.ljust(-(-len(record) // BLOCK) * BLOCK, b"\0")


# --- arrays -------------------------------------------------------------------------------------------------------


def mutated_npy(rng: Random, data: bytes) -> bytes:
    """Another header, which its bytes do not fit, or another array."""
    array = np.load(io.BytesIO(data))
    if rng.random() < 0.5:
        return _npy(_mutated_array(rng, array))
    shapes = ((2**40,), (-1,), (), (2**62, 2**62), (0,), array.shape[1:], (*array.shape, 1), (array.size + 1,))
    header = {"descr": array.dtype.descr if array.dtype.names else array.dtype.str, "fortran_order": False}
    header |= {"shape": rng.choice(shapes)}
    if rng.random() < 0.5:
        header |= rng.choice(({"descr": "|O"}, {"descr": ">f8"}, {"descr": "V0"}, {"descr": CONTROL}, {"shape": "x"}))
    text = repr(header).encode() + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + data[-array.nbytes :]


def mutated_npz(rng: Random, data: bytes) -> bytes:
    """One array of several as above, or gone, or under another name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    match rng.randrange(6):
        case 0:
            del members[name]
        case 1:
            members[rng.choice(("arr_0.npy", "../escaped.npy", "\x1b[31m.npy", "x"))] = members.pop(name)
        case 2:
            members[name] = rng.choice(OF_BYTES)(rng, members[name])
        case _:
            members[name] = mutated_npy(rng, members[name])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)
    return file.getvalue()


def _mutated_array(rng: Random, array: np.ndarray) -> np.ndarray:
    array = np.array(array)  # a copy, of one dimension at least
    match rng.randrange(6):
        case 0:
            return array[:-1] if array.ndim else array[None]
        case 1:
            return np.concatenate([array, array]) if array.ndim else array[None]
        case 2 if array.dtype.kind in "iuf":
            return array.astype(rng.choice(("f8", "i1", "u8", "U3", "c8", "?", ">i2")), casting="unsafe")
        case 3:
            return array[None]
        case 4 if array.size and array.dtype.kind == "f":
            array.flat[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -1e30))
        case _ if array.nbytes:
            raw = bytearray(array.tobytes())
            raw[rng.randrange(len(raw))] ^= 0xFF
            return np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)
    return array


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def mutated_safetensors(rng: Random, data: bytes) -> bytes:
    """Another header over the same numbers."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(mutated_value(rng, json.loads(data[8 : 8 + length]))).encode()
    size = len(header) if rng.random() < 0.9 else rng.choice((0, 2**31, 2**64 - 1))
    return size.to_bytes(8, "little") + header + data[8 + length :]


# --- images -----------------------------------------------------------------------------------------------------


def mutated_png(rng: Random, data: bytes) -> bytes:
    """A chunk with other contents and a checksum that fits, one that is gone or there twice, or one more."""
    chunks, position = [], 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    number = rng.randrange(len(chunks))
    name, contents = chunks[number]
    match rng.randrange(4):
        case 0:
            del chunks[number]
        case 1:
            chunks.insert(number, chunks[number])
        case 2:
            extra = rng.choice((b"iCCP", b"zTXt", b"eXIf", b"acTL", b"fdAT", b"PLTE", b"tRNS", b"IHDR"))
            chunks.insert(number, (extra, rng.choice((b"", b"x\0\0" + zlib.compress(bytes(10**6)), rng.randbytes(26)))))
        case _ if contents:
            chunks[number] = (name, rng.choice(OF_BYTES)(rng, contents))
    packed = (
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in chunks
    )
    return data[:8] + b"".join(packed)


STRUCTURES: dict[str, Callable[[Random, bytes], bytes]] = {
    "json": mutated_json,
    "jsonl": mutated_lines,
    "yaml": mutated_yaml,
    "tar": mutated_tar,
    "npy": mutated_npy,
    "npz": mutated_npz,
    "safetensors": mutated_safetensors,
    "png": mutated_png,
}
