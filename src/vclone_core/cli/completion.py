"""`vclone completion`: what a shell needs to complete commands, options and their values with Tab.

The script asks `vclone` itself at every Tab, so it knows the commands of plugins and never grows old.
"""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from vclone_core.cli.context import json_option
from vclone_core.cli.render import print_outcome

SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
# What click looks at in the environment to know that a shell asks, for a program called vclone.
VARIABLE = "_VCLONE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@json_option
@click.pass_context
def completion(ctx: click.Context, shell: str, *, as_json: bool) -> None:
    """Print the completion script of SHELL.

    bash: `eval "$(vclone completion bash)"` in ~/.bashrc. zsh: the same in ~/.zshrc, behind compinit.
    fish: `vclone completion fish > ~/.config/fish/completions/vclone.fish`.
    """
    made = SHELLS[shell](ctx.find_root().command, {}, "vclone", VARIABLE)
    # Not its source(): that starts a bash to learn its version, and any shell may ask for any script.
    script = made.source_template % made.source_vars()
    print_outcome({"shell": shell, "script": script}, script, as_json=as_json)
