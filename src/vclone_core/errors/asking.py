"""What the API answers instead of what it was asked for."""

from __future__ import annotations

from vclone_core.errors.tree import Conflict, Forbidden, Invalid, Limited, Unauthorised, Unavailable


class BadId(Invalid):
    """This is not the id of a {kind}."""

    code = "bad_id"


class WrongMediaType(Invalid):
    """The body of this request has to be {needed}."""

    code, status = "wrong_media_type", 415


class WrongMethod(Invalid):
    """This address does not answer {method} requests."""

    code, status = "wrong_method", 405


class BodyStalled(Invalid):
    """The body of this request stopped for more than {limit_s} seconds."""

    code, status = "body_stalled", 408


class BadCredentials(Unauthorised):
    """The address or the password is not right."""

    code, hint = "bad_credentials", ""


class BadSignature(Unauthorised):
    """This delivery is not signed with the secret of its webhook."""

    code = "bad_signature"
    hint = "Set the webhook's URL and secret at the git host to those that `vclone git connect` printed."


class ReusedToken(Unauthorised):
    """This refresh token was used before, so the session it belongs to was ended."""

    code = "reused_token"
    hint = "Sign in again. If it was not you who used it twice, change the password."


class NotFromHere(Forbidden):
    """This request comes from a page of another site, or its page is too old."""

    code = "not_from_here"
    hint = "Go back, reload the page and try again."


class SignUpClosed(Forbidden):
    """New accounts are made by invitation only."""

    code = "sign_up_closed"
    hint = "Ask an owner of the team for an invitation."


class NameTaken(Conflict):
    """The name {name} is taken."""

    code = "name_taken"
    hint = "Choose another name."


class HostRefused(Conflict):
    """{host} refused this: {why}."""

    code = "host_refused"
    hint = "See that the token is valid and may do this, and that the repository is called as here."


class LastOwner(Conflict):
    """A team keeps at least one owner, and this is the last."""

    code = "last_owner"
    hint = "Make somebody else an owner first, or delete the team."


class Duplicate(Conflict):
    """The same thing exists already ({constraint})."""

    code = "duplicate"


class WrongState(Conflict):
    """The deployment is {state}; this needs it to be {needed}."""

    code = "wrong_state"


class StaleAttempt(Conflict):
    """Another worker took this build over."""

    code = "stale_attempt"


class MissingBlobs(Conflict):
    """{count} of these files are not stored yet, {path} among them."""

    code = "missing_blobs"
    hint = "Ask which hashes are missing, send those, then ask for the deployment again."


class NoEarlierDeployment(Conflict):
    """There is no earlier production deployment to go back to."""

    code = "no_earlier_deployment"
    hint = "Name the deployment to show with `--to`, or promote one."


class Cancelled(Conflict):
    """The deployment was cancelled."""

    code = "cancelled"


class Skipped(Conflict):
    """The deployment was skipped: {reason}."""

    code = "skipped"


class CollectionRuns(Conflict):
    """The storage of {project} is being collected by another process."""

    code = "collection_runs"
    hint = "Try again in two minutes."


class KeyReused(Invalid):
    """This Idempotency-Key came with another request before."""

    code, status = "key_reused", 422
    hint = "Use a new key for a new request."


class WebhookOff(Conflict):
    """This webhook is switched off."""

    code = "webhook_off"
    hint = "Switch it on first: `vclone webhooks enable`."


class KeyInUse(Conflict):
    """A request with this Idempotency-Key is being carried out."""

    code = "key_in_use"
    hint = "Wait for its answer, or send the same request again in a few seconds."


class OutcomeUnknown(Conflict):
    """A request with this Idempotency-Key was carried out, wholly or in part, and its answer is not known any more."""

    code = "outcome_unknown"
    hint = "Look at what is there now; then use a new key."


class TooManyRequests(Limited):
    """That was tried too often; it may be tried again in {retry_after_s} second(s)."""

    code = "too_many_requests"


class TooLarge(Limited):
    """{what} is larger than the limit of {limit}."""

    code, status = "too_large", 413


class HostUnavailable(Unavailable):
    """{host} does not answer as it should: {why}."""

    code = "host_unavailable"
    hint = "It is tried again by itself."


class BlobsCollected(Unavailable):
    """{count} of these files were just being removed as unneeded."""

    code = "blobs_collected"
    hint = "Send them again."
