"""`.env` files: what they are read as, which lines are refused, and that what is written is read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.rules.dotenv import format_dotenv, parse_dotenv

READ = [
    ("", {}),
    ("# only a comment\n\n   \n", {}),
    ("A=1", {"A": "1"}),
    ("A=1\nB=2\n", {"A": "1", "B": "2"}),
    ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    ("\ufeffA=1", {"A": "1"}),
    ("  A = 1  ", {"A": "1"}),
    ("export A=1\nexport\tB=2", {"A": "1", "B": "2"}),
    ("exported=1", {"exported": "1"}),
    ("export=1", {"export": "1"}),
    ("A=", {"A": ""}),
    ("A=\nB=2", {"A": "", "B": "2"}),
    ("A= # nothing", {"A": ""}),
    ("A=#fff", {"A": "#fff"}),
    ("A=x#y", {"A": "x#y"}),
    ("A=x # y", {"A": "x"}),
    ("A=two words\t# y", {"A": "two words"}),
    ("A=a=b==", {"A": "a=b=="}),
    ("A='x # y'  # z", {"A": "x # y"}),
    ('A="x # y"', {"A": "x # y"}),
    ("A=\"\"\nB=''", {"A": "", "B": ""}),
    (r'A="l1\nl2\t\"q\" \\ \$x \d"', {"A": 'l1\nl2\t"q" \\ $x \\d'}),
    (r"A='l1\nl2'", {"A": r"l1\nl2"}),
    (r"A=l1\nl2", {"A": r"l1\nl2"}),
    ("A='one\ntwo'\nB=2", {"A": "one\ntwo", "B": "2"}),
    ('A="one\n# two\nB=3"\nB=2', {"A": "one\n# two\nB=3", "B": "2"}),
    ('A=`it\'s "so"`', {"A": 'it\'s "so"'}),
    ("A=it's", {"A": "it's"}),
    ("A=1\nA=2", {"A": "2"}),
    ("A=$B ${C}", {"A": "$B ${C}"}),
    ("A-b.c=1", {"A-b.c": "1"}),  # a file may have it; whether it can be a variable is another rule's question
]


@pytest.mark.parametrize(("text", "values"), READ)
def test_reads(text: str, values: dict[str, str]) -> None:
    found = parse_dotenv(text)
    assert (found.values, found.problems) == (values, ())


REFUSED = [
    ("A", [("line 1", "has no `KEY=value`")]),
    ("export A", [("line 1", "has no `KEY=value`")]),
    ("A=1\n=2\nB C=3", [("line 2", "has no name before the `=`"), ("line 3", "has no `KEY=value`")]),
    ("A='x\nB=2", [("line 1", "has a ' that is never closed")]),
    ('A="x\\"\nB=2', [("line 1", 'has a " that is never closed')]),
    ("A='x'y", [("line 1", "goes on after the closing quote")]),
    ("'A'=1", [("line 1", "has no `KEY=value`")]),
    ("A='1\n2'\n\n?\n", [("line 4", "has no `KEY=value`")]),
]


@pytest.mark.parametrize(("text", "problems"), REFUSED)
def test_refuses_with_the_line(text: str, problems: list[tuple[str, str]]) -> None:
    assert [(one.field, one.message) for one in parse_dotenv(text).problems] == problems


def test_says_which_values_look_like_references_and_leaves_them() -> None:
    found = parse_dotenv('A=${B}\nC="x$D"\nE=\'$F\'\nG=\\$H\nI=$5\nJ=$K\nJ=1\nL=1 # $M\nN="\\$O"')
    assert found.references == ("A", "C")
    assert found.values["A"] == "${B}"


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    found = parse_dotenv(text)
    lines = text.count("\n") + 1
    assert all(1 <= int(one.field.removeprefix("line ")) <= lines for one in found.problems)


KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)


@given(st.dictionaries(KEYS, st.text()))
def test_what_is_written_is_read_back(values: dict[str, str]) -> None:
    found = parse_dotenv(format_dotenv(values))
    assert (found.values, found.problems) == (values, ())


def test_a_large_file_takes_time_by_its_size() -> None:
    """What a form may send, 64 KiB, in the shapes that a quadratic reading would take minutes for."""
    for text in ("A=x" + " " * 60_000 + "y", " " * 60_000 + "x", "A='\n" * 15_000, 'A="\\\n' * 12_000, "A=$" * 20_000):
        parse_dotenv(text)
