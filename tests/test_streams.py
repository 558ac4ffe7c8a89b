"""Tar streams of images: what is written comes back, and a part is never taken for the whole."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import threading

import pytest
import webdataset

from restok_cli.data.loading.streaming import read_shards
from restok_cli.data.shards.tars import list_files, name_in
from restok_cli.data.streams import StreamWriter, read_stream
from restok_cli.errors import RestokError

PICTURES = [("000000", b"first" * 200, {"class_id": 3, "seed": 0}), ("höhe/b", b"second", {"file": "höhe/b.jpg"})]


def written(pictures) -> bytes:
    file = io.BytesIO()
    with StreamWriter(file) as writer:
        for picture in pictures:
            writer.write(*picture)
    return file.getvalue()


def test_pictures_come_back_as_they_were_written():
    read = list(read_stream(io.BytesIO(written(PICTURES))))
    assert [(picture.key, picture.data, picture.info) for picture in read] == PICTURES
    assert {picture.suffix for picture in read} == {"png"}


def test_webdataset_and_tarfile_read_the_same(tmp_path):
    (tmp_path / "stream.tar").write_bytes(written(PICTURES))
    samples = list(webdataset.WebDataset(str(tmp_path / "stream.tar"), shardshuffle=False))
    assert [(sample["__key__"], sample["png"]) for sample in samples] == [picture[:2] for picture in PICTURES]
    assert samples[0]["cls"] == b"3" and "cls" not in samples[1]
    with tarfile.open(tmp_path / "stream.tar") as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_streams_of_other_writers_are_read(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "theirs.tar"), encoder=False) as writer:
        writer.write({"__key__": "a", "cls": b"7", "jpg": b"image", "txt": b"ignored"})
        writer.write({"__key__": "no_image", "cls": b"7"})
        writer.write({"__key__": "x" * 150, "PNG": b"long name"})
    with open(tmp_path / "theirs.tar", "rb") as file:
        read = list(read_stream(file))
    assert read == [("a", "jpg", b"image", {"class_id": 7}), ("x" * 150, "PNG", b"long name", {})]


def test_a_pipe_is_read_as_it_is_written():
    ends = [os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True)]

    def write():
        with ends[1], StreamWriter(ends[1]) as writer:
            for i in range(50):
                writer.write(str(i), os.urandom(10_000), {})

    thread = threading.Thread(target=write)
    thread.start()
    with ends[0]:
        assert [picture.key for picture in read_stream(ends[0])] == [str(i) for i in range(50)]
    thread.join()


@pytest.mark.parametrize("info", [{"class_id": 3}, {}], ids=["with a class", "without"])
def test_an_image_comes_out_of_a_pipe_before_the_next_goes_in_where_nothing_of_it_can_follow(info):
    ends = [os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True)]
    with ends[0], ends[1]:
        with StreamWriter(ends[1]) as writer:
            read = read_stream(ends[0])
            for key in ("a", "b"):
                writer.write(key, b"image", info)
                if info:
                    assert next(read) == (key, "png", b"image", info)
        ends[1].close()
        assert [image.key for image in read] == ([] if info else ["a", "b"])


def test_a_stream_cut_anywhere_is_an_error_that_names_the_last_whole_picture():
    data = written([("a", b"first" * 200, {}), ("b", b"second", {})])
    second = data.index(b"b.json")  # a header begins with its name; with the second sample's the first is known whole
    for length in range(0, len(data) - 1024, 256):
        with pytest.raises(RestokError, match="ends or breaks") as error:
            list(read_stream(io.BytesIO(data[:length])))
        assert ("after a " in str(error.value)) == (length >= second + 512), length


@pytest.mark.parametrize("padding", [0, 9000, 3 << 20])
def test_what_follows_the_end_of_a_tar_is_refused_as_it_would_be_lost(tmp_path, padding):
    """Such is what `cat a.tar b.tar` prints. Padding, of which tar itself writes up to 9 KiB, is nothing."""
    tar, path = written([("a", b"first", {}), ("b", b"second", {})]), tmp_path / "a.tar"
    readers = [
        lambda: list(read_stream(io.BytesIO(path.read_bytes()))),
        lambda: list(read_shards([str(path)], [])),
        lambda: list_files(io.BytesIO(path.read_bytes()), "a.tar"),
        lambda: list_files(io.BytesIO(b"before" + path.read_bytes() + b"behind"), "a", 6, 6 + path.stat().st_size),
    ]
    path.write_bytes(tar + bytes(padding))
    assert all(read() for read in readers)
    path.write_bytes(tar + bytes(padding) + tar)
    for read in readers:
        with pytest.raises(RestokError, match="goes on after its end"):
            read()


def test_names_in_tars_are_the_same_in_a_locale_with_another_encoding(monkeypatch):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as tar:
        tar.addfile(tarfile.TarInfo("höhe/b.png"))
    monkeypatch.setattr(tarfile, "ENCODING", "latin-1")
    monkeypatch.setattr(tarfile.TarFile, "encoding", "latin-1")
    assert [image.key for image in read_stream(io.BytesIO(data.getvalue()))] == ["höhe/b"]
    assert [file.name for file in list_files(data, "a.tar")] == [name_in(data.getvalue()[:512])] == ["höhe/b.png"]


def test_a_writer_that_fails_leaves_a_stream_that_is_seen_to_be_cut():
    file = io.BytesIO()
    with pytest.raises(KeyError), StreamWriter(file) as writer:
        writer.write(*PICTURES[0])
        raise KeyError
    with pytest.raises(RestokError, match="ends or breaks"):
        list(read_stream(io.BytesIO(file.getvalue())))


@pytest.mark.parametrize("data", [b"", b"no tar" * 1000, bytes(100)], ids=["nothing", "text", "zeros"])
def test_what_is_no_tar_is_one_error(data):
    with pytest.raises(RestokError, match="before its first image"):
        list(read_stream(io.BytesIO(data)))


@pytest.mark.parametrize(
    "info", [b"[1]", b"null", b'{"class_id": "x"}', b'{"class_id": 1.5}', b'{"class_id": 1e30}', b'{"class_id": true}']
)
def test_side_files_of_something_else_are_named(info):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in (("a.json", info), ("a.png", b"x")):
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    with pytest.raises(RestokError, match=r"damaged a\.json"):
        list(read_stream(io.BytesIO(file.getvalue())))


@pytest.mark.parametrize("class_id", [None, -2, 2**31, 10**30])
def test_class_ids_that_are_none_are_refused(class_id):
    with pytest.raises(RestokError, match=r"damaged a\.json or a\.cls"):
        list(read_stream(io.BytesIO(written([("a", b"x", {"class_id": class_id})]))))


def test_damaged_side_files_are_named():
    with pytest.raises(RestokError, match=r"a\.json"):
        list(read_stream(io.BytesIO(written([("a", b"x", {})]).replace(b"{}", b"{!"))))


def tar_of(files) -> io.BytesIO:
    """A tar stream of files (name, data); a folder where data is None."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            if data is None:
                member.type = tarfile.DIRTYPE
            member.size = len(data or b"")
            tar.addfile(member, io.BytesIO(data or b""))
    return io.BytesIO(file.getvalue())


