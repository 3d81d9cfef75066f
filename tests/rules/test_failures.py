"""Causes by what tools say. Those that every machine has are run for real in tests/build/test_failures.py."""
# ruff: noqa: E501, RUF001 (tools' own words)

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclone_core.errors import (
    BuildFailed,
    InstallFailed,
    StepFailed,
    every_error,
)
from vclone_core.renderings import parse_problem
from vclone_core.rules.failures import CAUSES, name_failure


def explain(text: str, *, code: int = 1, reason: str = "exit") -> StepFailed:
    return name_failure(
        BuildFailed, command="make it", code=code, reason=reason, lines=text.splitlines(), limit_s=900
    )  # fmt: skip


# Tool and version, what it printed (shortened at the ends), cause, words of the sentence.
SAID = [
    (
        "tsc 6", "a.ts(1,7): error TS2322: Type 'string' is not assignable to type 'number'.",
        "typescript_error", "a.ts(1,7): error TS2322: Type 'string' is not",
    ),
    (
        "tsc 6 --pretty",
        "\x1b[96ma.ts\x1b[0m:\x1b[93m1\x1b[0m:\x1b[93m7\x1b[0m - \x1b[91merror\x1b[0m\x1b[90m TS2322: \x1b[0mType 'string'"
        " is not assignable to type 'number'.\n\n\x1b[7m1\x1b[0m const x: number = \"a\"\n\n\nFound 1 error in a.ts:1\n",
        "typescript_error", "a.ts:1:7 - error TS2322: Type 'string'",
    ),
    (
        "tsc 6, of a package", "a.ts(1,15): error TS2307: Cannot find module 'gone' or its corresponding type declarations.",
        "typescript_error", "TS2307",
    ),
    ("next 15", "Failed to compile.\n\n./app/page.tsx:3:9\nType error: Type 'string' is not assignable to type 'number'.",
     "typescript_error", "Type 'string' is not assignable"),
    (
        "eslint 9",
        "\n/src/b.js\n  1:7  error  'a' is assigned a value but never used  no-unused-vars\n\n"
        "✖ 1 problem (1 error, 0 warnings)\n",
        "eslint_error", "1 error(s)",
    ),
    (
        "hugo 0.168", 'ERROR failed to load modules: module "ananke" not found in "/site/themes/ananke"; either add it as a'
        ' Hugo Module or store it in "/site/themes".: module does not exist', "hugo_theme", "theme ananke",
    ),
    (
        "hugo 0.168", 'ERROR error building site: assemble: failed to create page from pageMetaSource /a: "/content/a.md:3:1":'
        ' failed to extract shortcode: template for shortcode "nosuch" not found', "hugo_template", "nosuch",
    ),
    (
        "hugo 0.168", "ERROR error building site: render: failed to render pages: execute of template failed: template:"
        ' index.html:1:3: executing "index.html" at <partial "x.html" .>: error calling partial: partial "x.html" not found',
        "hugo_template", "x.html",
    ),
    ("bundler 2.5, its definition.rb", "Your Ruby version is 3.1.2, but your Gemfile specified 3.3.0", "ruby_gemfile",
     "3.1.2, but your Gemfile specified 3.3.0"),
    ("bundler 2.5", "Could not find nokogiri-1.15.4 in locally installed gems", "ruby_gemfile", "nokogiri-1.15.4"),
    ("vite 8", '[UNRESOLVED_IMPORT] Error: Could not resolve "./gone.js" in m.js\n   ╭─[ m.js:1:8 ]', "module_not_found",
     "./gone.js"),
    ("vite 5", '[vite]: Rollup failed to resolve import "left-pad" from "/app/src/main.js".', "module_not_found", "left-pad"),
    ("webpack 5", "Module not found: Error: Can't resolve './Gone' in '/app/src'", "module_not_found", "./Gone"),
    ("pnpm 9", " ERR_PNPM_OUTDATED_LOCKFILE  Cannot install with \"frozen-lockfile\" because pnpm-lock.yaml is not up to"
     " date with <ROOT>/package.json", "lockfile_outdated", "does not match"),
    ("pnpm 9", " ERR_PNPM_NO_SCRIPT  Missing script: build", "missing_script", '"build"'),
    ("yarn 1", 'error Command "build" not found.', "missing_script", '"build"'),
    ("yarn 1", "error Your lockfile needs to be updated, but yarn was run with `--frozen-lockfile`.", "lockfile_outdated",
     "lockfile"),
    ("yarn 4", "➤ YN0028: │ The lockfile would have been modified by this install, which is explicitly forbidden.",
     "lockfile_outdated", "lockfile"),
    ("yarn 1", 'error a@1.0.0: The engine "node" is incompatible with this module. Expected version ">=22". Got "20.1.0"',
     "node_version", ">=22"),
    ("next 15", 'You are using Node.js 16.20.0. For Next.js, Node.js version ">=18.18.0" is required.', "node_version",
     ">=18.18.0"),
    ("npm 10", "npm error code E404\nnpm error 404  'nosuch@*' is not in this registry.", "package_not_found", "nosuch@*"),
    ("npm 10", "npm error code ETARGET\nnpm error notarget No matching version found for vite@99.0.0.", "package_not_found",
     "vite@99.0.0"),
    ("pip 23", "error: externally-managed-environment\n\n× This environment is externally managed", "python_managed",
     "Python of the system"),
    ("pip 24", "ERROR: Failed building wheel for lxml\nFailed to build lxml", "python_wheel", "lxml"),
    ("a project's own check", "Error: Missing required environment variable: DATABASE_URL", "variable_missing",
     "DATABASE_URL"),
    ("a project's own check", "Error: Environment variable STRIPE_KEY is not set", "variable_missing", "STRIPE_KEY"),
    ("git 2.39", "fatal: no submodule mapping found in .gitmodules for path 'themes/x'", "submodule_missing", "themes/x"),
]  # fmt: skip


