"""What clients may send, and the one way it is read: strictly, within a limit, with every problem told at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from quart import Request

from vclone_core.errors import BodyStalled, FieldProblem, Invalid, InvalidFields, TooLarge, WrongMediaType
from vclone_core.rules.blobframes import FRAME_LIMIT_BYTES
from vclone_core.rules.names import parse_project_name

from .pacing import SCOPE_KEY, BodyGate

JSON_LIMIT_BYTES: Final = 1024**2
LIST_LIMIT_BYTES: Final = 8 * 1024**2
FORM_LIMIT_BYTES: Final = 64 * 1024
FILES_LIMIT: Final = 25_000
PROBLEMS_SHOWN: Final = 50
# A client that sends nothing for this long in the middle of a body is told so.
STALL_S: Final = 30.0

# PostgreSQL keeps no NUL in a text, and no name or command has a use for other control characters.
Line = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
Command = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]


def _project_name(text: str) -> str:
    try:
        return parse_project_name(text)
    except InvalidFields as error:
        raise ValueError(error.problems[0].message) from None


def _whole(number: object) -> object:
    return int(number) if isinstance(number, float) and number.is_integer() else number


ProjectName = Annotated[str, AfterValidator(_project_name)]
# JSON knows numbers only: 30.0 is the integer 30 (JSON Schema 2020-12, Validation, 6.1.1). It stands after the limits,
# which the document doesn't tell otherwise.
IsWhole: Final = BeforeValidator(_whole)
Cursor = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,600}\.[A-Za-z0-9_-]{22}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Model = TypeVar("Model", bound=BaseModel)


class Body(BaseModel):
    """A JSON body: types are taken as they are, and a field that is not listed is refused."""

    # A validator is made when the first body of its kind comes: there are fifty, and a start needs none.
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


class ProjectSettingsBody(Body):
    """What a project says about its builds. A field left out keeps its value; null means: as detected."""

    framework: Line | None = None
    root_directory: Line = ""
    install_command: Command | None = None
    build_command: Command | None = None
    output_directory: Line | None = None
    node_version: Line | None = None
    python_version: Line | None = None
    production_branch: Annotated[Line, Field(min_length=1)] = "main"
    ignore_command: Command | None = None
    watch_paths: Annotated[list[Line], Field(max_length=64)] = []
    skip_unaffected: bool = True
    build_network: Literal["egress", "none"] = "egress"
    build_cache: bool = True
    git_submodules: bool = False
    git_lfs: bool = False


class NewProject(Body):
    name: ProjectName
    git_url: Line | None = None
    settings: ProjectSettingsBody = ProjectSettingsBody()


RetentionLimit = Annotated[int, Field(ge=1, le=100_000), IsWhole]


class ProjectChange(Body):
    """Fields left out, or null, keep their values."""

    git_url: Line | None = None
    settings: ProjectSettingsBody | None = None
    is_publishing_paused: bool | None = None


class WantedBlobs(Body):
    sha256: Annotated[list[Sha256], Field(max_length=FILES_LIMIT)]


class RetentionChange(Body):
    """Rules left out keep their values."""

    preview_days: RetentionLimit | None = None
    preview_count: RetentionLimit | None = None
    production_days: RetentionLimit | None = None
    production_count: RetentionLimit | None = None


class Collection(Body):
    """`dry_run`: only say what would go."""

    dry_run: bool = False


class Rollback(Body):
    """`to`: the id of the deployment to go back to; null: the one that was in production before."""

    to: Line | None = None


class GitSourceBody(Body):
    kind: Literal["git"]
    url: Annotated[Line, Field(min_length=1)]
    ref: Line | None = None
    sha: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")] | None = None


class UploadSourceBody(Body):
    kind: Literal["upload", "prebuilt"]
    message: Line | None = None
    author: Line | None = None


class SourceFileBody(Body):
    path: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    sha256: Sha256
    size: Annotated[int, Field(ge=0, le=FRAME_LIMIT_BYTES), IsWhole]
    is_executable: bool = False


class NewDeployment(Body):
    """`create_project` makes the project when there is none of that name."""

    project: Line
    target: Literal["production", "preview"] | None = None
    source: Annotated[GitSourceBody | UploadSourceBody, Field(discriminator="kind")]
    files: Annotated[list[SourceFileBody], Field(max_length=FILES_LIMIT)] | None = None
    settings: ProjectSettingsBody | None = None
    create_project: bool = False


class NewDomain(Body):
    """`branch`: show this branch instead of production; `redirect_to`: send visitors to that domain of the project."""

    host: Annotated[Line, Field(min_length=1, max_length=300)]
    branch: Line | None = None
    redirect_to: Line | None = None


class DomainChange(Body):
    """What the domain shows from now on; both left out or null: production."""

    branch: Line | None = None
    redirect_to: Line | None = None


class NewHook(Body):
    """`branch`: what the hook deploys; null: the production branch."""

    name: Annotated[Line, Field(min_length=1, max_length=100)]
    branch: Line | None = None


class NewGitToken(Body):
    """`account`: the user name that the host takes beside the token."""

    token: Annotated[str, StringConstraints(min_length=8, max_length=1000)]
    account: Line = "x-access-token"


class NewDeployKey(Body):
    """`private_key`: one that there is already, in OpenSSH's form; null: a pair is made."""

    private_key: Annotated[str, StringConstraints(max_length=16_384)] | None = None
    known_hosts: Annotated[str, StringConstraints(max_length=16_384)] = ""


