"""The middle of `vclone up`: starts everything in order, tells where it is, waits, and stops it in order."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import click

from vclone_core.cli.context import platform_file, save_platform
from vclone_core.embedded.children import Command, spawn
from vclone_core.embedded.datadir import DataDir, read_json
from vclone_core.embedded.logfiles import open_log, read_tail
from vclone_core.embedded.members import Databases, Gate, own_processes
from vclone_core.embedded.ports import reachable
from vclone_core.embedded.rundirs import make_run_dir, remove_run_dir
from vclone_core.embedded.runfile import Run, birth_of, write_run
from vclone_core.embedded.supervisor import Supervisor, stop_signals, wait_for_end
from vclone_core.settings import Settings, load_settings

WELCOME_PROJECT: Final = "welcome"
WELCOME_S: Final = 120.0
INTERRUPTED: Final = 130
# Imported while the databases start; they bring drivers.
_SLOW: Final = ("vclone_core.stores.migrations", "vclone_core.actions.owners")


@dataclass(slots=True)
class Up:
    """One run of the platform, from its checks to its end."""

    settings: Settings
    folder: DataDir
    run_dir: Path
    supervisor: Supervisor
    wants_welcome: bool
    state: str = "starting"
    started_at: float = field(default_factory=time.time)
    sign_in_url: str | None = None
    has_welcome: bool = False

    @property
    def api_address(self) -> str:
        return f"http://{local_name(self.settings.api_host)}:{self.settings.api_port}"

    @property
    def edge_address(self) -> str:
        return f"http://{local_name(self.settings.edge_host)}:{self.settings.edge_port}"

    async def start(self) -> None:
        """Bring everything up; return when sites are served."""
        databases = Databases(self.folder, self.run_dir, self.settings)
        members = []
        if not self.settings.database_url.get_secret_value():
            members.append(databases.postgres())
        if not self.settings.redis_url.get_secret_value():
            members.append(databases.valkey())
        self.supervisor.spawn(*members)
        environ = self.environment(databases)
        # They import what they need while the database starts, and wait until it is prepared.
        gate = Gate.make()
        *awaited, worker = own_processes(self.settings, environ, self.folder.path, gate)
        self.supervisor.spawn(*awaited)
        for module in _SLOW:
            import_module(module)
        await self.supervisor.wait_ready(*members)
        self.introduce_cli(await self.prepare_database(load_settings(environ)))
        gate.open()
        await self.supervisor.wait_ready(*awaited)
        # Nobody waits for its answers, so it leaves the processors to those whose answers are waited for.
        self.supervisor.spawn(worker)
        await self.supervisor.wait_ready(worker)
        if self.wants_welcome and not self.folder.read_notes().get("welcomed"):
            self.has_welcome = await self.deploy_welcome(environ)
        self.note("running")

    def environment(self, databases: Databases) -> dict[str, str]:
        """Return what api, worker and edge are told: this process's environment and the facts of this run."""
        settings, secrets = self.settings, self.folder.load_secrets()
        facts = {
            "data_dir": str(self.folder.path),
            "base_domain": settings.base_domain,
            "edge_port": str(settings.edge_port),
            "edge_tls_port": str(settings.edge_tls_port),
            "edge_certificate_issuer": settings.edge_certificate_issuer,
            "api_port": str(settings.api_port),
            "api_url": self.api_address,
            "database_url": settings.database_url.get_secret_value() or databases.postgres_url,
            "redis_url": settings.redis_url.get_secret_value() or databases.valkey_url,
            "store": settings.store or f"file://{self.folder.objects}",
            "secret_key": settings.secret_key.get_secret_value() or secrets["secret_key"],
            "edge_token": settings.edge_token.get_secret_value() or secrets["edge_token"],
            "worker_beat": str((settings.worker_beat or self.run_dir / "worker.beat").absolute()),
            "secrets_path": str(settings.secrets_path or self.folder.path / "secrets.json"),
        }
        if settings.plugins_dir is not None:
            facts["plugins_dir"] = str(settings.plugins_dir.absolute())
        variables = {f"VCLONE_{name.upper()}": value for name, value in facts.items()}
        replaced = {f"{name}_FILE" for name in variables}
        kept = {key: value for key, value in os.environ.items() if key not in replaced}
        # Ctrl-C shall not take half a minute: what a build hasn't done by then goes back to the queue, and starts again
        # with the next `up`. Less than the worker's stop limit, or its builds would wait for their leases to run out.
        return {"VCLONE_DRAIN_S": "3", **kept, **variables}

    async def prepare_database(self, settings: Settings) -> str:
        """Migrate and see to an owner; return the token of this machine's CLI."""
        from vclone_core.actions.owners import ensure_owner, sign_in_link
        from vclone_core.stores.postgres import Database, migrate

        url = settings.database_url.get_secret_value()
        await migrate(url)
        kept = str((read_json(self.folder.cli_file) or {}).get("token", ""))
        db = await Database.connect(url)
        try:
            owner = await ensure_owner(db, wants_token=not kept)
            if not self.folder.read_notes().get("signed_in"):
                self.sign_in_url = f"{self.api_address}/sign-in/{await sign_in_link(db, owner.user.id)}"
        finally:
            await db.close()
        return owner.token or kept

    def introduce_cli(self, token: str) -> None:
        """Let the CLI of this user find this platform with no login."""
        address, place, latest = self.api_address, str(self.folder.path), platform_file(os.environ)
        save_platform(self.folder.cli_file, api_url=address, token=token, data_dir=place)
        try:
            save_platform(latest, api_url=address, token=token, data_dir=place)
        except OSError as error:
            click.echo(f"The CLI will need --data-dir: {latest} can't be written ({error.strerror}).", err=True)

    async def deploy_welcome(self, environ: dict[str, str]) -> bool:
        """Deploy the bundled site as any folder is deployed, by the CLI; say whether it went live."""
        log_path = self.folder.logs / "welcome.log"
        with as_file(files("vclone_core") / "welcome") as site:
            words = ("deploy", str(site), "--project", WELCOME_PROJECT, "--prod", "--json")
            argv = (sys.executable, "-P", "-m", "vclone_core.cli", *words)
            # The token of another platform, which this user may have set, is not for this one.
            own = {key: value for key, value in environ.items() if key != "VCLONE_TOKEN"}
            with open_log(log_path) as output:
                process = spawn(Command(argv, own, cwd=self.folder.path), output)
            try:
                async with asyncio.timeout(WELCOME_S):
                    code = await wait_for_end(process)
            except TimeoutError:
                code = None
        if code != 0:
            click.echo(f"The welcome site could not be deployed:\n{read_tail(log_path, lines=5)}", err=True)
            return False
        self.folder.write_notes(welcomed=True)
        return True

    def note(self, state: str | None = None) -> None:
        """Write down what runs now, for `vclone status`."""
        self.state = state or self.state
        services = {
            name: {
                "pid": life.process.pid if life.process else None,
                "born": birth_of(life.process.pid) if life.process else None,
                "state": life.state,
                "restarts": life.restarts,
            }
            for name, life in self.supervisor.running.items()
        }
        run = Run(
            state=self.state,
            pid=os.getpid(),
            edge=self.edge_address,
            api=self.api_address,
            data_dir=str(self.folder.path),
            run_dir=str(self.run_dir),
            started_at=self.started_at,
            services=services,
        )
        write_run(self.folder.run_file, run)


