"""Completion of command lines in shells: model names, and the scripts that connect a shell with this program.

The shell runs ``ollama`` with ``_OLLAMA_COMPLETE`` set; click then prints what may follow.
"""

import os

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

VARIABLE = "_OLLAMA_COMPLETE"

# Bash splits words at colons, too, so the line itself is passed on, and of a completion only what follows
# the colon of the word before the cursor is inserted.
_BASH_SCRIPT = """\
%(complete_func)s() {
    local IFS=$'\\n' line kind value word cut
    line="${COMP_LINE:0:COMP_POINT}"
    word="${line##*[[:space:]]}"
    cut=""
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        cut="${word%%:*}:"
    fi
    COMPREPLY=()
    while IFS=',' read -r kind value; do
        if [[ $kind == file || $kind == dir ]]; then
            compopt -o default
        elif [[ $kind == plain ]]; then
            COMPREPLY+=("${value#"$cut"}")
        fi
    done < <(env COMP_LINE="$line" %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    source_template = _BASH_SCRIPT

    @staticmethod
    def _check_version() -> None:
        """Leave the version unchecked: a shell that is too old for click is not for this script."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one at the cursor, without the program, and that word."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1].isspace() else ""
        return words[1:], incomplete


add_completion_class(_Bash)
SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": ZshComplete, "fish": FishComplete}


def script(shell: str, group: click.Command) -> str:
    """Return the script for ``shell``, one of SHELLS."""
    return SHELLS[shell](group, {}, "ollama", VARIABLE).source()


def model_names(incomplete: str) -> list[CompletionItem]:
    """Return the models of the server that begin with ``incomplete``; none if there is no server."""
    from ollama_tw.cli.client import Client
    from ollama_tw.errors import OllamaError

    try:
        models = Client.from_environment().call("GET", "/api/tags") or {}
    except OllamaError:
        return []
    names = [model.get("name", "") for model in models.get("models") or []]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
