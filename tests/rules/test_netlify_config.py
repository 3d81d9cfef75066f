"""`netlify.toml`: what of it is used, for which build, and what is said of the rest."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import DetectFailed
from vclone_core.models import ProjectSettings
from vclone_core.rules.file_settings import FileSettings, apply_files
from vclone_core.rules.netlify_config import NetlifyConfig, parse_netlify_config
from vclone_core.rules.redirects_file import parse_redirects

FILE = """
[build]
  base = "site"
  command = "npm run build"
  publish = "public"
  ignore = "git diff --quiet $CACHED_COMMIT_REF $COMMIT_REF ."
  [build.environment]
    NODE_VERSION = "20"
    SHOP = "open"
    WORKERS = 4
    DRAFTS = false
[context.production]
  command = "npm run release"
[context.deploy-preview.environment]
  SHOP = "preview"
[context."feat/x"]
  publish = "x"
[functions]
  directory = "functions"
[[plugins]]
  package = "@netlify/plugin-nextjs"
"""


def read(text: str, *, target: str = "production", branch: str | None = "main") -> NetlifyConfig:
    return parse_netlify_config(text, target=target, branch=branch)


def test_the_build_is_read_for_production_and_for_previews() -> None:
    production = read(FILE)
    assert production.base == "site"
    assert production.settings.values == {
        "build_command": "npm run release",
        "output_directory": "public",
        "ignore_command": "git diff --quiet $CACHED_COMMIT_REF $COMMIT_REF .",
        "node_version": "20",
    }
    assert production.environment == {"NODE_VERSION": "20", "SHOP": "open", "WORKERS": "4", "DRAFTS": "false"}
    assert production.unused == ("functions", "plugins")
    preview = read(FILE, target="preview", branch="feat/x")
    assert preview.settings.values["build_command"] == "npm run build"
    assert preview.settings.values["output_directory"] == "x"
    assert preview.environment["SHOP"] == "preview"


def test_redirects_mean_what_the_same_lines_of_a_redirects_file_mean() -> None:
    tables = """
    [[redirects]]
      from = "/old/*"
      to = "/new/:splat"
    [[redirects]]
      from = "/app/*"
      to = "/index.html"
      status = 200
      force = true
    [[redirects]]
      from = "/find"
      to = "/search/:id"
      status = 302
      query = {id = ":id"}
      conditions = {Cookie = ["beta"]}
    """
    lines = "/old/* /new/:splat\n/app/* /index.html 200!\n/find id=:id /search/:id 302 Cookie=beta\n"
    found, expected = read(tables).redirects, parse_redirects(lines)

    def tell(rules: object) -> str:
        return str(rules).replace("_redirects line ", "").replace("netlify.toml redirects", "")

    for mine, theirs in zip((*found.forced, *found.others), (*expected.forced, *expected.others), strict=True):
        assert (mine.src, mine.dest, mine.status, mine.has, mine.headers) == (
            theirs.src, theirs.dest, theirs.status, theirs.has, theirs.headers,
        )  # fmt: skip
    assert tell(found.problems) == tell(expected.problems) == "()"
    assert found.others[0].origin == "netlify.toml redirects[0]"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('conditions = {Country = ["de"]}', "country"),
        ('signed = "SECRET"', "signed rewrites"),
        ("headers = {X-From = 'here'}", "headers for other servers"),
        ("status = 99", "99"),
    ],
)
def test_a_rule_that_would_mean_something_else_is_left_out_and_told(more: str, words: str) -> None:
    rules = read(f'[[redirects]]\nfrom = "/a"\nto = "/b"\n{more}\n').redirects
    assert (rules.forced, rules.others) == ((), ())
    (problem,) = rules.problems
    assert problem.startswith("netlify.toml redirects[0]: ")
    assert words in problem


def test_headers_are_those_of_a_headers_file() -> None:
    rules = read(
        """
    [[headers]]
      for = "/*"
      [headers.values]
        X-Frame-Options = "DENY"
        Cache-Control = '''
        max-age=0,
        no-cache'''
        X-Many = ["a", "b"]
        Basic-Auth = "me:secret"
    """
    ).headers
    (route,) = rules.routes
    assert route.headers == {"x-frame-options": "DENY", "cache-control": "max-age=0, no-cache", "x-many": "a, b"}
    assert route.origin == "netlify.toml headers[0]"
    assert rules.problems == ("netlify.toml headers[0]: Basic-Auth is not supported (left out)",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[build", "netlify.toml is no TOML"),
        ("build = 3", "netlify.toml build must be a table"),
        ("[build]\ncommand = 3", "netlify.toml build.command must be a text"),
        ('[build]\npublish = "../out"', "build.publish must be a folder of the repository"),
        ("[build.environment]\nA = [1]", "build.environment.A must be a variable's name"),
        ("[context]\nproduction = 3", "context.production must be a table"),
        ("redirects = 3", "redirects must be a list of tables"),
        ('[[redirects]]\nfrom = "/a"', "redirects[0] needs to"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\nstatsu = 3', "redirects[0].statsu is no key"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\nforce = "yes"', "redirects[0].force has a wrong type"),
        ('[[headers]]\nfor = "about"\n[headers.values]\nA = "b"', "headers[0] needs for, a path from /"),
        ('[[headers]]\nfor = "/"\n[headers.values]\n"/x" = "b"', "headers[0].values./x must be a header field"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(DetectFailed) as caught:
        read(text)
    assert words in caught.value.sentence


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(DetectFailed):
        read(text)


def test_a_file_beats_the_project_and_vercel_json_beats_netlify_toml() -> None:
    project = ProjectSettings(build_command="make", install_command="make deps", output_directory="out")
    vercel = FileSettings("vercel.json", {"build_command": "vercel"})
    netlify = FileSettings("netlify.toml", {"build_command": "netlify", "output_directory": "site"})
    said = apply_files(project, vercel, netlify)
    assert (said.settings.build_command, said.tell("build_command")) == ("vercel", "vercel.json")
    assert (said.settings.output_directory, said.tell("output_directory")) == ("site", "netlify.toml")
    assert (said.settings.install_command, said.tell("install_command")) == ("make deps", "project settings")