@pytest.mark.parametrize(("tool", "text", "cause", "words"), SAID)
def test_tool_s_words_are_understood(tool: str, text: str, cause: str, words: str) -> None:
    error = explain(text)
    assert cause in error.code, tool
    assert words in error.sentence
    assert error.advice
    assert "{" not in error.sentence + error.advice.replace("${NAME}", "")


@pytest.mark.parametrize(
    ("code", "reason", "text", "name"),
    [
        (1, "exit", "something else", "build_failed"),
        (1, "exit", "", "build_failed"),
        (127, "exit", "bash: line 3: hugo: command not found", "build_failed.command_not_found"),
        (127, "exit", "bash: line 1: API_KEY: unbound variable", "build_failed.variable_missing"),
        (1, "exit", "page: not found", "build_failed"),
        (-9, "timeout", "ENOSPC", "build_timeout"),
        (-9, "memory", "npm error code ERESOLVE", "out_of_memory"),
        (137, "exit", "", "out_of_memory"),
        (134, "exit", "FATAL ERROR: JavaScript heap out of memory", "out_of_memory.javascript_heap"),
        (-25, "disk", "", "build_failed"),
        (1, "killed", "EACCES", "build_failed"),
        (1, "exit", "npm warn EBADENGINE Unsupported engine\nnpm warn EBADENGINE }", "build_failed"),
    ],
)
def test_exit_and_words_make_the_code(code: int, reason: str, text: str, name: str) -> None:
    assert explain(text, code=code, reason=reason).code == name


def test_unknown_failure_ends_with_the_last_line() -> None:
    error = explain("first\n  the {reason} \x1b[31mitself\x1b[0m  \n\n")
    assert error.sentence == "The build command `make it` ended with exit code 1."
    assert error.advice.endswith("Its last line: the {reason} itself")


def test_code_of_a_cause_survives_the_way_to_a_client() -> None:
    error = explain("✖ 2 problems (2 errors, 0 warnings)")
    back = parse_problem({"code": error.code, "sentence": error.sentence, "advice": error.advice})
    assert isinstance(back, BuildFailed)
    assert (back.code, back.sentence, back.exit_code) == (error.code, error.sentence, BuildFailed.exit_code)


def test_names_are_their_own() -> None:
    names = [cause.name for cause in CAUSES]
    assert len(set(names)) == len(names) >= 20
    assert not {name for name in names if name != "missing_script"} & {error.code for error in every_error()} - {
        "disk_full"
    }


@given(st.lists(st.text(max_size=80), max_size=20), st.integers(-64, 255))
def test_no_words_break_it(lines: list[str], code: int) -> None:
    error = name_failure(InstallFailed, command="x", code=code, reason="exit", lines=lines, limit_s=1)
    assert error.sentence
    assert isinstance(error.advice, str)


@pytest.mark.parametrize(
    "part", ["a", "a/", "ENV ", "error TS", "a: ", "(1,", "'", "missing env ", "404 ", "\t", "A_", "in __getitem__"]
)
def test_work_for_hostile_lines_is_bounded(part: str) -> None:
    started = time.process_time()
    explain("\n".join([part * (16_000 // len(part))] * 200), code=127)
    assert time.process_time() - started < 5
