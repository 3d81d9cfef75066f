"""Detection and the build plan, as tables; each definition against its example."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vclone_core.errors import DetectFailed, Invalid, MissingScript
from vclone_core.models import ProjectSettings
from vclone_core.plugins import load_plugins
from vclone_core.rules.buildplan import adjust_plan, encode_plan, plan_build
from vclone_core.rules.definitions import Framework, parse_framework, parse_frameworks
from vclone_core.rules.frameworks import Listing, detect
from vclone_core.rules.globs import expand_braces, match_glob
from vclone_core.stores.folders import read_listing

FRAMEWORKS, _ = parse_frameworks(load_plugins(allow="").framework_texts)


def make_listing(*paths: str, package: dict[str, Any] | None = None, **texts: str) -> Listing:
    """A listing with package.json and texts; a key of `texts` has `__` for `.`."""
    named = {name.replace("__", "."): text for name, text in texts.items()}
    if package is not None:
        named["package.json"] = json.dumps(package)
    return Listing(frozenset(paths) | frozenset(named), named)


def make_plan(listing: Listing, **settings: Any) -> dict[str, Any]:
    return encode_plan(plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings(**settings)))


def test_earlier_definition_wins_and_names_the_loser() -> None:
    detection = detect(make_listing(package={"dependencies": {"next": "15", "vite": "6"}}), FRAMEWORKS)
    assert detection.framework == "nextjs"
    assert ("vite", "after nextjs in order") in detection.losers


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ("export default { output: 'export' }", "static"),
        ('module.exports = {"output": "export"}', "static"),
        ("export default {}", "server"),
    ],
)
def test_nextjs_is_static_only_as_an_export(config: str, kind: str) -> None:
    listing = make_listing(package={"dependencies": {"next": "15"}}, next__config__mjs=config)
    assert detect(listing, FRAMEWORKS).kind == kind


def make_framework(name: str, order: int, body: str = "") -> Framework:
    return parse_framework(f'id = "{name}"\nname = "{name}"\norder = {order}\nkind = "static"\n{body}', file=name)


def test_supersedes_reaches_through_a_framework_that_did_not_match() -> None:
    frameworks = (
        make_framework("low", 1, '[detect]\nsome = [{ dependency = "low" }]'),
        make_framework("top", 3, 'supersedes = ["middle"]\n[detect]\nsome = [{ dependency = "top" }]'),
        make_framework("middle", 2, 'supersedes = ["low"]\n[detect]\nsome = [{ dependency = "middle" }]'),
    )
    detection = detect(make_listing(package={"dependencies": {"low": "1", "top": "1"}}), frameworks)
    assert detection.framework == "top"
    assert detection.losers == (("low", "superseded by top"),)


@pytest.mark.parametrize(
    ("package", "paths", "is_found"),
    [
        ({"dependencies": {"kit": "1.0.0-next.5"}}, ["a.config.ts"], True),
        ({"dependencies": {"kit": "1.0.0-next.5"}}, [], False),
        ({"dependencies": {"kit": "^2"}}, ["a.config.ts"], False),
        ({"peerDependencies": {"kit": "1.0.0-next.5"}}, ["a.config.ts"], False),
    ],
)
def test_every_and_some_must_both_hold(package: dict[str, Any], paths: list[str], is_found: bool) -> None:
    one = make_framework(
        "kit",
        1,
        "[detect]\nevery = [{ dependency = 'kit', version = '^1\\.0\\.0-next' }]\n"
        "some = [{ file = 'a.config.{js,ts}' }, { file = 'b.config.js' }]",
    )
    rest = make_framework("rest", 9, "fallback = true")
    assert (detect(make_listing(*paths, package=package), (one, rest)).framework == "kit") is is_found


def test_chosen_framework_that_is_unknown_names_near_ones() -> None:
    with pytest.raises(DetectFailed) as caught:
        detect(make_listing("index.html"), FRAMEWORKS, chosen="vit")
    assert "vite" in caught.value.advice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id = ", ["x.toml"]),
        (
            'id = "x"\nname = "x"\norder = 1\nkind = "odd"\nfallback = true',
            ['"static" or "server" or "functions"'],
        ),
        ('id = "x"\nordre = 1', ["unknown key ordre", "did you mean order?", "name is missing", "kind is missing"]),
        ("[output]\ndirectry = 'x'", ["unknown key output.directry", "did you mean output.directory?"]),
        ("[detect]\nsome = [{ dependancy = 'x' }]", ["dependancy", "did you mean dependency?"]),
        ("[detect]\nsome = [{ file = 'x', dependency = 'y' }]", ["exactly one"]),
        ("[detect]\nsome = [{ file = 'x', contains = '(' }]", ["no regular expression"]),
        ("[detect]\nsome = [{ file = 'x', version = '1' }]", ["version without dependency"]),
        ("[output]\nconfigured = { file = 'x', value = 'y' }", ["one group"]),
        ("detect = 1", ["detect must be a table"]),
        ('id = "x"\nname = "x"\norder = 1\nkind = "static"', ["every", "some"]),
    ],
)
def test_bad_definition_names_file_and_mistake(text: str, words: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        parse_framework(text, file="x.toml")
    for word in ("x.toml", *words):
        assert word in caught.value.sentence


def test_definition_is_replaced_only_when_it_says_so() -> None:
    head = 'id = "static"\nname = "Other"\norder = 1\nkind = "static"\nfallback = true\n'
    built_in = SimpleNamespace(file="static.toml", distribution="vclone", text=head)
    stranger = SimpleNamespace(file="mine.toml", distribution="mine", text=head)
    replacing = SimpleNamespace(file="mine.toml", distribution="mine", text=f"replaces = true\n{head}")
    frameworks, problems = parse_frameworks([built_in, stranger])
    assert frameworks[0].file == "static.toml"
    assert "replaces = true" in problems[0]
    frameworks, problems = parse_frameworks([built_in, replacing])
    assert (frameworks[0].file, problems) == ("mine.toml", ())


VITE = {"devDependencies": {"vite": "6"}}
BUILT = {**VITE, "scripts": {"build": "vite build"}}


@pytest.mark.parametrize(
    ("listing", "settings", "expected"),
    [
        (make_listing("index.html"), {}, ("static", None, None, ".", None)),
        (make_listing("public/index.html"), {}, ("static", None, None, "public", None)),
        (make_listing(package=VITE), {}, ("vite", "npm install --no-audit --no-fund", "vite build", "dist", "npm")),
        (
            make_listing("package-lock.json", package=BUILT),
            {},
            ("vite", "npm ci --no-audit --no-fund", "npm run build", "dist", "npm"),
        ),
        (
            make_listing("pnpm-lock.yaml", package=BUILT),
            {},
            ("vite", "pnpm install --frozen-lockfile", "pnpm run build", "dist", "pnpm"),
        ),
        (
            make_listing("yarn.lock", package=BUILT),
            {},
            ("vite", "yarn install --frozen-lockfile", "yarn run build", "dist", "yarn"),
        ),
        (
            make_listing(package=BUILT, yarn__lock="__metadata:\n  version: 8\n"),
            {},
            ("vite", "yarn install --immutable", "yarn run build", "dist", "yarn"),
        ),
        (
            make_listing("bun.lock", "yarn.lock", package=BUILT),
            {},
            ("vite", "bun install --frozen-lockfile", "bun run build", "dist", "bun"),
        ),
        (
            make_listing(package={**BUILT, "packageManager": "pnpm@9.1.0"}),
            {},
            ("vite", "pnpm install --no-frozen-lockfile", "pnpm run build", "dist", "pnpm"),
        ),
        (
            make_listing(package={**VITE, "scripts": {"build": "x", "vercel-build": "y"}}),
            {},
            ("vite", "npm install --no-audit --no-fund", "npm run vercel-build", "dist", "npm"),
        ),
        (
            make_listing(package=BUILT),
            {"install_command": "", "build_command": "make site", "output_directory": "/site/"},
            ("vite", None, "make site", "site", "npm"),
        ),
        (
            make_listing("index.html", package={"scripts": {"build": "make"}}),
            {},
            ("static", "npm install --no-audit --no-fund", "npm run build", "public", "npm"),
        ),
        (make_listing("index.html", package={"name": "x"}), {}, ("static", None, None, ".", "npm")),
        (make_listing(hugo__toml="publishDir = 'site/'\n"), {}, ("hugo", None, "hugo --gc", "site", None)),
        (make_listing(config__yaml="baseURL: https://x.org/\n"), {}, ("hugo", None, "hugo --gc", "public", None)),
    ],
)
def test_plan(listing: Listing, settings: dict[str, Any], expected: tuple[str | None, ...]) -> None:
    plan = make_plan(listing, **settings)
    keys = ("framework", "install_command", "build_command", "output_directory", "package_manager")
    assert tuple(plan[key] for key in keys) == expected
    assert plan["reasons"]


@pytest.mark.parametrize(
    ("package", "settings", "script"),
    [
        ({"name": "x"}, {}, "build"),
        ({"scripts": {"test": "x"}}, {}, "build"),
        ({"scripts": {"build": "x"}}, {"build_command": "npm run site"}, "site"),
        (VITE, {"build_command": "pnpm run build"}, "build"),
    ],
)
def test_missing_script_is_found_before_anything_runs(
    package: dict[str, Any], settings: dict[str, Any], script: str
) -> None:
    with pytest.raises(MissingScript) as caught:
        make_plan(make_listing(package=package), **settings)
    assert caught.value.facts["script"] == script


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_unreadable_package_is_a_detect_failure(text: str) -> None:
    with pytest.raises(DetectFailed, match=r"package\.json"):
        make_plan(make_listing(package__json=text))


@pytest.mark.parametrize(
    ("package", "texts", "provision"),
    [
        ({"packageManager": "pnpm@9.1.0+sha512.abc"}, {}, "pnpm@9.1.0"),
        ({}, {"pnpm-lock__yaml": "lockfileVersion: '6.0'\n"}, "pnpm@8"),
        ({}, {"yarn__lock": "# yarn lockfile v1\n"}, "yarn@1"),
        ({}, {"yarn__lock": "__metadata:\n  version: 8\n"}, "@yarnpkg/cli-dist@4"),
        ({"packageManager": "evil; rm -rf /"}, {}, None),
        ({}, {}, None),
    ],
)
def test_missing_program_is_brought_by_an_npm_package(
    package: dict[str, Any], texts: dict[str, str], provision: str | None
) -> None:
    listing = make_listing(package={**BUILT, **package}, **texts)
    assert plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings()).provision == provision


def test_plugin_changes_a_plan_but_only_what_is_open() -> None:
    listing = make_listing(package=BUILT)
    plan = plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings())
    changed = adjust_plan(plan, {"build_command": "make", "env": {"A": "b"}}, by="mine")
    assert (changed.build_command, changed.env["A"]) == ("make", "b")
    assert "build_command: plugin mine" in changed.reasons
    with pytest.raises(DetectFailed, match="framework"):
        adjust_plan(plan, {"framework": "x"}, by="mine")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.js", "a.js", True),
        ("*.js", "a/b.js", False),
        ("**/*.js", "a/b/c.js", True),
        ("**/*.js", "c.js", True),
        ("/assets/**/*-????????.*", "/assets/index-BX3k9_aQ.js", True),
        ("/assets/**/*-????????.*", "/assets/logo.svg", False),
        ("{app,index}.{js,ts}", "index.ts", True),
        ("a.b", "axb", False),
    ],
)
def test_glob(pattern: str, path: str, matches: bool) -> None:
    assert match_glob(pattern, path) is matches


def test_braces_nest_and_unclosed_ones_are_letters() -> None:
    assert expand_braces("{a,b{c,d}}x") == ("ax", "bcx", "bdx")
    assert expand_braces("{a") == ("{a",)


def test_listing_takes_no_link_and_no_installed_package(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary")
    source = tmp_path / "source"
    (source / "node_modules/x").mkdir(parents=True)
    (source / "node_modules/x/package.json").write_text("{}")
    (source / "package.json").symlink_to(tmp_path / "secret")
    (source / "linked").symlink_to(tmp_path, target_is_directory=True)
    (source / "index.html").write_text("x")
    listing = read_listing(source)
    assert listing == Listing(frozenset({"index.html"}), {})
