"""Every failure a user can meet; how each is shown is in `renderings.py`.

    VcloneError
    ├── Invalid       400, exit 2    what was sent can't be used
    ├── Unauthorised  401, exit 4    nobody is signed in, or the token is not valid
    ├── NotFound      404, exit 3    there is no such thing, or it is not yours
    ├── Forbidden     403, exit 4    known, but not allowed
    ├── Conflict      409, exit 5    the thing is in another state than the request needs
    ├── Limited       429, exit 6    a limit was reached
    ├── Unavailable   503, exit 7    a part of the platform does not answer
    ├── StepFailed    422, exit 20+  a step of a build failed, through the user's input
    └── Internal      500, exit 1    a bug, as a user sees it

A leaf's docstring is its sentence, filled with its facts; `hint` says what to do next. Anything that is not a
`VcloneError` is a bug: logged with its id, shown as `Internal` with that id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from vclone_core.models import FieldProblem


class VcloneError(Exception):
    """Something went wrong."""

    code: str = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    hint: ClassVar[str] = ""

    def __init__(
        self, *, hint: str | None = None, sentence: str | None = None, cause: str | None = None, **facts: Any
    ) -> None:
        """A known `cause` makes the code finer: `build_failed.typescript_error`."""
        if cause:
            self.code = f"{self.code}.{cause}"
        self.facts = facts
        self._hint = hint
        self._sentence = sentence
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """What happened, as one sentence."""
        if self._sentence is not None:
            return self._sentence
        text = (type(self).__doc__ or "").strip().splitlines()[0]
        return text.format_map(_Facts(self.facts))

    @property
    def advice(self) -> str:
        """What to do next; empty where there is nothing to say."""
        return (self._hint if self._hint is not None else self.hint).format_map(_Facts(self.facts))

    def change_words(self, change: Callable[[str], str]) -> None:
        """Pass what is said of the error through `change`, which may have to take something out of it."""
        self._sentence, hint = change(self.sentence), change(self.advice)
        self._hint = hint.replace("{", "{{").replace("}", "}}")
        self.facts = {name: change(fact) if isinstance(fact, str) else fact for name, fact in self.facts.items()}
        self.args = (self._sentence,)


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


class Invalid(VcloneError):
    """The request can't be used: {what}."""

    code, status, exit_code = "invalid", 400, 2


class InvalidFields(Invalid):
    """{count} field(s) can't be used."""

    code = "invalid_fields"
    hint = "Correct the fields named below and send the request again."

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        self.problems = problems
        super().__init__(count=len(problems))


class BadId(Invalid):
    """This is not the id of a {kind}."""

    code = "bad_id"


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


class BadSettings(Invalid):
    """The settings can't be used: {problems}"""

    code = "bad_settings"
    hint = "`vclone doctor` checks the settings."


class WrongMediaType(Invalid):
    """The body of this request has to be {needed}."""

    code, status = "wrong_media_type", 415


class WrongMethod(Invalid):
    """This address does not answer {method} requests."""

    code, status = "wrong_method", 405


class BodyStalled(Invalid):
    """The body of this request stopped for more than {limit_s} seconds."""

    code, status = "body_stalled", 408


class Unauthorised(VcloneError):
    """Nobody is signed in."""

    code, status, exit_code = "unauthorised", 401, 4
    hint = "Sign in with `vclone login`, or send `Authorization: Bearer TOKEN`."


class BadCredentials(Unauthorised):
    """The address or the password is not right."""

    code, hint = "bad_credentials", ""


class ReusedToken(Unauthorised):
    """This refresh token was used before, so the session it belongs to was ended."""

    code = "reused_token"
    hint = "Sign in again. If it was not you who used it twice, change the password."


class NotFound(VcloneError):
    """There is no such {what}."""

    code, status, exit_code = "not_found", 404, 3


class NoSuchSite(NotFound):
    """Nothing is deployed at this host."""

    code = "no_such_site"
    hint = "Check the address, or deploy to it."


