"""What schemathesis can't make up from the document: bodies that are no JSON. SCHEMATHESIS_HOOKS names it."""

from __future__ import annotations

import io
import re
import uuid
import zipfile
from typing import Any

import schemathesis

from vclone_core.actions.repeats import KEY_PATTERN
from vclone_core.rules.blobframes import CONTENT_TYPE, encode_frame

KEY = re.compile(KEY_PATTERN)
schemathesis.serializer.alias(CONTENT_TYPE, "application/octet-stream")


def make_archive() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("index.html", "<h1>It works</h1>")
    return held.getvalue()


BODIES = {"store_blobs": encode_frame(b"some bytes"), "deploy_archive": make_archive()}


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """Use no key twice: with another body it is refused, as tests/api/test_repeats.py wants it."""
    if headers and KEY.fullmatch(headers.get("Idempotency-Key", "")):
        return {**headers, "Idempotency-Key": uuid.uuid4().hex}
    return headers


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Put a good one in the place of bytes; what was made to be no bytes has to be refused."""
    if not isinstance(body, bytes | str):
        return body
    return BODIES.get(context.operation.definition.raw.get("operationId"), body)