def test_two_files_of_one_name_beside_an_image_are_refused_as_one_would_be_lost():
    with pytest.raises(RestokError, match=r"holds a\.cls twice"):
        list(read_stream(tar_of([("a.png", b""), ("a.cls", b"1"), ("a.cls", b"2")])))


NAMES = [
    "plain",
    "photo.v1",
    "photo.v2",
    "2024.01.02",
    "a.json",
    "b.png",
    "in.d/c",
    "x\u2028y",
    "x\x85y",
    "x\ry\x0b",
    "e\u3000",
]


def test_names_with_dots_and_odd_characters_come_back():
    pictures = [(name, name.encode(), {"class_id": i}) for i, name in enumerate(NAMES)]
    read = list(read_stream(io.BytesIO(written(pictures))))
    assert [(picture.key, picture.data, picture.info) for picture in read] == pictures


def test_a_tar_that_a_person_made_is_read_whole_and_what_is_no_picture_is_said(capsys):
    files = [("./", None), *[(f"./in/{name}.png", name.encode()) for name in NAMES]]
    read = list(
        read_stream(tar_of([*files, ("./in/notes.md", b"x"), ("./in/._plain.png", b"x"), ("./in/t.txt", b"x")]))
    )
    assert {picture.key: picture.data for picture in read} == {f"in/{name}": name.encode() for name in NAMES}
    expected = "2 files of the tar stream passed over as no image, or hidden: in/notes.md, …\n"
    assert capsys.readouterr().err == expected


def test_two_pictures_of_one_sample_of_webdatasets_keep_their_names_and_share_its_class():
    samples = [("0.cls", b"3"), ("0.image.jpg", b"a"), ("0.seg.png", b"b"), ("1.jpg", b"c"), ("1.CLS", b"4")]
    read = list(read_stream(tar_of(samples)))
    assert [(picture.key, picture.info) for picture in read] == [
        ("0.image", {"class_id": 3}),
        ("0.seg", {"class_id": 3}),
        ("1", {"class_id": 4}),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "b.png", "a.cls", "b.cls"],
        ["a.cls", "b.cls", "a.png", "b.png"],
        ["0.a.png", "0.b.png", "0.cls"],
        ["a.v1.png", "b.v1.png", "a.v1.cls"],
    ],
)
def test_a_class_far_from_its_picture_is_refused_rather_than_lost(names):
    with pytest.raises(RestokError, match=r"holds \S+\.cls far from its image.*--sort=name"):
        list(read_stream(tar_of([(name, b"0") for name in names])))


@pytest.mark.parametrize("name", ["b.png", "b.cls", "b.JSON"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, r" as a link to a\.png.*--dereference"),
        (tarfile.LNKTYPE, r" as a link to a\.png.*--dereference"),
        (b"M", ", which is no whole file"),  # the rest of one that another volume begins
    ],
)
def test_an_image_or_its_class_that_is_no_file_is_refused_by_name(kind, message, name):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "a.png"
        tar.addfile(member)
    for read in (read_stream, lambda file: list_files(file, "a.tar")):
        with pytest.raises(RestokError, match=f"holds {name}{message}"):
            list(read(io.BytesIO(file.getvalue())))


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lambda data: gzip.compress(data[:999]) + gzip.compress(data[999:])]
)
def test_a_packed_stream_is_that_of_the_same_pictures_and_a_part_of_it_is_not(pack):
    packed = pack(written(PICTURES))
    read = list(read_stream(io.BytesIO(packed)))
    assert [(picture.key, picture.data, picture.info) for picture in read] == PICTURES
    with pytest.raises(RestokError, match="ends or breaks"):
        list(read_stream(io.BytesIO(packed[: len(packed) // 2])))


def test_a_stream_packed_by_xz_is_refused_with_what_unpacks_it():
    with pytest.raises(RestokError, match="unpack it with `xz -dc`"):
        list(read_stream(io.BytesIO(lzma.compress(written(PICTURES)))))