class NoSuchFile(NotFound):
    """This deployment has no such page."""

    code = "no_such_file"


class Forbidden(VcloneError):
    """This is not allowed: {what}."""

    code, status, exit_code = "forbidden", 403, 4


class NotFromHere(Forbidden):
    """This request comes from a page of another site, or its page is too old."""

    code = "not_from_here"
    hint = "Go back, reload the page and try again."


class SignUpClosed(Forbidden):
    """New accounts are made by invitation only."""

    code = "sign_up_closed"
    hint = "Ask an owner of the team for an invitation."


class Conflict(VcloneError):
    """This can't be done now: {what}."""

    code, status, exit_code = "conflict", 409, 5


class NameTaken(Conflict):
    """The name {name} is taken."""

    code = "name_taken"
    hint = "Choose another name."


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


class NewerDatabase(Conflict):
    """The database was made by a newer version of vclone: it has the migration {found}, this program knows {known}."""

    code = "newer_database"
    hint = "Start the newer version again, or restore a backup made by this one."


class ChangedMigration(Conflict):
    """The database's migration {found} is not the one this program has."""

    code = "changed_migration"
    hint = "Install the version of vclone that made this database, then update from there."


class PortTaken(Conflict):
    """Port {port} is taken by another program."""

    code = "port_taken"
    hint = "Stop that program, or choose another port with {option}."


class DataDirUnusable(Conflict):
    """The data directory {path} can't be used: {why}."""

    code = "data_dir_unusable"
    hint = "Choose another with --data-dir, or give this user the right to write there."


class AlreadyRunning(Conflict):
    """vclone is already running on {path} (process {pid})."""

    code = "already_running"
    hint = "Stop it with Ctrl-C or `kill {pid}`, or choose another data directory with --data-dir."


class NewerData(Conflict):
    """The data directory {path} was last used by a newer vclone ({seen}; this is {known})."""

    code = "newer_data"
    hint = "Use that version or a later one, or choose another data directory with --data-dir."


class Limited(VcloneError):
    """A limit was reached: {what}."""

    code, status, exit_code = "limited", 429, 6


class TooManyRequests(Limited):
    """That was tried too often; it may be tried again in {retry_after_s} second(s)."""

    code = "too_many_requests"


class TooLarge(Limited):
    """{what} is larger than the limit of {limit}."""

    code, status = "too_large", 413


class DiskFull(Limited):
    """Only {free} are free on the disk of {path}; {needed} are needed."""

    code = "disk_full"
    hint = "Free some space, or choose a directory on another disk with --data-dir."


class RefusedByRule(Forbidden):
    """A rule of this deployment refuses this address."""

    code = "refused_by_rule"


class SiteProtected(Forbidden):
    """This deployment is protected."""

    code = "site_protected"
    hint = "Ask its owner for access."


class AddressRefused(Forbidden):
    """{host} can't be spoken to from here: it {why}."""

    code = "address_refused"
    hint = "Use a public address. An operator can allow this one with VCLONE_OUTBOUND_ALLOW."


class Unavailable(VcloneError):
    """{what} does not answer."""

    code, status, exit_code = "unavailable", 503, 7
    hint = "Try again shortly; `vclone doctor` shows which part is down."


class RunnerUnavailable(Unavailable):
    """The build runner can't run anything: {why}."""

    code = "runner_unavailable"
    hint = "`vclone doctor` shows what it lacks."


class StoreUnavailable(Unavailable):
    """The object store does not answer: {why}."""

    code = "store_unavailable"


class BlobsCollected(Unavailable):
    """{count} of these files were just being removed as unneeded."""

    code = "blobs_collected"
    hint = "Send them again."


class StoreBusy(StoreUnavailable):
    """The object store is busy: {limit} reads are under way, and none ended in time."""

    code = "store_busy"


class ServiceFailed(Unavailable):
    """{what} did not start: {why}."""

    code = "service_failed"
    hint = "`vclone doctor` checks what this machine needs."


