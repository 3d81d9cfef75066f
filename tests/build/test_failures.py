"""Builds that fail in the common ways, for real, and the cause that their deployment then shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from tests.build.conftest import Place

from vclone_core.errors import StepFailed
from vclone_core.models import ProjectSettings, Source

PIP = "PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_INDEX=1 python3 -m pip"
NPM = "--no-audit --no-fund --fetch-retries=0"


class Registry(BaseHTTPRequestHandler):
    """As much of a package registry as makes npm fail: host 1.0.0, and guest, which wants host 2."""

    def do_GET(self) -> None:
        name = self.path.strip("/")
        peers = {"guest": {"host": "^2.0.0"}, "host": {}}
        status = 401 if name == "private" else 200 if name in peers else 404
        version = {"name": name, "version": "1.0.0", "peerDependencies": peers.get(name), "dist": {"tarball": "/x"}}
        body = json.dumps({"name": name, "versions": {"1.0.0": version}, "dist-tags": {"latest": "1.0.0"}}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def package(**fields: Any) -> str:
    return json.dumps({"name": "shop", "version": "1.0.0", **fields})


LOCK = json.dumps({"name": "shop", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "shop"}}})
BROKEN = {"broken/setup.py": "raise SystemExit('on purpose')"}
GIT = "git init -q . && git update-index --add --cacheinfo 160000,$(printf 1%.0s $(seq 40)),themes/x"

# Command, the project's files, the code, words of the sentence.
FAILING: list[tuple[str, Mapping[str, str], str, str]] = [
    ("npm run build", {"package.json": package(scripts={"dev": "true"})}, "missing_script", 'no script "build"'),
    ("vite build", {}, "build_failed.command_not_found", "no program vite"),
    ("npm run build", {"package.json": package(scripts={"build": "astro build"})},
     "build_failed.command_not_found", "no program astro"),
    ("node -e 'require(\"left-pad\")'", {}, "build_failed.module_not_found", "module left-pad was"),
    ("node x.mjs", {"x.mjs": "import './Gone.js'"}, "build_failed.module_not_found", "Gone.js"),
    ("python3 -c 'import gone'", {}, "build_failed.module_not_found", "module gone was"),
    (f"npm install --offline --engine-strict {NPM}", {"package.json": package(engines={"node": ">=99"})},
     "build_failed.node_version", '({"node":">=99"})'),
    (f"npm install --registry REGISTRY {NPM}", {"package.json": package(dependencies={"host": "1", "guest": "1"})},
     "build_failed.peer_conflict", "don't go together"),
    (f"npm ci --registry REGISTRY {NPM}",
     {"package.json": package(dependencies={"host": "1"}), "package-lock.json": LOCK},
     "build_failed.lockfile_outdated", "lockfile does not match"),
    (f"npm ci {NPM}", {"package.json": package()}, "build_failed.lockfile_missing", "no lockfile"),
    (f"npm install gone --registry REGISTRY {NPM}", {"package.json": package()},
     "build_failed.package_not_found", "no package gone@"),
    (f"npm install private --registry REGISTRY {NPM}", {"package.json": package()},
     "build_failed.registry_denied", "sign-in"),
    (f"npm install host --registry http://127.0.0.1:1 {NPM}", {"package.json": package()},
     "build_failed.unreachable", "does not answer"),
    ("echo '{ bad' > package.json; npm install --offline", {}, "build_failed.package_json_invalid", "not valid JSON"),
    ("mkdir e && cd e && npm install --offline --prefix .", {}, "build_failed.package_json_missing", "no package.json"),
    ("dd if=/dev/zero of=/dev/full bs=1 count=1", {}, "build_failed.disk_full", "no space left"),
    ("node -e 'fs.writeFileSync(\"/dev/full\", \"x\")'", {}, "build_failed.disk_full", "no space left"),
    ("node --max-old-space-size=20 -e 'for (const a = [];;) a.push(new Array(1e5).fill(1.5))'", {},
     "out_of_memory.javascript_heap", "limit of its heap"),
    ("kill -9 $$", {}, "out_of_memory", "ran out of memory"),
    ("./make.sh", {"make.sh": "#!/bin/sh\n"}, "build_failed.permission_denied", "may not use ./make.sh"),
    ("python3 -c 'import os; os.environ[\"API_KEY\"]'", {}, "build_failed.variable_missing", "variable API_KEY"),
    (": ${DATABASE_URL:?}", {}, "build_failed.variable_missing", "variable DATABASE_URL"),
    ("node -e 'const s = net.createServer().listen(0, () => net.createServer().listen(s.address().port))'", {},
     "build_failed.port_in_use", "in use"),
    ("node -e 'crypto.createHash(\"md4\")'", {}, "build_failed.openssl_legacy", "webpack 4"),
    (f"{PIP} install gone", {}, "build_failed.python_package_not_found", "package gone fits"),
    (f"{PIP} install --no-build-isolation ./broken", BROKEN,
     "build_failed.python_wheel", "could not be built"),
    (f"{GIT} && git submodule update --init", {}, "build_failed.submodule_missing", "themes/x"),
    ("echo what; echo 'is this' >&2; exit 3", {}, "build_failed", "ended with exit code 3"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "files", "code", "words"), FAILING, ids=[row[0][:40] for row in FAILING])
async def test_failing_build_says_why(
    place: Place, registry: str, command: str, files: Mapping[str, str], code: str, words: str
) -> None:
    settings = ProjectSettings(
        framework="static", install_command="", build_command=command.replace("REGISTRY", registry)
    )
    with pytest.raises(StepFailed) as caught:
        await place.deploy(Source("upload"), files={"index.html": "x", **files}, settings=settings)
    assert (caught.value.code, words in caught.value.sentence) == (code, True), place.lines.text
    assert caught.value.advice
