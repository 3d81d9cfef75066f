"""What an engine does not do as the other does, by the case that shows it: docs/discussion/engines.md prints it."""

from __future__ import annotations

from typing import Final

DIFFERENCES: Final[dict[str, dict[str, str]]] = {
    "granian": {
        "host_of_another": "show `:authority` where an HTTP/2 request has a Host of its own: Host counts then, for the"
        " site and for the certificate",
    },
    "hypercorn": {
        "pathsend": "send files by itself (`http.response.pathsend`): they pass through the app",
        "folded_field": "refuse folded field lines: it unfolds them, which RFC 9112 §5.2 allows too",
    },
}

# Cases of h2spec that fail without TLS, and why that is let be; with TLS none does.
H2SPEC_CLEAR: Final = {
    "http2/3.5 Sends invalid connection preface": "the port speaks HTTP/1.1 too, and answers 400: h2spec"
    " takes that for a frame which is cut short",
}


def format_table() -> str:
    """Return the table as the page has it."""
    lines = ["| Engine | Does not |", "| --- | --- |"]
    lines += [f"| {engine} | {text} |" for engine, texts in DIFFERENCES.items() for text in texts.values()]
    return "\n".join(lines) + "\n"
