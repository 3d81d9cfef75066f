"""What a provider plugin must offer, as Protocols. Each has one contract suite under tests/contracts/."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vclone_core.models import (
    BuildLimits,
    CommitStatus,
    Delivery,
    DeploymentEntry,
    PullComment,
    PullRequestChanged,
)
from vclone_core.models import Span as Span


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object. `etag` is the store's own, quoted as in HTTP; `modified_s` is Unix seconds."""

    key: str
    size: int
    etag: str
    modified_s: float


@dataclass(frozen=True, slots=True)
class ObjectBody:
    """An opened object: `info` of the whole of it, and `chunks` of the asked span (256 KiB each at most).

    `chunks` ends after exactly the span's bytes, or raises `StoreUnavailable`: short reads never end it quietly.
    `path` is set by stores whose objects are local files, for servers that can send a whole file by themselves.
    """

    info: ObjectInfo
    size: int
    chunks: AsyncIterator[bytes]
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """How to reach an object store: the parsed `VCLONE_STORE` and its credentials.

    `url` examples: `file:///var/lib/vclone/objects`, `s3://bucket?endpoint=http://127.0.0.1:9100&region=us-east-1`.
    """

    url: str
    access_key: str | None = None
    secret_key: str | None = None


class ObjectStore(Protocol):
    """Bytes under keys. Keys are `/`-separated ASCII segments of `[A-Za-z0-9._-]`, never `.` or `..`, ≤ 512 bytes.

    `check_object_key` says whether a text is one; another raises `Invalid`. No key may be a folder of another (`a`
    beside `a/b`): some stores refuse that. Every method raises `StoreUnavailable` when the store can't be reached or
    fails, never a driver's exception; what a caller's own iterator or file raises stays as it is.
    """

    async def start(self) -> None:
        """Connect, and make the folder or bucket where it is missing. Called once before any other method."""

    async def close(self) -> None:
        """Give every connection back. Called once, also after a failed start."""

    async def put(
        self,
        key: str,
        body: bytes | Path | AsyncIterator[bytes],
        *,
        size: int,
        sha256: str | None = None,
        content_type: str = "application/octet-stream",
        overwrite: bool = False,
    ) -> bool:
        """Store `body` whole or not at all; say whether it was written (False: the key exists and stays as it is).

        `size` and, when given, `sha256` (hex) are checked before the object becomes visible: a mismatch raises
        `Invalid` and stores nothing. With `overwrite` an existing object is replaced at once. Where the answer is
        False, `body` may be unread. What is stored outlives a power cut. Puts wait for a disk or a network: keep 16
        in flight, and of small bodies some hundred, which a store may write together.
        """

    async def head(self, key: str) -> ObjectInfo | None:
        """Say what is stored under `key`; None when nothing is."""

    def open(
        self, key: str, span: Span | None = None, *, etag: str | None = None
    ) -> AbstractAsyncContextManager[ObjectBody]:
        """Open an object, whole or a span of it; raises `NotFound` when nothing is stored under `key`.

        A span that does not lie within the object raises `Invalid`. With `etag`, as `ObjectInfo` has it, an object that
        is another by now raises `StoreUnavailable`: a body that was cut is gone on with at the byte it was cut at.

        Leaving the context early stops reading upstream at once.
        """

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in key order."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; missing ones are no error."""

    def find_path(self, key: str) -> Path | None:
        """Return where an object's bytes lie on this machine if it is there, or None where the store has no such place.

        For reading only. Does no I/O.
        """

    def presign(self, key: str, *, expires_s: int) -> str | None:
        """Return a URL that a plain HTTP GET can read the object from, or None where the store has no such thing.

        Does no I/O.
        """


