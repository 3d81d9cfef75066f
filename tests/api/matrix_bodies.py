"""What is sent to each route that takes a body, when tests/api/test_matrix.py calls it: something that it accepts."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vclone_core.rules.outgoing import EVENTS

if TYPE_CHECKING:
    from .test_matrix import World

BODIES: dict[str, Callable[[World], dict[str, Any]]] = {
    "PUT /api/projects/<project>/git": lambda w: {"host": "github"},
    "POST /api/projects/<project>/git/pull-requests/<number>/approve": lambda w: {"sha": "a" * 40},
    "POST /api/projects": lambda w: {"name": f"p-{secrets.token_hex(4)}"},
    "PATCH /api/projects/<project>": lambda w: {"is_publishing_paused": True},
    "POST /api/projects/<project>/hooks": lambda w: {"name": "cms"},
    "POST /api/env/<project>": lambda w: {"variables": [{"key": f"K_{secrets.token_hex(8)}", "value": "v"}]},
    "PATCH /api/env/<project>/<variable>": lambda w: {"value": "w"},
    "POST /api/domains/projects/<project>": lambda w: {"host": f"{secrets.token_hex(4)}.example"},
    "PUT /api/aliases/<host>": lambda w: {"deployment": w.deployment.id},
    "PATCH /api/domains/<domain>": lambda w: {"branch": "next"},
    "PATCH /api/projects/<project>/protection": lambda w: {"covers": "previews"},
    "PUT /api/projects/<project>/protection/password": lambda w: {"password": "open-sesame"},
    "POST /api/projects/<project>/protection/links": lambda w: {"of": w.deployment.id},
    "PATCH /api/projects/<project>/retention": lambda w: {"preview_days": 7},
    "POST /api/projects/<project>/collect": lambda w: {"dry_run": True},
    "POST /api/projects/<project>/blobs/missing": lambda w: {"sha256": []},
    "POST /api/deployments": lambda w: {
        "project": w.project.name,
        "source": {"kind": "git", "url": "https://git.example/a.git"},
    },
    "POST /internal/v1/edges/<edge_id>/acks": lambda w: {"version": 1},
    "POST /api/auth/signup": lambda w: {"email": "a@example.com", "password": "short"},
    "POST /api/auth/login": lambda w: {"email": "nobody@example.com"},
    "PATCH /api/auth/me": lambda w: {"name": "Ann"},
    "POST /api/auth/password": lambda w: {"password": "short"},
    "POST /api/auth/device": lambda w: {"client": "laptop"},
    "POST /api/auth/device/token": lambda w: {"device_code": "x"},
    "POST /api/teams": lambda w: {"name": "Crew", "slug": f"t-{secrets.token_hex(4)}"},
    "PATCH /api/teams/<team>": lambda w: {"name": "Crew"},
    "PATCH /api/teams/<team>/members/<user>": lambda w: {"role": "viewer"},
    "POST /api/teams/<team>/invitations": lambda w: {"email": f"{secrets.token_hex(4)}@example.com"},
    "POST /api/projects/<project>/deploy-key": lambda w: {},
    "PUT /api/git-tokens/<host>": lambda w: {"token": "secret-token"},
    "POST /api/teams/<team>/webhooks": lambda w: {"url": "https://hooks.example/x", "events": list(EVENTS)},
    "PATCH /api/teams/<team>/webhooks/<webhook>": lambda w: {"is_enabled": False},
    "POST /api/tokens": lambda w: {"name": "ci", "scopes": ["read"]},
}
