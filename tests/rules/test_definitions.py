"""The definitions that come with vclone: each against its example, all against each other."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from vclone_core.errors import NotServed
from vclone_core.models import ProjectSettings
from vclone_core.plugins import load_plugins
from vclone_core.rules.buildplan import adjust_plan, plan_build, require_served
from vclone_core.rules.commands import plan_provision
from vclone_core.rules.definitions import Framework, parse_frameworks
from vclone_core.rules.frameworks import Listing, detect, list_wanted_texts
from vclone_core.stores.folders import read_listing

EXAMPLES = Path(__file__).parent.parent / "examples"
TEXTS = load_plugins(allow="").framework_texts
FRAMEWORKS, PROBLEMS = parse_frameworks(TEXTS)
BY_ID = {one.id: one for one in FRAMEWORKS}
WANTED = list_wanted_texts(FRAMEWORKS)
EXPECTED = tomllib.loads((Path(__file__).parent / "frameworks.toml").read_text(encoding="utf-8"))
# What each package manager runs, where the table doesn't say otherwise.
INSTALL = EXPECTED.pop("install")


def make_listing(package: dict[str, Any] | None = None, **texts: str) -> Listing:
    """A listing of texts; a key has `__` for `.` and `___` for `/`."""
    named = {name.replace("___", "/").replace("__", "."): text for name, text in texts.items()}
    if package is not None:
        named["package.json"] = json.dumps(package)
    return Listing(frozenset(named), named)


def needs(*names: str, **scripts: str) -> dict[str, Any]:
    return {"dependencies": dict.fromkeys(names, "1"), "scripts": scripts}


def test_every_definition_is_read_and_has_an_example_and_an_expected_plan() -> None:
    assert PROBLEMS == ()
    assert {path.name for path in EXAMPLES.iterdir()} == set(BY_ID) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_example_has_the_expected_plan(name: str) -> None:
    listing = read_listing(EXAMPLES / name, WANTED)
    plan = plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings())
    expected = EXPECTED[name]
    manager = expected.get("manager")
    assert {
        "framework": plan.framework,
        "kind": plan.kind,
        "manager": plan.package_manager,
        "install": plan.install_command,
        "build": plan.build_command,
        "output": plan.output_directory,
    } == {
        "framework": name,
        "kind": expected["kind"],
        "manager": manager,
        "install": expected.get("install", INSTALL.get(manager)),
        "build": expected.get("build"),
        "output": expected["output"],
    }
    assert len(plan.reasons) >= 2


def test_no_two_definitions_have_the_same_place_in_the_order() -> None:
    assert len({one.order for one in FRAMEWORKS}) == len(FRAMEWORKS)


def list_beaten(name: str) -> set[str]:
    found: set[str] = set()
    queue = list(BY_ID[name].supersedes)
    while queue:
        if (one := queue.pop()) not in found:
            found.add(one)
            queue.extend(BY_ID[one].supersedes)
    return found


@pytest.mark.parametrize("name", BY_ID)
def test_supersedes_names_what_exists_and_makes_no_circle(name: str) -> None:
    beaten = list_beaten(name)
    assert beaten <= set(BY_ID) and name not in beaten


def test_the_files_may_come_in_any_order() -> None:
    mixed = list(TEXTS)
    random.Random(1).shuffle(mixed)
    assert parse_frameworks(mixed) == (FRAMEWORKS, ())


def merge(one: str, other: str) -> Listing:
    """One source with the files of two examples; where both have one, it has the lines of both."""
    left, right = (read_listing(EXAMPLES / name, WANTED) for name in (one, other))
    package: dict[str, Any] = {"dependencies": {}}
    for listing in (right, left):  # where both have a package, the first one's version stays
        package["dependencies"] |= listing.read_package().get("dependencies", {})
        package["dependencies"] |= listing.read_package().get("devDependencies", {})
    texts = {path: left.texts.get(path, "") + right.texts.get(path, "") for path in {*left.texts, *right.texts}}
    return Listing(left.paths | right.paths, {**texts, "package.json": json.dumps(package)})


@pytest.mark.parametrize("name", [one.id for one in FRAMEWORKS if not one.is_fallback])
def test_a_source_that_is_two_at_once_is_the_one_that_the_definitions_say(name: str) -> None:
    """Against every other example: it wins, or loses to one that goes before it or supersedes it."""
    for other in BY_ID:
        detection = detect(merge(name, other), FRAMEWORKS)
        if detection.framework == name:
            continue
        winner, losers = BY_ID[detection.framework], dict(detection.losers)
        assert name in losers, (name, other, detection)
        assert winner.order < BY_ID[name].order or any(name in list_beaten(one) for one in (winner.id, *losers))


@pytest.mark.parametrize(
    ("package", "texts", "winner"),
    [
        (needs("next", "gatsby", "astro"), {}, "nextjs"),
        (needs("next"), {"Dockerfile__vercel": "FROM scratch"}, "container"),
        (needs("vite"), {"Dockerfile": "FROM scratch"}, "vite"),
        (needs("vite", "storybook"), {}, "vite"),
        (needs("vite", "@ionic/react"), {}, "vite"),
        (needs("vite", "svelte"), {}, "vite"),
        (needs("@ionic/react", "react-scripts"), {}, "ionic-react"),
        (needs("@remix-run/dev", "@shopify/hydrogen", "vite"), {"server__ts": "x"}, "remix"),
        (needs("@shopify/hydrogen", "vite"), {"vite__config__ts": "from '@react-router/dev/vite'"}, "react-router"),
        (needs("next", "blitz"), {}, "nextjs"),
        (needs("nuxt", "nitropack", "vite"), {}, "nuxtjs"),
        (needs("vitepress", "vite"), {}, "vite"),
        (needs("express", "vite"), {"server__js": "import 'express'"}, "vite"),
        (needs("express"), {"server__js": "import express from 'express'"}, "express"),
        (needs("express"), {"server__js": "import { createServer } from 'node:http'"}, "node"),
        (needs("express"), {"server__js": "import x from 'express-x'"}, "node"),
        (needs("express"), {"tool__js": "import express from 'express'"}, None),
        (needs("hono"), {"src___index__ts": "import { serveStatic } from 'hono/bun'"}, "hono"),
        (None, {"requirements__txt": "flask\nfastapi\n"}, "fastapi"),
        (None, {"requirements__txt": "# not flask\nstarlette\n"}, "python"),
        (None, {"requirements__txt": "flask\n", "mkdocs__yml": "site_name: x"}, "flask"),
        (None, {"requirements__txt": "mkdocs\n", "mkdocs__yml": "site_name: x"}, "mkdocs"),
        (None, {"pyproject__toml": "[project]", "docs___conf__py": "extensions = []"}, "sphinx"),
        (None, {"playbook__yml": "- hosts: all"}, None),
        (None, {"playbook__yml": "content:\n  sources: []"}, "antora"),
        (None, {"config__toml": "base_url = 'x'"}, "zola"),
        (None, {"config__toml": "baseURL = 'x'"}, "hugo"),
        (needs("gulp"), {"gulpfile__js": "x", "_config__yml": "x"}, "jekyll"),
    ],
)
def test_precedence(package: dict[str, Any] | None, texts: dict[str, str], winner: str | None) -> None:
    assert detect(make_listing(package, **texts), FRAMEWORKS).framework == (winner or "static")


@pytest.mark.parametrize(
    ("package", "texts", "settings", "kind", "output"),
    [
        (needs("nuxt", build="nuxt build"), {}, {}, "server", "dist"),
        (needs("nuxt", build="nuxt generate"), {}, {}, "static", "dist"),
        (needs("nuxt", build="pnpm run site", site="nuxi generate"), {}, {}, "static", "dist"),
        (needs("nuxt", build="npm run build"), {}, {}, "server", "dist"),
        (needs("nuxt", build="nuxt build"), {}, {"build_command": "npx nuxt generate"}, "static", "dist"),
        (needs("nuxt"), {"nuxt__config__ts": "export default { ssr: false }"}, {}, "static", "dist"),
        (needs("@sveltejs/kit", "@sveltejs/adapter-static"), {}, {}, "static", "build"),
        (
            needs("@sveltejs/kit", "@sveltejs/adapter-static"),
            {"svelte__config__js": "adapter({ pages: 'site' })"},
            {},
            "static",
            "site",
        ),
        (needs("react-router"), {"react-router__config__ts": "{ ssr: false }"}, {}, "static", "build/client"),
        (needs("@remix-run/dev"), {"vite__config__ts": "remix({ ssr: false })"}, {}, "static", "build/client"),
        (needs("@redwoodjs/core"), {}, {"build_command": "yarn rw build web"}, "static", "web/dist"),
        (needs("astro"), {"astro__config__mjs": "{ output: 'server' }"}, {}, "server", "dist"),
        (needs("vike"), {"pages___+config__ts": "export default { prerender: true }"}, {}, "static", "dist/client"),
        (needs("@builder.io/qwik"), {"adapters___static___vite__config__ts": "x"}, {}, "static", "dist"),
        (None, {"_config__yml": "destination: ./site/\n"}, {}, "static", "site"),
    ],
)
def test_kind_and_output_follow_the_project(
    package: dict[str, Any] | None, texts: dict[str, str], settings: dict[str, Any], kind: str, output: str
) -> None:
    listing = make_listing(package, **texts)
    plan = plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings(**settings))
    assert (plan.kind, plan.output_directory) == (kind, output)
    assert plan.is_served is (kind == "static")


@pytest.mark.parametrize("framework", [one for one in FRAMEWORKS if one.kind != "static"], ids=lambda one: one.id)
def test_a_server_is_refused_with_its_static_option(framework: Framework) -> None:
    listing = read_listing(EXAMPLES / framework.id, WANTED)
    plan = plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings())
    if plan.kind == "static":
        assert framework.id == "nextjs"  # its example is an export
        return
    with pytest.raises(NotServed) as caught:
        require_served(plan, framework.name)
    assert framework.name in caught.value.sentence
    assert framework.output_hint in caught.value.advice and "output directory" in caught.value.advice
    chosen = plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings(output_directory="site"))
    require_served(chosen, framework.name)
    require_served(adjust_plan(plan, {"output_directory": "site"}, by="mine"), framework.name)


def test_nextjs_is_built_to_see_whether_it_is_an_export() -> None:
    listing = make_listing(needs("next"), next__config__js="module.exports = { output: mode }")
    plan = plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings())
    assert plan.kind == "server"
    require_served(plan, "Next.js")


@pytest.mark.parametrize(
    ("texts", "node", "python"),
    [
        ({"__nvmrc": "v22.1\n", "__node-version": "20"}, "22.1", None),
        ({"__node-version": "20\n"}, "20", None),
        ({"__python-version": "# ours\n3.13\n", "runtime__txt": "python-3.9"}, None, "3.13"),
        ({"pyproject__toml": '[project]\nrequires-python = ">=3.12"\n'}, None, ">=3.12"),
        ({"Pipfile": '[requires]\npython_version = "3.11"\n'}, None, "3.11"),
        ({"runtime__txt": "python-3.10.1\n"}, None, "3.10.1"),
        ({}, None, None),
    ],
)
def test_versions_come_from_the_files_that_pin_them(
    texts: dict[str, str], node: str | None, python: str | None
) -> None:
    listing = make_listing(mkdocs__yml="site_name: x", **texts)
    plan = plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings())
    assert (plan.node_version, plan.python_version) == (node, python)


@pytest.mark.parametrize(
    ("texts", "manager", "command", "provision"),
    [
        ({}, "pip", "python3 -m venv .venv && .venv/bin/pip install --disable-pip-version-check mkdocs", None),
        ({"uv__lock": "", "requirements__txt": ""}, "uv", "uv sync --frozen", "pypi:uv"),
        (
            {"poetry__lock": ""},
            "poetry",
            "POETRY_VIRTUALENVS_IN_PROJECT=true poetry install --no-root",
            "pypi:poetry",
        ),
        ({"Pipfile__lock": ""}, "pipenv", "PIPENV_VENV_IN_PROJECT=1 pipenv sync --dev", "pypi:pipenv"),
        (
            {"requirements__txt": "mkdocs==1.6", "package__json": "{}"},
            "pip",
            "python3 -m venv .venv && .venv/bin/pip install --disable-pip-version-check -r requirements.txt mkdocs"
            " && npm install --no-audit --no-fund",
            None,
        ),
    ],
)
def test_python_is_installed_by_its_own_manager(
    texts: dict[str, str], manager: str, command: str, provision: str | None
) -> None:
    listing = make_listing(mkdocs__yml="site_name: x", **texts)
    plan = plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings())
    assert (plan.package_manager, plan.install_command, plan.provision) == (manager, command, provision)


def test_a_missing_python_program_comes_from_pypi() -> None:
    command = plan_provision("pypi:uv")[2]
    assert command.startswith("command -v uv >/dev/null || {") and 'share/uv/bin/pip" install' in command
    subprocess.run(["sh", "-n", "-c", command], check=True)


def test_an_installed_package_adds_a_framework(tmp_path: Path) -> None:
    info = tmp_path / "lume_for_vclone-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lume-for-vclone\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vclone.frameworks]\nlume = lume_frameworks\n")
    (tmp_path / "lume_frameworks").mkdir()
    (tmp_path / "lume_frameworks/__init__.py").touch()
    (tmp_path / "lume_frameworks/lume.toml").write_text(
        'id = "lume"\nname = "Lume"\norder = 500\nkind = "static"\n[detect]\nsome = [{ file = "_config.ts" }]\n'
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "vclone_core.cli", "frameworks", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    listed = {one["id"]: one["distribution"] for one in json.loads(done.stdout)["frameworks"]}
    assert listed.pop("lume") == "lume-for-vclone"
    assert set(listed) == set(BY_ID)


def test_a_file_in_the_plugins_folder_adds_a_framework(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/lume.toml").write_text(
        'id = "lume"\nname = "Lume"\norder = 500\nkind = "static"\n[detect]\nsome = [{ file = "_config.ts" }]\n'
        '[build]\ncommand = "deno task build"\n[output]\ndirectory = "_site"\n'
    )
    (tmp_path / "app").mkdir()
    (tmp_path / "app/_config.ts").touch()
    environ = {**os.environ, "VCLONE_PLUGINS_DIR": str(tmp_path / "plugins")}
    command = [sys.executable, "-m", "vclone_core.cli", "detect", str(tmp_path / "app"), "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    plan = json.loads(done.stdout)
    assert (plan["framework"], plan["build_command"], plan["output_directory"]) == ("lume", "deno task build", "_site")
