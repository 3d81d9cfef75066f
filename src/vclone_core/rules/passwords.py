"""Which passwords and addresses are taken, said by field. Hashing is in `actions/passwords.py`."""

from __future__ import annotations

import re
from typing import Final

MIN_LENGTH: Final = 12
# A hash function eats any length; nobody types this much, and a stranger shall not make us hash it.
MAX_BYTES: Final = 1024
# One @, a dot in what follows, nothing invisible: whether an address exists only a letter to it can tell.
_ADDRESS: Final = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,189}")


def password_problem(password: str, *, email: str = "") -> str | None:
    """Say what is wrong with a new password, None when it is taken (NIST SP 800-63B: length, no rules on letters).

    >>> password_problem("correct horse battery"), password_problem("short")
    (None, 'must have at least 12 characters')
    """
    if len(password) < MIN_LENGTH:
        return f"must have at least {MIN_LENGTH} characters"
    if len(password.encode(errors="surrogatepass")) > MAX_BYTES:
        return f"must have at most {MAX_BYTES} bytes"
    if email and password.casefold() == email.casefold():
        return "must not be the address"
    if len(set(password)) < 4:
        return "must have at least 4 different characters"
    return None


def normalise_email(text: str) -> str | None:
    """Return an address as it is compared and stored, None when it is none.

    >>> normalise_email(" Ann@Example.com "), normalise_email("ann")
    ('ann@example.com', None)
    """
    text = text.strip().lower()
    return text if len(text) <= 254 and _ADDRESS.fullmatch(text) else None
