"""The script for PowerShell: tables of what each command has, and a block that walks a command line through them."""

from tree import PROGRAM, Command, all_values, wrapped

HEAD = """\
# PowerShell completion for restok. Made by completions/build.py: change that, and run it.
# Call it from $PROFILE: . path/to/restok.ps1

"""

WALK = r"""
Register-ArgumentCompleter -Native -CommandName restok -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    Set-StrictMode -Off  # below, what is not known is $null

    $path = 'restok'
    $kind = ''
    $pending = 0
    $position = 0
    $ended = $false
    $before = @($commandAst.CommandElements | Select-Object -Skip 1 |
            Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | ForEach-Object { $_.Extent.Text })
    foreach ($word in $before) {
        $command = $restokCommands[$path]
        if ($pending -gt 0) {
            $pending -= 1
        } elseif (-not $ended -and $word -eq '--') {
            $ended = $true
        } elseif (-not $ended -and $word -like '-?*') {
            $option = $command.Options[$word]
            if ($option) {
                $kind = $option.Kind
                $pending = $option.Count
            }
        } elseif ($command.Commands.Contains($word)) {
            $path = "$path $word"
        } else {
            $position += 1
        }
    }
    $command = $restokCommands[$path]
    $word = $wordToComplete
    $prefix = ''
    $candidates = @()
    if ($pending -eq 0 -and -not $ended -and $word -like '--*=*') {
        $prefix, $word = $word -split '=', 2
        $kind = $command.Options[$prefix].Kind
        $prefix = "$prefix="
    } elseif ($pending -eq 0 -and -not $ended -and $word -like '-*') {
        $kind = ''
        $candidates = @($command.Options.GetEnumerator() | ForEach-Object { , @($_.Key, $_.Value.Help) })
    } elseif ($pending -eq 0) {
        $kind = if ($position -lt $command.Arguments.Count) { $command.Arguments[$position] } else { $command.Others }
        $candidates = @($command.Commands.GetEnumerator() | ForEach-Object { , @($_.Key, $_.Value) })
    }
    $values = if ($kind) { $restokValues[$kind] }
    if ($values) {
        $candidates += @($values.Words | ForEach-Object { , @($_, $_) })
    }
    $start = $word.Trim([char[]]"'`"")
    foreach ($candidate in $candidates) {
        $text, $help = $candidate
        if ($text.StartsWith($start, [StringComparison]::OrdinalIgnoreCase)) {
            # names with other characters than these are quoted
            $quoted = if ($text -match '^[\w.:=/-]+$') { $text } else { "'" + $text.Replace("'", "''") + "'" }
            [System.Management.Automation.CompletionResult]::new("$prefix$quoted", $text, 'ParameterValue', $help)
        }
    }
    if ($values.Paths) {
        [System.Management.Automation.CompletionCompleters]::CompleteFilename($word) |
            Where-Object { $values.Paths -eq 'files' -or $_.ResultType -eq 'ProviderContainer' } |
            ForEach-Object {
                $text = "$prefix$($_.CompletionText)"
                [System.Management.Automation.CompletionResult]::new($text, $_.ListItemText, $_.ResultType, $_.ToolTip)
            }
    }
}
"""


def write(tree: Command) -> str:
    """The script."""
    return HEAD + "\n".join([_values(tree), _commands(tree)]) + WALK


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _values(tree: Command) -> str:
    lines = [
        "# Kinds of values: their words, and whether files or folders may stand there too.",
        "$global:restokValues = @{",
    ]
    for values in all_values(tree):
        lines.append(f"    {_quote(values.name)} = @{{")
        words = wrapped((f"{_quote(word)}," for word in values.words), 12)
        lines += (
            ["        Words = @(", *words[:-1], words[-1].removesuffix(","), "        )"]
            if values.words
            else ["        Words = @()"]
        )
        lines += [f"        Paths = {_quote(values.paths)}", "    }"]
    return "\n".join([*lines, "}", ""])


def _commands(tree: Command) -> str:
    lines = [
        "# What each command has; Others is the kind of all arguments after those listed.",
        f"$global:{PROGRAM}Commands = @{{",
    ]
    for command in tree.walk():
        kinds = [argument.values.name for argument in command.arguments]
        others = kinds.pop() if kinds and command.arguments[-1].repeatable else ""
        lines += [f"    {_quote(command.line)} = @{{", "        Commands = [ordered]@{"]
        lines += [f"            {_quote(sub.path[-1])} = {_quote(sub.help)}" for sub in command.commands]
        lines += ["        }", "        Options = [ordered]@{"]
        for option in command.options:
            facts = f"Kind = {_quote(option.values.name)}; Count = {option.count}; Help = {_quote(option.help)}"
            lines += [f"            {_quote(name)} = @{{ {facts} }}" for name in option.names]
        lines += ["        }"]
        lines += [
            f"        Arguments = @({', '.join(map(_quote, kinds))})",
            f"        Others = {_quote(others)}",
            "    }",
        ]
    return "\n".join([*lines, "}", ""])