class HostKeys(Body):
    """Lines of ssh's known_hosts; empty: the next host that is met is believed."""

    known_hosts: Annotated[str, StringConstraints(max_length=16_384)] = ""


class Redeploy(Body):
    """`settings`: what this deployment says otherwise than the one it repeats."""

    settings: ProjectSettingsBody | None = None


class NewVariableBody(Body):
    """One value for one or more targets; `branch`: for that branch's previews alone."""

    key: Line
    value: str
    targets: Annotated[list[Line], Field(max_length=3)] = ["production", "preview", "development"]
    branch: Line | None = None
    is_sensitive: bool = False
    is_build: bool = True
    is_run: bool = True


class NewVariables(Body):
    """`replace`: in the place of those that are there; else one that is there is a problem."""

    variables: Annotated[list[NewVariableBody], Field(min_length=1, max_length=1000)]
    replace: bool = False


class VariableChange(Body):
    """Fields left out, or null, keep their values."""

    value: str | None = None
    is_sensitive: bool | None = None
    is_build: bool | None = None
    is_run: bool | None = None


class ProtectionChange(Body):
    """`covers`: which hosts are protected."""

    covers: Literal["off", "previews", "everything"]


class SitePassword(Body):
    """The password of a project's sites."""

    password: Annotated[str, StringConstraints(max_length=4096)]


class NewShareLink(Body):
    """`of`: a host, a branch, or the id of a deployment; `days`: how long the link opens it."""

    of: Annotated[Line, Field(min_length=1)]
    name: Annotated[Line, Field(max_length=100)] = ""
    days: Annotated[float, Field(gt=0, le=365, strict=False)] = 7.0


class Acknowledgement(Body):
    version: Annotated[int, Field(ge=0, le=2**63 - 1), IsWhole]


class Query(BaseModel):
    """A query string: texts are turned into what the field is; a parameter that is not listed is refused."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)


class NoQuery(Query):
    """The query of a route that takes none: whatever is there is refused."""


class PagedQuery(Query):
    """The query of a list. `cursor`: the `next_cursor` of the page before."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Cursor | None = None


class ArchiveQuery(Query):
    """`prebuilt`: the archive holds a finished output; nothing is built."""

    target: Literal["production", "preview"] | None = None
    prebuilt: bool = False


class DeploymentsQuery(PagedQuery):
    project: Line | None = None
    state: Literal["queued", "building", "ready", "failed", "cancelled", "skipped"] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20


class DiffQuery(PagedQuery):
    """`to`: the id or host of the deployment that is compared with this one."""

    to: Line


class ValuesQuery(Query):
    target: Literal["production", "preview", "development"] = "development"
    branch: Line | None = None