async def run_platform(settings: Settings, folder: DataDir, *, began: float, wants_welcome: bool) -> None:
    """Run everything until it is told to stop. Raises `ServiceFailed` when a part can't be kept running."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    run_dir = make_run_dir(os.environ)
    supervisor = Supervisor(folder.logs)
    up = Up(settings, folder, run_dir, supervisor, wants_welcome)
    supervisor.on_change = up.note
    stop_signals(loop, stop.set, lambda: leave_at_once(supervisor, run_dir))
    told = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(up.start())
    ends: set[asyncio.Future[Any]] = {told, supervisor.failure}
    try:
        await asyncio.wait(ends | {starting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            announce(up, took_s=time.monotonic() - began)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            raise supervisor.failure.result()
        click.echo("stopping …")
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        up.note("stopping")
        await supervisor.stop()
        up.note("stopped")
        remove_run_dir(run_dir)
    click.echo("stopped")


def leave_at_once(supervisor: Supervisor, run_dir: Path) -> None:
    """Answer the second Ctrl-C: kill everything and be gone. The databases repair themselves at the next start."""
    supervisor.kill()
    remove_run_dir(run_dir)
    os._exit(INTERRUPTED)


def announce(up: Up, *, took_s: float) -> None:
    """Print where everything is and what to do next."""
    site = up.settings.site_url(f"{WELCOME_PROJECT}.{up.settings.base_domain}")
    vclone = "vclone" if shutil.which("vclone") else "./vclone"
    issues = bool(up.settings.edge_certificate_issuer)
    lines = [f"  Dashboard   {up.api_address}"]
    if up.sign_in_url is not None:
        lines.append(f"  Sign in     {up.sign_in_url}  (opens once)")
    lines += [
        f"  Sites       {site if up.has_welcome else up.edge_address}",
        f"  Data        {up.folder.path}",
        "",
        *([f"  {vclone} tls ca              print the authority that browsers have to trust"] if issues else []),
        f"  {vclone} deploy ./my-site    deploy a folder or a git URL",
        f"  {vclone} ls                  list what is deployed",
        f"  {vclone} doctor              check this machine",
        "",
        f"ready in {took_s:.1f} s; Ctrl-C stops it",
    ]
    click.echo("\n".join(lines))
    up.folder.write_notes(signed_in=True)


def local_name(host: str) -> str:
    """Return an address that reaches a listener on `host` from this machine, as a URL wants it."""
    address = reachable(host)
    return f"[{address}]" if ":" in address else address
