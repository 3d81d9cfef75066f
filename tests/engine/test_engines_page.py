"""The page on engines says what the tests allow an engine."""

from __future__ import annotations

from pathlib import Path

from tests.engine.engines import format_table

PAGE = Path(__file__).parents[2] / "docs" / "discussion" / "engines.md"


def test_the_page_has_the_table() -> None:
    _, _, rest = PAGE.read_text().partition("<!-- engines -->\n")
    assert rest.partition("<!-- /engines -->")[0] == format_table()
