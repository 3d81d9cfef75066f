"""A real git server over HTTP on loopback, for tests: `git http-backend` behind a small CGI server."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


@dataclass(frozen=True)
class GitServer:
    """Repositories are folders below `root`; each is at `url/NAME.git`, those below `private/` answer 401."""

    root: Path
    url: str

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
    """Serve the bare repositories below `root` on a free port of 127.0.0.1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"root": root}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield GitServer(root, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    root: Path

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/private/"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="private"')
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

    do_POST = do_GET
