"""A failure as its readers see it: problem document, page, build-log line, shell message; and a document read back."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from vclone_core.errors import FieldProblem, InvalidFields, VcloneError, every_error


def render_problem(error: VcloneError, request_id: str) -> dict[str, Any]:
    """Return the error as a problem document (RFC 9457)."""
    problem: dict[str, Any] = {
        "type": f"https://vclone.dev/errors/{error.code}",
        "title": error.sentence,
        "status": error.status,
        "code": error.code,
        "request_id": request_id,
    }
    if error.advice:
        problem["hint"] = error.advice
    if isinstance(error, InvalidFields):
        problem["problems"] = [{"field": p.field, "message": p.message} for p in error.problems]
    return problem


def parse_problem(problem: Mapping[str, Any]) -> VcloneError:
    """Return the error that `render_problem` wrote, or a deployment's failure, so that it renders the same here.

    A code this program doesn't know (the sender is newer) becomes the nearest family by its status.
    """
    if "problems" in problem:
        return InvalidFields(tuple(FieldProblem(str(p["field"]), str(p["message"])) for p in problem["problems"]))
    tree = list(every_error())
    code, _, cause = str(problem.get("code")).partition(".")
    status = problem.get("status")
    kind = next((leaf for leaf in tree if leaf.code == code), None) or next(
        (family for family in tree if family.status == status), VcloneError
    )
    # The hint is text by now: a brace in it names no fact.
    hint = str(problem.get("hint") or problem.get("advice") or "").replace("{", "{{").replace("}", "}}")
    return kind(sentence=problem.get("title") or problem.get("sentence"), hint=hint, cause=cause)


def render_html(error: VcloneError, request_id: str, *, link: tuple[str, str] | None = None) -> str:
    """Return the error as a page of its own: constant but for the error's facts and the id, both escaped.

    `link` is an address to go on to, and its words.
    """
    onward = f'<p><a href="{html.escape(link[0])}">{html.escape(link[1])}</a></p>' if link else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{error.status}</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem;color:#111}"
        "code{color:#666;font-size:.8rem}@media(prefers-color-scheme:dark){body{background:#000;color:#eee}}</style>"
        f"<h1>{error.status}</h1><p>{html.escape(error.sentence)}</p><p>{html.escape(error.advice)}</p>{onward}"
        f"<p><code>{error.code} {html.escape(request_id)}</code></p></html>\n"
    )


def render_log_line(error: VcloneError) -> str:
    """Return the error as the last words of a build log."""
    return f"Error: {error.sentence}" + (f" {error.advice}" if error.advice else "") + f" [{error.code}]"


def render_cli(error: VcloneError) -> str:
    """Return the error as a shell user reads it on stderr; the exit code is `error.exit_code`."""
    lines = [f"error: {error.sentence}"]
    if isinstance(error, InvalidFields):
        lines += [f"  {p.field}: {p.message}" for p in error.problems]
    if error.advice:
        lines.append(f"  → {error.advice}")
    return "\n".join(lines)