ObjectStoreFactory = Callable[[StoreConfig], ObjectStore]


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a command ended. `reason` is one of `exit`, `signal`, `timeout`, `memory`, `killed`, `disk`."""

    code: int
    reason: str = "exit"

    @property
    def is_ok(self) -> bool:
        return self.code == 0 and self.reason == "exit"


OnOutput = Callable[[str, bytes], Awaitable[None]]
"""Receives (`stdout` or `stderr`, some bytes) as they come; awaiting it is the back-pressure."""


class BuildSession(Protocol):
    """One build's place to run commands in. Everything it started is gone when its context ends."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout_s: float,
        on_output: OnOutput,
        network: bool = True,
    ) -> ExitStatus:
        """Run one command to its end. `cwd` lies inside the workspace; `env` is the whole environment.

        Without `network` it reaches nothing but itself, where the runner can see to that; with it, what the runner's
        rules let through. Cancelling the call ends the process tree before it returns.
        """


Held = Callable[[], Awaitable[Collection[str]]]
"""Returns the names of the workspaces that somebody holds now."""


class BuildRunner(Protocol):
    """Makes places to run a build's commands in.

    `note` says what builds are not protected from on this machine, once `check` has looked; None: nothing to say.
    """

    name: str
    is_isolating: bool
    note: str | None

    async def check(self) -> str | None:
        """Say why builds can't run here, for the operator; None when they can."""

    def session(self, build_id: str, workspace: Path, limits: BuildLimits) -> AbstractAsyncContextManager[BuildSession]:
        """Open a place whose only writable, shared folder is `workspace`.

        Raises `RunnerUnavailable` when the machine has none to give; the build is then tried again.
        """

    async def reap(self, builds_dir: Path, held: Held) -> None:
        """End and remove what is left of builds whose workspace, a folder of `builds_dir`, nobody holds any more.

        `held` is asked after what there is was listed, so that a build that starts meanwhile isn't taken for a dead
        one. Raises `RunnerUnavailable` when it can't be listed.
        """


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """How builds are to be run: `options` are the operator's settings for this runner."""

    options: Mapping[str, str]


BuildRunnerFactory = Callable[[RunnerConfig], BuildRunner]


@dataclass(frozen=True, slots=True)
class IssuerConfig:
    """Where an issuer may keep what it has to (`data_dir`), and the domain that platform hosts are below."""

    data_dir: Path
    base_domain: str


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate with what is needed to serve it: PEM, the host's own certificate first. `not_after_s`: Unix time.

    `key` is PKCS #8 without a pass phrase.
    """

    chain: bytes
    key: bytes
    not_after_s: float


class CertificateIssuer(Protocol):
    """Makes certificates for hosts.

    `authority` is the PEM certificate that clients have to trust first; empty where they do already. `is_instant` says
    that `issue` needs nobody else and returns within milliseconds: only then it is called while a client waits for
    its handshake, else ahead of time and in a thread.
    """

    @property
    def authority(self) -> bytes: ...

    @property
    def is_instant(self) -> bool: ...

    def names_for(self, host: str) -> tuple[str, ...]:
        """Return the names of the certificate that would stand for `host`; none where it is not ours to certify.

        Does no I/O, and says the same for every host of one certificate.
        """

    def issue(self, names: Sequence[str]) -> IssuedCertificate:
        """Return a new certificate for `names`, as `names_for` had them. Raises `VcloneError` with the reason."""


CertificateIssuerFactory = Callable[[IssuerConfig], CertificateIssuer]


@dataclass(frozen=True, slots=True)
class AuthProviderConfig:
    """What the operator registered with a provider; `options` are further keys, as the plugin documents them."""

    client_id: str
    client_secret: str
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is at a provider. `subject` never changes and never comes to be somebody else's.

    `emails`: only the addresses that the provider has verified, the main one first.
    """

    subject: str
    name: str
    emails: tuple[str, ...]


