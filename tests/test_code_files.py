"""Files of codes: every form gives back what was written, and says what is wrong with it."""

import io
import json
import zlib

import numpy as np
import pytest
from damage import damages
from safetensors.numpy import load_file, save_file

from restok_cli.data.code_files import Codes, read_code_lines, read_codes, write_code_lines, write_codes
from restok_cli.errors import RestokError, UsageError

CODES = Codes(
    codes=np.arange(12, dtype=np.int32).reshape(3, 4),
    keys=["a", "b/ö", "c"],
    class_ids=np.array([4, -1, 0]),
    codebook_size=64,
    tokenizer="f00d",
    request={"seed": 0, "class": "ö"},
)


def same(one: Codes, other: Codes) -> bool:
    return all(np.array_equal(ours, theirs) for ours, theirs in zip(one, other, strict=True))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".jsonl"])
def test_every_form_gives_back_what_was_written(tmp_path, suffix):
    paths = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
    for path in paths:
        write_codes(CODES, path)
    read = read_codes(paths[0])
    assert same(read, CODES)
    assert (read.codes.dtype, read.class_ids.dtype) == (np.int32, np.int64)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".jsonl"])
def test_codes_say_in_which_precision_images_were_encoded_and_older_files_do_not(tmp_path, suffix):
    path, encoded = tmp_path / f"codes{suffix}", CODES._replace(request=None)
    write_codes(encoded, path)
    assert b"dtype" not in path.read_bytes().replace(b'"dtype":"', b"")  # but for safetensors' own
    assert read_codes(path).dtype == ""
    write_codes(encoded._replace(dtype="bf16"), path)
    assert read_codes(path).dtype == "bf16"


def test_lines_that_were_encoded_in_several_precisions_name_none():
    text = io.StringIO()
    for dtype in ("bf16", "float32"):
        write_code_lines(CODES._replace(dtype=dtype), text)
    whole, parts = (read_code_lines(text.getvalue().splitlines(), "stdin", size) for size in (6, 3))
    assert [part.dtype for part in whole] == [""]
    assert [part.dtype for part in parts] == ["bf16", "float32"]


def test_the_libraries_read_them_too(tmp_path):
    write_codes(CODES, tmp_path / "codes.npz")
    with np.load(tmp_path / "codes.npz") as arrays:
        assert np.array_equal(arrays["codes"], CODES.codes) and arrays["keys"].tolist() == CODES.keys
    write_codes(CODES, tmp_path / "codes.safetensors")
    assert np.array_equal(load_file(tmp_path / "codes.safetensors")["codes"], CODES.codes)


def test_a_file_with_nothing_but_codes_and_the_size_of_their_codebook_is_enough(tmp_path):
    np.savez(tmp_path / "codes.npz", codes=CODES.codes.astype(np.uint16), codebook_size=64)
    expected = CODES._replace(keys=["000000", "000001", "000002"], class_ids=np.full(3, -1), tokenizer="", request=None)
    assert same(read_codes(tmp_path / "codes.npz"), expected)


def test_lines_are_read_as_they_come_and_each_is_complete():
    text = io.StringIO()
    write_code_lines(CODES, text)
    lines = text.getvalue().splitlines()
    fields = {"key": "b/ö", "class_id": -1, "codes": [4, 5, 6, 7], "codebook_size": 64, "tokenizer": "f00d"}
    digest = zlib.crc32(json.dumps(fields, sort_keys=True).encode())
    assert json.loads(lines[1]) == fields | {"fields_crc32": f"{digest:08x}"}

    def dripping():
        yield from lines[:2]
        raise AssertionError("read further than it had to")

    assert next(read_code_lines(dripping(), "-", 2)).keys == ["a", "b/ö"]
    batches = list(read_code_lines(["\n", *lines[1:]], "-", 1))
    assert [batch.keys for batch in batches] == [["b/ö"], ["c"]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no json", "line 2 is wrong: invalid JSON"),
        ("[1]", r"line 2 is wrong: \[1\]: input should be an object"),
        ('{"key": "x", "codebook_size": 64}', "line 2 is wrong: codes is missing"),
        ('{"key": "x", "codes": [1.5, 2, 3, 4], "codebook_size": 64}', r"line 2 is wrong: codes\.0 = 1\.5: "),
        ('{"key": "x", "codes": [1], "codebook_size": 64, "tokenizer": "f00d"}', "line 2: codes is 1, of the lines"),
        ('{"key": "x", "codes": [1, 2, 3, 4], "codebook_size": 64, "tokenizer": "b"}', "line 2: tokenizer is b"),
        (
            '{"key": "x", "codes": [1, 2, 3, 4], "codebook_size": 64, "class_id": 1%s}' % ("0" * 30),
            "class_id = 10+: input",
        ),
        ('{"key": "x", "codes": [1, 2, 3, 64], "codebook_size": 64, "tokenizer": "f00d"}', "from 0 to 64, outside"),
    ],
)
def test_wrong_lines_are_named(line, message):
    text = io.StringIO()
    write_code_lines(CODES, text)
    with pytest.raises(RestokError, match=message):
        list(read_code_lines([text.getvalue().splitlines()[0], line], "-", 9))


