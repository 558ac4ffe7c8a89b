"""`restok generate`: what was stopped, or is there in part, is gone on with, and nothing that is there is lost."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from damage import damages
from drawings import OPTIONS, pngs
from launchers import RESTOK

from restok_cli.data import image_files
from restok_cli.errors import Interrupted
from restok_cli.inference import outputs, unfinished
from restok_cli.inference.parts import listed
from restok_cli.inference.unfinished import alone

FORMS = {  # of the output, with the options that ask for it
    "out": (),
    "out.npz": (),
    "shards": ("--shards",),
    **dict.fromkeys(("codes.npz", "codes.jsonl", "codes.safetensors"), ("--codes",)),
}

ROWS = {"out.npz": (187, 32 * 32 * 3), "codes.npz": (0, 32 * 4)}  # of unfinished work: where they begin, bytes of each


@pytest.mark.slow
@pytest.mark.parametrize("form", ["out", "out.npz"])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(generate, tiny_models, tmp_path, form):
    options = ("--model", tiny_models / "har", *OPTIONS, "--count", 120, "--batch-size", 1)
    command = [str(word) for word in (*RESTOK, "generate", *options, "-o", form)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    begun = tmp_path / f".{form}.unfinished"
    deadline = time.monotonic() + 60
    while len(listed(begun)[0]) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert 5 <= len(listed(begun)[0]) < 120 and not (tmp_path / form).exists()
    with open(begun / ("000000.png" if form == "out" else "rows"), "r+b") as file:
        file.seek(200)  # of an .npz, in the first image
        file.write(b"what a power cut left")

    generate("--count", 120, "-o", form, "--resume", "--batch-size", 16)
    generate("--count", 120, "-o", f"whole-{form}")
    assert not begun.exists()
    if form == "out":
        assert pngs(tmp_path / "out") == pngs(tmp_path / "whole-out")
        assert (tmp_path / "out" / "manifest.jsonl").read_text() == (tmp_path / "whole-out/manifest.jsonl").read_text()
    else:
        assert (tmp_path / form).read_bytes() == (tmp_path / f"whole-{form}").read_bytes()


@pytest.fixture
def stop(fails, tiny_models, tmp_path, monkeypatch):
    """Run `generate`, which gets a signal after some blocks of two, and give what it says."""
    monkeypatch.chdir(tmp_path)

    def call(blocks: int, *arguments) -> str:
        draw = outputs.generate_blocks

        def stopped(job, todo):
            for done, drawn in enumerate(draw(job, todo)):
                if done == blocks:
                    raise Interrupted(signal.SIGTERM, "interrupted")
                yield drawn

        with monkeypatch.context() as patch:
            patch.setattr(outputs, "generate_blocks", stopped)
            return fails(143, "generate", "--model", tiny_models / "har", *OPTIONS, "--batch-size", 2, *arguments)

    return call


def test_a_stopped_run_says_how_to_go_on_and_does(expected, stop, generate, tmp_path):
    assert stop(3, "-o", "out") == "restok: interrupted; the same command with --resume goes on"
    made = tmp_path / ".out.unfinished"
    assert len(pngs(made)) == 6 and not (tmp_path / "out").exists()
    untouched = (made / "000002.png").stat().st_mtime_ns
    generate("-o", "out", "--resume", "--batch-size", 2)
    assert pngs(tmp_path / "out") == expected
    assert (tmp_path / "out" / "000002.png").stat().st_mtime_ns == untouched


@pytest.mark.parametrize(("form", "at"), [("out", "publish_folder"), ("out.npz", "sync")])
def test_who_is_stopped_at_the_very_end_has_all_images_still(
    generate, fails, tiny_models, tmp_path, monkeypatch, form, at
):
    """There the disk is to have all of them, which may take minutes."""

    def stop(_, *_more):
        raise Interrupted(signal.SIGTERM, "interrupted")

    generate("-o", f"whole-{form}")
    with monkeypatch.context() as patch:
        patch.setattr(outputs, at, stop)
        options = ("generate", "--model", tiny_models / "har", *OPTIONS, "-o", form)
        assert "the same command with --resume goes on" in fails(143, *options)
    drawn = counting(monkeypatch)
    assert "damaged" not in generate("-o", form, "--resume").err and drawn == []
    for file in (tmp_path / f"whole-{form}").rglob("*") if form == "out" else [tmp_path / f"whole-{form}"]:
        assert file.read_bytes() == Path(str(file).replace("whole-", "")).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([form, f"whole-{form}"])


def test_a_run_that_is_stopped_before_anything_is_made_leaves_nothing(stop, tmp_path):
    assert stop(0, "-o", "out") == "restok: interrupted"
    assert list(tmp_path.iterdir()) == []


def test_going_on_with_other_options_is_refused(stop, fails, tiny_models):
    stop(1, "-o", "out")
    line = fails(2, "generate", "--model", tiny_models / "har", *OPTIONS, "-o", "out", "--resume", "--seed", 1)
    assert "begun with seed = 0, now it is 1; give the same options" in line


@pytest.mark.parametrize("form", ["out", "out.npz", "shards", "codes.npz"])
def test_a_stopped_run_is_not_thrown_away_but_by_overwrite(stop, generate, fails, tiny_models, tmp_path, form):
    options = ("-o", form, *FORMS[form])
    stop(2, *options, "--seed", 1)
    before = sorted((tmp_path / f".{form}.unfinished").iterdir())
    line = fails(2, "generate", "--model", tiny_models / "har", *OPTIONS, *options)
    assert f"{form} was begun and stopped: 4 of 11 images are there; the same command with --resume goes on" in line
    assert sorted((tmp_path / f".{form}.unfinished").iterdir()) == before
    generate(*options, "--overwrite")
    assert [file.name for file in tmp_path.iterdir()] == [form]


def test_a_running_command_is_said_to_run(stop, fails, tiny_models, tmp_path):
    stop(2, "-o", "out")
    with alone(tmp_path / "out"):
        line = fails(2, "generate", "--model", tiny_models / "har", *OPTIONS, "-o", "out")
    assert "out is being written by process" in line


@pytest.mark.parametrize("form", ["out", "out.npz", "shards", "codes.npz", "codes.jsonl", "codes.safetensors"])
@pytest.mark.parametrize("classes", [(), ("--class", "random"), ("--class", "heart", "--class", 3)], ids=str)
def test_a_finished_output_is_gone_on_with_by_a_higher_count(generate, stop, tmp_path, monkeypatch, form, classes):
    options = ("--batch-size", 3, *FORMS[form], *classes)
    generate(*options, "-o", f"whole-{form}")
    generate(*options, "-o", form, "--count", 5)
    drawn = []
    draw = outputs.generate_blocks
    monkeypatch.setattr(outputs, "generate_blocks", lambda job, blocks: drawn.extend(blocks) or draw(job, blocks))
    assert "interrupted" in stop(2, *options, "-o", form, "--resume")  # also of that, nothing is lost
    assert "is complete" in generate(*options, "-o", form, "--resume", "--count", 5).err
    generate(*options, "-o", form, "--resume")
    assert drawn[:1] == [range(3, 6)] and drawn[-1] == range(9, 11)  # the block that was short is drawn as a whole
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([form, f"whole-{form}"])
    files = [file.relative_to(tmp_path / form) for file in (tmp_path / form).rglob("*")] or [Path()]
    for file in files:
        assert (tmp_path / form / file).read_bytes() == (tmp_path / f"whole-{form}" / file).read_bytes()


@pytest.mark.parametrize(("option", "value"), [("seed", 1), ("top-p", 0.5), ("count", 3)])
def test_more_pictures_of_other_options_are_refused_by_name(generate, expected, fails, tiny_models, option, value):
    options = ("--model", tiny_models / "har", *OPTIONS, "--count", 20, "-o", "expected", "--resume")
    line = fails(2, "generate", *options, f"--{option}", value)
    assert f"expected was drawn with {option.replace('-', '_')} = " in line and f"now it is {value};" in line


def test_a_foreign_file_is_no_part_of_what_is_gone_on_with(generate, expected, fails, tiny_models, tmp_path):
    (tmp_path / "expected" / "notes.txt").write_text("mine")
    options = ("--model", tiny_models / "har", *OPTIONS, "--count", 20, "-o", "expected", "--resume")
    assert "holds notes.txt, which this command did not make" in fails(2, "generate", *options)
    assert (tmp_path / "expected" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("form", ["out", "out.npz", "shards", "codes.npz"])
@pytest.mark.parametrize("lost", ["000000.*", "request.json"])
def test_what_was_killed_while_tidying_up_is_cleared_away(generate, fails, tiny_models, tmp_path, form, lost):
    options = ("-o", form, *FORMS[form])
    folder, kept = tmp_path / f".{form}.unfinished", tmp_path / "kept"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unfinished, "clear_unfinished", lambda output: folder.exists() and folder.rename(kept))
        generate(*options)
    if not kept.exists():  # became the output
        shutil.copytree(tmp_path / form, kept)
    for file in kept.glob(lost):
        file.unlink()
    for command in ((), ("--resume",)):
        shutil.copytree(kept, folder)
        if command:
            assert "is complete" in generate(*options, *command).err
        else:
            assert "already" in fails(2, "generate", "--model", tiny_models / "har", *OPTIONS, *options)
        assert sorted(file.name for file in tmp_path.iterdir()) == sorted([form, "kept"])


def test_a_complete_run_has_nothing_left_to_do(generate, expected, tmp_path, fails, tiny_models):
    before = (tmp_path / "expected").stat().st_mtime_ns
    result = generate("-o", "expected", "--resume")
    assert "is complete" in result.err and result.out == "expected\n"
    assert (tmp_path / "expected").stat().st_mtime_ns == before
    options = ("--model", tiny_models / "har", *OPTIONS, "-o", "expected", "--resume", "--seed", 1)
    assert "expected was drawn with seed = 0, now it is 1" in fails(2, "generate", *options)


@pytest.mark.parametrize("form", ["out", "out.npz", "shards"])
def test_a_grid_shows_images_as_they_were_drawn_and_files_only_of_an_earlier_run(generate, tmp_path, monkeypatch, form):
    read = []

    def read_image(data, name):
        read.append(int(name.removeprefix("image ")))
        return image_files.read_image(data, name)

    monkeypatch.setattr(outputs, "read_image", read_image)
    options = ("-o", form, *(["--shards"] if form == "shards" else []))
    generate(*options, "--grid", "first.png")
    assert read == []
    if form == "out":
        (tmp_path / form / "000004.png").unlink()
        generate(*options, "--resume", "--grid", "second.png", "--batch-size", 2)
        assert read == [index for index in range(11) if index not in (4, 5)]
        assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


@pytest.mark.parametrize("form", ["out", "out.npz", "shards"])
def test_a_complete_run_of_any_form_gives_the_grid_that_is_still_missing(generate, fails, tiny_models, tmp_path, form):
    options = ("-o", form, *(["--shards"] if form == "shards" else []))
    generate(*options, "--grid", "first.png")
    before = (tmp_path / form).stat().st_mtime_ns
    assert "is complete" in generate(*options, "--resume", "--grid", "second.png").err
    assert (tmp_path / form).stat().st_mtime_ns == before
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    line = fails(2, "generate", "--model", tiny_models / "har", *OPTIONS, *options, "--resume", "--seed", 1)
    assert f"{form} was drawn with seed = 0, now it is 1" in line


def test_a_run_that_has_lost_a_picture_is_made_again(generate, expected, tmp_path):
    (tmp_path / "expected" / "000004.png").unlink()
    (tmp_path / "expected" / "000005.png").write_bytes(b"cut")
    generate("-o", "expected", "--resume")
    assert pngs(tmp_path / "expected") == expected


def counting(monkeypatch) -> list[range]:
    """The blocks that are drawn from here on."""
    drawn, draw = [], outputs.generate_blocks
    monkeypatch.setattr(outputs, "generate_blocks", lambda job, blocks: drawn.extend(blocks) or draw(job, blocks))
    return drawn


@pytest.mark.parametrize("name", ["000004.png", "manifest.jsonl"])
def test_what_was_damaged_is_drawn_anew_and_no_more(generate, expected, tmp_path, monkeypatch, name):
    drawn, file = counting(monkeypatch), tmp_path / "expected" / name
    whole = file.read_bytes()
    for damaged in damages(whole, number=4):
        file.write_bytes(damaged)
        said = generate("-o", "expected", "--resume", "--batch-size", 1).err
        assert pngs(tmp_path / "expected") == expected and file.read_bytes() == whole
        assert "of 11 images damaged or missing, to be drawn anew" in said
        if name.endswith(".png"):
            assert "expected: 1 of 11 images" in said and drawn == [range(4, 5)]
            drawn.clear()


def swap(one: Path, other: Path) -> None:
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def test_swapped_pictures_are_drawn_anew(generate, expected, tmp_path, monkeypatch):
    drawn = counting(monkeypatch)
    swap(tmp_path / "expected" / "000002.png", tmp_path / "expected" / "000007.png")
    assert "expected: 2 of 11 images" in generate("-o", "expected", "--resume", "--batch-size", 1).err
    assert pngs(tmp_path / "expected") == expected and drawn == [range(2, 3), range(7, 8)]


def test_pictures_of_an_older_version_without_digests_are_taken_as_they_are(generate, expected, tmp_path):
    manifest = tmp_path / "expected" / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    kept = [{name: value for name, value in line.items() if not name.endswith("_crc32")} for line in lines]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in kept))
    assert "is complete" in generate("-o", "expected", "--resume").err
    generate("-o", "expected", "--resume", "--count", 12)
    assert pngs(tmp_path / "expected").items() > expected.items()
    assert all("file_crc32" in line for line in manifest.read_text().splitlines())


@pytest.mark.parametrize(
    "options", [("-o", "out"), ("-o", "out.npz"), ("--codes", "-o", "codes.npz")], ids=["pictures", "npz", "codes"]
)
@pytest.mark.parametrize("damage", ["flipped or zeroed", "swapped", "the list of digests", "its end"])
def test_what_was_damaged_while_work_was_stopped_is_drawn_anew(stop, generate, tmp_path, options, damage):
    output = tmp_path / options[-1]
    generate(*options)
    whole = pngs(output) if output.is_dir() else output.read_bytes()
    generate(*options, "--overwrite", "--count", 1)
    shutil.rmtree(output) if output.is_dir() else output.unlink()
    stop(3, *options)
    begun = tmp_path / f".{output.name}.unfinished"
    digests, (start, size) = begun / "digests-0.jsonl", ROWS.get(output.name, (0, 0))
    if size:
        data = (begun / "rows").read_bytes()
        parts = [data[start + i * size : start + (i + 1) * size] for i in range(6)]
    else:
        parts = list(pngs(begun).values())
    if damage == "swapped":
        parts[1:3] = parts[2:0:-1]
    elif damage == "flipped or zeroed":
        parts[1] = list(damages(parts[1], number=1))[-1]
    else:
        whole_list = digests.read_bytes()
        digests.write_bytes(whole_list[:-20] if damage == "its end" else list(damages(whole_list, number=1))[-1])
    if size:
        (begun / "rows").write_bytes(data[:start] + b"".join(parts) + data[start + 6 * size :])
    else:
        for i, part in enumerate(parts):
            (begun / f"{i:06d}.png").write_bytes(part)
    said = generate(*options, "--resume", "--batch-size", 2).err
    assert "of what was done had been damaged: made anew" in said
    assert (pngs(output) if output.is_dir() else output.read_bytes()) == whole


@pytest.mark.parametrize("form", ["out.npz", "shards"])
def test_damaged_pictures_of_other_forms_are_all_drawn_anew(generate, tmp_path, form):
    options = ("-o", form, *FORMS[form])
    generate(*options)
    file = tmp_path / (form if form == "out.npz" else "shards/validation-000000.tar")
    whole = file.read_bytes()
    for start in (3000, len(whole) // 2):
        file.write_bytes(whole[:start] + bytes([whole[start] ^ 16]) + whole[start + 1 :])
        assert "11 of 11 images damaged or missing" in generate(*options, "--resume").err
        assert file.read_bytes() == whole


@pytest.mark.parametrize("name", ["codes.npz", "codes.safetensors", "codes.jsonl"])
def test_damaged_codes_are_refused_by_name(generate, fails, tiny_models, tmp_path, name):
    generate("--codes", "-o", name)
    data = (tmp_path / name).read_bytes()
    place = len(data) // 2
    (tmp_path / name).write_bytes(data[:place] + bytes(40) + data[place + 40 :])
    options = ("generate", "--model", tiny_models / "har", *OPTIONS, "--codes", "-o", name, "--resume")
    assert name in fails(1, *options)


@pytest.mark.parametrize("name", ["codes.npz", "codes.safetensors", "codes.jsonl"])
def test_codes_that_are_there_are_only_taken_for_those_that_they_are(
    generate, restok, fails, tiny_models, tmp_path, name
):
    generate("--codes", "-o", name)
    before = (tmp_path / name).stat().st_mtime_ns
    assert "is complete" in generate("--codes", "-o", name, "--resume").err
    assert (tmp_path / name).stat().st_mtime_ns == before
    options = ("generate", "--model", tiny_models / "har", *OPTIONS, "--codes", "-o", name, "--resume")
    assert f"{name} was drawn with seed = 0, now it is 1" in fails(2, *options, "--seed", 1)
    assert restok("encode", "sample", "--model", tiny_models / "tokenizer", "-o", name, "--overwrite").code == 0
    assert "already exists" in fails(2, *options)


@pytest.mark.parametrize("option", ["--grid", "--ladder"])
def test_going_on_replaces_no_picture_of_another_run(generate, stop, fails, tiny_models, tmp_path, option):
    (tmp_path / "there.png").write_bytes(b"another's")
    options = ("--model", tiny_models / "har", *OPTIONS, "-o", "out", "--resume", option, "there.png")
    assert f"{option} there.png already exists" in fails(2, "generate", *options)
    assert (tmp_path / "there.png").read_bytes() == b"another's"
    stop(1, "-o", "out")
    generate("-o", "out", "--resume", "--batch-size", 2, option, "there.png")
    assert (tmp_path / "there.png").read_bytes() != b"another's"
