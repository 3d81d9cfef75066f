"""Every sentence that the edge promises is shown by a test that names it."""

from __future__ import annotations

from types import ModuleType

import pytest
from tests.docs.conftest import load_writer

WRITER: ModuleType = load_writer()
SENTENCES = {key: text for sentences in WRITER.read_product().values() for key, text in sentences.items()}
MARKS = WRITER.find_marks()
MISSING = WRITER.read_missing()


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_sentence_has_a_test_or_says_what_is_missing(sentence: str) -> None:
    assert (sentence in MARKS) is not (sentence in MISSING)


def test_every_line_of_the_edge_is_there_and_has_a_test() -> None:
    assert list(WRITER.read_product()) == [f"B{number}" for number in range(1, 16)]
    assert {key.partition(".")[0] for key in MARKS} == set(WRITER.read_product())


def test_marks_name_sentences_that_exist() -> None:
    assert set(MARKS) | set(MISSING) <= set(SENTENCES)
