"""Somebody with a browser without scripts, at the dashboard of a platform that runs."""

from __future__ import annotations

import http.cookiejar
import re
import urllib.parse
import urllib.request


class Person:
    """Signed in nowhere at first. `base` is the address of API and dashboard."""

    def __init__(self, base: str) -> None:
        jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        self.base = base

    def get(self, path: str) -> str:
        return str(self._opener.open(self.base + path, timeout=30).read().decode())

    def send(self, path: str, **form: str) -> str:
        """Post a form as the page does that holds it."""
        request = urllib.request.Request(self.base + path, urllib.parse.urlencode(form).encode())
        return str(self._opener.open(request, timeout=30).read().decode())

    def submit(self, page: str, path: str, **form: str) -> str:
        """Post a form of `page`, which holds the token that forms of people who are signed in carry."""
        token = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
        assert token is not None, page
        return self.send(path, form_token=token[1], **form)

    def confirm(self, code: str, decision: str) -> str:
        page = self.get(f"/device?code={code}")
        assert code in page
        return self.submit(page, "/device", code=code, decision=decision)
