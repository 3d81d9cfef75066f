"""The bundled welcome site: whole in itself, and its fingerprinted names are true."""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

SITE = Path(str(files("vclone_core") / "welcome"))
PAGES = sorted(SITE.glob("*.html"))


class Links(HTMLParser):
    """Collects what a page loads and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        names = {"link": "href", "img": "src", "script": "src"}
        self.loaded |= {value for name, value in attrs if value and name == names.get(tag)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_loads_only_files_of_the_site(page: Path) -> None:
    links = Links()
    links.feed(page.read_text(encoding="utf-8"))
    assert links.loaded and {"html", "title", "h1"} <= links.tags
    for address in links.loaded:
        assert address.startswith("/") and SITE.joinpath(address[1:]).is_file(), address


@pytest.mark.parametrize("asset", sorted((SITE / "assets").iterdir()), ids=lambda asset: asset.name)
def test_a_fingerprint_is_of_the_bytes(asset: Path) -> None:
    found = re.fullmatch(r"[a-z]+\.([0-9a-f]{8})\.[a-z]+", asset.name)
    assert found and hashlib.sha256(asset.read_bytes()).hexdigest().startswith(found[1])


def test_styles_load_nothing_from_elsewhere() -> None:
    for style in (SITE / "assets").glob("*.css"):
        assert "url(" not in style.read_text() and "@import" not in style.read_text()
