"""Write the completion scripts, from the commands as they are: python completions/build.py [FOLDER]

They are static: a TAB starts no Python. tests/test_completions.py compares them with what this writes.
"""

import sys
from pathlib import Path

import bash
import fish
import powershell
import zsh
from tree import read_tree

SCRIPTS = {"restok.bash": bash.write, "_restok": zsh.write, "restok.fish": fish.write, "restok.ps1": powershell.write}


def build(folder: Path) -> None:
    """Write the scripts to `folder`."""
    tree = read_tree()
    for name, write in SCRIPTS.items():
        (folder / name).write_text(write(tree), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