class ChildEnded(ServiceFailed):
    """The process {name} {how}."""

    code = "child_ended"
    hint = "The end of {log}:\n{lines}"


class NoProgram(Unavailable):
    """{program} {version} is not installed."""

    code = "no_program"


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


class StepFailed(VcloneError):
    """The build failed: {what}."""

    code, status, exit_code = "step_failed", 422, 20


class VariablesUnreadable(StepFailed):
    """The project's environment variables can't be read: {why}."""

    code = "variables_unreadable"
    hint = "Bring the key they were sealed with back (`vclone keys ls`), or set their values anew."


class CloneFailed(StepFailed):
    """The source could not be fetched: {what}."""

    code, exit_code = "clone_failed", 21
    hint = "Check the address, the branch, and that this platform may read the repository."


class EmptySource(StepFailed):
    """The source has no files."""

    code, exit_code = "empty_source", 22
    hint = "Deploy a folder that holds at least one file, or push a commit with files."


class SourceRefused(StepFailed):
    """The source can't be deployed: {what}."""

    code, exit_code = "source_refused", 23
    hint = "Remove it, or list it in `.vcloneignore`."


class ArchiveRefused(StepFailed):
    """The archive can't be deployed: {what}."""

    code, exit_code = "archive_refused", 24
    hint = "Pack plain files and folders only, with relative names, within the limits of a folder's upload."


class DetectFailed(StepFailed):
    """The project's configuration can't be used: {what}."""

    code, exit_code = "detect_failed", 25
    hint = "Correct it and deploy again."


class NotServed(StepFailed):
    """{name} needs a server at run time, and only static files are served so far."""

    code, exit_code = "not_served", 26
    hint = (
        "{option}Where its build makes a folder of static files, name that as the output directory in the project"
        " settings; where the files are the site as they are, set the framework to `static`."
    )


class InstallFailed(StepFailed):
    """The install command `{command}` ended with {outcome}."""

    code, exit_code = "install_failed", 30
    hint = "Run the same command locally; the log above has its output."


class BuildFailed(StepFailed):
    """The build command `{command}` ended with {outcome}."""

    code, exit_code = "build_failed", 40
    hint = "Run the same command locally; the log above has its output."


class MissingScript(StepFailed):
    """package.json has no script "{script}"."""

    code, exit_code = "missing_script", 41
    hint = 'Add "{script}" to "scripts" in package.json, or set the build command in the project settings.'


class BuildTimeout(StepFailed):
    """The build took longer than {limit_s} seconds and was ended."""

    code, exit_code = "build_timeout", 42
    hint = "Make the build faster, or raise the project's time limit."


class OutOfMemory(StepFailed):
    """The command `{command}` ran out of memory."""

    code, exit_code = "out_of_memory", 43
    hint = "Use less memory, or raise the memory limit of builds."


class OutputMissing(StepFailed):
    """The build made no output folder `{expected}`."""

    code, exit_code = "output_missing", 45
    hint = "Set the output directory in the project settings. Folders that exist: {present}."


class OutputRefused(StepFailed):
    """The output can't be deployed: {what}."""

    code, exit_code = "output_refused", 46
    hint = "Change what the build writes into its output folder, and deploy again."


class UploadFailed(StepFailed):
    """The output could not be stored: {what}."""

    code, exit_code = "upload_failed", 60


class PublishFailed(StepFailed):
    """The deployment could not be published: {what}."""

    code, exit_code = "publish_failed", 70


class AttemptsExhausted(StepFailed):
    """The build was started {attempts} times and its worker was lost each time."""

    code, exit_code = "attempts_exhausted", 80
    hint = "The build may crash its worker: look at its log and at the memory of the machine, then redeploy."


class Internal(VcloneError):
    """Something went wrong inside the platform."""

    code = "internal"
    hint = "Its operator finds the cause in the log under {id}."


def every_error(root: type[VcloneError] = VcloneError) -> Iterator[type[VcloneError]]:
    """Yield `root` and every error below it, parents first."""
    yield root
    for child in root.__subclasses__():
        yield from every_error(child)
