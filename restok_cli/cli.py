"""The front door: registers the commands and turns every error into one line and an exit code.

Nothing here imports torch, so that help and completion answer at once.
"""

import errno
import os
import re
import shutil
import signal
import sys
import traceback
from contextlib import suppress
from importlib.metadata import version
from itertools import pairwise
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from restok_cli.commands import (
    bench,
    config,
    curves,
    decode,
    demo,
    doctor,
    encode,
    evaluate,
    generate,
    models,
    plan,
    probe,
    reconstruct,
    report,
    train_har,
    train_tokenizer,
    tune,
)
from restok_cli.commands.options import is_given
from restok_cli.commands.preparing import prepare
from restok_cli.console import tell
from restok_cli.errors import Done, Failed, Interrupted, RestokError, Unmet, UsageError
from restok_cli.files import DISK_FULL, NUL, expand_home
from restok_cli.processes import is_said_by_first, leave, leave_words, rank, world_size
from restok_cli.room import is_out_of_memory
from restok_cli.settings.launcher import apply_to_options

EXIT_FAILURE, EXIT_USAGE = 1, 2
EXIT_CODES: dict[type[RestokError], int] = {UsageError: EXIT_USAGE, Unmet: 4}
NARROW = 80  # columns of a terminal
EXIT_SIGNAL = 128  # plus the number of the signal
LOOP = "a link that leads back to itself, and to no file or folder; remove it, or give another path"

# Typer keeps its Click private and has moved it before; this is Click's UsageError wherever it lives now.
ClickUsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])


class InOrder(TyperGroup):
    """Lists the commands in the order in which data flow through them."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        return ["prepare", *(name for name in super().list_commands(ctx) if name != "prepare")]


FORMER_NAMES = {"num_codes": "--tokens"}  # of options, by their parameters: taken still, but shown nowhere


class Command(TyperCommand):
    """A command that knows from its own options what may be done in several processes, and about lack of memory."""

    def make_parser(self, context: typer.Context) -> Any:
        parser = cast(Any, super().make_parser(context))  # Click's, whose place is private
        for parameter in self.get_params(context):
            former = FORMER_NAMES.get(parameter.name or "")
            if former and isinstance(parameter, TyperOption):
                parser.add_option(parameter, [former], dest=parameter.name)
        return parser

    def format_help(self, context: typer.Context, formatter: Any) -> None:
        """Below NARROW columns by Click: Rich's tables cut the names of options there."""
        if shutil.get_terminal_size().columns < NARROW:
            self.rich_markup_mode = None
            self.help = re.sub(r"\n\n(?= )", "\n\n\b\n", _without_escapes(self.help))  # whose examples Click would join
            for parameter in self.params:
                if isinstance(parameter, TyperOption):
                    parameter.help = _without_escapes(parameter.help)
        super().format_help(context, formatter)

    def parse_args(self, context: typer.Context, arguments: list[str]) -> list[str]:
        try:
            return super().parse_args(context, arguments)
        except ClickUsageError as error:  # of an option without its value, Click forgets whose it is
            error.ctx = error.ctx or context
            raise

    def invoke(self, context: typer.Context) -> object:
        writes = not context.params.keys().isdisjoint(("overwrite", "private"))  # here, or on the hub
        shares_work = "num_processes" in context.params
        if world_size() > 1 and writes and not shares_work:
            raise UsageError(
                f"{context.command_path} works in one process, and {world_size()} are started, by SLURM or by RANK and"
                " WORLD_SIZE: start it once; for work of its own in each, unset SLURM_STEP_NUM_TASKS and WORLD_SIZE"
            )
        if "device" in context.params:
            explicit = {name for name in context.params if is_given(context, name)}
            apply_to_options(context.command_path, context.params, explicit)
        try:
            return super().invoke(context)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise RestokError(f"out of memory; {spare_memory(context.params)}") from error


def _without_escapes(text: str | None) -> str:
    """A text that is written for Rich, where [word] would be a style, as Click is to show it."""
    return (text or "").replace("\\[", "[")


