"""What is kept from build to build, for whom, and what an archive may hold."""

from __future__ import annotations

import pytest

from vclone_core.models import Source, Target
from vclone_core.rules.buildcaches import (
    DAY_S,
    KEPT_DAYS,
    CacheKind,
    Stored,
    check_member,
    digest_files,
    list_removable,
    list_stores,
    pick_newest,
    plan_caches,
    reuse_command,
    trust_of,
)
from vclone_core.rules.buildplan import BuildPlan
from vclone_core.rules.objectkeys import cache_key, check_object_key

NPM = BuildPlan("vite", "static", "npm", "npm ci --no-audit --no-fund", "npm run build", "dist")
GIVEN = {"trust": "preview", "branch": "main", "root": ".", "cache_paths": (".next/cache",), "lock": "a", "tools": "x"}


def keys_of(plan: BuildPlan = NPM, **changes: object) -> dict[str, str]:
    return {one.kind.value: one.key for one in plan_caches(plan, **{**GIVEN, **changes})}  # type: ignore[arg-type]


def test_every_key_is_one_of_the_store() -> None:
    for plan in plan_caches(NPM, **{**GIVEN, "branch": "feature/ü"}):  # type: ignore[arg-type]
        assert check_object_key(cache_key("prj_x", plan.key))
        assert plan.fallback is None or plan.key.startswith(plan.fallback)


def test_a_preview_and_production_share_nothing() -> None:
    preview, production = keys_of(), keys_of(trust="production")
    assert set(preview) == set(production) == {"tools", "modules", "packages", "framework"}
    assert not set(preview.values()) & set(production.values())
    fallbacks = {one.fallback for one in plan_caches(NPM, **GIVEN) if one.fallback}  # type: ignore[arg-type]
    assert all(one.startswith("preview/") for one in fallbacks)


@pytest.mark.parametrize(
    ("target", "fork", "trust"),
    [(Target.PRODUCTION, None, "production"), (Target.PREVIEW, None, "preview"), (Target.PREVIEW, "eve/shop", "fork-")],
)
def test_trust(target: Target, fork: str | None, trust: str) -> None:
    assert trust_of(target, Source("git", fork=fork)).startswith(trust)


def test_each_fork_has_its_own() -> None:
    assert trust_of(Target.PREVIEW, Source("git", fork="a/x")) != trust_of(Target.PREVIEW, Source("git", fork="b/x"))


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"lock": "b"}, {"tools", "framework"}),
        ({"tools": "y"}, {"framework"}),
        ({"branch": "dev"}, {"tools", "modules", "packages"}),
        ({"root": "apps/web"}, {"tools"}),
        ({}, {"tools", "modules", "packages", "framework"}),
    ],
)
def test_what_a_key_depends_on(changes: dict[str, object], same: set[str]) -> None:
    before, after = keys_of(), keys_of(**changes)
    assert {kind for kind in before if before[kind] == after[kind]} == same


@pytest.mark.parametrize(
    ("manager", "install", "provision", "kinds", "variables"),
    [
        ("npm", "npm ci --no-audit --no-fund", None, {"modules", "packages"}, {"npm_config_cache"}),
        ("npm", "npm install", None, {"packages"}, {"npm_config_cache"}),
        ("yarn", "yarn install --frozen-lockfile", "yarn@1", {"modules", "packages"}, {"YARN_CACHE_FOLDER"}),
        ("yarn", "yarn install --immutable", "@yarnpkg/cli-dist@4", {"packages"}, {"YARN_GLOBAL_FOLDER"}),
        ("pip", "python3 -m venv .venv", None, {"packages"}, {"PIP_CACHE_DIR"}),
        ("bundler", "bundle install", None, {"packages"}, set()),
        (None, None, None, set(), set()),
    ],
)
def test_each_manager_has_its_store(
    manager: str | None, install: str | None, provision: str | None, kinds: set[str], variables: set[str]
) -> None:
    plan = BuildPlan("vite", "static", manager, install, "build", "dist", provision=provision)
    assert set(keys_of(plan, tools="", cache_paths=())) == kinds
    assert set(list_stores(plan)) == variables


def test_a_framework_s_folders_lie_below_the_root_directory() -> None:
    paths = (".next/cache", "../../etc", "/etc", "node_modules/.vite")
    found = {one.kind: one.paths for one in plan_caches(NPM, **{**GIVEN, "root": "apps/web", "cache_paths": paths})}  # type: ignore[arg-type]
    assert found[CacheKind.FRAMEWORK] == ("apps/web/.next/cache", "apps/web/node_modules/.vite")


def test_commands_that_begin_by_removing_are_replaced() -> None:
    assert reuse_command("npm ci --no-audit --no-fund") == "npm install --no-audit --no-fund --prefer-offline"
    assert reuse_command("npm ci") is None
    assert reuse_command("pnpm install --frozen-lockfile") is None


def test_the_oldest_go_first_and_nothing_is_kept_for_ever() -> None:
    now = 100 * DAY_S
    stored = [Stored("old", 1, now - (KEPT_DAYS + 1) * DAY_S), Stored("a", 60, now - 3), Stored("b", 60, now - 2)]
    assert list_removable(stored, now_s=now, limit_bytes=100) == ["a", "old"]
    assert list_removable(stored, now_s=now, limit_bytes=1000) == ["old"]
    newest = pick_newest(stored)
    assert newest is not None
    assert newest.key == "b"
    assert pick_newest([]) is None


def test_digest_tells_names_and_bytes_apart() -> None:
    digests = {digest_files(files) for files in ({}, {"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b""})}
    assert len(digests) == 5
    assert digest_files({"a": b"1", "b": b"2"}) == digest_files({"b": b"2", "a": b"1"})


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("/etc/passwd", None), ("../a", None), ("a/../../b", None), ("a//b", None), (".", None), ("", None),
        ("a\0b", None), ("/".join("a" * 70), None), ("b" * 300, None),
        ("a", "/etc"), ("a", ".."), ("a/b", "../../c"), ("a/b", "c/../../../d"), ("a", ""), ("a", "x\0y"),
    ],
)  # fmt: skip
def test_an_entry_that_leads_out_is_refused(path: str, link: str | None) -> None:
    assert check_member(path, link=link) is not None


@pytest.mark.parametrize(
    ("path", "link"),
    [("node_modules/.bin/vite", "../vite/bin/vite.js"), ("a", "b/../c"), ("a/é", None), ("a\nb", None)],
)
def test_an_entry_that_stays_inside_is_taken(path: str, link: str | None) -> None:
    assert check_member(path, link=link) is None
