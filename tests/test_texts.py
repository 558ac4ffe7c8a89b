import pytest

from restok_cli.data.sources.texts import read_names, read_text
from restok_cli.errors import UsageError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_in_the_encodings_of_windows_too(tmp_path, encoding):
    (tmp_path / "a").write_bytes("é\r\nb\n".encode(encoding))
    assert read_text(tmp_path / "a") == "é\r\nb\n"
    assert read_names(tmp_path / "a") == ["é", "b"]


def test_names_end_with_their_line_and_nowhere_else(tmp_path):
    (tmp_path / "a").write_bytes("a\u2028b\r\nc\x85d\ne\x0bf\n\n".encode())
    assert read_names(tmp_path / "a") == ["a\u2028b", "c\x85d", "e\x0bf"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\n\nb\n", "a, line 2: empty, where the name of class 1 is expected"),
        (b"", "a, line 1: empty"),
        (b"a\nb\xff\n", "a, line 2: no text in UTF-8"),
        (None, r"a cannot be read \(No such file"),
    ],
)
def test_what_is_no_list_of_names_is_refused(tmp_path, data, message):
    if data is not None:
        (tmp_path / "a").write_bytes(data)
    with pytest.raises(UsageError, match=message):
        read_names(tmp_path / "a")
