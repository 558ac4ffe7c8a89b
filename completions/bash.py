"""The script for bash: tables of what each command has, and one function that walks a command line through them."""

from shlex import quote

from tree import Command, all_values, wrapped

HEAD = """\
# bash completion for restok. Made by completions/build.py: change that, and run it.
# bash-completion finds this file in share/bash-completion/completions; otherwise: source restok.bash

"""

WALK = r"""
_restok() {
    local path=restok kind= pending=0 position=0 ended= others= paths= before= word
    local -a line=() commands=() options=() arguments=() words=()
    _restok_split
    local cur=${line[${#line[@]} - 1]}
    _restok_at "$path"
    for word in "${line[@]:1:${#line[@]} - 2}"; do
        if ((pending)); then
            ((--pending)) || kind=
        elif [[ ! $ended && $word == -- ]]; then
            ended=1
        elif [[ ! $ended && $word == -?* ]]; then
            [[ $word == --*=* ]] || _restok_option "$path" "$word"
        elif [[ " ${commands[*]} " == *" $word "* ]]; then
            path+=" $word"
            _restok_at "$path"
        else
            ((position++))
        fi
    done
    if ((pending)); then
        :
    elif [[ ! $ended && $cur == --*=* ]]; then
        _restok_option "$path" "${cur%%=*}"
        before=${before#"${cur%%=*}="}
        cur=${cur#*=}
    elif [[ ! $ended && $cur == -* ]]; then
        words=("${options[@]}")
    else
        words=("${commands[@]}")
        kind=${arguments[position]-$others}
    fi
    _restok_values "$kind"
    _restok_reply
}

_restok_split() {  # the words before the cursor, into line; bash also splits them at = and :, which is undone here
    local rest=${COMP_LINE:0:COMP_POINT} piece gapless i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${rest#"${rest%%[![:space:]]*}"}
        gapless=$((i > 0 && ${#piece} == ${#rest}))
        rest=$piece
        ((i == COMP_CWORD)) || piece=${COMP_WORDS[i]}
        rest=${rest#"$piece"}
        if ((gapless)); then
            before=${line[${#line[@]} - 1]}
            line[${#line[@]} - 1]+=$piece
            [[ $piece != [=:] ]] || before+=$piece
        else
            before=
            line+=("$piece")
        fi
    done
}

_restok_reply() {  # those of words, files and folders that begin as the word at the cursor does, as it is quoted
    local mark= word reply
    COMPREPLY=()
    case $cur in
        [\'\"]*) mark=${cur:0:1} cur=${cur:1} ;;
        *) cur=${cur//\\/} ;;
    esac
    for word in "${words[@]}"; do
        [[ $word == "$cur"* ]] || continue
        reply=${word#"$before"}
        case $paths$mark in
            \') reply=${reply//\'/\'\\\'\'} ;;
            '') [[ $reply == *[=:] ]] || printf -v reply %q "$reply" ;;
        esac
        COMPREPLY+=("$reply")
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && $COMPREPLY == *[=:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    [[ $paths ]] || return
    compopt -o filenames 2>/dev/null  # bash quotes them, and ends folders with a slash; bash 3 has no compopt
    while IFS= read -r reply; do
        COMPREPLY+=("${reply#"$before"}")
    done < <(compgen "$paths" -- "$cur")
}

complete -F _restok restok
"""


def write(tree: Command) -> str:
    """The script."""
    return HEAD + "\n".join([_values(tree), _at(tree), _option(tree)]) + WALK


def _values(tree: Command) -> str:
    lines = [
        "_restok_values() {  # what values of the kind $1 are: words, and -f for files or -d for folders",
        "    case $1 in",
    ]
    for values in all_values(tree):
        lines.append(f"        {quote(values.name)})")
        if values.words:
            lines += ["            words=(", *wrapped(map(quote, values.words), 16), "            )"]
        if values.paths:
            lines.append(f"            paths={'-d' if values.paths == 'folders' else '-f'}")
        lines.append("            ;;")
    return "\n".join([*lines, "    esac", "}", ""])


def _at(tree: Command) -> str:
    lines = [
        "_restok_at() {  # what the command $1 has; the kinds of its arguments, others that of all after them",
        "    case $1 in",
    ]
    for command in tree.walk():
        names = [name for option in command.options for name in option.names]
        kinds = [argument.values.name for argument in command.arguments]
        others = kinds.pop() if kinds and command.arguments[-1].repeatable else ""
        lines += [
            f"        {quote(command.line)})",
            f"            commands=({' '.join(sub.path[-1] for sub in command.commands)})",
            *("            options=(", *wrapped(names, 16), "            )"),
            f"            arguments=({' '.join(map(quote, kinds))}) others={quote(others) if others else ''}",
            "            ;;",
        ]
    return "\n".join([*lines, "    esac", "}", ""])


def _option(tree: Command) -> str:
    lines = [
        "_restok_option() {  # what the option $2 of the command $1 takes: its kind, and how many",
        "    case $1 in",
    ]
    for command in tree.walk():
        taking = [option for option in command.options if option.count]
        if not taking:
            continue
        lines += [f"        {quote(command.line)})", "            case $2 in"]
        for option in taking:
            kind = quote(option.values.name)
            lines.append(f"                {' | '.join(option.names)}) kind={kind} pending={option.count} ;;")
        lines += ["            esac", "            ;;"]
    return "\n".join([*lines, "    esac", "}", ""])
