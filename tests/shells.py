"""Real shells with a real keyboard: what a TAB makes of a line."""

import os
import pty
import shutil
import subprocess
from pathlib import Path
from select import select

import pytest

SCRIPTS = Path(__file__).parents[1] / "completions"
PROMPT = b"READY> "
SECONDS = 300  # that a shell may take, on a machine that is busy

# Of bash and zsh. The program that is completed is a function here, which writes its arguments down; the key Alt-*
# inserts all that is possible at once. PATH is empty: a TAB starts no program.
BASH = """
PS1='READY> '; HISTFILE=
bind 'set enable-bracketed-paste off'
source {script}
restok() {{ printf '%s\\n' "$@" > {arguments}; }}
"""
ZSH = """
PS1='READY> '; unsetopt zle_bracketed_paste; unset zle_bracketed_paste
fpath=({folder} $fpath)
autoload -Uz compinit; compinit -u -d {dump}
zle -C all-matches complete-word _generic
zstyle ':completion:all-matches:*' insert yes
zstyle ':completion:all-matches::::' completer _all_matches _complete
bindkey '\\e*' all-matches
restok() {{ print -rl -- "$@" > {arguments} }}
"""


def need(program: str) -> str:
    """The path of a program; the test is skipped where it is missing, but not in CI, which has it."""
    found = shutil.which(program)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    return found


def complete(shell: str, line: str, folder: Path) -> list[str]:
    """All that a shell would put in the place of the last word of `line`, sorted; folders without a slash."""
    if shell == "fish":
        script = f"source {SCRIPTS / 'restok.fish'}; complete --do-complete '{line}'"
        command = (need("fish"), "--no-config", "--command", script)
        environment = {"PATH": "", "HOME": str(folder.parent), "LC_ALL": "C.UTF-8"}
        found = subprocess.run(command, capture_output=True, cwd=folder, env=environment, check=True, timeout=SECONDS)
        words = [offer.split("\t")[0] for offer in found.stdout.decode().splitlines()]
    else:
        *before, last = line.removeprefix("restok ").split(" ")
        words = press(shell, f"{line}\x1b*", folder)[len(before) :]
        words = [] if words == [last] or not any(words) else words
    return sorted(word.removesuffix("/") for word in words)


def press(shell: str, keys: str, folder: Path) -> list[str]:
    """The arguments of restok after typing `keys` and Enter in a shell, in which `folder` is the current one."""
    program, home = need(shell), folder.parent / f"{folder.name}-home"
    home.mkdir(exist_ok=True)
    arguments = home / "arguments"
    arguments.unlink(missing_ok=True)
    if shell == "bash":
        (home / "rc").write_text(BASH.format(script=SCRIPTS / "restok.bash", arguments=arguments))
        command = [program, "--noprofile", "--rcfile", str(home / "rc"), "-i"]
    else:
        (home / ".zshrc").write_text(ZSH.format(folder=SCRIPTS, dump=home / "dump", arguments=arguments))
        command = [program, "-d", "-i"]
    environment = {
        "PATH": "",
        "HOME": str(home),
        "ZDOTDIR": str(home),
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
    }
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=folder, env=environment, start_new_session=True
    ) as process:
        os.close(terminal)
        try:
            _read_until(keyboard, PROMPT)
            os.write(keyboard, keys.encode() + b"\rexit\r")
            _read_until(keyboard, None)
            process.wait(SECONDS)
        finally:
            process.kill()
            os.close(keyboard)
    return arguments.read_text().splitlines()


def _read_until(keyboard: int, wanted: bytes | None) -> None:
    """Read what the shell shows until it shows `wanted`, or ends."""
    shown = b""
    while wanted is None or wanted not in shown:
        assert select([keyboard], [], [], SECONDS)[0], shown.decode(errors="replace")
        try:
            part = os.read(keyboard, 65536)
        except OSError:  # what Linux says when the other end is closed
            part = b""
        if not part:
            assert wanted is None, shown.decode(errors="replace")
            return
        shown += part
