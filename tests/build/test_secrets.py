"""Builds that print the secrets they are given: nothing of them is to be seen in the log or the failure."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from tests.build.conftest import Place

from vclone_core.errors import BuildFailed, OutputRefused
from vclone_core.models import ProjectSettings, Source
from vclone_core.rules.masking import list_secrets
from vclone_core.settings import load_settings

SECRET = "sk_live/\"51+H&x y'"
# Every form in one write a byte, standard output unbuffered.
PRINTER = """
import base64, json, os, shlex, sys, urllib.parse
secret = os.environ["API_KEY"]
data = secret.encode()
forms = [secret, urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret), json.dumps(secret),
         shlex.quote(secret), data.hex(), data.hex().upper(),
         *(base64.b64encode(b"." * shift + data + b".").decode() for shift in range(3)),
         *(base64.urlsafe_b64encode(b"." * shift + data + b".").decode() for shift in range(3))]
for form in forms:
    for byte in f"<{form}>\\n".encode():
        os.write(1, bytes((byte,)))
"""


async def test_build_that_prints_a_secret_in_every_form(place: Place) -> None:
    settings = ProjectSettings(framework="static", build_command="python3 print.py", output_directory=".")
    await place.deploy(
        Source("upload"), files={"print.py": PRINTER, "x.html": "x"}, settings=settings, environment={"API_KEY": SECRET}
    )
    said = place.lines.text
    printed = [line.text for line in place.lines.lines if line.stream == "stdout"]
    assert len(printed) == 13
    assert all("***" in line for line in printed)
    for hidden in (SECRET, "sk_live", quote(SECRET), SECRET.encode().hex(), json.dumps(SECRET)[1:-1]):
        assert hidden not in said
    for shift in range(3):
        assert base64.b64encode(b"." * shift + SECRET.encode())[4:-4].decode() not in said


def test_platform_s_own_secrets_are_among_the_hidden_ones() -> None:
    settings = load_settings({}, database_url="postgresql://me:pa55word@h/x", edge_token="e" * 40)
    found = list_secrets(environment={}, settings=settings.list_secrets())
    assert {"postgresql://me:pa55word@h/x", "pa55word", "e" * 40} <= found


async def test_failure_does_not_tell_the_secret(place: Place) -> None:
    settings = ProjectSettings(framework="static", build_command='publish --token "hunter2hunter2"; exit 3')
    with pytest.raises(BuildFailed) as caught:
        await place.deploy(
            Source("upload"), files={"x.html": "x"}, settings=settings, environment={"TOKEN": "hunter2hunter2"}
        )
    assert '`publish --token "***"; exit 3`' in caught.value.sentence
    assert "hunter2" not in f"{caught.value} {caught.value.advice} {caught.value.facts} {place.lines.text}"


async def test_failure_with_a_secret_in_a_file_s_name(place: Place) -> None:
    settings = ProjectSettings(
        framework="static", build_command="mkdir dist; ln -s /etc dist/$TOKEN", output_directory="dist"
    )
    with pytest.raises(OutputRefused) as caught:
        await place.deploy(
            Source("upload"), files={"x.html": "x"}, settings=settings, environment={"TOKEN": "hunter2{hunter2"}
        )
    assert "*** is a link" in caught.value.sentence
    assert "hunter2" not in f"{caught.value.advice} {place.lines.text}"
