"""Every example of every help text runs as it stands, or smaller as the tables say, in a folder with what it reads.

A new example is run by itself. Where it needs a file, put that into `stage`; where it must be smaller or cannot run,
add a line to SMALLER or CANNOT_RUN, with the reason.
"""

import io
import re
import sys
from collections.abc import Iterator

import pytest
import typer
from test_docs import pipe, pipelines, stage

from restok_cli import cli

# Beside the tables of test_docs, whose `pipe` makes commands smaller (tiny models, 2 steps, 8 pictures, few samples).
CANNOT_RUN = {
    r"^restok demo": "takes minutes; test_demo.py runs it with --quick",
    r"^restok models push (?!.*--dry-run)": "needs the hub; test_models_push.py runs it against a stand-in",
    r"https?://|hf:": "needs the net; test_streaming.py and test_checkpoint.py run the like against stand-ins",
    r"^restok report runs/a |^restok curves runs/a ": "two runs; test_report.py and test_curves.py compare such",
}
# What help shows of step numbers beside the presets; these run in test_config.py for every preset.
FULL_SIZE = r"restok train-\S+ sample (--tokenizer \S+ )?--max-steps 500"


def commands(group: typer.core.TyperGroup, path: str = "restok") -> Iterator[tuple[str, str]]:
    """The names and help texts of a command and all below it."""
    yield path, group.help or ""
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{path} {name}")


EXAMPLES = [
    (path, line.strip())
    for path, text in commands(typer.main.get_command(cli.app))
    for line in text.splitlines()
    if line.strip().startswith("restok ")
]


def reason(line: str) -> str | None:
    """Why an example is not run; None where it is."""
    return next((why for pattern, why in CANNOT_RUN.items() if re.search(pattern, line)), None)


def test_there_are_examples_and_no_line_of_the_table_is_left_over():
    assert len(EXAMPLES) > 50
    for pattern in CANNOT_RUN:
        assert any(re.search(pattern, line) for _, line in EXAMPLES), pattern


@pytest.mark.parametrize("line", [line for _, line in EXAMPLES if re.match(FULL_SIZE, line)])
def test_the_settings_of_a_first_try_go_together(line, restok):
    """Their real presets and numbers of steps, which are too slow to train with here."""
    kind = line.split()[1].removeprefix("train-")
    assert restok("config", "show", "sample", "--kind", kind, "--set", "schedule.max_steps=500").code == 0