class DomainsQuery(PagedQuery):
    project: Line | None = None


class LogsQuery(Query):
    after: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    limit: Annotated[int, Field(ge=1, le=5000)] = 1000


class AliasesQuery(PagedQuery):
    project: Line


class AliasChange(Body):
    """`deployment`: the id of a ready deployment, or a host that shows it."""

    deployment: Annotated[Line, Field(min_length=1, max_length=300)]


class EventsQuery(Query):
    edge: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
    after: Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(lambda text: text or None)] = None


async def read_pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield a body as it comes, holding back the client while a piece is worked on.

    Raises `BodyStalled` when the client sends nothing for `STALL_S`.
    """
    gate: BodyGate = request.scope[SCOPE_KEY]  # type: ignore[typeddict-item]  # our own key beside ASGI's
    pieces = aiter(request.body)
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BodyStalled(limit_s=STALL_S) from None
        yield piece
        gate.took(len(piece))


async def read_whole(request: Request, *, limit_bytes: int) -> bytes:
    """Return a body of at most `limit_bytes`; raise `TooLarge` as soon as it is known to be larger."""
    if (request.content_length or 0) > limit_bytes:
        raise TooLarge(what="The body of this request", limit=f"{limit_bytes} bytes")
    whole = bytearray()
    async for piece in read_pieces(request):
        whole += piece
        if len(whole) > limit_bytes:
            raise TooLarge(what="The body of this request", limit=f"{limit_bytes} bytes")
    return bytes(whole)


async def read_json(request: Request, *, limit_bytes: int) -> bytes:
    """Return the bytes of a request's JSON body; none when it has no body."""
    if request.mimetype == "application/json":
        return await read_whole(request, limit_bytes=limit_bytes)
    if request.mimetype or await read_whole(request, limit_bytes=0):
        raise WrongMediaType(needed="application/json")
    return b""


def parse_json(model: type[Model], data: bytes) -> Model:
    """Return a JSON body as `model`, no bytes as an empty object; raises `InvalidFields` with all that is wrong."""
    try:
        return model.model_validate_json(data or b"{}")
    except ValidationError as error:
        raise to_our_error(error) from None


def read_query(request: Request, model: type[Model], *, besides: Container[str] = ()) -> Model:
    """Return the query string of a request as `model`; raises `InvalidFields` with every problem.

    `besides` are parameters that are read elsewhere.
    """
    sent = {name: texts for name, texts in request.args.to_dict(flat=False).items() if name not in besides}
    try:
        read = model.model_validate({name: texts[0] for name, texts in sent.items()})
    except ValidationError as error:
        raise to_our_error(error) from None
    if twice := [FieldProblem(name, "is there more than once") for name, texts in sent.items() if len(texts) > 1]:
        raise InvalidFields(tuple(twice))
    return read


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a page's form (urlencoded)."""
    if request.mimetype != "application/x-www-form-urlencoded":
        raise WrongMediaType(needed="application/x-www-form-urlencoded")
    data = await read_whole(request, limit_bytes=FORM_LIMIT_BYTES)
    try:
        return dict(parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict"))
    except ValueError:
        raise Invalid(what="the form is malformed") from None


def to_our_error(error: ValidationError) -> Invalid:
    """Return what is wrong with a body, without repeating what was sent."""
    items: list[Any] = error.errors(include_url=False, include_input=False, include_context=False)
    if any(item["type"] == "json_invalid" for item in items):
        return Invalid(what="the body is not JSON: " + items[0]["msg"].removeprefix("Invalid JSON: "))
    problems = [
        FieldProblem(field_path(item["loc"]), item["msg"].removeprefix("Value error, "))
        for item in items[:PROBLEMS_SHOWN]
    ]
    return InvalidFields(tuple(problems))


def field_path(location: tuple[int | str, ...]) -> str:
    """Return a dotted path as a client spells its fields; the name of a union's branch is not part of it."""
    parts = [str(part) for part in location]
    if parts[:1] == ["source"] and parts[1:2] in (["git"], ["upload"], ["prebuilt"]):
        del parts[1]
    return ".".join(parts) or "body"
