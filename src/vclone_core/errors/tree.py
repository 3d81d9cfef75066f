"""The root of the tree and its nine branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong with one field of what a user sent. `field` is a dotted path, `files.3.sha256`."""

    field: str
    message: str


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


class Unauthorised(VcloneError):
    """Nobody is signed in."""

    code, status, exit_code = "unauthorised", 401, 4
    hint = "Sign in with `vclone login`, or send `Authorization: Bearer TOKEN`."


class NotFound(VcloneError):
    """There is no such {what}."""

    code, status, exit_code = "not_found", 404, 3


class Forbidden(VcloneError):
    """This is not allowed: {what}."""

    code, status, exit_code = "forbidden", 403, 4


class Conflict(VcloneError):
    """This can't be done now: {what}."""

    code, status, exit_code = "conflict", 409, 5


class Limited(VcloneError):
    """A limit was reached: {what}."""

    code, status, exit_code = "limited", 429, 6


class Unavailable(VcloneError):
    """{what} does not answer."""

    code, status, exit_code = "unavailable", 503, 7
    hint = "Try again shortly; `vclone doctor` shows which part is down."


class StepFailed(VcloneError):
    """The build failed: {what}."""

    code, status, exit_code = "step_failed", 422, 20


class Internal(VcloneError):
    """Something went wrong inside the platform."""

    code = "internal"
    hint = "Its operator finds the cause in the log under {id}."


def every_error(root: type[VcloneError] = VcloneError) -> Iterator[type[VcloneError]]:
    """Yield `root` and every error below it, parents first."""
    yield root
    for child in root.__subclasses__():
        yield from every_error(child)
