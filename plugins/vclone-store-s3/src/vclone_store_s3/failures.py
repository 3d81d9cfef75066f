"""Turns what S3 servers and the HTTP clients say into our errors, with a reason an operator can act on.

The facts of each say whether it `is_passing`: worth another try at once.
"""

from __future__ import annotations

import re
from typing import Final

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from vclone_core import errors

TRANSPORT_ERRORS: Final = (aiohttp.ClientError, BotoCoreError, OSError, TimeoutError)
RETRIED_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9]{1,60})</Code>")
_KEYS: Final = "it refuses the access key; check VCLONE_STORE_ACCESS_KEY and VCLONE_STORE_SECRET_KEY"
_REASONS: Final = {
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "AccessDenied": "the access key may not do this; check its policy",
    "RequestTimeTooSkewed": "its clock differs from ours; set both clocks",
    "NoSuchBucket": "the bucket is gone",
    "XMinioStorageFull": "its disk is full",
    "SlowDown": "it is overloaded",
    "ServiceUnavailable": "it is overloaded",
}
_STATUS_REASONS: Final = {
    401: _KEYS,
    403: _KEYS + ", and that both clocks agree",
    429: "it is overloaded",
    503: "it is overloaded",
    507: "its disk is full",
}


def find_code(body: bytes) -> str:
    """Return the error code in an S3 error document; empty where there is none."""
    found = _CODE.search(body)
    return found[1].decode() if found else ""


def refused(status: int, code: str) -> errors.StoreUnavailable:
    """Return the error for an answer that is none of those we can use; its facts hold `status` and `s3_code`."""
    said = f"{status} {code}".strip()
    if reason := _REASONS.get(code) or _STATUS_REASONS.get(status):
        why = f"{reason} ({said})"
    elif 300 <= status < 400:
        why = f"it points elsewhere; check endpoint and region ({said})"
    else:
        why = f"it answers {said}"
    return errors.StoreUnavailable(why=why, status=status, s3_code=code, is_passing=status in RETRIED_STATUSES)


def refused_call(error: ClientError) -> errors.StoreUnavailable:
    """Return the error for an answer that the SDK raised."""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    return refused(status, "" if code.isdigit() else code)


def unreachable(error: BaseException, endpoint: str) -> errors.StoreUnavailable:
    """Return the error for a connection that was not made, broke, or stayed silent."""
    name = type(error).__name__
    is_passing = True
    if isinstance(error, TimeoutError) or "Timeout" in name:
        why = "it stayed silent too long"
        is_passing = False  # the time is used up
    elif isinstance(error, aiohttp.ClientSSLError) or "SSL" in name:
        why = f"its certificate is not trusted ({error})"
        is_passing = False
    elif isinstance(error, aiohttp.ClientConnectorError) or name == "EndpointConnectionError":
        why = "no connection could be made"
    else:
        why = f"the connection broke ({name})"
    return errors.StoreUnavailable(why=f"{why} ({endpoint})", is_passing=is_passing)
