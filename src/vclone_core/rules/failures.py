"""Why a command of a project failed: its exit and its last lines -> a cause with a name, a sentence and what to do.

`CAUSES` is the whole knowledge; the first row that is found counts, so what is certain stands above what is likely.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from vclone_core.errors import BuildTimeout, MissingScript, OutOfMemory, StepFailed
from vclone_core.rules.commands import describe_exit, explain_exit
from vclone_core.rules.logtext import strip_colours

# What is read of a line, and kept of a fact.
LINE_CHARS: Final = 1000
FACT_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Cause:
    """One kind of failure. Groups of the patterns are the facts of `sentence` and `hint`.

    `exit_codes` are those it is looked for at, any when empty. `error` is raised instead of the step's own one.
    """

    name: str
    patterns: tuple[str, ...]
    sentence: str
    hint: str
    exit_codes: tuple[int, ...] = ()
    error: type[StepFailed] | None = None


CAUSES: Final[tuple[Cause, ...]] = (
    Cause(
        "javascript_heap",
        (r"JavaScript heap out of memory", r"Allocation failed - "),
        "Node.js reached the limit of its heap",
        "Raise it with the variable NODE_OPTIONS=--max-old-space-size=MIB, below the memory limit of builds.",
        error=OutOfMemory,
    ),
    Cause(
        "disk_full",
        (r"\bENOSPC\b", r"No space left on device", r"\[Errno 28\]", r"\bEDQUOT\b", r"Disk quota exceeded"),
        "there was no space left on the disk",
        "Write less during the build, or free space on the disk of this machine.",
    ),
    Cause(
        "missing_script",
        (
            r'Missing script: "?(?P<script>[^"\n]+?)"?$',
            r'^error Command "(?P<script>[^"\n]+)" not found\.',
            r'Script not found "(?P<script>[^"\n]+)"',
        ),
        'package.json has no script "{script}"',
        MissingScript.hint,
        error=MissingScript,
    ),
    Cause(
        "peer_conflict",
        (r"^npm (?:error|ERR!) code ERESOLVE", r"ERR_PNPM_PEER_DEP_ISSUES"),
        "the packages ask for versions of each other that don't go together",
        "Update the packages that the log names, or put `legacy-peer-deps=true` into .npmrc.",
    ),
    Cause(
        "lockfile_missing",
        (r"can only install with an existing package-lock\.json", r"ERR_PNPM_NO_LOCKFILE"),
        "the project has no lockfile",
        "Commit the lockfile that an install makes, or set the install command to one that needs none.",
    ),
    Cause(
        "lockfile_outdated",
        (
            r"`npm ci` can only install packages when your package\.json and",
            r"ERR_PNPM_(?:OUTDATED_LOCKFILE|LOCKFILE_CONFIG_MISMATCH)",
            r"[Yy]our lockfile needs to be updated",
            r"lockfile would have been (?:created|modified) by this install",
            r"lockfile had changes, but lockfile is frozen",
        ),
        "the lockfile does not match package.json",
        "Run the package manager's install locally and commit the lockfile.",
    ),
    Cause(
        "node_version",
        (
            r"^npm (?:error|ERR!) notsup Required:\s+(?P<wanted>[^\n]+)",
            r"^npm (?:error|ERR!) code EBADENGINE",
            r"ERR_PNPM_UNSUPPORTED_ENGINE",
            r'The engine "node" is incompatible with this module\. Expected version "(?P<wanted>[^"\n]+)"',
            r"[Nn]ode\.js version \W?(?P<wanted>[^\n]{1,40}?)\W? is required",
            r"Node\.js v?\d[\w.]* is not supported",
        ),
        "the Node.js of this machine is not one that the project or a package asks for ({wanted})",
        'Correct "engines" in package.json or the project\'s Node.js version, or install that version here.',
    ),
    Cause(
        "openssl_legacy",
        (r"ERR_OSSL_EVP_UNSUPPORTED", r"error:0308010C:"),
        "a tool of the project asks for a hash that this Node.js no longer offers (webpack 4 does)",
        "Update the tool, or set the variable NODE_OPTIONS=--openssl-legacy-provider.",
    ),
    Cause(
        "package_json_invalid",
        (r"^npm (?:error|ERR!) code EJSONPARSE", r"ERR_PNPM_JSON_PARSE", r"SyntaxError: [^\n]*package\.json"),
        "package.json is not valid JSON",
        "Correct the place that the log names.",
    ),
    Cause(
        "package_json_missing",
        (
            r"Could not read package\.json",
            r"enoent ENOENT: no such file or directory, open '[^'\n]*package\.json'",
            r"ERR_PNPM_NO_(?:PKG_MANIFEST|IMPORTER_MANIFEST_FOUND)",
        ),
        "there is no package.json where the command ran",
        "Correct the root directory in the project settings, or commit the file.",
    ),
    Cause(
        "registry_denied",
        (
            r"^npm (?:error|ERR!) code (?:E401|E403|ENEEDAUTH)",
            r"ERR_PNPM_FETCH_40[13]",
            r"\b40[13] (?:Unauthorized|Forbidden) - ",
        ),
        "the package registry asks for a sign-in",
        "Give the project a variable with the token, and name it in .npmrc: `//HOST/:_authToken=${{NAME}}`.",
    ),
    Cause(
        "package_not_found",
        (
            r"\b404\s+(?:The requested resource )?'(?P<package>[^'\n]+)' (?:is not in|could not be found)",
            r"No matching version found for (?P<package>[^\s,]+?)\.?(?:\s|$)",
            r"ERR_PNPM_FETCH_404\s+GET (?P<package>[^\s:]+://\S+?): ",
            r"^npm (?:error|ERR!) code (?:E404|ETARGET)",
        ),
        "the registry has no package {package}",
        "Check its name and version in package.json; of a private package, also the registry and the token in .npmrc.",
    ),
    Cause(
        "unreachable",
        (
            r"\b(?:ECONNREFUSED|ENOTFOUND|ETIMEDOUT|EAI_AGAIN|ECONNRESET|ENOTCACHED|ERR_SOCKET_TIMEOUT)\b",
            r"ERR_PNPM_META_FETCH_FAIL",
            r"NewConnectionError|Temporary failure in name resolution|Could not resolve host",
        ),
        "a server that it needs does not answer",
        "Deploy again; if it stays, check the address in the log, and that builds on this platform may reach it.",
    ),
    Cause(
        "python_managed",
        (r"error: externally-managed-environment",),
        "pip may not change the Python of the system",
        "Make an environment first: `python3 -m venv .venv && .venv/bin/pip install …`.",
    ),
    Cause(
        "python_package_not_found",
        (r"No matching distribution found for (?P<package>\S+)",),
        "no version of the Python package {package} fits",
        "Check its name and version, and that it has one for the Python of this machine.",
    ),
    Cause(
        "python_wheel",
        (
            r"Failed building wheel for (?P<package>\S+)",
            r"Failed to build '?(?P<package>[\w.-]+)'? when",
            r"metadata-generation-failed|Could not build wheels for|Failed to build installable wheels",
        ),
        "a Python package could not be built from its source ({package})",
        "Ask for a version that has a wheel for the Python of this machine, or install the compiler and headers here.",
    ),
    Cause(
        "ruby_gemfile",
        (
            r"Your Ruby version is (?P<problem>[^\n]+)",
            r"Could not find (?P<problem>[^\n]+?) in (?:locally installed gems|any of the sources|rubygems repository)",
            r"Could not find compatible versions|Could not find gem '|because bundle config set frozen"
            r"|in frozen mode|in deployment mode",
        ),
        "Gemfile and Gemfile.lock don't go together, or not with the Ruby of this machine ({problem})",
        "Run `bundle install` locally and commit Gemfile.lock; compare the Ruby version it asks for.",
    ),
    Cause(
        "submodule_missing",
        (
            r"No url found for submodule path '(?P<path>[^'\n]+)'",
            r"no submodule mapping found in \.gitmodules for path '(?P<path>[^'\n]+)'",
        ),
        "the git submodule {path} has no address",
        "Commit .gitmodules, or put the files themselves into the repository.",
    ),
    Cause(
        "hugo_theme",
        (r'module "(?P<theme>[^"\n]+)" not found', r"Unable to find theme Directory: (?P<theme>\S+)"),
        "the Hugo theme {theme} is not there",
        "Add it as a Hugo module, or commit its files; a theme that is a git submodule is not fetched.",
    ),
    Cause(
        "hugo_template",
        (r'(?:template for shortcode|partial) "(?P<template>[^"\n]+)" not found',),
        "a Hugo template is missing: {template}",
        "Commit it, or the theme that has it.",
    ),
    Cause(
        "variable_missing",
        (
            r"in __getitem__\n(?:[^\n]*\n){0,3}?KeyError: '(?P<variable>[A-Z][A-Z0-9_]+)'",
            r"(?:^|: )(?P<variable>[A-Z][A-Z0-9_]+): (?:parameter (?:null or )?not set|unbound variable)",
            r"(?i:(?:missing|undefined)(?: required)? (?:environment|env) (?:variables?|vars?))[\s:]{0,3}['\"`]?"
            r"(?P<variable>[A-Z][A-Z0-9_]+)",
            r"(?i:(?:environment|env) (?:variable|var))[\s:]{0,2}['\"`]?(?P<variable>[A-Z][A-Z0-9_]+)['\"`]?"
            r" (?:is |was |must be )?(?:not set|not defined|missing|required|undefined|not found|set)\b",
        ),
        "the variable {variable} is not set",
        "Add {variable} to the project's environment variables for this target.",
    ),
    Cause(
        "typescript_error",
        (
            r"(?P<problem>(?<![^\s])[^\s(:]{1,200}(?:\(\d+,\d+\)|:\d+:\d+)(?:: | - )error TS\d+: [^\n]{1,150})",
            r"^Type error: (?P<problem>[^\n]{1,150})",
            r"error (?P<problem>TS\d+: [^\n]{1,150})",
        ),
        "TypeScript found an error: {problem}",
        "`tsc --noEmit` shows the same locally.",
    ),
    Cause(
        "eslint_error",
        (r"✖ \d+ problems? \((?P<count>[1-9]\d*) errors?",),
        "ESLint found {count} error(s)",
        "Correct them, or leave the check out of the build command.",
    ),
    Cause(
        "module_not_found",
        (
            r"(?:Cannot find (?:module|package)|No module named|Can't resolve|Could not resolve"
            r"|failed to resolve import|Cannot resolve module) ['\"](?P<module>[^'\"\n]+)['\"]",
        ),
        "the module {module} was not found",
        "Add its package to the project's dependencies; of a file, compare capital and small letters in its name.",
    ),
    Cause(
        "port_in_use",
        (r"EADDRINUSE[^\n]*?:(?P<port>\d+)$", r"EADDRINUSE|[Aa]ddress already in use"),
        "a port that it wants to listen on is in use ({port})",
        "A build needs no server: start none, or on port 0.",
    ),
    Cause(
        "command_not_found",
        (r"(?:^|: )(?P<program>[\w@./+-]{1,100}): (?:command )?not found$",),
        "there is no program {program}",
        "Add the package that has it to the project's dependencies, or install it on this machine.",
        exit_codes=(127,),
    ),
    Cause(
        "permission_denied",
        (
            r"(?:^|: )(?P<path>[^\s:]{1,200}): Permission denied",
            r"EACCES: permission denied, \w+ '(?P<path>[^'\n]+)'",
            r"\[Errno 13\] Permission denied: '(?P<path>[^'\n]+)'",
        ),
        "it may not use {path}",
        "Make a script executable (`git update-index --chmod=+x FILE`); write only inside the project's folder.",
    ),
)

_FOUND: Final = tuple((cause, tuple(re.compile(text, re.MULTILINE) for text in cause.patterns)) for cause in CAUSES)


def name_failure(
    failed: type[StepFailed], *, command: str, code: int, reason: str, lines: Iterable[str], limit_s: float
) -> StepFailed:
    """Return the error that says why a command failed, as well as its exit and its last `lines` of output tell.

    Where no cause is known it is `failed`, with how the command ended and the last thing it said.
    """
    text = "\n".join(strip_colours(line)[:LINE_CHARS] for line in lines)
    ended = explain_exit(code=code, reason=reason, tail=text)
    if ended == "timeout":
        return BuildTimeout(limit_s=round(limit_s))
    outcome = describe_exit(code=code, reason=reason)
    found = None if ended == "killed" else _find(text, code=code)
    if found is not None and (ended != "memory" or found[0].error is OutOfMemory):
        cause, facts = found
        if cause.error is MissingScript:
            return MissingScript(**facts)
        error = cause.error or failed
        ending = error(command=command, outcome=outcome).sentence.removesuffix(".")
        sentence = f"{ending}: {_fill(cause.sentence, facts)}."
        return error(cause=cause.name, sentence=sentence, hint=cause.hint, command=command, outcome=outcome, **facts)
    if ended == "memory":
        return OutOfMemory(command=command)
    last = next((line.strip()[:FACT_CHARS] for line in reversed(text.splitlines()) if line.strip()), "")
    hint = f"{failed.hint} Its last line: {{last}}" if last else failed.hint
    return failed(command=command, outcome=outcome, last=last, hint=hint)


def _find(text: str, *, code: int) -> tuple[Cause, dict[str, str]] | None:
    for cause, patterns in _FOUND:
        if cause.exit_codes and code not in cause.exit_codes:
            continue
        for pattern in patterns:
            if (found := pattern.search(text)) is not None:
                facts = {name: fact.strip()[:FACT_CHARS] for name, fact in found.groupdict().items() if fact}
                return cause, facts
    return None


def _fill(sentence: str, facts: dict[str, str]) -> str:
    # A fact that isn't known leaves no hole: ` ({wanted})` and ` {package}` go as a whole.
    filled = re.sub(r" ?\(?\{(\w+)\}\)?", lambda slot: slot[0] if slot[1] in facts else "", sentence)
    return filled.format_map(facts)
