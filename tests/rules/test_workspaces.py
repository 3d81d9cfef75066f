"""Workspaces: what they name, and what is installed and run for one of their packages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.rules.test_frameworks import FRAMEWORKS, make_listing

from vclone_core.models import ProjectSettings
from vclone_core.rules.buildplan import BuildPlan, plan_build
from vclone_core.rules.frameworks import Listing, detect
from vclone_core.rules.workspaces import Workspace, is_member, parse_package, read_globs


@pytest.mark.parametrize(
    "text",
    [
        'packages:\n  - "apps/*"\n  - packages/ui\n',
        "packages:\n- apps/*\n- 'packages/ui' # the only one\n\ncatalog:\n  - nothing\n",
        '# ours\nonlyBuiltDependencies:\n  - esbuild\npackages: [apps/*, "packages/ui"]\n',
        "packages: [\n  'apps/*',\n  packages/ui,\n]\n",
        "packages:\n  # all\n  - ./apps/*/\n\n  - packages/ui\n",
    ],
)
def test_pnpm_workspaces_are_read_in_every_style(text: str) -> None:
    assert read_globs(Listing(frozenset(), {"pnpm-workspace.yaml": text})) == ("apps/*", "packages/ui")


@pytest.mark.parametrize("said", [["apps/*"], {"packages": ["apps/*"], "nohoist": []}])
def test_npm_and_yarn_workspaces_are_read(said: Any) -> None:
    assert read_globs(make_listing(package={"workspaces": said})) == ("apps/*",)


@pytest.mark.parametrize("text", ["{", "[]", '{"workspaces": 3}', "null"])
def test_what_is_no_workspace_names_nothing(text: str) -> None:
    assert read_globs(Listing(frozenset(), {"package.json": text})) == ()
    assert parse_package(text).name == ""


@pytest.mark.parametrize(
    ("globs", "path", "expected"),
    [
        (("apps/*",), "apps/web", True),
        (("apps/*",), "apps/web/deep", False),
        (("packages/**",), "packages/a/b", True),
        (("{apps,libs}/*",), "libs/a", True),
        (("apps/*", "!apps/old"), "apps/old", False),
    ],
)
def test_members(globs: tuple[str, ...], path: str, expected: bool) -> None:
    assert is_member(globs, path) is expected


def plan_member(root: Listing, package: dict[str, Any], *others: str, **settings: Any) -> BuildPlan:
    listing = make_listing(*others, package=package)
    workspace = Workspace("", "apps/web", root)
    return plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings(**settings), workspace=workspace)


VITE = {"name": "web", "scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}}


@pytest.mark.parametrize(
    ("files", "package", "install", "manager"),
    [
        (("package-lock.json",), {}, "npm ci --no-audit --no-fund", "npm"),
        (("pnpm-lock.yaml",), {}, "pnpm install --frozen-lockfile", "pnpm"),
        (("pnpm-workspace.yaml",), {}, "pnpm install --no-frozen-lockfile", "pnpm"),
        (("yarn.lock",), {}, "yarn install --frozen-lockfile", "yarn"),
        (("yarn.lock", ".yarnrc.yml"), {}, "yarn install --immutable", "yarn"),
        (("bun.lock",), {}, "bun install --frozen-lockfile", "bun"),
        ((), {"packageManager": "yarn@4.5.0"}, "yarn install --no-immutable", "yarn"),
        ((), {}, "npm install --no-audit --no-fund", "npm"),
    ],
)
def test_a_package_is_installed_at_the_root_of_its_workspace(
    files: tuple[str, ...], package: dict[str, Any], install: str, manager: str
) -> None:
    plan = plan_member(make_listing(*files, package={"workspaces": ["apps/*"], **package}), VITE)
    assert (plan.install_command, plan.install_directory, plan.package_manager) == (install, "../..", manager)
    assert (plan.build_command, plan.output_directory) == (f"{manager} run build", "dist")


def test_an_install_command_of_the_project_runs_in_its_root_directory() -> None:
    plan = plan_member(make_listing("pnpm-lock.yaml", package={}), VITE, install_command="make deps")
    assert (plan.install_command, plan.install_directory) == ("make deps", ".")


@pytest.mark.parametrize(
    ("file", "dev", "build"),
    [
        ("turbo.json", {"turbo": "2"}, "turbo run build"),
        ("turbo.jsonc", {"turbo": "2"}, "turbo run build"),
        ("nx.json", {"nx": "20"}, "nx build"),
        ("turbo.json", {}, "pnpm run build"),
        ("other.json", {"turbo": "2"}, "pnpm run build"),
    ],
)
def test_the_task_runner_builds_what_a_package_needs_first(file: str, dev: dict[str, str], build: str) -> None:
    root = make_listing(file, "pnpm-lock.yaml", package={"devDependencies": dev})
    assert plan_member(root, VITE).build_command == build
    assert plan_member(root, VITE, build_command="vite build --mode x").build_command == "vite build --mode x"


def test_another_language_keeps_to_the_root_directory() -> None:
    listing = make_listing("mkdocs.yml", "docs/index.md", package={"name": "docs"})
    workspace = Workspace("", "docs", make_listing("package-lock.json", package={"workspaces": ["docs"]}))
    plan = plan_build(detect(listing, FRAMEWORKS), listing, ProjectSettings(), workspace=workspace)
    assert plan.install_directory == "."
    assert json.dumps(plan.install_command).count(".venv") >= 1
