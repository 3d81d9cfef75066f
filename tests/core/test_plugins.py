"""plugins: a bad one is refused with its reason, a failing one harms nobody, built-ins use the same door."""

from __future__ import annotations

import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from vclone_core.errors import BadSettings
from vclone_core.models import Deployment, Project
from vclone_core.plugins import Plugins, load_plugins


def load(folder: Path, **sources: str) -> Plugins:
    for name, source in sources.items():
        (folder / f"{name}.py").write_text("from vclone_core import hookimpl\n" + textwrap.dedent(source))
    return load_plugins(allow=",".join(sources), drop_in=folder)


def infos(plugins: Plugins) -> dict[str, str | None]:
    return {info.name: info.refused for info in plugins.infos}


OFFER = """
@hookimpl
def register_object_stores():
    return {"%s": %s}
"""


def test_a_provider_is_found_by_name(tmp_path: Path) -> None:
    plugins = load(tmp_path, one=OFFER % ("mem", "dict"))
    assert plugins.provider("object_stores", "mem") is dict


def test_a_missing_provider_lists_those_there_are(tmp_path: Path) -> None:
    plugins = load(tmp_path, one=OFFER % ("mem", "dict"))
    with pytest.raises(BadSettings, match=r"'ftp'; installed: mem"):
        plugins.provider("object_stores", "ftp")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def (:", "SyntaxError"),
        ("@hookimpl\ndef no_such_hook(): ...", "there is no hook no_such_hook"),
        ("@hookimpl\nasync def frameworks(): ...", "must be a plain function"),
        ("@hookimpl\ndef alias_moved(alias): ...", "must be an async function"),
        ("@hookimpl\ndef frameworks(surprise): ...", "surprise"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("raise SystemExit", "SystemExit"),
        ("raise MemoryError('all of it')", "MemoryError"),
        ("def f(): f()\nf()", "RecursionError"),
    ],
)
def test_a_bad_plugin_is_refused_and_the_others_work(tmp_path: Path, source: str, reason: str) -> None:
    plugins = load(tmp_path, bad=source, good=OFFER % ("mem", "dict"))
    refused = infos(plugins)
    assert reason in (refused["bad"] or "")
    assert refused["good"] is None
    assert plugins.provider("object_stores", "mem") is dict


def test_a_provider_that_raises_leaves_the_others(tmp_path: Path) -> None:
    plugins = load(
        tmp_path, bad="@hookimpl\ndef register_object_stores():\n    raise OSError('no')", good=OFFER % ("mem", "dict")
    )
    assert dict(plugins.providers("object_stores")) == {"mem": dict}


def test_the_plugin_loaded_last_keeps_a_name(tmp_path: Path) -> None:
    plugins = load(tmp_path, a=OFFER % ("mem", "dict"), b=OFFER % ("mem", "list"))
    assert plugins.provider("object_stores", "mem") is list


def test_a_plugin_that_is_not_listed_stays_out(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("raise SystemError('must not run')")
    plugins = load(tmp_path, good="")
    assert infos(plugins)["other"] == "not listed in VCLONE_PLUGINS"


def test_ctrl_c_still_ends_what_loads_a_plugin(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, bad="raise KeyboardInterrupt")


@pytest.mark.parametrize("does", ["raise SystemExit(1)", "import sys; sys.exit()", "1 / 0"])
def test_an_answer_that_ends_everything_ends_nothing(tmp_path: Path, does: str) -> None:
    bad = f"@hookimpl\ndef register_object_stores():\n    {does}"
    plugins = load(tmp_path, bad=bad, good=OFFER % ("mem", "dict"))
    assert dict(plugins.providers("object_stores")) == {"mem": dict}


def test_who_is_slow_to_import_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vclone_core.plugins.SLOW_IMPORT_S", 0.0)
    heard: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "vclone_core.plugins.log",
        SimpleNamespace(warning=lambda event, **facts: heard.append((event, facts["plugin"]))),
    )
    load(tmp_path, slow="import time\ntime.sleep(0.001)")
    assert ("plugin.slow", "slow") in heard


@pytest.mark.parametrize(
    "does",
    [
        "raise SystemExit(1)",
        "import asyncio; await asyncio.sleep(3600)",
        "import asyncio; asyncio.current_task().cancel(); await asyncio.sleep(0)",
        "raise RecursionError",
        "\n    ".join(
            ("import asyncio", "for _ in range(9):", "  try: await asyncio.sleep(9)", "  except BaseException: pass")
        ),
    ],
)
async def test_an_event_that_exits_hangs_or_cancels_itself_harms_nobody(
    tmp_path: Path, deployment: Deployment, project: Project, does: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vclone_core.plugins.EVENT_TIMEOUT_S", 0.05)
    heard = tmp_path / "heard"
    listener = f"""
        @hookimpl
        async def deployment_changed(deployment):
            with open({str(heard)!r}, "a") as file:
                file.write("x")
        """
    plugins = load(
        tmp_path, a=listener, b=f"@hookimpl\nasync def deployment_changed(deployment):\n    {does}", c=listener
    )
    await plugins.announce("deployment_changed", project=project, deployment=deployment)
    assert heard.read_text() == "xx"


async def test_every_plugin_hears_an_event_although_one_fails(
    tmp_path: Path, deployment: Deployment, project: Project
) -> None:
    heard = tmp_path / "heard"
    listener = f"""
        @hookimpl
        async def deployment_changed(deployment):
            with open({str(heard)!r}, "a") as file:
                file.write("x")
        """
    plugins = load(
        tmp_path,
        a=listener,
        b="@hookimpl\nasync def deployment_changed(deployment):\n    raise OSError('no')",
        c=listener,
    )
    await plugins.announce("deployment_changed", project=project, deployment=deployment)
    assert heard.read_text() == "xx"


def test_a_drop_in_framework_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('id = "mine"')
    texts = load(tmp_path, good="").framework_texts
    assert [text.text for text in texts if text.file == "mine.toml"] == ['id = "mine"']
