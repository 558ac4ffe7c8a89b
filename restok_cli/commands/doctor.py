"""`restok doctor`: is everything here that restok needs? And if not, what to do."""

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from restok_cli.commands.options import LinesAsJson
from restok_cli.console import counted, say
from restok_cli.errors import RestokError

if TYPE_CHECKING:
    from restok_cli.diagnosis.environment import Finding


def doctor(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH", help="Data sets, code caches, models and runs to look at too.", show_default=False
        ),
    ] = None,
    as_json: LinesAsJson = False,
) -> None:
    """Say whether this machine has what restok needs, and what to do where it has not. Downloads nothing.

    Looks at Python, libraries, torch and its device, cores, memory, disks, and
    the weights of other people's networks: which are here, and how to get the
    others without a connection. Of data sets it checks the files and their
    indices (`restok prepare verify` reads every image), of models config and
    header of the weights.

    Each line begins with ok, note (worth knowing) or problem. The exit code is 1
    where there is a problem.

    Examples:

      restok doctor
      restok doctor data/photos runs/tokenizer
    """
    from restok_cli.diagnosis.downloads import DOWNLOAD_CHECKS
    from restok_cli.diagnosis.environment import ENVIRONMENT_CHECKS, guarded
    from restok_cli.diagnosis.paths import check_path

    checks = [(check.__name__.replace("_", " "), check) for check in (*ENVIRONMENT_CHECKS, *DOWNLOAD_CHECKS)]
    checks += [(path, partial(check_path, path)) for path in paths or []]
    findings = []
    for subject, check in checks:
        for finding in guarded(subject, check):
            findings.append(finding)
            show(finding, as_json)
    problems = sum(finding.state == "problem" for finding in findings)
    if as_json:
        print(json.dumps({"problems": problems, "findings": [finding._asdict() for finding in findings]}))
    if problems:
        raise RestokError(f"{counted(problems, 'problem')} found; the lines that begin with problem say what to do")


def show(finding: "Finding", as_json: bool) -> None:
    """A line as soon as it is known; JSON comes at the end."""
    if not as_json:
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        say(f"{finding.state:<8} {finding.subject}: {finding.text}{remedy}")
