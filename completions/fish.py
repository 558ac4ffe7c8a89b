"""The script for fish: a line of `complete` for each command and option, under a condition on where the line stands."""

from tree import PROGRAM, Command, Option, Values, all_values, wrapped

HEAD = """\
# fish completion for restok. Made by completions/build.py: change that, and run it.
# fish finds it in a folder vendor_completions.d, or in ~/.config/fish/completions.

"""

WALK = r"""
# The command that the line before the cursor has come to, the number of the argument that it stands at, and the option
# whose value it stands at.
function __restok_place
    set -l path restok
    set -l position 1
    set -l skip 0
    set -l option
    set -l ended
    for word in (commandline -opc)[2..]
        if test $skip -gt 0
            set skip (math $skip - 1)
        else if test -z "$ended" -a "$word" = --
            set ended 1
        else if test -z "$ended"; and string match -qr -- '^-.' $word
            set option $word
            set skip (__restok_takes "$path" $word)
        else if contains -- "$path $word" $__restok_commands
            set path "$path $word"
        else
            set position (math $position + 1)
        end
    end
    test $skip -gt 0; or set option
    printf '%s\n' $path $position "$option"
end

function __restok_at --argument-names path
    test (__restok_place)[1] = $path
end

function __restok_argument --argument-names path first last
    set -l place (__restok_place)
    test $place[1] = $path -a $place[2] -ge $first -a $place[2] -le $last -a -z "$place[3]"
end

function __restok_value --argument-names path option
    set -l place (__restok_place)
    test $place[1] = $path -a "$place[3]" = $option
end

function __restok_folders
    __fish_complete_directories (commandline -ct | string replace -r -- '^--[^=]*=' '') ''
end

complete -c restok -f
"""


def write(tree: Command) -> str:
    """The script."""
    lines = [line for command in tree.walk() for line in _lines(command)]
    return HEAD + "\n".join([_values(tree), _takes(tree)]) + WALK + "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _values(tree: Command) -> str:
    lines = ["function __restok_values --argument-names kind", "    switch $kind"]
    for values in all_values(tree):
        if values.words:
            words = list(wrapped((_word(word) for word in values.words), 16))
            lines += [f"        case {_quote(values.name)}", "            printf '%s\\n' \\"]
            lines += [f"{line} \\" for line in words[:-1]] + words[-1:]
    return "\n".join([*lines, "    end", "end", ""])


def _word(word: str) -> str:
    return word if word.replace("-", "").replace(".", "").replace("_", "").isalnum() else _quote(word)


def _takes(tree: Command) -> str:
    lines = [f"set -g __restok_commands {' '.join(_quote(each.line) for each in tree.walk() if each is not tree)}", ""]
    lines += [
        "# How many of the words after an option are its values.",
        "function __restok_takes --argument-names path option",
    ]
    lines += ['    switch "$path $option"']
    for count in sorted({option.count for command in tree.walk() for option in command.options} - {0}):
        taking = (
            _quote(f"{command.line} {name}")
            for command in tree.walk()
            for option in command.options
            if option.count == count
            for name in option.names
        )
        words = wrapped(taking, 12)
        lines += ["        case \\", *(f"{line} \\" for line in words[:-1]), words[-1], f"            echo {count}"]
    return "\n".join([*lines, "        case '*'", "            echo 0", "    end", "end", ""])


def _lines(command: Command) -> list[str]:
    lines = ["", f"# {command.line}"]
    at = _quote(f"__restok_at {_quote(command.line)}")
    for sub in command.commands:
        where = _quote(f"__restok_argument {_quote(command.line)} 1 1")
        lines.append(f"complete -c {PROGRAM} -n {where} -a {sub.path[-1]} -d {_quote(sub.help)}")
    for option in command.options:
        lines.append(f"complete -c {PROGRAM} -n {at} {_names(option)}{_asked(option)} -d {_quote(option.help)}")
        if option.count > 1:  # of which fish knows only the first value
            where = _quote(f"__restok_value {_quote(command.line)} {option.names[0]}")
            lines.append(f"complete -c {PROGRAM} -n {where}{_sources(option.values)}")
    for i, argument in enumerate(command.arguments, 1):
        where = _quote(f"__restok_argument {_quote(command.line)} {i} {999 if argument.repeatable else i}")
        lines.append(f"complete -c {PROGRAM} -n {where}{_sources(argument.values)}")
    return lines


def _names(option: Option) -> str:
    return " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)


def _asked(option: Option) -> str:
    return f" -r{_sources(option.values)}" if option.count else ""


def _sources(values: Values) -> str:
    """The words, and -F for files where there may be some: elsewhere fish offers none."""
    calls = [f"(__restok_values {_quote(values.name)})"] if values.words else []
    calls += ["(__restok_folders)"] if values.paths == "folders" else []
    words = f" -a {_quote(' '.join(calls))}" if calls else ""
    return (" -F" if values.paths == "files" else " -f") + words