class AuthProvider(Protocol):
    """Signs people in by OAuth 2's authorisation code (RFC 6749 §4.1) with PKCE (RFC 7636), or by what is built on it.

    vclone makes and checks `state` and the PKCE verifier, bound to one browser and good for one use. No method does
    anything before it is called, and the answer to `identify` may take ten seconds.
    """

    label: str
    """What the button says: `GitHub`."""

    def authorise_url(self, *, state: str, code_challenge: str, redirect_uri: str) -> str:
        """Return where to send the browser. `code_challenge` is of the method S256. Does no I/O."""

    async def identify(self, *, code: str, code_verifier: str, redirect_uri: str) -> Identity:
        """Return who the code is for. Raises `Unauthorised` when refused, `Unavailable` when the provider fails."""

    async def close(self) -> None:
        """Give every connection back."""


AuthProviderFactory = Callable[[AuthProviderConfig], AuthProvider]


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """What a git host's API answered: the status, and its JSON; None where there was none."""

    status: int
    body: Any


class HostClient(Protocol):
    """The API of a git host, asked for one repository and with what opens that. Made by vclone, not by plugins.

    It speaks to public addresses and those an operator allows, follows no redirect, and waits 10 seconds at most.
    """

    @property
    def repository(self) -> str: ...

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        accept: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> HostAnswer:
        """Return the answer to a request below the API's address, of a status below 300 or one of `accept`.

        Raises `HostRefused` for what asking again won't change, and `HostUnavailable` for the rest: it is told again.
        """


@dataclass(frozen=True, slots=True)
class MadeApp:
    """What a host says of an App it has just made: its id there, its names, and its secrets."""

    app_id: str
    slug: str
    url: str
    webhook_secret: str
    private_key: str


class GitApps(Protocol):
    """How a host's Apps are made (a manifest that a person sends from their browser) and speak for a repository."""

    def app_of(self, headers: Sequence[tuple[str, str]]) -> str:
        """Return the id of the App that a delivery says it is for; empty for a webhook of a repository's own."""

    def form_url(self, server: str, *, organisation: str, state: str) -> str:
        """Return where the browser sends the manifest to, as the form field `manifest`."""

    def manifest(self, *, name: str, home_url: str, webhook_url: str, redirect_url: str) -> Mapping[str, Any]:
        """Return what the App is to be and may do."""

    async def convert(self, client: HostClient, code: str) -> MadeApp:
        """Return the App that the person made; the code is what their browser brought back, good once."""

    async def open_repository(self, client: HostClient, app_id: str, private_key: str) -> str:
        """Return a token for the client's repository, good for some minutes at least."""


class GitHost(Protocol):
    """What vclone knows of one kind of git host: its webhooks and its API. It holds nothing between two calls.

    `label` is its name for people. `has_dated_bodies`: the bodies of its deliveries hold times, so that two of the same
    are one delivery sent twice, whatever their ids say. `has_entries`: it lists deployments.
    """

    label: str
    has_dated_bodies: bool
    has_entries: bool
    apps: GitApps | None

    def api_url(self, server: str) -> str:
        """Return the address of the API of `server` (`https://host[:port]`), without a slash at its end."""

    def read_deliveries(self, headers: Sequence[tuple[str, str]], body: bytes, secret: str) -> Sequence[Delivery]:
        """Return what a webhook's request says, each with an id of its own: one, or what one push did to each branch.

        Raises `BadSignature` before anything of the body is read, and `Invalid` for a signed body that can't be
        understood. Names in `headers` are in lower case. Does no I/O.
        """

    async def complete(self, client: HostClient, change: PullRequestChanged) -> PullRequestChanged:
        """Return a pull request with its whole commit id, where the host's webhook has told a part of it only."""

    async def set_status(self, client: HostClient, status: CommitStatus) -> None:
        """Give a commit a status, in the place of an earlier one of the same context."""

    async def set_entry(self, client: HostClient, entry: DeploymentEntry, remote_id: str | None) -> str | None:
        """List a deployment, or change what is listed of it under `remote_id`; return that id."""

    async def set_comment(self, client: HostClient, comment: PullComment, remote_id: str | None) -> str:
        """Write the comment, or change the one of `remote_id`, or of its marker; return the comment's id."""


GitHostFactory = Callable[[], GitHost]
