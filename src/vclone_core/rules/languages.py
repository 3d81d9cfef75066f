"""What a project in Python or Ruby installs, and which version of a language it asks for. Asked by the build plan."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from vclone_core.rules.frameworks import Listing
from vclone_core.rules.packagemanagers import PackageManager

_PIP: Final = "python3 -m venv .venv && .venv/bin/pip install --disable-pip-version-check"
_BUNDLE: Final = "BUNDLE_PATH=vendor/bundle bundle install"
# Language -> (manifest, manager, command, PyPI package of the manager), the first manifest that exists wins. The
# documentation's own list goes before the application's, as on hosts of documentation.
_MANIFESTS: Final[Mapping[str, tuple[tuple[str, str, str, str | None], ...]]] = {
    "python": (
        ("docs/requirements.txt", "pip", f"{_PIP} -r docs/requirements.txt", None),
        ("uv.lock", "uv", "uv sync --frozen", "pypi:uv"),
        ("poetry.lock", "poetry", "POETRY_VIRTUALENVS_IN_PROJECT=true poetry install --no-root", "pypi:poetry"),
        ("Pipfile.lock", "pipenv", "PIPENV_VENV_IN_PROJECT=1 pipenv sync --dev", "pypi:pipenv"),
        ("requirements.txt", "pip", f"{_PIP} -r requirements.txt", None),
        ("Pipfile", "pipenv", "PIPENV_VENV_IN_PROJECT=1 pipenv install --dev --skip-lock", "pypi:pipenv"),
        ("pyproject.toml", "pip", f"{_PIP} .", None),
    ),
    "ruby": (("Gemfile", "bundler", _BUNDLE, None),),
}
_PREFIXES: Final = {"bundler": "BUNDLE_PATH=vendor/bundle bundle exec "}
# Package manager -> the language its packages run in.
LANGUAGE_OF_MANAGER: Final = {
    **dict.fromkeys(("npm", "pnpm", "yarn", "bun"), "node"),
    **dict.fromkeys(("pip", "uv", "poetry", "pipenv"), "python"),
    "bundler": "ruby",
}
_TITLES: Final = {"node": "Node.js", "python": "Python"}
# Language -> the files that pin its version, and where in them. The order is that of the hosts that read them.
_VERSIONS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "node": (
        (".nvmrc", r"\A\s*v?(\S+)"),
        (".node-version", r"\A\s*v?(\S+)"),
        (".tool-versions", r"(?m)^node(?:js)?[ \t]+v?([^\s#]+)"),
    ),
    "python": (
        (".python-version", r"(?m)^\s*([0-9][\w.]*)"),
        ("pyproject.toml", r"""(?m)^requires-python\s*=\s*["']([^"']+)["']"""),
        ("Pipfile", r"""(?m)^python_(?:full_)?version\s*=\s*["']([^"']+)["']"""),
        ("runtime.txt", r"\A\s*(?:python-)?([0-9][\w.]*)"),
        (".tool-versions", r"(?m)^python[ \t]+([0-9][\w.]*)"),
    ),
}


def pick_language_manager(
    language: str | None, paths: Collection[str], packages: Sequence[str] = ()
) -> PackageManager | None:
    """Return the manager of the first manifest of `language` among `paths`.

    pip installs `packages`, which the framework itself needs, too: a version that the project pins satisfies them. The
    other managers install what is locked, and nothing else.
    """
    for manifest, name, command, provision in _MANIFESTS.get(language or "", ()):
        if manifest in paths:
            added = "".join(f" {shlex.quote(one)}" for one in packages) if name == "pip" else ""
            return PackageManager(name, command + added, provision, f"{manifest} exists", _PREFIXES.get(name, ""))
    if language == "python" and packages:
        return PackageManager("pip", f"{_PIP} {shlex.join(packages)}", None, "nothing lists packages")
    return None


def find_version(language: str, listing: Listing) -> tuple[str | None, str]:
    """Return the version of `language` that a file of the source asks for, and which file; None: none does."""
    for file, expression in _VERSIONS[language]:
        if found := re.search(expression, listing.texts.get(file, "")):
            return found[1], f"{_TITLES[language]} version: {file}"
    return None, ""