def test_no_lines_at_all_are_an_error():
    with pytest.raises(RestokError, match="holds no codes"):
        list(read_code_lines([], "-", 9))


def damaged(path, **changes) -> None:
    fields = CODES._replace(request=None)._asdict() | changes
    np.savez(path, **{name: value for name, value in fields.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": None}, "cannot be read as codes"),
        ({"codebook_size": None}, "cannot be read as codes"),
        ({"codes": CODES.codes * 1.0}, "expected integers of shape"),
        ({"codes": CODES.codes[0]}, "expected integers of shape"),
        ({"codes": CODES.codes[:0]}, "holds no codes"),
        ({"codebook_size": 11}, "codes run from 0 to 11, outside a codebook of 11"),
        ({"codebook_size": np.inf}, "cannot be read as codes"),
        ({"codebook_size": 2**40}, "codebook_size is 1099511627776; expected 1 to"),
        ({"class_ids": ["a", "b", "c"]}, "class ids are <U1"),
        ({"class_ids": 3}, "class ids are int64"),
        ({"class_ids": [0, 1, np.nan]}, "class ids are float64"),
        ({"class_ids": [0, 1, 2**40]}, "class ids run from 0 to 1099511627776"),
        ({"class_ids": [0, 1, -2]}, "class ids run from -2 to 1"),
        ({"keys": ["a"]}, "of 3 images, 1 key and 3 class ids"),
    ],
)
def test_damaged_files_are_one_error(tmp_path, changes, message):
    damaged(tmp_path / "codes.npz", **changes)
    with pytest.raises(RestokError, match=message):
        read_codes(tmp_path / "codes.npz")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_cut_short_is_one_error(tmp_path, suffix):
    path = tmp_path / f"codes{suffix}"
    write_codes(CODES, path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RestokError, match="cannot be read as codes"):
        read_codes(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".jsonl"])
def test_damage_is_refused_or_changes_nothing(tmp_path, suffix):
    path, rng = tmp_path / f"codes{suffix}", np.random.default_rng(0)
    keys = [f"image-{i}" for i in range(100)]
    codes = Codes(rng.integers(0, 64, (100, 32), np.int32), keys, np.arange(100), 64, "f00d", {"seed": 0, "top_p": 0.9})
    write_codes(codes, path)
    refused = 0
    for damaged in damages(path.read_bytes(), number=60):
        path.write_bytes(damaged)
        try:
            assert same(read_codes(path), codes)
        except RestokError as error:
            assert str(error).startswith(str(path))
            refused += 1
    assert refused > 110


def test_another_layout_of_a_line_is_no_damage_and_a_line_without_digest_is_read():
    text = io.StringIO()
    write_code_lines(CODES, text)
    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    rewritten = [json.dumps(dict(reversed(line.items())), indent=None, separators=(",", ":")) for line in lines]
    older = [json.dumps({name: line[name] for name in line if name != "fields_crc32"}) for line in lines]
    for each in (rewritten, older):
        (read,) = read_code_lines(each, "-", 3)
        assert same(read, CODES)


def test_a_size_beyond_all_numbers_in_safetensors_is_one_error(tmp_path):
    metadata = {"restok": '{"codebook_size": 1e400}'}
    save_file({"codes": CODES.codes}, tmp_path / "codes.safetensors", metadata)
    with pytest.raises(RestokError, match="cannot be read as codes"):
        read_codes(tmp_path / "codes.safetensors")


@pytest.mark.parametrize("place", [4, 6, 8], ids=["version", "flags", "method"])
def test_zip_files_of_a_kind_that_cannot_be_read_are_one_error(tmp_path, place):
    path = tmp_path / "codes.npz"
    write_codes(CODES, path)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        data[data.index(signature) + offset + place] |= 0x61
    path.write_bytes(data)
    with pytest.raises(RestokError, match="cannot be read as codes"):
        read_codes(path)


def test_other_names_and_missing_files_are_usage_errors(tmp_path):
    for name, message in (("codes.txt", "ends in .npz, .safetensors, .jsonl"), ("codes.npz", "no such file")):
        with pytest.raises(UsageError, match=message):
            read_codes(tmp_path / name)
    with pytest.raises(UsageError, match="ends in"):
        write_codes(CODES, tmp_path / "codes.txt")
