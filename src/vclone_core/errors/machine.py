"""What is wrong with a machine, its settings or its data, for the operator."""

from __future__ import annotations

from vclone_core.errors.tree import Conflict, Forbidden, Invalid, Limited, Unavailable


class BadSettings(Invalid):
    """The settings can't be used: {problems}"""

    code = "bad_settings"
    hint = "`vclone doctor` checks the settings."


class NewerDatabase(Conflict):
    """The database was made by a newer version of vclone: it has the migration {found}, this program knows {known}."""

    code = "newer_database"
    hint = "Start the newer version again, or restore a backup made by this one."


class ChangedMigration(Conflict):
    """The database's migration {found} is not the one this program has."""

    code = "changed_migration"
    hint = "Install the version of vclone that made this database, then update from there."


class PortTaken(Conflict):
    """Port {port} is taken by another program."""

    code = "port_taken"
    hint = "Stop that program, or choose another port with {option}."


class DataDirUnusable(Conflict):
    """The data directory {path} can't be used: {why}."""

    code = "data_dir_unusable"
    hint = "Choose another with --data-dir, or give this user the right to write there."


class AlreadyRunning(Conflict):
    """vclone is already running on {path} (process {pid})."""

    code = "already_running"
    hint = "Stop it with Ctrl-C or `kill {pid}`, or choose another data directory with --data-dir."


class NewerData(Conflict):
    """The data directory {path} was last used by a newer vclone ({seen}; this is {known})."""

    code = "newer_data"
    hint = "Use that version or a later one, or choose another data directory with --data-dir."


class DiskFull(Limited):
    """Only {free} are free on the disk of {path}; {needed} are needed."""

    code = "disk_full"
    hint = "Free some space, or choose a directory on another disk with --data-dir."


class RunnerUnavailable(Unavailable):
    """The build runner can't run anything: {why}."""

    code = "runner_unavailable"
    hint = "`vclone doctor` shows what it lacks."


class ServiceFailed(Unavailable):
    """{what} did not start: {why}."""

    code = "service_failed"
    hint = "`vclone doctor` checks what this machine needs."


class ChildEnded(ServiceFailed):
    """The process {name} {how}."""

    code = "child_ended"
    hint = "The end of {log}:\n{lines}"


class PluginUnfit(Invalid):
    """Nothing was installed. {why}."""

    code = "plugin_unfit"


class EnvironmentClosed(Forbidden):
    """Plugins can't be installed into {path}: {why}."""

    code = "environment_closed"
    hint = "Run it as the owner of the environment that vclone runs in, by that environment's own `vclone`."


class NoProgram(Unavailable):
    """{program} {version} is not installed."""

    code = "no_program"
