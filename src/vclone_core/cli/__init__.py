"""The `vclone` command: a table of subcommands, each loaded when it is called, and one border for errors.

`import vclone_core.cli` loads click and the errors, nothing else: `vclone --version` answers at once.
"""

from __future__ import annotations

import gc
import os
import secrets
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

import click
from click.shell_completion import CompletionItem

from vclone_core.errors import BadSettings, Invalid, VcloneError
from vclone_core.renderings import render_cli

_CLI: Final = "vclone_core.cli"
COMMANDS: Final[dict[str, str]] = {
    "up": f"{_CLI}.up:up",
    "status": f"{_CLI}.status:status",
    "doctor": f"{_CLI}.doctor:doctor",
    "migrate": f"{_CLI}.migrate:migrate",
    "api": f"{_CLI}.processes:api",
    "worker": f"{_CLI}.processes:worker",
    "edge": f"{_CLI}.processes:edge",
    "deploy": f"{_CLI}.deploy:deploy",
    "ls": f"{_CLI}.projects:ls",
    "inspect": f"{_CLI}.projects:inspect",
    "alias": f"{_CLI}.alias:alias",
    "open": f"{_CLI}.projects:open_url",
    "logs": f"{_CLI}.logs:logs",
    "promote": f"{_CLI}.moves:promote",
    "rollback": f"{_CLI}.moves:rollback",
    "cancel": f"{_CLI}.moves:cancel",
    "redeploy": f"{_CLI}.moves:redeploy",
    "diff": f"{_CLI}.compare:diff",
    "bisect": f"{_CLI}.compare:bisect",
    "pin": f"{_CLI}.storage:pin",
    "unpin": f"{_CLI}.storage:unpin",
    "retention": f"{_CLI}.storage:retention",
    "gc": f"{_CLI}.storage:gc",
    "project": f"{_CLI}.project:project",
    "env": f"{_CLI}.env:env",
    "domains": f"{_CLI}.domains:domains",
    "protection": f"{_CLI}.protection:protection",
    "hooks": f"{_CLI}.hooks:hooks",
    "webhooks": f"{_CLI}.webhooks:webhooks",
    "queue": f"{_CLI}.queue:queue",
    "git": f"{_CLI}.git:git",
    "gittokens": f"{_CLI}.gittokens:git_tokens",
    "deploykey": f"{_CLI}.deploykeys:deploy_key",
    "login": f"{_CLI}.login:login",
    "logout": f"{_CLI}.login:logout",
    "whoami": f"{_CLI}.login:whoami",
    "dashboard": f"{_CLI}.login:dashboard",
    "teams": f"{_CLI}.teams:teams",
    "tokens": f"{_CLI}.tokens:tokens",
    "audit": f"{_CLI}.audit:audit",
    "keys": f"{_CLI}.keys:keys",
    "link": f"{_CLI}.linking:link",
    "detect": f"{_CLI}.detect:detect",
    "explain": f"{_CLI}.explain:explain",
    "completion": f"{_CLI}.completion:completion",
    "tls": f"{_CLI}.tls:tls",
    "plugins": f"{_CLI}.plugins:plugins",
    "frameworks": f"{_CLI}.frameworks:frameworks",
}
# What a shell expects of a program ended by Ctrl-C.
INTERRUPTED: Final = 130
# Nothing that is imported is garbage; looking for some at Python's own pace takes a sixth of a start.
STARTING_GC: Final = 100_000
MISTAKE: Final = 70


class LazyGroup(click.Group):
    """A group that imports a subcommand's module when the subcommand is asked for.

    Commands of plugins are looked for only where the table has no answer, since that loads every plugin.
    """

    _has_plugin_commands = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._load_plugin_commands()
        return [*COMMANDS, *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (place := COMMANDS.get(cmd_name)) is not None:
            module, _, name = place.partition(":")
            command: click.Command = getattr(import_module(module), name)
            return command
        self._load_plugin_commands()
        return super().get_command(ctx, cmd_name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, without importing them: somebody has pressed Tab and waits."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        if not names:
            names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [CompletionItem(name) for name in names]

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a plugin's command; a name of the table is refused."""
        if (name or cmd.name) in COMMANDS:
            raise Invalid(what=f"there is a command {name or cmd.name} already")
        super().add_command(cmd, name)

    def _load_plugin_commands(self) -> None:
        if self._has_plugin_commands:
            return
        self._has_plugin_commands = True
        from vclone_core.log import configure_log
        from vclone_core.plugins import load_plugins
        from vclone_core.settings import load_settings

        configure_log(process="cli", log_level="warning")  # on stderr: stdout may be read by a program
        try:
            settings = load_settings(os.environ)
        except BadSettings:
            return  # the command that needs them says so
        plugins = load_plugins(allow=settings.plugins, drop_in=settings.plugins_dir)
        plugins.ask("register_commands", cli=self)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vclone", prog_name="vclone")
def vclone() -> None:
    """A self-hosted Vercel: git pushes and folders become immutable deployments on machines you own."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, the error's own code, 130 for Ctrl-C, 70 for a mistake of ours."""
    gc.set_threshold(STARTING_GC)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code. Every error is shown once, on stderr."""
    try:
        code = vclone.main(args=arguments, prog_name="vclone", standalone_mode=False)
    except VcloneError as error:
        click.echo(render_cli(error), err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain once more while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except Exception:
        incident = secrets.token_hex(4)
        click.echo(traceback.format_exc(), err=True)
        click.echo(
            f"error: This is a mistake in vclone ({incident}).\n  → Please report it with the lines above.", err=True
        )
        return MISTAKE
    return code if isinstance(code, int) else 0
