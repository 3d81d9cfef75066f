"""The OpenAPI 3.1 document, made from the table of routes and the models its routes use: what isn't in them isn't said.

Everything that holds for all routes (who may call, how often, which errors, which header fields) is derived here as the
guard derives it, so that a new route is described whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from inspect import getdoc
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from vclone_core.actions.repeats import KEY_PATTERN
from vclone_core.errors import VcloneError, asking, every_error, requests, steps, tree

from .auth import TEAM_HEADER
from .bodies import PagedQuery
from .guard import EDGE, NAME_LENGTH, OPEN, Route
from .rates import RATES, class_of

_REF: Final = "#/components/schemas/{model}"
_PARAMETER: Final = re.compile(r"<(?:\w+:)?(\w+)>")
_JSON: Final = "application/json"

_PROBLEM: Final = {
    "type": "object",
    "description": "A problem document (RFC 9457). `request_id` finds the line of the server's log.",
    "required": ["type", "title", "status", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "hint": {"type": "string"},
        "problems": {
            "type": "array",
            "description": "Every field that can't be used.",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
_EVENT: Final = {
    "type": "object",
    "description": "One event of the stream; `data` is JSON, and `id` is what `Last-Event-ID` resumes behind.",
    "required": ["data"],
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
}
_HEADERS: Final[Mapping[str, tuple[str, str]]] = {
    "X-Vclone-Id": ("The request's id, which finds its line in the server's log.", r"^req_[0-9a-z]{20}$"),
    "RateLimit-Policy": ("The quota that counts here: `q` calls in `w` seconds.", r'^"[a-z-]+";q=\d+;w=\d+$'),
    "RateLimit": ("What is left of it: `r` calls; all of them again in `t` seconds.", r'^"[a-z-]+";r=\d+;t=\d+$'),
    "Retry-After": ("Seconds until it is worth trying again.", r"^\d+$"),
    "Link": ("The address of the next page, `rel=next` (RFC 8288), where there is one.", r'^<.+>; rel="next"$'),
    "Location": ("The address of what was made.", "^/api/"),
    "WWW-Authenticate": ("How to be let in.", "^Bearer$"),
    "Idempotency-Replayed": ("`true`: this answer was given before.", "^true$"),
}
_ALWAYS: Final = frozenset({"X-Vclone-Id", "RateLimit", "RateLimit-Policy", "WWW-Authenticate"})
_STATUS_HEADERS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_NAMED: Final[Mapping[str, Mapping[str, Any]]] = {
    "Team": {
        "name": "team",
        "in": "query",
        "description": "The acting team, by slug or id, where it isn't the token's or session's own.",
        "schema": {"type": "string", "maxLength": 64},
    },
    "TeamHeader": {
        "name": TEAM_HEADER,
        "in": "header",
        "description": "As the parameter `team`.",
        "schema": {"type": "string", "maxLength": 64},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The request is carried out once, however often it is sent with this key within a day.",
        "schema": {"type": "string", "pattern": KEY_PATTERN},
    },
}
# What may be in the way of a request that the API can read.
_MODULES: Final = frozenset(module.__name__ for module in (asking, requests, steps, tree))


class _Untitled(GenerateJsonSchema):
    """Fields are called what they are called: titles made of their names say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def build_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document that describes `routes`."""
    routes = tuple(routes)
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(template_path(route.path), {})[route.method.lower()] = describe(route, schemas, routes)
    statuses = sorted({status for route in routes for status in problems_of(route)})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vclone",
            "version": version("vclone"),
            "description": "Projects, deployments, and who may do what. Errors are problem documents (RFC 9457), lists"
            " come in pages, and POST requests may carry an `Idempotency-Key`.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(tag_of(route) for route in routes)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "parameters": _NAMED,
            "headers": {
                name: {
                    "description": text,
                    "required": name in _ALWAYS,
                    "schema": {"type": "string", "pattern": pattern},
                }
                for name, (text, pattern) in _HEADERS.items()
            },
            "responses": {
                f"Problem{status}{suffix}": describe_problem(status, is_counted=not suffix)
                for status in statuses
                for suffix in ("", "Uncounted")
            },
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "An API token, or an access token."},
                "session": {"type": "apiKey", "in": "cookie", "name": "vclone_session"},
                "edge": {"type": "http", "scheme": "bearer", "description": "The token that edges share with the API."},
            },
        },
    }


def template_path(path: str) -> str:
    """Return a route's path as OpenAPI spells it: `/api/projects/{project}`."""
    return _PARAMETER.sub(r"{\1}", path)


def tag_of(route: Route) -> str:
    """Return the part of the API a route belongs to."""
    first, second, *_ = route.path.strip("/").split("/")
    return second if first == "api" else first


def describe(route: Route, schemas: dict[str, Any], routes: Iterable[Route]) -> dict[str, Any]:
    """Return one operation; the models it uses are added to `schemas`."""
    rest = (getdoc(route.view) or "").partition("\n")[2].strip()
    rate = class_of(route)
    said = [rest, *([] if rate is None else [f"Counts as one of {RATES[rate].count} `{rate}` a minute."])]
    operation: dict[str, Any] = {
        "operationId": getattr(route.view, "__name__", ""),
        "tags": [tag_of(route)],
        "summary": route.summary,
        "description": "\n\n".join(filter(None, said)),
        "parameters": list(describe_parameters(route, schemas)),
        "responses": {
            str(route.status): describe_answer(route, schemas, routes),
            **{
                str(status): {"$ref": f"#/components/responses/Problem{status}{'' if rate else 'Uncounted'}"}
                for status in problems_of(route)
            },
        },
        "security": [],
    }
    if route.body is not None:
        schema = schema_of(route.body, schemas)
        operation["requestBody"] = {
            "required": any(field.is_required() for field in route.body.model_fields.values()),
            "content": {_JSON: {"schema": schema}},
        }
    elif route.takes is not None:
        operation["requestBody"] = {"required": True, "content": {route.takes: {"schema": {"type": "string"}}}}
    if route.needs != OPEN:
        operation["security"] = [{"edge": []}] if route.needs == EDGE else [{"token": []}, {"session": []}]
        operation["x-vclone-needs"] = route.needs
    return operation


def describe_parameters(route: Route, schemas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what an operation takes besides its body."""
    for name in _PARAMETER.findall(route.path):
        text = {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH}
        yield {"name": name, "in": "path", "required": True, "schema": text}
    if route.query is not None:
        query = schema_of(route.query, schemas, inline=True)
        for name, schema in query["properties"].items():
            yield {"name": name, "in": "query", "required": name in query.get("required", ()), "schema": schema}
    if route.takes_team:
        yield {"$ref": "#/components/parameters/Team"}
        yield {"$ref": "#/components/parameters/TeamHeader"}
    if route.takes_key:
        yield {"$ref": "#/components/parameters/IdempotencyKey"}


def describe_answer(route: Route, schemas: dict[str, Any], routes: Iterable[Route]) -> dict[str, Any]:
    """Return what an operation answers when all is well."""
    content: dict[str, Any] = {media: {"schema": {"type": "string"}} for media in route.media}
    if route.answer is not None:
        content[_JSON] = {"schema": schema_of(route.answer, schemas)}
    if route.streams:
        content["text/event-stream"] = {"schema": _EVENT}
    names = ["X-Vclone-Id", *(["RateLimit", "RateLimit-Policy"] if class_of(route) else [])]
    if is_paged(route):
        names.append("Link")
    if route.made_at is not None:
        names.append("Location")
    if route.takes_key:
        names.append("Idempotency-Replayed")
    answer: dict[str, Any] = {"description": "Done.", "headers": _refer(names)}
    if content:
        answer["content"] = content
    if links := dict(describe_links(route, routes)):
        answer["links"] = links
    return answer


def describe_links(route: Route, routes: Iterable[Route]) -> Iterator[tuple[str, Any]]:
    """Yield what can be done with what an operation has made: each operation whose address names it last."""
    if route.made_at is None:
        return
    same = {name: f"$request.path.{name}" for name in _PARAMETER.findall(route.made_at)}
    for other in routes:
        rest = other.path.removeprefix(f"{route.made_at}/")
        if rest != other.path and len(names := _PARAMETER.findall(rest)) == 1 and rest.startswith("<"):
            yield (
                other.view.__name__,
                {"operationId": other.view.__name__, "parameters": {**same, names[0]: "$response.body#/id"}},
            )


def describe_problem(status: int, *, is_counted: bool) -> dict[str, Any]:
    """Return what a refusal of one status looks like, and which codes it may have."""
    codes = sorted({error.code for error in every_error() if error.status == status and is_told(error)})
    names = ["X-Vclone-Id", *(["RateLimit", "RateLimit-Policy"] if is_counted else [])]
    return {
        "description": " ".join(f"`{code}`" for code in codes),
        # A flood of credentials that open nothing is refused before it is counted.
        "headers": _refer(
            [*names, *_STATUS_HEADERS.get(status, ())] if status != 429 else ["X-Vclone-Id", "Retry-After"]
        ),
        "content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}},
    }


def problems_of(route: Route) -> list[int]:
    """Return the statuses a call can be refused with, by what the call is."""
    has_body = route.body is not None or route.takes is not None
    found = {400, 404, 500, 503}
    found |= set() if route.needs == OPEN else {401, 403}
    found |= set() if class_of(route) is None else {429}
    found |= {408, 413, 415} if has_body else set()
    # Also a read: of a deployment that isn't ready, there is no list of files.
    found |= {409} if _PARAMETER.search(route.path) or route.method != "GET" else set()
    found |= {401, 403} if route.needs == OPEN and route.body is not None else set()
    found |= {422} if route.takes_key or has_body else set()
    return sorted(found)


def is_told(error: type[VcloneError]) -> bool:
    return error.__module__ in _MODULES and error is not VcloneError


def is_paged(route: Route) -> bool:
    """Say whether an operation answers with a page of a list."""
    return route.query is not None and issubclass(route.query, PagedQuery)


def schema_of(model: Any, schemas: dict[str, Any], *, inline: bool = False) -> dict[str, Any]:
    """Return the JSON schema of `model`, a reference where it has a name; its parts are added to `schemas`."""
    mode: Any = "validation" if isinstance(model, type) and issubclass(model, BaseModel) else "serialization"
    schema = TypeAdapter(model).json_schema(ref_template=_REF, mode=mode, schema_generator=_Untitled)
    schemas.update(schema.pop("$defs", {}))
    name = schema.get("title")
    if inline or "$ref" in schema or name is None or schema.get("type") != "object":
        return schema
    schemas[name] = schema
    return {"$ref": _REF.format(model=name)}


def _refer(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
