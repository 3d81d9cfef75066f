"""A real git server over HTTP on loopback, for tests: `git http-backend` behind a small CGI server."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


# Programs in a container ask no proxy for 127.0.0.1, which is theirs; for this one they do.
ADDRESS = "127.0.0.2"


@dataclass(frozen=True)
class GitServer:
    """Repositories are folders below `root`; each is at `url/NAME.git`, those below `private/` answer 401.

    `TOKEN` opens these. Whatever is below `broken/` answers 503. `asked` are the requests so far, each with what
    it was authorised by.
    """

    root: Path
    url: str
    asked: list[tuple[str, str]]

    def commit(self, name: str, files: Mapping[str, str | bytes], *, branch: str = "main", message: str = "a") -> str:
        """Make a commit of exactly these files on a branch of a repository, made when missing; return its id."""
        bare = self.root / f"{name}.git"
        if not bare.exists():
            run_git(self.root, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
        tree = self.root / f".{name.replace('/', '-')}-tree"
        env = {"GIT_DIR": str(bare), "GIT_WORK_TREE": str(tree), "GIT_INDEX_FILE": f"{tree}.index"}
        tree.mkdir(exist_ok=True)
        for path in sorted(tree.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for path, content in files.items():
            target = tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.commit_tree(name, tree, env=env, branch=branch, message=message)

    def commit_tree(self, name: str, tree: Path, *, env: Mapping[str, str], branch: str, message: str) -> str:
        """Commit what lies in `tree`, whatever it is (links too)."""
        run_git(tree, "add", "--all", "--force", ".", env=env)
        written = run_git(tree, "write-tree", env=env)
        parent = run_git(tree, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", env=env, is_checked=False)
        parents = ("-p", parent) if parent else ()
        sha = run_git(tree, "commit-tree", written, *parents, "-m", message, env=env)
        run_git(tree, "update-ref", f"refs/heads/{branch}", sha, env=env)
        return sha

    def address(self, name: str) -> str:
        return f"{self.url}/{name}.git"


def run_git(folder: Path, *words: str, env: Mapping[str, str] | None = None, is_checked: bool = True) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, env={**os.environ, **IDENTITY, **(env or {})}, check=False, capture_output=True
    )
    assert not is_checked or done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@contextmanager
def serve_git(root: Path) -> Iterator[GitServer]:
    """Serve the bare repositories below `root` on a free port of loopback."""
    asked: list[tuple[str, str]] = []
    server = ThreadingHTTPServer((ADDRESS, 0), type("Handler", (_Handler,), {"root": root, "asked": asked}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield GitServer(root, f"http://{ADDRESS}:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


TOKEN = "ghp_0123456789abcdefToken"


class _Handler(BaseHTTPRequestHandler):
    root: Path
    asked: list[tuple[str, str]]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
        given = base64.b64decode(encoded).decode() if scheme == "Basic" else ""
        self.asked.append((path, given))
        if path.startswith("/private/") and given.partition(":")[2] != TOKEN:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="private"')
            self.end_headers()
            return
        if path.startswith("/broken/"):
            self.send_response(503)
            self.end_headers()
            return
        if path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.end_headers()
            return
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path.endswith("/info/lfs/objects/batch"):
            self._answer(json.dumps(self._list_large(json.loads(body))).encode(), "application/vnd.git-lfs+json")
            return
        if path.startswith("/lfs/"):
            self._answer((self.root / "lfs" / path.rpartition("/")[2]).read_bytes(), "application/octet-stream")
            return
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        fields = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
        status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
        self.send_response(status)
        for name, value in fields:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest)

    def _list_large(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer a batch request of git-lfs: where each object is."""
        host = self.headers["Host"]
        objects = asked["objects"]
        return {"objects": [{**o, "actions": {"download": {"href": f"http://{host}/lfs/{o['oid']}"}}} for o in objects]}

    def _answer(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET
