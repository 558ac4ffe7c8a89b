"""`restok demo`: every command once, from images to a report."""

import shlex
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Annotated, NamedTuple

import typer

from restok_cli.commands.options import Overwrite
from restok_cli.console import note
from restok_cli.errors import Failed, Interrupted, RestokError
from restok_cli.files import check_output_folder, whole_file
from restok_cli.processes import restok_words

# What each command is for, and the command; DIR is the demo's folder, TRAINING how long the two models train, VIEWS
# how many codes an image gets.
SCRIPT = (
    ("the images: 1,906 emoji in 98 classes", "prepare sample DIR/data"),
    ("a tokenizer, which turns images into codes", "train-tokenizer DIR/data TRAINING -o DIR/tokenizer"),
    ("the codes of all images, once", "prepare codes DIR/data DIR/codes --tokenizer DIR/tokenizer --views VIEWS"),
    ("a generator of such codes", "train-har DIR/codes --tokenizer DIR/tokenizer TRAINING -o DIR/har"),
    ("held-out images to codes and back", "reconstruct DIR/data --model DIR/tokenizer -o DIR/reconstructed"),
    ("new images", "generate --model DIR/har --count 96 --grid DIR/emoji.png -o DIR/pictures"),
    (
        "how good the images become with every further level of codes",
        "evaluate DIR/data --num-codes all --model DIR/tokenizer --metric psnr --json > DIR/levels.json",
    ),
    (
        "how far the new images are from real ones, by a network without weights: no number to publish",
        "evaluate DIR/pictures --reference DIR/data --features random --json > DIR/drawn.json",
    ),
    (
        "all of it in one file",
        "report DIR/tokenizer DIR/har --metrics DIR/levels.json --metrics DIR/drawn.json -o DIR/report.html",
    ),
)
TRAINING = "--preset tiny --max-steps 750 --set schedule.preview_every=125 --set schedule.validate_every=250"
QUICK = "--preset tiny --max-steps 10 --skip-preflight"
REPLACING = {"prepare", "train-tokenizer", "train-har", "reconstruct", "generate", "report"}  # take --overwrite
OURS = {
    *("data", "tokenizer", "har", "reconstructed", "pictures"),
    *("emoji.png", "levels.json", "drawn.json", "report.html"),
}
STDERR = 2  # where what the commands print goes: the demo's own result is the report


class Step(NamedTuple):
    why: str
    words: list[str]  # after `restok`
    output: Path | None  # the file for its stdout

    def __str__(self) -> str:
        """As it is typed in a shell."""
        line = shlex.join(["restok", *self.words])
        return f"{line} > {shlex.quote(str(self.output))}" if self.output else line


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder for all that is made.")
    ] = Path("demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps, in one to two minutes: only to see that everything works.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Run every command once, on the emoji that come with restok: five minutes on two CPU cores.

    Each command is shown before it runs, so that you can copy it. Ends with
    DIR/report.html, which shows what came of it; prints that path. So short a
    training of so small a model shows how things work, and no good images.

    Examples:

      restok demo
      restok demo --quick -o /tmp/demo
    """
    started = time.monotonic()
    check_output_folder(output, overwrite, lambda name: name.split("/")[0] in OURS)
    steps = make_steps(output, quick, overwrite)
    for number, step in enumerate(steps, start=1):
        for line in ("", f"# {number} of {len(steps)}: {step.why}", f"$ {step}"):
            note(line)
        run_step(step)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    note("")
    note(
        f"Done in {minutes}:{seconds:02d}. Open {output / 'report.html'} in a browser: move the sliders over the"
        " images, and see the curves."
    )
    note(
        "The images are blobs, as they must be after so short a training of so small a model; for those of one that"
        " was trained far longer, run"
    )
    note("$ restok generate --steps 9")
    print(output / "report.html")


def make_steps(folder: Path, quick: bool, overwrite: bool) -> list[Step]:
    """The commands, in order; with `overwrite`, all may replace what they would otherwise refuse to."""
    steps = []
    for why, line in SCRIPT:
        line = line.replace("TRAINING", QUICK if quick else TRAINING).replace("VIEWS", "centre" if quick else "flip")
        command, _, output = line.partition(" > ")
        words = [f"{folder / word[4:]}" if word.startswith("DIR/") else word for word in command.split()]
        if overwrite and words[0] in REPLACING:
            words.append("--overwrite")
        steps.append(Step(why, words, folder / output[4:] if output else None))
    return steps


def run_step(step: Step) -> None:
    """Run a command in a process of its own. Raises Failed where it fails, with its exit code; it has said why."""
    with ExitStack() as stack:
        stdout: IO | int = STDERR
        if step.output is not None:
            stdout = stack.enter_context(open(stack.enter_context(whole_file(step.output)), "wb"))
        # a group of its own: Ctrl-C reaches only us, so that it is handed on once, and a training can save
        process = subprocess.Popen(restok_words(*step.words), stdin=subprocess.DEVNULL, stdout=stdout, process_group=0)
        code = wait(process)
        if code < 0:
            raise RestokError(f"`{step}` was killed by signal {-code}; it may have run out of memory")
        if code > 0:
            raise Failed(code, "")


def wait(process: subprocess.Popen) -> int:
    """The exit code of a process, to which signals that we get are handed on.

    Raises Interrupted where one came and the process had finished all the same.
    """
    received = None
    while True:
        try:
            code = process.wait()
        except Interrupted as stop:
            received = stop
            process.send_signal(stop.signal_number)
        except BaseException:
            process.terminate()
            raise
        else:
            if code == 0 and received is not None:
                raise received
            return code
