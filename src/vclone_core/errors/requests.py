"""What the edge answers instead of a page."""

from __future__ import annotations

from vclone_core.errors.tree import Forbidden, Invalid, NotFound, Unauthorised, Unavailable


class BadHost(Invalid):
    """The Host of this request is missing, malformed, or given twice."""

    code = "bad_host"
    hint = "Send exactly one well-formed Host."


class BadTarget(Invalid):
    """The path of this request is malformed."""

    code = "bad_target"


class Misdirected(Invalid):
    """This connection is for another host."""

    code, status = "misdirected", 421
    hint = "Open a connection to this host."


class TargetTooLong(Invalid):
    """The address of this request is too long."""

    code, status = "target_too_long", 414


class HeadersTooLarge(Invalid):
    """The header fields of this request are too large."""

    code, status = "headers_too_large", 431


class BadFraming(Invalid):
    """The framing of this request is ambiguous."""

    code = "bad_framing"


class BadMethod(Invalid):
    """This address does not answer requests of this method."""

    code, status = "bad_method", 405


class NotAcceptable(Invalid):
    """This page exists in no encoding that the request accepts."""

    code, status = "not_acceptable", 406


class NoSuchSite(NotFound):
    """Nothing is deployed at this host."""

    code = "no_such_site"
    hint = "Check the address, or deploy to it."


class NoSuchFile(NotFound):
    """This deployment has no such page."""

    code = "no_such_file"


class RefusedByRule(Forbidden):
    """A rule of this deployment refuses this address."""

    code = "refused_by_rule"


class SiteProtected(Unauthorised):
    """This deployment is protected."""

    code = "site_protected"
    hint = "Sign in, or ask its owner for a link. A program sends the header x-vclone-protection-bypass."


class AddressRefused(Forbidden):
    """{host} can't be spoken to from here: it {why}."""

    code = "address_refused"
    hint = "Use a public address. An operator can allow this one with VCLONE_OUTBOUND_ALLOW."


class StoreUnavailable(Unavailable):
    """The object store does not answer: {why}."""

    code = "store_unavailable"


class StoreBusy(StoreUnavailable):
    """The object store is busy: {limit} reads are under way, and none ended in time."""

    code = "store_busy"


class UpstreamTimeout(Unavailable):
    """{what} took too long to answer."""

    code, status = "upstream_timeout", 504


class UpstreamFailed(Unavailable):
    """The server behind this address does not answer as it should."""

    code, status = "upstream_failed", 502
    hint = "Try again shortly. The site's operator finds the reason in the edge's log."


class UpstreamBusy(Unavailable):
    """The server behind this address is busy."""

    code = "upstream_busy"
    hint = "Try again shortly."
