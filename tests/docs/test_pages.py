"""The documentation equals the code: what is generated is up to date, what is written by hand names what exists."""

from __future__ import annotations

import inspect
import re
import time
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from vclone_core import hookspecs, models
from vclone_core.cli import COMMANDS
from vclone_core.errors import every_error
from vclone_core.plugins import load_plugins
from vclone_core.rules.commands import PREVIOUS_SHA, build_environment
from vclone_core.rules.definitions import parse_framework, parse_frameworks
from vclone_core.rules.outgoing import sign
from vclone_core.settings import Settings

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
REQUEST_FLOW = "host -> resolve -> route -> object -> stream"
DEPLOY_FLOW = (
    "webhook -> deployment -> queue -> clone -> detect -> install -> build -> collect -> optimise -> upload -> publish"
)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_generated_blocks_are_up_to_date(page: Path, writer: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")
    assert writer.fill(text) == text, "run `make docs`"


def test_every_block_is_used(writer: ModuleType) -> None:
    everything = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"<!-- begin: (\w+) -->", everything)) == set(writer.BLOCKS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#)?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        place = (page.parent / target) if target else page
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    """Settings, commands, files and make targets in a page's text are real ones."""
    text = page.read_text(encoding="utf-8")
    settings = {f"VCLONE_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"VCLONE_[A-Z0-9_]*[A-Z0-9]", text)) - {"VCLONE_TOKEN", "VCLONE_TEAM"}
    source = models.Source("git", "url", "ref", "sha", "message", "author")
    given = build_environment(
        url="", host="", target="", project="", deployment_id="", source=source, public_prefix=None
    )  # fmt: skip
    assert {name.removesuffix("_FILE") for name in named} <= settings | {*given, PREVIOUS_SHA}
    code = [*re.findall(r"```sh\n(.*?)```", text, re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
    commands = {name for part in code for name in re.findall(r"(?:^|\./|\()vclone ([a-z]+)\b", part, re.MULTILINE)}
    plugins = click.Group()
    load_plugins().ask("register_commands", cli=plugins)
    assert commands <= {*COMMANDS, *plugins.commands}
    for path in re.findall(r"`((?:rules|stores|actions|build|vclone_edge|vclone_api)/[\w/]+\.py)`", text):
        assert any((base / path).is_file() for base in (ROOT / "src/vclone_core", ROOT / "src")), path


@pytest.mark.parametrize("flow", [REQUEST_FLOW, DEPLOY_FLOW])
@pytest.mark.parametrize("place", ["README.md", "docs/architecture.md"])
def test_the_flows_stand_verbatim(flow: str, place: str) -> None:
    assert flow in read(place)


@pytest.mark.parametrize(
    ("flow", "module"),
    [(REQUEST_FLOW, "src/vclone_edge/app.py"), (DEPLOY_FLOW, "src/vclone_core/build/pipeline.py")],
)
def test_the_flows_open_the_modules_that_run_them(flow: str, module: str) -> None:
    assert flow in read(module).split('"""')[1]


def test_every_hook_says_its_shape_and_where_it_is_called() -> None:
    page = read("docs/hooks.md")
    found = [spec for _, spec in inspect.getmembers(hookspecs, inspect.isfunction) if hasattr(spec, "vclone_spec")]
    assert found
    for spec in found:
        text = " ".join((inspect.getdoc(spec) or "").split())
        shapes = [shape for shape in ("Question", "Event", "Provider") if f"{shape}. Called" in text]
        assert len(shapes) == 1, spec.__name__
        assert f"### `{spec.__name__}`" in page


@pytest.mark.parametrize("error", list(every_error()), ids=lambda error: error.__name__)
def test_every_error_is_in_the_reference(error: type) -> None:
    assert f"| `{error.code}` | {error.status} | {error.exit_code} |" in read("docs/reference.md")


@pytest.mark.parametrize("words", [models.State, models.Step, models.AliasKind], ids=lambda words: words.__name__)
def test_the_glossary_has_every_word_of_an_enum_and_no_other(words: type) -> None:
    block = re.search(rf"<!-- words: {words.__name__} -->\n(.*?)(?:\n\n|\Z)", read("docs/glossary.md"), re.DOTALL)
    assert block
    assert list(dict.fromkeys(re.findall(r"`(\w+)`", block[1]))) == [word.value for word in words]


@pytest.mark.parametrize("group", ["run", "develop"])
def test_every_dependency_has_a_row_with_a_reason_and_a_licence(group: str) -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    wanted = project["dependencies"] if group == "run" else project["optional-dependencies"]["dev"]
    names = {re.split(r"[<>=;\[\s]", line)[0] for line in wanted}
    section = read("docs/dependencies.md").split(f"## To {group}")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"][
        2:
    ]
    assert {row[0] for row in rows} == names
    assert all(len(row) == 4 and all(row) for row in rows)


def example(page: str, name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", read(page), re.DOTALL)
    assert found
    return found[1]


def test_the_plugin_of_the_howto_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "tell.py").write_text(example("docs/howto/write-a-plugin.md", "plugin"))
    infos = load_plugins(allow="tell", drop_in=tmp_path).infos
    assert [(info.hooks, info.refused) for info in infos if info.name == "tell"] == [(("alias_moved",), None)]


def test_the_framework_of_the_howto_is_accepted_and_free() -> None:
    framework = parse_framework(example("docs/howto/add-a-framework.md", "framework"), file="lume.toml")
    known, _ = parse_frameworks(load_plugins(allow="").framework_texts)
    assert framework.id not in {one.id for one in known}


def test_the_receiver_of_the_howto_takes_what_is_signed_and_nothing_else() -> None:
    told: dict[str, Any] = {}
    exec(example("docs/howto/webhooks.md", "verify"), told)
    now, body = int(time.time()), b'{"id":1}'
    assert told["is_ours"]("vcw_1", sign("vcw_1", body, at=now), body)
    assert not told["is_ours"]("vcw_2", sign("vcw_1", body, at=now), body)
    assert not told["is_ours"]("vcw_1", sign("vcw_1", body, at=now), body + b" ")
    assert not told["is_ours"]("vcw_1", sign("vcw_1", body, at=now - 301), body)
