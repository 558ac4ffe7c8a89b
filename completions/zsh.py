"""The script for zsh: a function for each command, in the terms of zsh's own _arguments."""

from shlex import quote

from tree import Argument, Command, Option, all_values, wrapped

HEAD = """\
#compdef restok
# zsh completion for restok. Made by completions/build.py: change that, and run it.
# It goes into a folder of $fpath, before compinit runs.

"""

FOOT = """
# zsh reads the file when it completes restok for the first time; a person may also source it
if [[ $funcstack[1] == _restok ]]; then
    _restok "$@"
else
    compdef _restok restok
fi
"""


def write(tree: Command) -> str:
    """The script."""
    return HEAD + "\n".join([_values(tree), *map(_function, tree.walk())]) + FOOT


def _values(tree: Command) -> str:
    lines = [
        "_restok_values() {  # values of the kind $1",
        "    local -a words expl",
        "    local files= ret=1",
        "    case $1 in",
    ]
    for values in all_values(tree):
        lines.append(f"        {quote(values.name)})")
        if values.words:
            lines += ["            words=(", *wrapped(map(quote, values.words), 16), "            )"]
        if values.paths:
            lines.append(f"            files={'-/' if values.paths == 'folders' else '-f'}")
        lines.append("            ;;")
    lines += [
        "    esac",
        "    # what ends in = or : goes on, so no space comes after it",
        "    local -a whole=(${words:#*[=:]}) begun=(${(M)words:#*[=:]})",
        '    ((! $#whole)) || _wanted values expl "$1" compadd -a whole && ret=0',
        '    ((! $#begun)) || _wanted values expl "$1" compadd -S "" -a begun && ret=0',
        "    [[ -z $files ]] || _files $files && ret=0",
        "    return ret",
    ]
    return "\n".join([*lines, "}", ""])


def _function(command: Command) -> str:
    specs = [spec for option in command.options for spec in _option(option)]
    specs += [_argument(i, argument) for i, argument in enumerate(command.arguments, 1)]
    lines = [f"{_name(command)}() {{"]
    if not command.commands:
        return "\n".join([*lines, "    _arguments -s -S : \\", *_continued(specs, 8), "}", ""])
    specs += ["'1:command:->command'", "'*::argument:->rest'"]
    described = [quote(f"{sub.path[-1]}:{_plain(sub.help)}") for sub in command.commands]
    cases = [f"                {sub.path[-1]}) {_name(sub)} ;;" for sub in command.commands]
    lines += [
        "    local curcontext=$curcontext context state line ret=1",
        "    typeset -A opt_args",
        '    _arguments -s -S -A "-*" -C : \\',
        *_continued(specs, 8)[:-1],
        f"        {specs[-1]} && ret=0",
        "    case $state in",
        "        command)",
        "            local -a commands=(",
        *(f"                {each}" for each in described),
        "            )",
        "            _describe -t commands command commands && ret=0",
        "            ;;",
        "        rest)",
        '            curcontext="${curcontext%:*}-$words[1]:"',
        "            case $words[1] in",
        *cases,
        "            esac && ret=0",
        "            ;;",
        "    esac",
        "    return ret",
    ]
    return "\n".join([*lines, "}", ""])


def _name(command: Command) -> str:
    return "_" + "_".join(command.path)


def _continued(specs: list[str], indent: int) -> list[str]:
    return [" " * indent + spec + " \\" * (i < len(specs) - 1) for i, spec in enumerate(specs)]


def _option(option: Option) -> list[str]:
    """A spec of _arguments for each name, each of which rules the others out unless the option may be repeated."""
    others = "*" if option.repeatable else f"({' '.join(option.names)})" if len(option.names) > 1 else ""
    if "--help" in option.names:
        others = "(- *)"
    value = f":{_bare(option.metavar)}: _restok_values {quote(option.values.name)}" * option.count
    specs = []
    for name in option.names:
        join = ("=" if name.startswith("--") else "+") * bool(option.count)
        specs.append(quote(f"{others}{name}{join}[{_bare(option.help)}]{value}"))
    return specs


def _argument(place: int, argument: Argument) -> str:
    where = "*" if argument.repeatable else str(place)
    return quote(f"{where}:{_bare(argument.metavar)}: _restok_values {quote(argument.values.name)}")


def _plain(text: str) -> str:
    return text.replace(":", "\\:")


def _bare(text: str) -> str:
    """Text in a spec of _arguments, to which brackets and colons mean something."""
    return "".join("\\" + character if character in "[]:\\" else character for character in text)
