"""The OpenAPI 3.1 document, made from the table of routes and the models its routes use."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from .guard import EDGE, OPEN, Route

_REF: Final = "#/components/schemas/{model}"
_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "hint": {"type": "string"},
        "problems": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def build_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document that describes `routes`."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(template_path(route.path), {})[route.method.lower()] = describe(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "vclone", "version": version("vclone")},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "An API token, or an access token."},
                "session": {"type": "apiKey", "in": "cookie", "name": "vclone_session"},
                "edge": {"type": "http", "scheme": "bearer", "description": "The token that edges share with the API."},
            },
        },
    }


def template_path(path: str) -> str:
    """Return a route's path as OpenAPI spells it: `/api/projects/{project}`."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)


def describe(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return one operation; the models it uses are added to `schemas`."""
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"<(?:\w+:)?(\w+)>", route.path)
    ]
    if route.query is not None:
        query = schema_of(route.query, schemas, inline=True)
        parameters += [
            {"name": name, "in": "query", "required": name in query.get("required", ()), "schema": schema}
            for name, schema in query["properties"].items()
        ]
    answer: dict[str, Any] = {"description": "Done."}
    if route.answer is not None:
        answer["content"] = {"application/json": {"schema": schema_of(route.answer, schemas)}}
    if route.streams:
        answer.setdefault("content", {})["text/event-stream"] = {"schema": {"type": "string"}}
    operation: dict[str, Any] = {
        "operationId": getattr(route.view, "__name__", ""),
        "summary": route.summary,
        "responses": {
            str(route.status): answer,
            "default": {
                "description": "A problem document (RFC 9457).",
                "content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}},
            },
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of(route.body, schemas)}},
        }
    elif route.takes is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {route.takes: {"schema": {"type": "string", "format": "binary"}}},
        }
    if route.needs != OPEN:
        operation["security"] = [{"edge": []}] if route.needs == EDGE else [{"token": []}, {"session": []}]
    return operation


def schema_of(model: Any, schemas: dict[str, Any], *, inline: bool = False) -> dict[str, Any]:
    """Return the JSON schema of `model`, a reference where it has a name; its parts are added to `schemas`."""
    mode: Any = "validation" if isinstance(model, type) and issubclass(model, BaseModel) else "serialization"
    schema = TypeAdapter(model).json_schema(ref_template=_REF, mode=mode)
    schemas.update(schema.pop("$defs", {}))
    name = schema.get("title")
    if inline or "$ref" in schema or name is None or schema.get("type") != "object":
        return schema
    schemas[name] = schema
    return {"$ref": _REF.format(model=name)}
