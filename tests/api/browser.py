"""One browser before the app: it keeps cookies and reads its form token from a page, as people's do."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from typing import Any

from quart import Quart


class CookieBrowser:
    """Sends its cookies, and every form with the token of the session it has by then."""

    def __init__(self, app: Quart) -> None:
        self._app = app
        self.cookies: dict[str, str] = {}
        self.set_cookies: list[str] = []
        self.location = ""  # where the last answer led to

    async def get(self, path: str) -> tuple[int, str]:
        response = await self.open("GET", path)
        return response.status_code, await response.get_data(as_text=True)

    async def post(self, path: str, **form: str) -> tuple[int, str]:
        """Send a form; returns the status and the page, or where it leads."""
        token = await self.form_token() if "vclone_session" in self.cookies else ""
        response = await self.open("POST", path, form={"form_token": token, **form})
        if response.status_code == 303:
            return 303, response.headers["location"]
        return response.status_code, await response.get_data(as_text=True)

    async def form_token(self) -> str:
        found = re.search(r'name="form_token" value="([0-9a-f]{64})"', (await self.get("/teams"))[1])
        return found[1] if found else ""

    async def open(self, method: str, path: str, **more: Any) -> Any:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        response = await self._app.test_client().open(path, method=method, headers=headers, **more)
        self.location = response.headers.get("location", "")
        for line in response.headers.getlist("set-cookie"):
            self.set_cookies.append(line)
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if not morsel.value:
                    del self.cookies[name]
        return response