app = typer.Typer(
    name="restok",
    cls=InOrder,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    suggest_commands=True,
    add_completion=False,  # completions/ has scripts that start no Python and edit nobody's ~/.bashrc
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"restok {version('restok')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def restok(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Hierarchical residual 1-D image tokenizers, and generators that draw an image in 9 steps (arXiv 2601.03955).

    images → [b]prepare[/b] → [b]train-tokenizer[/b] → [b]train-har[/b] → [b]generate[/b] → [b]evaluate[/b]

    A first try, on the emoji that come with restok:

      restok train-tokenizer sample --max-steps 500 -o tokenizer
      restok train-har sample --tokenizer tokenizer --max-steps 500 -o har
      restok generate --model har --steps 9 --grid emoji.png -o pictures
      restok evaluate pictures --reference sample --features random
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


app.add_typer(prepare.app, name="prepare")
app.command()(train_tokenizer.train_tokenizer)
app.command()(train_har.train_har)
app.command()(reconstruct.reconstruct)
app.command()(generate.generate)
app.command()(encode.encode)
app.command()(decode.decode)
app.command()(evaluate.evaluate)
app.command()(probe.probe)
app.command()(tune.tune)
app.command()(curves.curves)
app.command()(report.report)
app.command()(demo.demo)
app.add_typer(models.app, name="models")
app.add_typer(config.app, name="config")
app.add_typer(plan.app, name="plan")
app.command()(bench.bench)
app.command()(doctor.doctor)
for group in (app, prepare.app, models.app, config.app, plan.app):
    for command in group.registered_commands:
        command.cls = Command


def run(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 1 (failure), 2 (usage, config) or 130 (Ctrl-C)."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        check_words(words)
        code = app(args=[expand_paths(word) for word in words], prog_name="restok", standalone_mode=False) or 0
        sys.stdout.flush()  # here, where a closed pipe or a full disk can still be told
        return code
    except ClickUsageError as error:
        if not error.format_message():  # a group without a sub-command, which has shown its help
            return EXIT_USAGE
        command = error.ctx.command_path if error.ctx else "restok"
        message = error.format_message().rstrip(".").replace("Value error, ", "")  # which are pydantic's words
        return _fail(f"{message}{'' if message.endswith('?') else '.'} Try '{command} --help'.", EXIT_USAGE)
    except Done:
        return 0
    except Failed as error:
        return _fail(str(error), error.code)
    except Interrupted as error:
        return _fail(str(error), EXIT_SIGNAL + error.signal_number)
    except RestokError as error:
        return _fail(str(error), EXIT_CODES.get(type(error), EXIT_FAILURE))
    except (KeyboardInterrupt, typer.Abort) as error:  # Click makes an Abort of KeyboardInterrupt and of EOFError
        if isinstance(error.__cause__, EOFError):
            raise error.__cause__ from None
        return _fail("interrupted", EXIT_SIGNAL + signal.SIGINT)
    except UnicodeEncodeError as error:
        return _fail(f"{error.object[:200]!a}: this name is not UTF-8; rename the file", EXIT_FAILURE)
    except OSError as error:
        with suppress(OSError, ValueError):  # let go of what stdout still holds: Python would try again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:  # `restok … | head`: the reader has seen enough
            leave_words("", EXIT_FAILURE)
            return EXIT_FAILURE
        return _fail(_describe(error), EXIT_FAILURE)
    except ImportError as error:
        if (error.name or "").startswith("restok_cli"):
            raise
        remedy = "a library that restok needs is missing or does not fit; install restok again in this environment"
        remedy += f" ({sys.prefix}), or in a fresh one"
        if "failed to map segment" in str(error):
            remedy = "memory is too little, or limited; see `ulimit -v`"
        return _fail(f"{error}: {remedy}", EXIT_FAILURE)
    except RuntimeError as error:
        if str(error).startswith("DataLoader worker"):  # torch raises it wherever the main process is just then
            return _fail(
                "a process that loads images was killed, most often because memory ran out;"
                f" try fewer workers ({error})",
                EXIT_FAILURE,
            )
        if str(error) == "Could not determine home directory.":
            return _fail(
                "a folder in your home is needed, and you have none: set HOME, or for what is downloaded HF_HOME and"
                " TORCH_HOME",
                EXIT_FAILURE,
            )
        if str(error).startswith("Symlink loop"):  # of Path.resolve before Python 3.13
            path = str(error).removeprefix("Symlink loop from ").strip("'")
            return _fail(f"{path}: {LOOP}", EXIT_FAILURE)
        raise


def check_words(words: list[str]) -> None:
    """Raises UsageError for an empty word, which as a path would mean the current folder, and for a NUL character."""
    for before, word in pairwise(("restok", *words)):
        if "\0" in word:  # no shell gives one, but a program may that calls `run`
            raise UsageError(f"{word}: {NUL}")
        option = word.removesuffix("=")
        if not word or (option != word and option.startswith("--") and "=" not in option):
            where = option or before
            raise UsageError(
                f"nothing is given after {where}, only an empty word; is a variable of your shell not set?"
            )


def expand_paths(word: str) -> str:
    """The word with ~ as the home folder also after an option or a name: shells expand it after a space only.

    A bare ~ after a name stays: it is YAML's null. Raises UsageError where nobody knows the home folder.
    """
    found = re.fullmatch(r"(-[a-zA-Z]|--[a-z-]+=|(?:[\w.-]+=)+(?=~/))(~(?:/.*)?)", word, re.DOTALL)
    return found[1] + expand_home(found[2]) if found else word


def spare_memory(options: dict[str, Any]) -> str:
    """Advice for a command that runs out of memory, by the options that it has."""
    advice = []
    if "assignments" in options:  # in training --batch-size is part of the recipe, and how it is cut is not
        advice.append("a smaller schedule.micro_batch_size by --set")
    elif options.get("batch_size", 1) != 1 and options.get("count") != 1:
        advice.append("a smaller --batch-size")
    if options.get("jobs", 1) != 1:
        advice.append("fewer --jobs")
    if "device" in options:
        advice.append("another --device")
    return f"give {', or '.join(advice)}" if advice else "it needs a machine with more of it, or a smaller model"


def _describe(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in DISK_FULL:
        if error.filename:
            remedy = "raise the limit (ulimit -f)" if error.errno == errno.EFBIG else "make room"
            return f"{where}{error.strerror}; nothing half-written was kept: {remedy}"
        return f"{error.strerror}; what was being written, on stdout or elsewhere, is cut short: make room, then again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}{error.strerror}; change the rights of that, or give another path"
    if error.errno == errno.ELOOP:
        return f"{where}{LOOP}"
    return f"{where}{error.strerror or error}"


def _fail(message: str, code: int) -> int:
    """Say what was wrong, in one line; of several processes, by the one that knows which failed first."""
    lines = message.splitlines() if message.startswith("Traceback") else [" ".join(message.split())]
    if not any(lines) or leave_words("\n".join(lines), code):
        return code
    if rank() > 0 and (code >= EXIT_SIGNAL or (code == EXIT_USAGE and is_said_by_first())):
        return code
    for number, line in enumerate(lines):
        tell(line if number else f"restok: {line}")
    return code


def main() -> None:
    try:
        code = run()
    except Exception:
        code = _fail(traceback.format_exc(), EXIT_FAILURE)
    leave(code)
