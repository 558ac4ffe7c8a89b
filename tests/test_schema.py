"""What every reader of files refuses, and how it says so."""

import pytest
from pydantic import Field

from restok_cli.errors import RestokError
from restok_cli.schema import Count, Fields, Finite, Schema, check, parse_json, read_json, read_whole_lines


class Thing(Schema):
    number: Count
    size: Finite = 0.0
    names: list[str] = Field([])
    rest: Fields = Field({})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "invalid JSON"),
        ("{", "invalid JSON"),
        ("[1]", r"\[1\]: input should be an object"),
        ("{}", "number is missing"),
        ('{"number": 1, "nummer": 2}', "unknown key nummer"),
        ('{"number": -1}', "number = -1: input should be greater than or equal to 0"),
        (f'{{"number": {2**63}}}', "number = 9223372036854775808: input should be less"),
        ('{"number": 1%s}' % ("0" * 5000), "invalid JSON: number out of range"),
        ('{"number": "1"}', "number = '1': input should be a valid integer"),
        ('{"number": true}', "number = True: input should be a valid integer"),
        ('{"number": 1.5}', "number = 1.5: input should be a valid integer"),
        ('{"number": 1, "size": NaN}', "size = nan: input should be a finite number"),
        ('{"number": 1, "size": 1e999}', "size = inf: input should be a finite number"),
        ('{"number": 1, "names": ["a", 2]}', r"names\.1 = 2: input should be a valid string"),
        ('{"number": 1, "names": ["\\ud800"]}', "invalid JSON"),
        ('{"number": 1, "rest": {"\\udfff": 1}}', "invalid JSON"),
        ('{"number": 1, "rest": %s}' % ("[" * 5000), "invalid JSON: recursion limit"),
        (b'{"number": 1, "names": ["\xff"]}', "invalid JSON"),
        (b'{"number": 1, "names": ["\xed\xa0\x80"]}', "invalid JSON"),
    ],
)
def test_what_is_no_such_thing_is_refused_by_file_field_and_value(tmp_path, text, problem):
    file = tmp_path / "thing.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RestokError, match=rf"thing\.json is wrong: {problem}.*; make it again") as caught:
        read_json(Thing, file, "make it again")
    assert len(str(caught.value).removeprefix(str(file))) < 250


def test_values_that_were_parsed_are_checked_alike():
    assert check(Thing, {"number": 1}, "x") == parse_json(Thing, '{"number": 1}', "x") == Thing(number=1)
    with pytest.raises(RestokError, match=r"^x is wrong: number = '1': input should be a valid integer"):
        check(Thing, {"number": "1"}, "x")


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(RestokError, match=r"thing\.json cannot be read: No such file or directory; copy it"):
        read_json(Thing, tmp_path / "thing.json", "copy it")


def test_a_line_that_a_kill_cut_short_is_passed_over_and_others_are_named(tmp_path):
    file = tmp_path / "things.jsonl"
    file.write_text('{"number": 1}\n{"num{"number": 2}\n\n{"number": 3}\n{"number": ')
    assert [thing.number for thing in read_whole_lines(Thing, file)] == [1, 3]
    file.write_text('{"number": 1}\n{"number": null}\n')
    with pytest.raises(RestokError, match=r"things\.jsonl, line 2 is wrong: number = None"):
        read_whole_lines(Thing, file)
