"""plugins: a bad one is refused with its reason, a failing one harms nobody, built-ins use the same door."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
        SimpleNamespace(
            warning=lambda event, **facts: heard.append((event, facts["plugin"])), debug=lambda *_, **__: None
        ),
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


# What never comes back, in the three ways that are known: it waits, it computes, it asks for its end in vain.
FOREVER = {
    "sleeps": "__import__('time').sleep(3600)",
    "spins": "\n".join(("while True:", "    pass")),
    "holds on": "\n".join(("while True:", "    try: __import__('time').sleep(3600)", "    except BaseException: pass")),
}


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Error lines of the log, as (event, plugin)."""
    heard: list[tuple[str, str]] = []

    def note(event: str, **facts: Any) -> None:
        heard.append((event, facts.get("plugin", "")))

    def ignore(*_: object, **__: object) -> None: ...

    log = SimpleNamespace(error=note, exception=note, warning=ignore, debug=ignore)
    monkeypatch.setattr("vclone_core.plugins.log", log)
    return heard


def hook(signature: str, does: str) -> str:
    return f"@hookimpl\n{signature}:\n{textwrap.indent(does, '    ')}\n"


@pytest.mark.parametrize("does", FOREVER.values(), ids=FOREVER)
def test_a_question_that_never_returns_is_asked_once(
    tmp_path: Path, does: str, errors: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vclone_core.plugins.ASK_S", 0.2)
    calls = tmp_path / "calls"
    count = f"with open({str(calls)!r}, 'a') as file: file.write('x')"
    bad = hook("def detect_framework(paths)", f"{count}\n{does}")
    plugins = load(tmp_path, a=hook("def detect_framework(paths)", "return 'hugo'"), b=bad)
    for _ in range(3):
        assert plugins.ask("detect_framework", paths=frozenset(), texts={}) == [("a", "hugo")]
    assert calls.read_text() == "x"
    assert errors == [("plugin.set_aside", "b")]
    assert infos(plugins)["b"] == "detect_framework: it did not return within 0.2 s" and infos(plugins)["a"] is None


def test_a_question_that_spins_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vclone_core.plugins.ASK_S", 0.1)
    before = set(threading.enumerate())
    plugins = load(tmp_path, a=hook("def detect_framework(paths)", FOREVER["spins"]))
    assert plugins.ask("detect_framework", paths=frozenset(), texts={}) == []
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


async def test_the_loop_turns_while_a_plugin_thinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vclone_core.plugins.ASK_S", 0.3)
    plugins = load(tmp_path, a=hook("def detect_framework(paths)", FOREVER["sleeps"]))
    asking = asyncio.create_task(plugins.ask_beside("detect_framework", paths=frozenset(), texts={}))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 3 and asking.result() == []


@pytest.mark.parametrize("does", FOREVER.values(), ids=FOREVER)
def test_an_import_that_never_returns_is_refused(
    tmp_path: Path, does: str, errors: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vclone_core.plugins.LOAD_S", 0.2)
    plugins = load(tmp_path, a=OFFER % ("mem", "dict"), bad=does, c=OFFER % ("more", "list"))
    refused = infos(plugins)
    assert (refused["a"], refused["c"]) == (None, None)
    assert refused["bad"] == "its import did not return within 0.2 s"
    assert set(plugins.providers("object_stores")) == {"mem", "more"}
    # A process that loads its plugins again, or was forked since, doesn't wait again.
    monkeypatch.setattr("vclone_core.plugins.LOAD_S", 3600.0)
    again = load_plugins(allow="a,bad,c", drop_in=tmp_path)
    assert infos(again)["bad"] == "its import did not return within 0.2 s"


@pytest.mark.parametrize("does", FOREVER.values(), ids=FOREVER)
def test_a_registration_that_never_returns_leaves_the_others(
    tmp_path: Path, does: str, errors: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vclone_core.plugins.ASK_S", 0.2)
    plugins = load(tmp_path, bad=hook("def register_object_stores()", does), good=OFFER % ("mem", "dict"))
    assert plugins.make("object_stores", "mem") == {}
    assert errors == [("plugin.set_aside", "bad")]


@pytest.mark.parametrize("answer", ["7", "'abc'", "[1]"])
def test_a_registration_of_something_else_leaves_the_others(
    tmp_path: Path, answer: str, errors: list[tuple[str, str]]
) -> None:
    bad = hook("def register_object_stores()", f"return {answer}")
    plugins = load(tmp_path, bad=bad, good=OFFER % ("mem", "dict"))
    assert dict(plugins.providers("object_stores")) == {"mem": dict}
    assert errors == [("plugin.failed", "bad")]


@pytest.mark.parametrize(
    ("does", "why"),
    [
        (FOREVER["sleeps"], r"it took longer than 0\.2 s"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise OSError('no disk')", "OSError: no disk"),
    ],
)
def test_a_factory_that_fails_is_named(
    tmp_path: Path, does: str, why: str, errors: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vclone_core.plugins.ASK_S", 0.2)
    offer = hook("def register_object_stores()", "return {'bad': make}")
    plugins = load(tmp_path, one=f"def make():\n{textwrap.indent(does, '    ')}\n{offer}", two=OFFER % ("mem", "dict"))
    with pytest.raises(BadSettings, match=f"The plugin one can't make its object_stores 'bad': {why}"):
        plugins.make("object_stores", "bad")
    assert plugins.make_all("object_stores") == {"mem": {}}
    assert errors == [("plugin.failed", "one")]


@pytest.mark.parametrize("does", FOREVER.values(), ids=FOREVER)
async def test_an_event_that_blocks_holds_up_nobody(
    tmp_path: Path,
    deployment: Deployment,
    project: Project,
    does: str,
    errors: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vclone_core.plugins.EVENT_TIMEOUT_S", 0.2)
    monkeypatch.setattr("vclone_core.plugins.TURN_S", 0.2)
    heard = tmp_path / "heard"
    event = "async def deployment_changed(deployment)"
    listener = hook(event, f"with open({str(heard)!r}, 'a') as file: file.write('x')")
    plugins = load(tmp_path, a=listener, b=hook(event, does), c=listener)
    for _ in range(2):
        await plugins.announce("deployment_changed", project=project, deployment=deployment)
    assert heard.read_text() == "xxxx"
    assert errors == [("plugin.set_aside", "b")]
    plugins.close()


async def test_a_plugin_hears_every_event_in_the_same_loop(
    tmp_path: Path, deployment: Deployment, project: Project
) -> None:
    heard = tmp_path / "heard"
    note = f"""import asyncio
with open({str(heard)!r}, "a") as file:
    print(id(asyncio.get_running_loop()), file=file)
"""
    plugins = load(tmp_path, a=hook("async def deployment_changed()", note))
    for _ in range(3):
        await plugins.announce("deployment_changed", project=project, deployment=deployment)
    plugins.close()
    lines = heard.read_text().split()
    assert len(lines) == 3 and set(lines) == {lines[0]} != {str(id(asyncio.get_running_loop()))}


@pytest.mark.parametrize("does", FOREVER.values(), ids=FOREVER)
def test_the_process_ends_although_a_plugin_does_not(tmp_path: Path, does: str) -> None:
    (tmp_path / "bad.py").write_text("from vclone_core import hookimpl\n" + hook("def detect_framework(paths)", does))
    program = f"""
import pathlib
from vclone_core import plugins
plugins.ASK_S = 0.2
found = plugins.load_plugins(allow="bad", drop_in=pathlib.Path({str(tmp_path)!r}))
print(found.ask("detect_framework", paths=frozenset(), texts={{}}))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "[]"), ended.stderr


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
