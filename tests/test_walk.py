import os
import socket
from pathlib import Path

import pytest
from pictures import noise, write_pictures

from restok_cli.data.sources.walk import find_images, images_below, tars_in
from restok_cli.errors import RestokError, UsageError


def relative(folder):
    return [os.path.relpath(path, folder) for path in images_below(folder).images]


def test_pictures_are_known_by_content_whatever_the_suffix(tmp_path):
    for name, kind in (("a", "JPEG"), ("b.txt", "PNG"), ("c.AVIF", "AVIF"), ("d.pgm", "PPM"), ("e.tga", "TGA")):
        noise(0).save(tmp_path / name, kind)
    for name in ("notes.txt", "drawing.svg", "empty", "README"):
        (tmp_path / name).write_text("" if name == "empty" else "<svg/>")
    found = images_below(tmp_path)
    assert [Path(path).name for path in found.images] == ["a", "b.txt", "c.AVIF", "d.pgm", "e.tga"]
    assert list(found.passed_over) == ["README", "drawing.svg", "empty", "notes.txt"]


def test_a_file_whose_suffix_says_picture_is_not_opened(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_text("no image, which reading will find")
    monkeypatch.setattr("builtins.open", None)
    assert relative(tmp_path) == ["a.jpg"]


def test_what_is_passed_over_is_said_in_one_line(tmp_path, capsys):
    write_pictures(tmp_path, ["a.png"])
    (tmp_path / "b.svg").write_text("<svg/>")
    find_images(tmp_path)
    assert capsys.readouterr().err == (
        f"{tmp_path}: passed over a file that is no image (b.svg: begins as no image does)\n"
    )
    (tmp_path / "c.svg").write_text("<svg/>")
    find_images(tmp_path)
    assert "passed over 2 files that are no images (the first: b.svg: begins" in capsys.readouterr().err
    (tmp_path / "a.png").unlink()
    with pytest.raises(UsageError, match="holds no images, only 2 files that are no images"):
        find_images(tmp_path)


def test_pipes_sockets_and_devices_are_no_pictures(tmp_path, monkeypatch):
    write_pictures(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        found = images_below(tmp_path)
    assert [Path(path).name for path in found.images] == ["a.png"]
    assert found.passed_over == dict.fromkeys(["pipe", "pipe.jpg", "s.png", "zero.png"], "a pipe, a socket or a device")
    with pytest.raises(UsageError, match=r"pipe\.jpg is a pipe, a socket or a device"):
        find_images(tmp_path / "pipe.jpg")


def test_two_links_to_one_folder_are_two_folders(tmp_path):
    write_pictures(tmp_path, ["store/1.png", "in/own/1.png"])
    for name in ("x", "y"):
        (tmp_path / "in" / name).symlink_to("../store")
    assert relative(tmp_path / "in") == ["own/1.png", "x/1.png", "y/1.png"]


def test_links_that_lead_back_are_passed_over_and_said(tmp_path, monkeypatch, capsys):
    write_pictures(tmp_path, ["in/a/b/1.png", "store/2.png"])
    for link, target in (("in/a/b/up", ".."), ("in/a/out", "../.."), ("in/far", "../store"), ("store/in", "../in")):
        (tmp_path / link).symlink_to(target)
    expected = ["a/b/1.png", "far/2.png"]
    assert relative(tmp_path / "in") == expected
    assert f"{tmp_path / 'in/a/b/up'} is a link to a folder that it lies in: passed over" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path / "in")
    assert relative(Path(".")) == expected


def test_links_that_cannot_be_followed_are_broken_pictures_or_refused(tmp_path):
    write_pictures(tmp_path, ["a.png"])
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    found = images_below(tmp_path)
    assert relative(tmp_path) == ["a.png", "gone.png", "loop.png"]
    assert found.passed_over == {"loop.txt": "Too many levels of symbolic links"}
    (tmp_path / "dogs").symlink_to("/mnt/not/mounted")  # a class, as far as anybody knows
    with pytest.raises(RestokError, match="dogs: this link cannot be followed"):
        images_below(tmp_path)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    write_pictures(tmp_path, ["cats/1.png", "dogs/1.png"])
    scan = os.scandir

    def fail(folder):
        if str(folder).endswith("dogs"):
            raise OSError(5, "Input/output error")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(RestokError, match=r"dogs: this folder cannot be read \(Input/output error\)"):
        images_below(tmp_path)


def test_hidden_files_and_what_systems_leave_are_passed_over_without_a_word(tmp_path):
    hidden = ["._a.png", ".git/x.png", "lost+found/x.png", "__MACOSX/x.png"]
    write_pictures(tmp_path, ["a.png", *hidden])
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    found = images_below(tmp_path)
    assert found == ([str(tmp_path / "a.png")], {})
    for name in ("b.tar", "a.tar", "._a.tar"):
        (tmp_path / name).touch()
    assert [path.name for path in tars_in(tmp_path)] == ["a.tar", "b.tar"]
