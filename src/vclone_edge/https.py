"""What HTTPS asks of a request besides its encryption: the right connection, the right scheme, and that it stays so."""

from __future__ import annotations

import time
from typing import Final

from vclone_core.errors import Misdirected
from vclone_core.plugins import Plugins
from vclone_core.rules.answers import Answer, answer_redirect
from vclone_core.rules.decisions import Headers
from vclone_core.rules.requests import Request
from vclone_core.rules.templates import quote_path
from vclone_core.settings import Settings, join_port
from vclone_edge.peers import Peer
from vclone_edge.tls import Coverage, open_issuer

# Authorities check a domain there, over http:// only (RFC 8555 §8.3).
CHALLENGES: Final = "/.well-known/acme-challenge/"
REFRESH_S: Final = 5.0
ALTERNATIVE_S: Final = 86_400


class Https:
    """Judges the requests of an edge that speaks TLS. `headers` go with every answer over https://."""

    def __init__(self, settings: Settings, plugins: Plugins) -> None:
        self._coverage = Coverage(settings.edge_certificates, open_issuer(settings, plugins))
        self._refreshed_s = time.monotonic()
        self._redirects = settings.edge_https_redirect
        self._port = settings.public_port("https")
        headers: list[tuple[bytes, bytes]] = []
        if settings.edge_hsts_s:
            headers.append((b"strict-transport-security", b"max-age=%d" % settings.edge_hsts_s))
        if settings.edge_http3:
            # RFC 7838: the same host, on this port, by HTTP/3.
            headers.append((b"alt-svc", b'h3=":%d"; ma=%d' % (self._port, ALTERNATIVE_S)))
        self.headers: Headers = tuple(headers)

    def passes(self, host: str, peer: Peer) -> bool:
        """Say whether requests of a host go on over this connection, wherever they lead."""
        self._refresh()
        if peer.is_tls:
            return self._coverage.allows(peer.certificate, host)
        return not self._redirects or not self._coverage.has(host)

    def judge(self, request: Request, peer: Peer) -> Answer | None:
        """Return a redirect to https://, or None: go on. Raises `Misdirected` on a connection for another host."""
        self._refresh()
        if peer.is_tls:
            if not self._coverage.allows(peer.certificate, request.host):
                raise Misdirected()
            return None
        if not self._redirects or request.path.startswith(CHALLENGES) or not self._coverage.has(request.host):
            return None
        location = f"https://{join_port(request.host, 'https', self._port)}{quote_path(request.path)}"
        return answer_redirect(location + (f"?{request.query}" if request.query else ""), 308)

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._refreshed_s >= REFRESH_S:
            self._refreshed_s = now
            self._coverage.refresh()


def make_https(settings: Settings, plugins: Plugins) -> Https | None:
    """Return the judge of an edge; None where it speaks no TLS."""
    return Https(settings, plugins) if settings.has_tls else None
