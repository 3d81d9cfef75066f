"""Every hook a plugin may implement: when it is called, where, and what its answer means.

Three shapes and no others. A *question* is a plain `def` without I/O that returns a value or None. An *event* is an
`async def` told of something already decided; it runs isolated, with a time limit, and its failure is only logged.
A *provider* is `register_<kind>`, called once at start, and returns a mapping of name to factory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy

from vclone_core.models import Alias, Deployment, FileEntry, Project, Route
from vclone_core.protocols import (
    AuthProviderFactory,
    BuildRunnerFactory,
    CertificateIssuerFactory,
    GitHostFactory,
    ObjectStoreFactory,
)

PROJECT = "vclone"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_object_stores() -> Mapping[str, ObjectStoreFactory]:
    """Offer object stores by URL scheme: `{"s3": make_store}` serves `VCLONE_STORE=s3://…`.

    Provider. Called once at the start of API, worker, edge and functions.
    """
    raise NotImplementedError


@hookspec
def register_build_runners() -> Mapping[str, BuildRunnerFactory]:
    """Offer runners by name: `{"podman": make_runner}` serves `VCLONE_RUNNER=podman`.

    Provider. Called once at the start of the worker.
    """
    raise NotImplementedError


@hookspec
def register_auth_providers() -> Mapping[str, AuthProviderFactory]:
    """Offer ways to sign in, by name: `{"github": make_provider}` serves the key `github` of `VCLONE_AUTH_PROVIDERS`.

    Provider. Called once at the start of API and worker, where that setting names one.
    """
    raise NotImplementedError


@hookspec
def register_git_hosts() -> Mapping[str, GitHostFactory]:
    """Offer kinds of git host (webhooks, statuses, comments) by name: `{"github": make_host}`.

    The name is part of the webhooks' address, `/api/webhooks/github`. Provider. Called once at the start of API and
    worker.
    """
    raise NotImplementedError


@hookspec
def register_function_runtimes() -> Mapping[str, Callable[..., Any]]:
    """Offer runtimes for functions by name: `nodejs20.x`, `python3.12`.

    Provider. Called once at the start of the functions process.
    """
    raise NotImplementedError


@hookspec
def register_certificate_issuers() -> Mapping[str, CertificateIssuerFactory]:
    """Offer issuers of certificates by name: `{"internal": make_issuer}`.

    `VCLONE_EDGE_CERTIFICATE_ISSUER` names the one in use. Provider. Called once at the start of the edge, and by
    `vclone tls`.
    """
    raise NotImplementedError


@hookspec
def register_dns_providers() -> Mapping[str, Callable[..., Any]]:
    """Offer DNS services that can set a challenge record, by name.

    Provider. Called once at the start of the API.
    """
    raise NotImplementedError


@hookspec
def register_secret_stores() -> Mapping[str, Callable[..., Any]]:
    """Offer places to keep the key ring in, by name.

    Provider. Called once at the start of API and worker.
    """
    raise NotImplementedError


@hookspec
def frameworks() -> Sequence[str]:
    """Return further framework definitions, each the text of one TOML file.

    Question. Called once at the start of the worker, and by `vclone detect` and `vclone frameworks`. A definition that
    replaces a built-in of the same id must say `replaces = true`.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def detect_framework(paths: frozenset[str], texts: Mapping[str, str]) -> str | None:
    """Name the framework (an id) of a project by a rule that TOML can't express; None: no opinion.

    Question. Called in the worker before the definitions are tried. `paths` are relative to the root directory, `texts`
    holds the few files that definitions read, such as package.json.
    """


@hookspec
def register_commands(cli: Any) -> None:
    """Add commands to the click group `cli`.

    Question. Called once per run of the CLI, before the arguments are parsed. A name that exists is refused.
    """


@hookspec
def build_plan(project: Project, plan: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return changed fields of the build plan (`install_command`, `build_command`, `output_directory`, `env`), or None.

    Question. Called in the worker after detection, once per build, in the plugins' order; later answers win.
    """


@hookspec
def optimise_asset(path: str, entry: FileEntry, body: bytes) -> bytes | None:
    """Return better bytes for one output file, or None to leave it.

    Question. Called in the worker for each file of at most 5 MiB, in a thread.
    """


@hookspec
async def deployment_changed(project: Project, deployment: Deployment) -> None:
    """Hear that a deployment came into a new state.

    Event. Called in the worker or the API, after the state is committed. Nothing can be changed any more.
    """


@hookspec
async def alias_moved(project: Project, alias: Alias, previous_deployment_id: str | None) -> None:
    """Hear that a host points at another deployment.

    Event. Called in the process that moved it, after the commit and after the edges were told.
    """


@hookspec
def request_rules(project: Project) -> Sequence[Route] | None:
    """Return routes to put before the deployment's own, or None.

    Question. Called in the worker when a manifest is compiled, once per build.
    """
