"""The OpenAPI document as a page: every operation with what it takes and answers. Plain HTML, made once, no script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

STYLE: Final = "/static/vclone.css"


def render_reference(document: Mapping[str, Any]) -> str:
    """Return the page of a document that `openapi.build_document` made."""
    info, operations = document["info"], list(list_operations(document))
    tags = [tag["name"] for tag in document["tags"]]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta name="color-scheme" content="light dark"><title>API · {escape(info["title"])}</title>',
        f'<link rel="stylesheet" href="{STYLE}"></head><body><main id="main">',
        f"<h1>API of {escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>",
        '<p>The same for programs: <a href="/api/openapi.json">/api/openapi.json</a> (OpenAPI 3.1).</p>',
        "<nav aria-label='Parts'><p>",
        " · ".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in tags),
        "</p></nav>",
    ]
    for tag in tags:
        parts.append(f'<h2 class="apart" id="{escape(tag)}">{escape(tag)}</h2>')
        parts += [render_operation(document, *one) for one in operations if one[2]["tags"] == [tag]]
    parts.append('<h2 class="apart" id="shapes">Shapes</h2>')
    parts += [render_shape(name, schema) for name, schema in document["components"]["schemas"].items()]
    return "".join([*parts, "</main></body></html>\n"])


def list_operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (method, path, operation)."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def render_operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    """Return one operation: what it takes, what it answers."""
    parameters = [resolve(document, one) for one in operation["parameters"]]
    needs = operation.get("x-vclone-needs")
    rows = [
        (f"<code>{escape(one['name'])}</code> in {one['in']}", name_type(one["schema"]), one.get("description", ""))
        for one in parameters
    ]
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        rows.append((f"body <code>{escape(media)}</code>", name_type(content["schema"]), ""))
    for status, answer in operation["responses"].items():
        found = resolve(document, answer)
        kinds = [
            f"<code>{escape(media)}</code> {name_type(content['schema'])}"
            for media, content in found.get("content", {}).items()
        ]
        rows.append((f"answer {status}", ", ".join(kinds), found["description"]))
    return (
        f'<section class="card" id="{escape(operation["operationId"])}">'
        f"<h3><code>{method} {escape(path)}</code></h3><p>{escape(operation['summary'])}</p>"
        f'<p class="dim">{escape(operation["description"])}'
        f"{'' if needs is None else ' Needs: ' + escape(needs) + '.'}</p>{render_table(rows)}</section>"
    )


def render_shape(name: str, schema: Mapping[str, Any]) -> str:
    """Return one named shape."""
    required = schema.get("required", ())
    rows = [
        (f"<code>{escape(field)}</code>", name_type(one), "" if field in required else "may be left out")
        for field, one in schema.get("properties", {}).items()
    ]
    text = escape(schema.get("description", ""))
    head = f'<section class="card" id="shape-{escape(name)}"><h3>{escape(name)}</h3><p>{text}</p>'
    return f"{head}{render_table(rows)}</section>"


def render_table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return rows as a table; the first two cells are HTML, the last is text."""
    cells = "".join(f"<tr><td>{a}</td><td>{b}</td><td>{escape(c)}</td></tr>" for a, b, c in rows)
    return f"<table><tbody>{cells}</tbody></table>" if cells else ""


def name_type(schema: Mapping[str, Any]) -> str:
    """Return what a schema lets be, in a few words of HTML; shapes are links."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#shape-{name}">{name}</a>'
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(name_type(one) for one in choices)
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {name_type(schema.get('items', {}))}"
    bounds = [f"{words} {schema[key]}" for key, words in _BOUNDS if key in schema]
    return " ".join([escape(str(schema.get("format") or schema.get("type") or "anything")), *bounds])


_BOUNDS: Final = (
    ("minLength", "from"),
    ("maxLength", "to"),
    ("minimum", "≥"),
    ("exclusiveMinimum", ">"),
    ("maximum", "≤"),
)


def resolve(document: Mapping[str, Any], one: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a reference within the document refers to; anything else as it is."""
    if "$ref" not in one:
        return one
    found = document
    for part in one["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found
