"""Every sentence of the tables of promises is shown by a test that names it."""

from __future__ import annotations

from types import ModuleType

import pytest
from tests.docs.conftest import load_writer

WRITER: ModuleType = load_writer()
TABLES = ("product", "reliability")
MARKS = {table: WRITER.find_marks(table) for table in TABLES}
MISSING = {table: WRITER.read_missing(table) for table in TABLES}
SENTENCES = {
    (table, key): text
    for table in TABLES
    for sentences in WRITER.read_sentences(table).values()
    for key, text in sentences.items()
}


@pytest.mark.parametrize(("table", "key"), SENTENCES)
def test_every_sentence_has_a_test_or_says_what_is_missing(table: str, key: str) -> None:
    assert (key in MARKS[table]) is not (key in MISSING[table])


def test_every_line_of_the_edge_is_there_and_has_a_test() -> None:
    assert list(WRITER.read_sentences("product")) == [f"B{number}" for number in range(1, 16)]
    assert {key.partition(".")[0] for key in MARKS["product"]} == set(WRITER.read_sentences("product"))


@pytest.mark.parametrize("table", TABLES)
def test_marks_name_sentences_that_exist(table: str) -> None:
    assert {(table, key) for key in set(MARKS[table]) | set(MISSING[table])} <= set(SENTENCES)
